"""What the search asks of a model: `initial` and `step`. All else makes the search shorter or the words better."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Sequence
from typing import ClassVar, Generic, TypeVar

from tests.histories.operation import UNKNOWN, Operation

S = TypeVar("S", bound=Hashable)


class Model(ABC, Generic[S]):
    """One kind of object. States are hashable values; equal states have equal futures."""

    name: ClassVar[str]
    initial: S

    @abstractmethod
    def step(self, state: S, op: Operation) -> S | None:
        """The state after `op` took effect in `state` with the outcome that it has; None if it cannot have had it.

        An operation of unknown outcome always can: it does what it would do in that state, which may be nothing.
        """

    def observes(self, op: Operation) -> bool:
        """Does `op`, with its outcome, tell of the object and not change it? (What is known of it may grow.)"""
        return False

    def number(self, op: Operation) -> int:
        """The number that the cell gave to this change, if the answer tells: none is below that of an earlier one."""
        return 0

    def helps(self, state: S, op: Operation, due: Operation) -> bool:
        """Might it be of use to `due`, an open operation, that `op`, of unknown outcome, takes effect before it?

        Where this says False of all that are open, `op` may just as well take effect after the next answer.
        """
        return True

    def level(self, ops: Sequence[Operation], starts: Iterable[S]) -> list[Operation]:
        """The same operations, told apart no more than answers do, which makes many of them alike.

        There is an order of these, beginning in one of `starts`, exactly if there is one of `ops`.
        """
        return list(ops)

    def words(self, op: Operation) -> str:
        """What was asked, for people."""
        return " ".join([op.name, *(f"{name}={value}" for name, value in op.arguments.items())])

    def answer(self, op: Operation) -> str:
        """What was told, for people."""
        if op.outcome == UNKNOWN:
            return "?"
        return " ".join([op.outcome, *(f"{name}={value}" for name, value in op.result.items())])

    def describe(self, state: S) -> str:
        """The state, for people."""
        return str(state)
