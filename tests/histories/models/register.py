"""A file as a register with compare-and-set.

| operation | arguments | outcome: result |
|---|---|---|
| put | value, if_generation or if_absent (or neither) | ok: generation; conflict: generation; exists; missing |
| get | | ok: value, generation; missing |
| delete | if_generation (may be left out) | ok: revision; conflict: generation; missing |

Every number in a result may be left out. Generations and revisions are numbers of the cell, which only ever rise: that
is checked too. The generation of a file that a put of unknown outcome wrote is found out by whoever sees it first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from tests.histories.models.base import Model
from tests.histories.operation import UNKNOWN, Operation

UNSEEN = "(a value that nobody has seen)"


class File(NamedTuple):
    """`value` None: there is no file. `generation` 0: not known, but above `floor`."""

    value: str | None = None
    generation: int = 0
    floor: int = 0


class Register(Model[File]):
    """See the module docstring."""

    name = "register"
    initial = File()

    def step(self, state: File, op: Operation) -> File | None:
        outcome = op.outcome
        if outcome == "missing":
            return state if state.value is None else None
        if outcome == "exists":
            return state if state.value is not None else None
        if op.name == "get":
            if outcome == UNKNOWN:
                return state
            return _seen(state, op.result.get("generation", 0)) if state.value == op.result["value"] else None
        expected = op.arguments.get("if_generation", 0)
        if outcome == "conflict":
            found = op.result.get("generation", 0)
            return None if state.value is None or expected in (state.generation, found) else _seen(state, found)
        if not self._may_change(state, op, expected):
            return state if outcome == UNKNOWN else None
        number = op.result.get("generation" if op.name == "put" else "revision", 0)
        if number and number <= state.floor:
            return None
        return File(op.arguments.get("value"), number if op.name == "put" else 0, number or max(state.floor, expected))

    def _may_change(self, state: File, op: Operation, expected: int) -> bool:
        """Does the condition of a change hold? Where the generation is not known, it may."""
        if expected:
            there = state.value is not None
            return there and (expected > state.floor if state.generation == 0 else expected == state.generation)
        if op.name == "delete":
            return state.value is not None
        return state.value is None or not op.arguments.get("if_absent")

    def observes(self, op: Operation) -> bool:
        return op.name == "get" or op.outcome in ("conflict", "exists", "missing")

    def number(self, op: Operation) -> int:
        if op.outcome != "ok" or op.name == "get":
            return 0
        return int(op.result.get("generation" if op.name == "put" else "revision", 0))

    def level(self, ops: Sequence[Operation], starts: Iterable[File]) -> list[Operation]:
        """Values that nobody has seen are one value. What was seen has been written, if only one can have done that."""
        seen: dict[str, int] = {}
        for op in ops:
            if op.name == "get" and op.ended is not None and op.outcome == "ok":
                value = op.result["value"]
                seen[value] = min(op.ended, seen.get(value, op.ended))
        sources = Counter(op.arguments["value"] for op in ops if op.name == "put" and op.outcome in ("ok", UNKNOWN))
        sources.update(state.value for state in starts if state.value is not None)
        return [self._level(op, seen, sources) for op in ops]

    def _level(self, op: Operation, seen: Mapping[str, int], sources: Mapping[str, int]) -> Operation:
        if op.name != "put":
            return op
        value = op.arguments["value"]
        if value not in seen:
            return replace(op, arguments={**op.arguments, "value": UNSEEN})
        if op.known or sources[value] > 1:
            return op
        return replace(op, ended=max(op.begun, seen[value]), outcome="ok")

    def words(self, op: Operation) -> str:
        condition = " if absent" if op.arguments.get("if_absent") else ""
        if generation := op.arguments.get("if_generation"):
            condition = f" if at generation {generation}"
        return f"{op.name} {op.arguments['value']}{condition}" if op.name == "put" else f"{op.name}{condition}"

    def answer(self, op: Operation) -> str:
        if op.name == "get" and op.outcome == "ok":
            generation = op.result.get("generation")
            return f"{op.result['value']}" + (f" at generation {generation}" if generation else "")
        return super().answer(op)

    def describe(self, state: File) -> str:
        if state.value is None:
            return "no file"
        return state.value + (f" at generation {state.generation}" if state.generation else "")


def _seen(state: File, generation: int) -> File | None:
    """Somebody has seen the file's generation (0: was not told)."""
    if generation in (0, state.generation):
        return state
    if state.generation or generation <= state.floor:
        return None
    return File(state.value, generation, generation)
