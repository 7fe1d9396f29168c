"""Bugs of what is taken: holds that operators want back or break, killed sessions, transfers."""

from __future__ import annotations

from typing import Any

from coordclient.aio.lockstate import LockState
from coordclient.holds import Holds
from coordd.engine.effects import Reply
from coordd.engine.keepalives import KeepAlives
from coordd.engine.lessor import Lessor
from coordd.engine.mastership import Mastership
from coordd.machine import revoking
from coordd.machine import sessions as sessions_module
from tests.simulation.planted import Bug
from tests.simulation.planted.sessions import row


def _frees_at_once(right: Any) -> Any:
    def give_up(state: Any, session: Any, call: int, principal: str, arguments: Any, woken: Any) -> Any:
        hold = state.revoked.get((arguments["path"], session.id, arguments["hold"]))
        if hold is not None:
            hold.lock_delay_ms = 0
        return right(state, session, call, principal, arguments, woken)

    return give_up


def _half_a_lease(right: Any) -> Any:
    def watch(self: Any, waits: Any) -> None:
        right(self, [(wait, ms // 2 if wait.command == "end_revoked" else ms) for wait, ms in waits])

    return watch


def _no_lease_after_regain(right: Any) -> Any:
    def regain(self: Any, sessions: Any, waits: Any) -> None:
        right(self, sessions, [(wait, 0 if wait.command == "end_revoked" else ms) for wait, ms in waits])

    return regain


def _told_once(right: Any) -> Any:
    """What one answer has told no later one tells again; that answer may be lost."""

    def answer(self: Any, call: Any, session: Any) -> None:
        told = self._told.get(session.id, ())
        notices = session.notices
        session.notices = {key: reason for key, reason in notices.items() if (key, reason) not in told}
        try:
            right(self, call, session)
        finally:
            session.notices = notices
            self._told[session.id] = tuple(notices.items())

    return answer


def _nobody_told(right: Any) -> Any:
    """A hold is broken, and its session is not told."""

    def broken(state: Any, hold: Any, reason: str) -> None:
        right(state, hold, reason)
        owner = state.sessions.get(hold.session)
        if owner is not None:
            owner.notices.pop((hold.lock.node.path, hold.call), None)

    return broken


def _goes_on(right: Any) -> Any:
    """The client hears that an operator wants a lock back, and goes on."""
    return lambda self, path, number, reason, now, pending: None


def _killed_is_answered(right: Any) -> Any:
    def on_keep_alive(self: Any, call: Any, since_ms: int, sure: bool) -> None:
        info = self.machine.sessions.get(call.session)
        if info is None or not info.killed or not self.lessor.ruling or self.lessor.in_decision(call.session):
            right(self, call, since_ms, sure)
            return
        self.lessor.renew(info.id, info.lease_ms)
        result = {"number": call.arguments["number"], "epoch": self.reign, "lease_ms": info.lease_ms}
        self.replies.append(Reply(call.request, result))

    return on_keep_alive


def _kill_frees(right: Any) -> Any:
    def kill(state: Any, session: Any, call: int, principal: str, arguments: Any, woken: Any) -> Any:
        reply = right(state, session, call, principal, arguments, woken)
        sessions_module._end(state, state.sessions[arguments["session"]], False, woken)
        return reply

    return kill


def _killed_has_no_delay(right: Any) -> Any:
    def end(state: Any, session: Any, expired: bool, woken: Any) -> None:
        right(state, session, expired and not session.killed, woken)

    return end


def _same_token(right: Any) -> Any:
    def grant_place(state: Any, session: Any, place: Any) -> Any:
        token, alone = place.lock.token, not place.lock.holders
        hold = right(state, session, place)
        if alone:
            place.lock.token = place.lock.node.lock_generation = token
        return hold

    return grant_place


def _to_the_last(right: Any) -> Any:
    def transfer(state: Any, session: Any, call: int, principal: str, arguments: Any, woken: Any) -> Any:
        hold = session.holds.get(arguments["hold"])
        waiting = [one.session for one in hold.lock.waiters.values()] if hold is not None else []
        to = waiting[-1] if arguments["to"] in waiting else arguments["to"]
        return right(state, session, call, principal, {**arguments, "to": to}, woken)

    return transfer


def _giver_believes(right: Any) -> Any:
    async def hand_over(self: Any, to: int) -> None:
        hold, life = self.hold, self._life
        await self.keeper.call("transfer", {"path": hold.path, "hold": hold.number, "to": to}, life)
        await self.keeper.call("stat", {"path": hold.path}, life)
        life.holds.released(hold)

    return hand_over


BUGS = (
    Bug("give_up frees without lock-delay", "operators", "cell", [row("give_up", _frees_at_once)]),
    Bug("a revoked hold ends after half a lease", "operators", "cell", [(Lessor, "watch", _half_a_lease)]),
    Bug(
        "a new master waits no lease for a revoked hold",
        "operators",
        "cell",
        [(Lessor, "regain", _no_lease_after_regain)],
    ),
    Bug("a revoked hold is told once only", "operators", "cell", [(KeepAlives, "_answer", _told_once)]),
    Bug("nobody is told of a broken hold", "operators", "cell", [(revoking, "_break", _nobody_told)]),
    Bug("client goes on when its lock is wanted back", "operators", "cell", [(Holds, "revoked", _goes_on)]),
    Bug(
        "killed session's KeepAlive still answered",
        "operators",
        "cell",
        [(Mastership, "_on_keep_alive", _killed_is_answered)],
    ),
    Bug("kill frees at once", "operators", "cell", [row("kill_session", _kill_frees)]),
    Bug(
        "no lock-delay after a kill",
        "operators",
        "cell",
        [(sessions_module, "end_session_locks", _killed_has_no_delay)],
    ),
    Bug("transfer keeps the token", "transfers", "cell", [(revoking, "grant_place", _same_token)]),
    Bug("transfer goes to whoever waits last", "transfers", "cell", [row("transfer", _to_the_last)]),
    Bug("who hands a lock over believes on", "transfers", "cell", [(LockState, "hand_over", _giver_believes)]),
)
