"""Bugs of the KeepAlives that are held for clients who speak POST."""

from __future__ import annotations

from heapq import heappush
from typing import Any

from coordd.engine.keepalives import KeepAlives
from coordd.engine.mastership import Mastership
from coordd.engine.outcomes import Outcomes
from tests.simulation.planted import Bug
from tests.simulation.planted.sessions import AlwaysInLease


class _NotRenewing:
    """Stands for the lessor where a KeepAlive is to renew nothing."""

    def __init__(self, lessor: Any) -> None:
        self._lessor = lessor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lessor, name)

    def renew(self, session: int, lease_ms: int) -> None:
        pass


def _counts_from_its_answer(right: Any) -> Any:
    def take(self: Any, call: Any, session: Any, since_ms: int, now_ms: int) -> None:
        lessor, self._lessor = self._lessor, _NotRenewing(self._lessor)
        try:
            right(self, call, session, since_ms, now_ms)
        finally:
            self._lessor = lessor
        if session.id not in self._held:
            lessor.renew(session.id, session.lease_ms)

    return take


def _counts_from_its_arrival(right: Any) -> Any:
    def end_holds(self: Any, sessions: Any, now_ms: int) -> None:
        lessor, self._lessor = self._lessor, _NotRenewing(self._lessor)
        try:
            right(self, sessions, now_ms)
        finally:
            self._lessor = lessor

    return end_holds


def _held_as_long_as_asked(right: Any) -> Any:
    def take(self: Any, call: Any, session: Any, since_ms: int, now_ms: int) -> None:
        right(self, call, session, since_ms, now_ms)
        if session.id in self._held:
            until_ms = since_ms + call.arguments["hold_ms"]
            self._held[session.id] = until_ms, self._held[session.id][1]
            heappush(self._heap, (until_ms, session.id))

    return take


def _answers_without_lease(right: Any) -> Any:
    def end_holds(self: Any, sessions: Any, now_ms: int) -> None:
        lessor, replica, ruled = self._lessor, self._replica, self._lessor.ruling
        lessor.ruling, self._replica = True, AlwaysInLease(replica)
        try:
            right(self, sessions, now_ms)
        finally:
            lessor.ruling, self._replica = ruled, replica

    return end_holds


def _keeps_what_is_held(right: Any) -> Any:
    def end_reign(self: Any) -> None:
        keepalives, calls = self._keepalives, self.calls.open
        held, heap = keepalives._held, keepalives._heap
        requests = [one.call.request for _, one in held.values()]
        waiting = {request: calls.pop(request) for request in requests if request in calls}
        right(self)
        keepalives._held, keepalives._heap = held, heap
        self.calls.open.update(waiting)

    return end_reign


def _whoever_rules(right: Any) -> Any:
    def go_on(self: Any) -> None:
        right(self)
        if not self.reign:
            self._keepalives.end_holds(self.machine.sessions, self._now_ms)

    return go_on


def _none_is_held(right: Any) -> Any:
    return lambda self, session: None


class _Speaking:
    """Stands for a session that nobody has killed."""

    mute = None

    def __init__(self, session: Any) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


def _answers_whoever_was_killed(right: Any) -> Any:
    return lambda self, call, session: right(self, call, _Speaking(session))


def _does_nothing(right: Any) -> Any:
    return lambda self, session: None


BUGS = (
    Bug(
        "held KeepAlive counts from its answer alone", "posts", "cell", [(KeepAlives, "take", _counts_from_its_answer)]
    ),
    Bug(
        "held KeepAlive counts from its arrival alone",
        "posts",
        "cell",
        [(KeepAlives, "end_holds", _counts_from_its_arrival)],
    ),
    Bug("KeepAlive held for as long as it is asked", "posts", "cell", [(KeepAlives, "take", _held_as_long_as_asked)]),
    Bug(
        "held KeepAlive answered outside the lease",
        "posts",
        "cell",
        [(KeepAlives, "end_holds", _answers_without_lease)],
    ),
    Bug(
        "held KeepAlive answered by a deposed master",
        "posts",
        "cell",
        [
            (Mastership, "_end_reign", _keeps_what_is_held),
            (Mastership, "go_on", _whoever_rules),
            (KeepAlives, "end_holds", _answers_without_lease),
        ],
    ),
    Bug("held KeepAlive outlives a resume", "posts", "cell", [(KeepAlives, "held", _none_is_held)]),
    Bug(
        "held KeepAlive outlives a kill",
        "posts",
        "cell",
        [(Outcomes, "_silence", _does_nothing), (KeepAlives, "_answer", _answers_whoever_was_killed)],
    ),
    Bug("news end no hold", "posts", "cell", [(KeepAlives, "tell", _does_nothing)]),
)
