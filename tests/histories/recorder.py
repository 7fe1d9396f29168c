"""Writes operations down while they happen.

    question = recorder.begin("register", "/r", "put", "c1", value="a")
    ...
    question.answered("ok", generation=31)     # or .nothing(), when the caller was told that nothing was done

What is neither answered nor taken back has an unknown outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from tests.histories.hold import Hold
from tests.histories.operation import Operation


class Question:
    """An operation that was begun."""

    __slots__ = ("_recorder", "op")

    def __init__(self, recorder: Recorder, op: Operation) -> None:
        self._recorder = recorder
        self.op = op

    def answered(self, outcome: str = "ok", **result: Any) -> None:
        """The answer is here."""
        self.op = replace(self.op, ended=self._recorder.clock(), outcome=outcome, result=result)
        self._recorder.told(self.op)

    def nothing(self) -> None:
        """The answer says that nothing was done: it is not in the history, so that nobody may ever see its effect."""
        self._recorder.take_back(self)


class Recorder:
    """The operations of all who share the clock."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self.clock = clock
        self._questions: dict[Question, None] = {}
        self._holds: list[Hold] = []

    def begin(self, model: str, key: str, name: str, process: str, /, **arguments: Any) -> Question:
        """An operation is about to be asked for."""
        question = Question(self, Operation(process, model, key, name, self.clock(), arguments=arguments))
        self._questions[question] = None
        return question

    def take_back(self, question: Question) -> None:
        """Nothing was done."""
        del self._questions[question]

    def told(self, op: Operation) -> None:
        """An answer was written down; for subclasses that want to know."""

    def hold(self, key: str, mode: str, process: str, parts: Sequence[tuple[str, str, int]] = ()) -> Hold:
        """A lock (or several at once) is about to be asked for; what becomes of it the caller writes into the hold."""
        hold = Hold(process, key, f"{process} {len(self._holds)}", mode, self.clock(), parts=tuple(parts))
        self._holds.append(hold)
        return hold

    def history(self) -> list[Operation]:
        """Everything that was written down and not taken back."""
        of_locks = [op for hold in self._holds for op in hold.operations()]
        return [question.op for question in self._questions] + of_locks
