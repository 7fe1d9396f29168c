"""KeepAlives that the master holds: not for too long, not past news, and answered by who may, to whom they are due.

Judged are answers that end a hold at the end of a turn. Where a newer KeepAlive came in the same turn, the one before
was answered at its beginning, under what was true then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from coordd.engine.effects import Effects, Reply
from coordd.engine.inputs import Input
from coordd.machine.machine import Session
from tests.simulation.checkers.panel import Checker
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.doors import Doors
    from tests.simulation.process import Process


def replies_of(effects: Effects) -> list[Reply]:
    """The last answers, without the pushes."""
    return [answer for answer in effects.answers if isinstance(answer, Reply)]


class HeldKeepAlives(Checker):
    """See the module docstring."""

    name = "held KeepAlives"

    def __init__(self, world: World, doors: Mapping[int, Doors]) -> None:
        super().__init__(world)
        self._doors = doors
        self._held: dict[int, set[int]] = {}  # replica -> requests that were held after its last turn
        self.judged = 0

    def started(self, process: Process) -> None:
        self._held[process.name] = set()

    def stepped(self, process: Process, inputs: Sequence[Input], effects: Effects, now_ms: int) -> None:
        held = process.engine._mastership._keepalives._held
        before = self._held[process.name]
        if not (held or before):
            return
        self._held[process.name] = {waiting.call.request for _, waiting in held.values()}
        if process.engine._mastership.lessor.ruling:
            self._look_at_held(process, now_ms)
        known = self._doors[process.name].posts.keep_alives
        replies = replies_of(effects)
        sessions = Counter(known[reply.request][0] for reply in replies if reply.request in known)
        for reply in replies:
            if reply.request not in before or reply.request not in known or not isinstance(reply.result, dict):
                continue
            session, secret = known[reply.request]
            if sessions[session] == 1 and session not in held:
                self._judge(process, session, secret, now_ms)

    def _look_at_held(self, process: Process, now_ms: int) -> None:
        mastership = process.engine._mastership
        keepalives = mastership._keepalives
        for number, (_, waiting) in keepalives._held.items():
            session = self._due(process, number, waiting.call.secret, f"replica {process.name} holds one")
            held_ms = now_ms - waiting.since_ms
            if held_ms >= session.lease_ms // 3:
                raise self.broken(f"replica {process.name} holds one of session {number} for {held_ms} ms by now")
            told = keepalives._told.get(number, ())
            if any(notice not in told for notice in process.engine.machine.notices(number)):
                raise self.broken(f"replica {process.name} has news for session {number}, and holds its KeepAlive")

    def _judge(self, process: Process, number: int, secret: str, now_ms: int) -> None:
        self.judged += 1
        words = f"replica {process.name} answers one"
        if not process.engine.replica.lease_valid(now_ms):
            raise self.broken(f"{words} of session {number} outside its lease")
        self._due(process, number, secret, words)

    def _due(self, process: Process, number: int, secret: str | None, words: str) -> Session:
        """The session, if whoever sent the KeepAlive still has it. A channel sends none that is held."""
        session: Session | None = process.engine.machine.sessions.get(number)
        if session is None or session.mute is not None:
            raise self.broken(f"{words} of session {number}, which has ended, was killed or was left")
        if session.secret != secret:
            raise self.broken(f"{words} of session {number}, which another process has resumed")
        return session


def renewed(replies: Sequence[Reply], doors: Doors) -> list[tuple[int, str]]:
    """Session and secret of the POSTs whose KeepAlive is answered by these."""
    known = doors.posts.keep_alives
    return [known[one.request] for one in replies if one.request in known and isinstance(one.result, dict)]
