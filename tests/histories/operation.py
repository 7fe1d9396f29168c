"""One operation of a history, as its caller saw it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Operation:
    """`model` and `key` name the object, `name` and `arguments` what was asked, `outcome` and `result` what was told.

    Times are integers of one clock that all processes read. `ended` is None, and `outcome` "unknown", when no answer
    came: the operation takes effect at any moment after `begun`, or never. What the cell does by itself (the expiry of
    a hold) is written down in the same way: `begun` is the earliest moment at which it may happen.
    """

    process: str
    model: str
    key: str
    name: str
    begun: int
    ended: int | None = None
    outcome: str = UNKNOWN
    arguments: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert (self.ended is None) == (self.outcome == UNKNOWN), "an answer has a time and an outcome, or neither"
        assert self.ended is None or self.ended >= self.begun, "an answer comes after the question"

    @property
    def known(self) -> bool:
        """Did an answer come?"""
        return self.ended is not None

    def unanswered(self) -> Operation:
        """The same, if no answer had come."""
        return replace(self, ended=None, outcome=UNKNOWN, result={})

    def kind(self) -> str:
        """Equal for operations that differ only in who, and when."""
        return json.dumps([self.name, self.arguments, self.outcome, self.result], sort_keys=True)
