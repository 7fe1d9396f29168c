"""Bugs of sessions, on the master's side and on the client's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from coordclient import holds as holds_module
from coordclient.holds import Hold, Holds
from coordclient.session import Session
from coordd.engine.effects import Reply
from coordd.engine.lessor import Lessor
from coordd.engine.mastership import Mastership
from coordd.machine import machine as machine_module
from coordd.machine import sessions as sessions_module
from coordd.machine.machine import Row
from tests.simulation.client import Seat
from tests.simulation.planted import Bug


def row(operation: str, make: Any) -> Any:
    """A patch of `HANDLERS`: another handler for one operation."""

    def rows(right: Mapping[str, Row]) -> dict[str, Row]:
        old = right[operation]
        return {**right, operation: replace(old, handler=make(old.handler))}

    return (machine_module, "HANDLERS", rows)


def _answers_without_lease(right: Any) -> Any:
    def on_keep_alive(self: Any, call: Any, since_ms: int, sure: bool) -> None:
        info = self.machine.sessions.get(call.session)
        if self.lessor.ruling or info is None:
            right(self, call, since_ms, sure)
            return
        result = {"number": call.arguments["number"], "epoch": self.reign, "lease_ms": info.lease_ms}
        self.replies.append(Reply(call.request, result))

    return on_keep_alive


def _no_fresh_lease(right: Any) -> Any:
    def regain(self: Any, sessions: Any, waits: Any) -> None:
        right(self, sessions, waits)
        self._deadlines = {session: self._time + sessions[session].lease_ms // 3 for session in self._deadlines}
        self._heap = sorted((deadline, session) for session, deadline in self._deadlines.items())

    return regain


def _rules_on(right: Any) -> Any:
    return lambda self: None


def _stall_charged(right: Any) -> Any:
    def tick(self: Any, now_ms: int) -> bool:
        self._time += now_ms - self._last_ms
        self._last_ms = now_ms
        return False

    return tick


def _answered_while_decided(right: Any) -> Any:
    return lambda self, session: False


def _renewed_while_decided(right: Any) -> Any:
    def renew(self: Any, session: int, lease_ms: int) -> None:
        self._deadlines[session] = self._time + lease_ms

    return renew


def _short_lease(right: Any) -> Any:
    def renew(self: Any, session: int, lease_ms: int) -> None:
        right(self, session, lease_ms - lease_ms // 8)

    return renew


def _counts_from_the_answer(right: Any) -> Any:
    def answered(self: Any, number: int, epoch: int, lease_ms: int, now: Any) -> bool:
        if number in self._transmissions:
            self._transmissions[number] = now
        return bool(right(self, number, epoch, lease_ms, now))

    return answered


def _dated_by_the_last_copy(right: Any) -> Any:
    def answered(self: Any, number: int, epoch: int, lease_ms: int, now: Any) -> bool:
        if number in self._transmissions and self._last_sent is not None:
            self._transmissions[number] = self._last_sent
        return bool(right(self, number, epoch, lease_ms, now))

    return answered


def _grace_is_active(right: Any) -> Any:
    def left_ms(self: Any, now: Any) -> int:
        return int(right(self, now)) + 500

    return left_ms


def _sleep_not_counted(right: Any) -> Any:
    def reading(self: Any) -> Any:
        now, wall = right(self)
        slept: int = self.__dict__.get("slept_ms", 0)
        since = self.__dict__.get("asleep_since")
        if since is not None:
            slept += now - since
        return now - slept, wall - slept

    return reading


def _falls_asleep(right: Any) -> Any:
    def pause(self: Any, for_us: int) -> None:
        if self.process is not None and not self.process.loop.paused:
            self.__dict__["asleep_since"] = self.clock.now_ms()
            self.world.after(for_us, _wakes, self)
        right(self, for_us)

    return pause


def _wakes(seat: Any) -> None:
    since = seat.__dict__.pop("asleep_since", None)
    if since is not None:
        seat.__dict__["slept_ms"] = seat.__dict__.get("slept_ms", 0) + seat.clock.now_ms() - since


def _no_look_at_the_clock(right: Any) -> Any:
    return lambda self, now: self.state is holds_module.HoldState.HELD


def _enters_whatever_the_time(right: Any) -> Any:
    def add(self: Any, hold: Any, now: Any) -> bool:
        self._holds[hold.number] = hold
        hold.stop_margin_ms = -5_000
        return True

    return add


def _no_lock_delay_at_all(right: Any) -> Any:
    def end(state: Any, session: Any, expired: bool, woken: Any) -> None:
        right(state, session, False, woken)

    return end


class AlwaysInLease:
    """Stands for the core where somebody asks about the lease."""

    def __init__(self, core: Any) -> None:
        self._core = core

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)

    def lease_valid(self, now_ms: int) -> bool:
        return True


def _decides_anyway(right: Any) -> Any:
    def next_batch(self: Any, wall_ms: int) -> Any:
        core = self._replica
        if self.lessor.ruling or not core.serving:
            return right(self, wall_ms)
        self.lessor.ruling, self._replica = True, AlwaysInLease(core)
        try:
            return right(self, wall_ms)
        finally:
            self.lessor.ruling, self._replica = False, core

    return next_batch


def _deadlines_stay(right: Any) -> Any:
    def pause(self: Any) -> None:
        deadlines, heap = self._deadlines, self._heap
        right(self)
        self._deadlines, self._heap = deadlines, heap

    return pause


# Not here: the epoch guard of an expiry. A stale one needs two reigns and a slot that the one between never filled;
# `unit/machine/test_sessions.py` (a_stale_expiry_does_nothing) holds it, and the checker of beliefs looks for it.
BUGS = (
    Bug(
        "expiry decided without the lease",
        "sessions",
        "cell",
        [(Lessor, "pause", _deadlines_stay), (Mastership, "next_batch", _decides_anyway)],
    ),
    Bug(
        "KeepAlive answered outside the lease",
        "sessions",
        "cell",
        [(Mastership, "_on_keep_alive", _answers_without_lease)],
    ),
    Bug("no fresh lease when the lease is regained", "sessions", "cell", [(Lessor, "regain", _no_fresh_lease)]),
    Bug("lessor goes on without the lease", "sessions", "cell", [(Lessor, "pause", _rules_on)]),
    Bug("stall charged to clients", "sessions", "cell", [(Lessor, "tick", _stall_charged)]),
    Bug(
        "KeepAlive answered while the expiry is decided",
        "sessions",
        "cell",
        [(Lessor, "in_decision", _answered_while_decided), (Lessor, "renew", _renewed_while_decided)],
    ),
    Bug("lease shorter than it was promised", "sessions", "cell", [(Lessor, "renew", _short_lease)]),
    Bug("client counts from the answer", "sessions", "cell", [(Session, "answered", _counts_from_the_answer)]),
    Bug("an answer dates a later copy", "sessions", "cell", [(Session, "answered", _dated_by_the_last_copy)]),
    Bug("client believes half a second longer", "sessions", "cell", [(Session, "left_ms", _grace_is_active)]),
    Bug(
        "client does not count its sleep",
        "sessions",
        "cell",
        [(Seat, "reading", _sleep_not_counted), (Seat, "pause", _falls_asleep)],
    ),
    Bug("safe does not look at the clock", "sessions", "cell", [(Hold, "safe", _no_look_at_the_clock)]),
    Bug("late grant entered", "sessions", "cell", [(Holds, "add", _enters_whatever_the_time)]),
    Bug("expiry frees at once", "sessions", "cell", [(sessions_module, "_end", _no_lock_delay_at_all)]),
)
