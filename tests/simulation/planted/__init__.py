"""Planted bugs: the production code with one known bug at a time. The simulation has to find each.

A bug is a patch that a test applies, never a switch in production code. `BUGS` is the whole list; `hunt` looks for one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Bug:
    """One bug. `patches`: (owner, attribute, maker of the wrong version from the right one)."""

    name: str
    area: str
    kind: str  # the harness that should find it
    patches: Sequence[tuple[Any, str, Callable[[Any], Any]]]

    @contextmanager
    def planted(self) -> Iterator[None]:
        """The bug is in the code."""
        with ExitStack() as stack:
            for owner, attribute, make in self.patches:
                stack.enter_context(replaced(owner, attribute, make))
            yield


@contextmanager
def replaced(owner: Any, attribute: str, make: Callable[[Any], Any]) -> Iterator[None]:
    """`owner.attribute` is `make(owner.attribute)` for a while."""
    own = attribute in vars(owner)
    right = vars(owner)[attribute] if own else getattr(owner, attribute)
    setattr(owner, attribute, make(right))
    try:
        yield
    finally:
        if own:
            setattr(owner, attribute, right)
        else:
            delattr(owner, attribute)


def never_waits(right: Any) -> Any:
    """For `State.is_no_first_start`, which would save from other bugs of the boot wait."""
    return lambda self: None


@dataclass(frozen=True, slots=True)
class Found:
    """What became of a hunt: how many seeds it took, and who noticed; `checker` is empty when nobody did."""

    bug: str
    seeds: int
    checker: str
    text: str
