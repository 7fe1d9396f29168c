"""One hold of a lock, or of several at once, as its holder knows it, in the operations of `lock` and `several`.

A holder hears of its grant, and of nothing that the cell does later by itself. But as long as it may believe in the
hold nobody else is granted the lock. So the hold ends at any moment after its holder was last sure of it, or never. An
operator who breaks it at once bends that promise: a broken hold ends at any moment after its grant.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.histories.operation import UNKNOWN, Operation

SEVERAL = "several"  # the object that all locks are together which are acquired at once


@dataclass(slots=True)
class Hold:
    """Moments of the one clock; None: that did not happen, as far as anybody knows."""

    process: str
    key: str
    name: str  # of this hold alone
    mode: str
    asked: int
    refused: int | None = None  # somebody else has it, said the cell
    granted: int | None = None
    token: int = 0
    sure: int = 0  # when its holder was last sure of it
    release: tuple[int, int] | None = None  # asked for, and answered
    permits: int = 0  # of a semaphore
    differs: int | None = None  # it has another number of permits, said the cell
    parts: tuple[tuple[str, str, int], ...] = ()  # path, mode, permits: of several at once
    tokens: dict[str, int] = field(default_factory=dict)  # of each of them
    broken: bool = False  # by an operator

    def operations(self) -> Iterator[Operation]:
        """What the history has of it."""
        yield from self._of_several() if self.parts else self._of_one()

    def _of_one(self) -> Iterator[Operation]:
        acquired, outcome, result = self.granted, "ok", {"token": self.token}
        if self.refused is not None:
            acquired, outcome, result = self.refused, "held", {}
        elif self.differs is not None:
            acquired, outcome, result = self.differs, "differs", {}
        elif self.granted is None:
            outcome, result = UNKNOWN, {}
        arguments: dict[str, Any] = {"hold": self.name, "mode": self.mode}
        if self.permits:
            arguments["permits"] = self.permits
        yield Operation(self.process, "lock", self.key, "acquire", self.asked, acquired, outcome, arguments, result)
        end = {"hold": self.name}
        if self.release is not None and not self.broken:
            yield Operation(self.process, "lock", self.key, "release", *self.release, "ok", end)
        elif self.refused is None and self.differs is None:
            yield Operation(self.process, "lock", self.key, "expire", self._ends(), arguments=end)

    def _of_several(self) -> Iterator[Operation]:
        outcome, result = ("ok", {"tokens": self.tokens}) if self.granted is not None else (UNKNOWN, {})
        arguments = {"hold": self.name, "parts": self.parts}
        yield Operation(self.process, SEVERAL, SEVERAL, "acquire", self.asked, self.granted, outcome, arguments, result)
        if self.release is not None and not self.broken:
            yield Operation(self.process, SEVERAL, SEVERAL, "release", *self.release, "ok", {"hold": self.name})
            return
        for path, _, _ in self.parts:
            end = {"hold": self.name, "path": path}
            yield Operation(self.process, SEVERAL, SEVERAL, "expire", self._ends(), arguments=end)

    def _ends(self) -> int:
        """The earliest moment at which the cell may have ended it by itself."""
        if self.granted is None or self.broken:  # broken perhaps before its holder heard of the grant
            return self.asked
        return max(self.sure, self.granted)
