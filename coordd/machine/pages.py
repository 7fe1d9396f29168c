"""Long answers in pages: as many rows as were asked for and fit into a frame; the caller asks for the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from coordd.machine.state import State, check_answer

_Row = TypeVar("_Row")


def page(
    state: State, rows: Iterable[_Row], size_of: Callable[[_Row], int], count: int, what: str
) -> tuple[list[_Row], bool]:
    """The first `count` of the rows (0: all), as far as they fit into an answer, and whether more are left."""
    chosen: list[_Row] = []
    size = 0
    for row in rows:
        size += size_of(row)
        if chosen and (len(chosen) == count or size > state.limits.answer_bytes):
            return chosen, True
        check_answer(state, size, what)
        chosen.append(row)
    return chosen, False
