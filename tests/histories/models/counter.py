"""A counter that never loses an increment.

| operation | arguments | outcome: result |
|---|---|---|
| add | by | ok: value (after it; may be left out) |
| get | | ok: value |
"""

from __future__ import annotations

from tests.histories.models.base import Model
from tests.histories.operation import UNKNOWN, Operation


class Counter(Model[int]):
    """The state is the value."""

    name = "counter"
    initial = 0

    def step(self, state: int, op: Operation) -> int | None:
        if op.name == "get":
            return state if op.outcome == UNKNOWN or op.result["value"] == state else None
        assert op.name == "add" and op.arguments["by"] > 0, op
        value: int = state + op.arguments["by"]
        return value if op.result.get("value", value) == value else None

    def observes(self, op: Operation) -> bool:
        return op.name == "get"

    def helps(self, state: int, op: Operation, due: Operation) -> bool:
        """A counter only rises: what is too much for somebody who is open is of no use to him."""
        value: int = state + op.arguments["by"] + due.arguments.get("by", 0)
        return value <= due.result.get("value", 0)
