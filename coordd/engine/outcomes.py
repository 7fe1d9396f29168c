"""What a master's own books say after a command that it proposed was applied: deadlines, doors, what is told to whom.

The replicated state has changed already, also by later commands of the same batch (so it may lack the session that a
command was about); here is what follows from it for what only a master keeps. Commands that an earlier master proposed
need none of this: they were applied before this one served, and then everything begins anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, assert_never

from coordd.engine.caching import Caching
from coordd.engine.doors import Doors, session_expired
from coordd.engine.keepalives import KeepAlives
from coordd.engine.lessor import Lessor
from coordd.engine.pending import Expiry, Pending, WaitEnd
from coordd.engine.reads import WaitingCall, WaitingCalls
from coordd.engine.resumes import Resumes
from coordd.machine.machine import Applied, Machine, Session


class Outcomes:
    """See the module docstring. `waits_changed`: the lessor has to look at the waits anew."""

    def __init__(
        self,
        lessor: Lessor,
        doors: Doors,
        keepalives: KeepAlives,
        resumes: Resumes,
        waiting: WaitingCalls,
        caching: Caching,
    ) -> None:
        self._lessor = lessor
        self._doors = doors
        self._keepalives = keepalives
        self._resumes = resumes
        self._waiting = waiting
        self._caching = caching
        self.waits_changed = False
        self._follow: dict[str, Callable[[Pending, dict[str, Any], Machine, int], None]] = {
            "open_session": self._opened,
            "close_session": self._closed,
            "acknowledge_kill": self._closed,
            "kill_session": self._killed,
            "resume_session": self._resumed,
            "leave_session": self._left,
            "unlock": self._unlocked,
            "give_up": self._gave_up,
        }

    def applied(self, entry: Pending, result: Applied, machine: Machine, now_ms: int) -> None:
        """A client's command was applied, though it may have done nothing."""
        self.given_up(entry)
        follow = self._follow.get(entry.operation)
        if follow is not None and isinstance(result.reply, dict) and not result.again:
            follow(entry, result.reply, machine, now_ms)

    def given_up(self, entry: Pending) -> None:
        """A client's command is on its way no more: what was held back because of it goes on."""
        if entry.resumes:
            self._go_on(self._resumes.end(entry.resumes))

    def decided(self, entry: Expiry | WaitEnd, machine: Machine) -> None:
        """A decision of the master's own was applied."""
        match entry:
            case Expiry(session):
                info = machine.sessions.get(session)
                self._lessor.decided(session, info)
                self.waits_changed = True
                if info is None:
                    self._ended(session)
                self._go_on(self._keepalives.decided(session))
            case WaitEnd(wait):
                self._lessor.wait_decided(wait)
                self.waits_changed = True
            case _:
                assert_never(entry)

    def _go_on(self, held: list[WaitingCall]) -> None:
        """These were held back and are looked at anew, as if they had just come."""
        for waiting in held:
            self._waiting.add(waiting)

    # ---- sessions ----

    def _opened(self, entry: Pending, reply: dict[str, Any], machine: Machine, now_ms: int) -> None:
        self._lessor.begin(reply["session"], reply["lease_ms"])
        self._keepalives.heard(reply["session"], now_ms)

    def _closed(self, entry: Pending, reply: dict[str, Any], machine: Machine, now_ms: int) -> None:
        assert entry.session not in machine.sessions
        self.waits_changed = True
        self._ended(entry.session)

    def _ended(self, session: int) -> None:
        self._doors.forget(session)
        self._keepalives.ended(session)
        self._caching.session_ended(session)

    def _killed(self, entry: Pending, reply: dict[str, Any], machine: Machine, now_ms: int) -> None:
        self._silence(machine.sessions.get(reply["session"]))

    def _left(self, entry: Pending, reply: dict[str, Any], machine: Machine, now_ms: int) -> None:
        self._silence(machine.sessions.get(entry.session))

    def _silence(self, session: Session | None) -> None:
        """No KeepAlive of that session is answered any more."""
        if session is not None and session.mute is not None:
            self._keepalives.refuse(session.id, session.mute)

    def _resumed(self, entry: Pending, reply: dict[str, Any], machine: Machine, now_ms: int) -> None:
        """Another process has the session: a whole lease for it, and nothing more for the one before."""
        info = machine.sessions[reply["session"]]  # neither a write of its own nor an expiry comes behind it in a batch
        held = self._keepalives.held(info.id)
        if held is not None and self._doors.objection(held, info) is not None:
            self._keepalives.refuse(info.id, session_expired(info.id))
        self._caching.session_ended(info.id, info.incarnation)
        self._keepalives.heard(info.id, now_ms)
        if self._lessor.ruling and not self._lessor.in_decision(info.id) and info.mute is None:
            self._lessor.renew(info.id, info.lease_ms)

    # ---- holds ----

    def _unlocked(self, entry: Pending, reply: dict[str, Any], machine: Machine, now_ms: int) -> None:
        self.waits_changed = True
        for session in dict.fromkeys(row["session"] for row in reply["holds"]):
            self._keepalives.tell(session)

    def _gave_up(self, entry: Pending, reply: dict[str, Any], machine: Machine, now_ms: int) -> None:
        self.waits_changed = True
