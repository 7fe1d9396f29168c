"""A lock with fencing tokens: exclusive, shared, or a semaphore.

| operation | arguments | outcome: result |
|---|---|---|
| acquire | hold, mode ("exclusive", "shared", "semaphore"), permits | ok: token (may be left out); held; differs |
| release | hold | ok |
| expire | hold | never told: the cell ends the hold if it is still there |

`hold` is a name that one acquire has for itself; `held` says that somebody has the lock, and `differs` that it is a
semaphore with another number of permits now. `expire` has no caller: whoever writes the history knows the earliest
moment at which the lock may be free for others (lock-delay included). A token is larger than that of every earlier
period; all holders of one shared period carry the same, and each holder of a semaphore has one of its own. The number
of permits is that of whoever began the period.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from tests.histories.models.base import Model
from tests.histories.operation import UNKNOWN, Operation

GHOST = "(somebody who never heard of it)"


class Period(NamedTuple):
    """Who holds now. `token` 0: not known, but above `floor`, the highest token known; a semaphore's is not kept."""

    mode: str = ""
    token: int = 0
    holders: frozenset[str] = frozenset()
    floor: int = 0
    permits: int = 0

    def granted(self, hold: str, mode: str, permits: int, token: int) -> Period | None:
        """With one more holder, who was told this token (0: no token); None where that cannot be."""
        assert mode in ("exclusive", "shared", "semaphore") and (permits > 0) == (mode == "semaphore"), (mode, permits)
        if token and token <= self.floor and not (mode == self.mode == "shared" and token == self.token):
            return None
        if not self.holders:
            kept = 0 if permits else token
            return Period(mode, kept, frozenset((hold,)), token or self.floor, permits)
        if mode != self.mode or mode == "exclusive":
            return None
        joined = self._replace(holders=self.holders | {hold})
        if mode == "semaphore":
            fits = permits == self.permits and len(self.holders) < permits
            return joined._replace(floor=token or self.floor) if fits else None
        if token in (0, self.token):
            return joined
        return joined._replace(token=token, floor=token) if self.token == 0 else None

    def left(self, hold: str) -> Period:
        """Without that holder."""
        left = self.holders - {hold}
        return self._replace(holders=left) if left else Period(floor=self.floor)

    def words(self) -> str:
        """For people."""
        if not self.holders:
            return f"free after token {self.floor}" if self.floor else "free"
        who = f"held {self.mode} by {', '.join(sorted(self.holders))}"
        if self.permits:
            return f"{who} of {self.permits} after token {self.floor}"
        return f"{who} with token {self.token}" if self.token else f"{who} with a token above {self.floor}"


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
        return state.left(hold)

    def _acquire(self, state: Period, op: Operation, hold: str) -> Period | None:
        mode, permits = op.arguments["mode"], op.arguments.get("permits", 0)
        if op.outcome == "held":
            return state if state.holders else None
        if op.outcome == "differs":
            return state if state.mode == mode == "semaphore" and state.permits != permits else None
        after = state.granted(hold, mode, permits, op.result.get("token", 0))
        return state if after is None and op.outcome == UNKNOWN else after

    def observes(self, op: Operation) -> bool:
        return op.outcome in ("held", "differs")

    def number(self, op: Operation) -> int:
        return int(op.result.get("token", 0))

    def helps(self, state: Period, op: Operation, due: Operation) -> bool:
        """An end makes room. A grant that nobody heard of keeps others out, or keeps a shared period going."""
        if op.name != "acquire":
            return due.outcome != "held"
        own = due.arguments["hold"] == op.arguments["hold"]
        return own or due.outcome in ("held", "differs") or op.arguments["mode"] == "shared"

    def level(self, ops: Sequence[Operation], starts: Iterable[Period]) -> list[Operation]:
        """Ghosts are one: those whose acquire was not answered, and who may end at any moment from then on.

        One may keep the lock from others for a while, and it does not matter which of them does. Those of a semaphore
        are told apart, for several of them keep more from others than one.
        """
        asked = {
            op.arguments["hold"]: op.begun
            for op in ops
            if op.name == "acquire" and not op.known and op.arguments["mode"] != "semaphore"
        }
        ends = {op.arguments["hold"] for op in ops if _ends_at_once(op, asked)}
        mentioned = {op.arguments["hold"] for op in ops if op.known}
        ghosts = (asked.keys() & ends) - mentioned.union(*(start.holders for start in starts))
        return [
            replace(op, arguments={**op.arguments, "hold": GHOST}) if op.arguments["hold"] in ghosts else op
            for op in ops
        ]

    def words(self, op: Operation) -> str:
        mode = f" {op.arguments['mode']}" if op.name == "acquire" else ""
        permits = f" of {op.arguments['permits']}" if op.arguments.get("permits") else ""
        return f"{op.name}{mode}{permits} ({op.arguments['hold']})"

    def answer(self, op: Operation) -> str:
        if op.name == "acquire" and "token" in op.result:
            return f"token {op.result['token']}"
        return super().answer(op)

    def describe(self, state: Period) -> str:
        return state.words()


def _ends_at_once(op: Operation, asked: Mapping[str, int]) -> bool:
    """May it end its hold as soon as that was asked for?"""
    return op.name != "acquire" and op.begun <= asked.get(op.arguments["hold"], -1)
