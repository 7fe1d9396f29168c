"""One hold of a lock as its holder knows it, in the operations of the model `lock`.

A holder hears of its grant, and of nothing that the cell does later by itself. But as long as it may believe in the
hold nobody else is granted the lock. So the hold ends at any moment after its holder was last sure of it, or never.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.histories.operation import UNKNOWN, Operation


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

    def operations(self) -> Iterator[Operation]:
        """What the history has of it."""
        acquired, outcome, result = self.granted, "ok", {"token": self.token}
        if self.refused is not None:
            acquired, outcome, result = self.refused, "held", {}
        elif self.granted is None:
            outcome, result = UNKNOWN, {}
        arguments = {"hold": self.name, "mode": self.mode}
        yield Operation(self.process, "lock", self.key, "acquire", self.asked, acquired, outcome, arguments, result)
        end = {"hold": self.name}
        if self.release is not None:
            yield Operation(self.process, "lock", self.key, "release", *self.release, "ok", end)
        elif self.refused is None:
            since = self.asked if self.granted is None else max(self.sure, self.granted)
            yield Operation(self.process, "lock", self.key, "expire", since, arguments=end)
