"""A lock with fencing tokens, exclusive or shared.

| operation | arguments | outcome: result |
|---|---|---|
| acquire | hold, mode ("exclusive" or "shared") | ok: token (may be left out); held (somebody has it) |
| release | hold | ok |
| expire | hold | never told: the cell ends the hold if it is still there |

`hold` is a name that one acquire has for itself. `expire` has no caller: whoever writes the history knows the earliest
moment at which the lock may be free for others (lock-delay included). A token is larger than that of every earlier
period; all holders of one shared period carry the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from tests.histories.models.base import Model
from tests.histories.operation import UNKNOWN, Operation

GHOST = "(somebody who never heard of it)"


class Period(NamedTuple):
    """Who holds now. `token` 0: not known, but above `floor`, the highest token known."""

    mode: str = ""
    token: int = 0
    holders: frozenset[str] = frozenset()
    floor: int = 0


class Lock(Model[Period]):
    """See the module docstring."""

    name = "lock"
    initial = Period()

    def step(self, state: Period, op: Operation) -> Period | None:
        hold = op.arguments["hold"]
        if op.name == "acquire":
            return self._acquire(state, op, hold)
        assert op.name in ("release", "expire"), op.name
        if hold not in state.holders:
            return None if op.outcome == "ok" else state
        left = state.holders - {hold}
        return state._replace(holders=left) if left else Period(floor=state.floor)

    def _acquire(self, state: Period, op: Operation, hold: str) -> Period | None:
        if op.outcome == "held":
            return state if state.holders else None
        mode, token = op.arguments["mode"], op.result.get("token", 0)
        assert mode in ("exclusive", "shared"), mode
        if not state.holders:
            return Period(mode, token, frozenset((hold,)), token or state.floor) if _above(state, token) else None
        if not mode == state.mode == "shared":
            return state if op.outcome == UNKNOWN else None
        joined = state._replace(holders=state.holders | {hold})
        if token in (0, state.token):
            return joined
        return joined._replace(token=token, floor=token) if state.token == 0 and _above(state, token) else None

    def observes(self, op: Operation) -> bool:
        return op.outcome == "held"

    def number(self, op: Operation) -> int:
        return int(op.result.get("token", 0))

    def helps(self, state: Period, op: Operation, due: Operation) -> bool:
        """An end makes room. A grant that nobody heard of keeps others out, or keeps a shared period going."""
        if op.name != "acquire":
            return due.outcome != "held"
        own = due.arguments["hold"] == op.arguments["hold"]
        return own or due.outcome == "held" or op.arguments["mode"] == "shared"

    def level(self, ops: Sequence[Operation], starts: Iterable[Period]) -> list[Operation]:
        """Ghosts are one: those whose acquire was not answered, and who may end at any moment from then on.

        One may keep the lock from others for a while, and it does not matter which of them does.
        """
        asked = {op.arguments["hold"]: op.begun for op in ops if op.name == "acquire" and not op.known}
        ends = {op.arguments["hold"] for op in ops if _ends_at_once(op, asked)}
        mentioned = {op.arguments["hold"] for op in ops if op.known}
        ghosts = (asked.keys() & ends) - mentioned.union(*(start.holders for start in starts))
        return [
            replace(op, arguments={**op.arguments, "hold": GHOST}) if op.arguments["hold"] in ghosts else op
            for op in ops
        ]

    def words(self, op: Operation) -> str:
        mode = f" {op.arguments['mode']}" if op.name == "acquire" else ""
        return f"{op.name}{mode} ({op.arguments['hold']})"

    def answer(self, op: Operation) -> str:
        if op.name == "acquire" and "token" in op.result:
            return f"token {op.result['token']}"
        return super().answer(op)

    def describe(self, state: Period) -> str:
        if not state.holders:
            return f"free after token {state.floor}" if state.floor else "free"
        token = f"token {state.token}" if state.token else f"a token above {state.floor}"
        return f"held {state.mode} by {', '.join(sorted(state.holders))} with {token}"


def _above(state: Period, token: int) -> bool:
    return token == 0 or token > state.floor


def _ends_at_once(op: Operation, asked: Mapping[str, int]) -> bool:
    """May it end its hold as soon as that was asked for?"""
    return op.name != "acquire" and op.begun <= asked.get(op.arguments["hold"], -1)
