"""The lessor: which session is overdue, and which wait is over. Volatile, and only a master inside its lease has one.

Two things are waited for besides the leases of sessions, and both in one way: the lock-delay of a hold whose session
expired, and the lease that the holder of a revoked hold may still believe in. A *wait* is named by the command that
ends it and the hold that it is about; the replicated state says which there are, and how long each takes.

The lessor holds deadlines and decides nothing by itself: `overdue` and `ended` say what may be proposed *now*, and the
engine asks only inside its master lease (the one rule of the design). What was handed out is *in decision* until it was
applied: a session in decision gets no KeepAlive answered, whatever arrives.

Deadlines are counted on a clock of the lessor's own, which stands still during a stall of this replica, and after it
until what came in meanwhile can have been taken in (`drain_ms`). So a stall makes every lease and every wait grow
by the gap and a little, in one comparison, and a KeepAlive costs one dictionary entry.

Each session has one entry in the heap, at most as late as its deadline: a KeepAlive moves only the deadline, and the
entry is put back when its turn comes. A session that was closed is noticed at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from heapq import heapify, heappop, heappush
from typing import NamedTuple, Protocol


class Wait(NamedTuple):
    """`command` is the logged command that ends it: `end_lock_delay` or `end_revoked`."""

    command: str
    path: str
    session: int
    hold: int


Waits = Iterable[tuple[Wait, int]]  # each with how long it takes, in milliseconds


class Leased(Protocol):
    """What the lessor must know of a session."""

    @property
    def lease_ms(self) -> int: ...

    @property
    def incarnation(self) -> int: ...


class Lessor:
    """See the module docstring. `ruling`: the deadlines count, this replica is a master inside its lease."""

    def __init__(self, stall_ms: int, drain_ms: int, now_ms: int) -> None:
        assert stall_ms > drain_ms > 0
        self._stall_ms = stall_ms
        self._drain_ms = drain_ms
        self._drained_ms = now_ms  # until then time stands still
        self._last_ms = now_ms
        self._time = 0  # the lessor's own clock
        self._deadlines: dict[int, int] = {}
        self._heap: list[tuple[int, int]] = []
        self._in_decision: dict[int, None] = {}
        self._waits: dict[Wait, int] = {}
        self._wait_heap: list[tuple[int, Wait]] = []
        self._waits_in_decision: dict[Wait, None] = {}
        self.ruling = False

    # ---- the clock ----

    def tick(self, now_ms: int) -> bool:
        """Let time pass; True when the gap since the last tick was a stall, which is charged to nobody."""
        gap = now_ms - self._last_ms
        assert gap >= 0, "the clock never goes back"
        self._last_ms = now_ms
        if gap > self._stall_ms:
            self._drained_ms = now_ms + self._drain_ms
            return True
        self._time += max(0, min(gap, now_ms - self._drained_ms))
        return False

    # ---- whether it rules ----

    def regain(self, sessions: Mapping[int, Leased], waits: Waits) -> None:
        """The lease was regained: KeepAlives can be answered from now on, so everything begins whole from now on."""
        assert not self.ruling, "a lease that was not lost is not regained"
        self.ruling = True
        time = self._time
        self._deadlines = {
            session: time + info.lease_ms for session, info in sessions.items() if session not in self._in_decision
        }
        self._heap = [(deadline, session) for session, deadline in self._deadlines.items()]
        heapify(self._heap)
        for wait, wait_ms in waits:
            if wait not in self._waits_in_decision:
                self._begin(wait, wait_ms)

    def pause(self) -> None:
        """The lease is lost: no deadline counts until it is regained. What is in decision stays so."""
        if not self.ruling:
            return
        self.ruling = False
        self._deadlines, self._heap = {}, []
        self._waits, self._wait_heap = {}, []

    def forget(self) -> None:
        """Not the master any more: nothing that was known here means anything."""
        self.pause()
        self._in_decision, self._waits_in_decision = {}, {}

    # ---- sessions ----

    def begin(self, session: int, lease_ms: int) -> None:
        """A session was opened, or one in decision was not ended after all: it has a whole lease."""
        assert lease_ms > 0
        if self.ruling and session not in self._deadlines and session not in self._in_decision:
            self._deadlines[session] = self._time + lease_ms
            heappush(self._heap, (self._time + lease_ms, session))

    def renew(self, session: int, lease_ms: int) -> None:
        """A KeepAlive is being answered."""
        assert self.ruling, "a KeepAlive is answered only inside the lease"
        assert session not in self._in_decision, "from the moment an expiry is queued no KeepAlive is answered"
        if session in self._deadlines:
            self._deadlines[session] = self._time + lease_ms
        else:
            self.begin(session, lease_ms)

    def in_decision(self, session: int) -> bool:
        """True while an expiry of that session is on its way."""
        return session in self._in_decision

    def left_ms(self, session: int) -> int | None:
        """How long the session has without another KeepAlive; None where nothing is known."""
        deadline = self._deadlines.get(session)
        return None if deadline is None else max(0, deadline - self._time)

    def overdue(self, sessions: Mapping[int, Leased], limit: int) -> list[tuple[int, int]]:
        """At most `limit` overdue sessions with their incarnations; from now on they are in decision."""
        assert self.ruling, "an expiry is decided only inside the lease"
        found: list[tuple[int, int]] = []
        heap, deadlines, time = self._heap, self._deadlines, self._time
        while heap and heap[0][0] <= time and len(found) < limit:
            session = heappop(heap)[1]
            info = sessions.get(session)
            if info is None:
                deadlines.pop(session, None)  # closed meanwhile
            elif deadlines[session] > time:
                heappush(heap, (deadlines[session], session))
            else:
                del deadlines[session]
                self._in_decision[session] = None
                found.append((session, info.incarnation))
        return found

    def decided(self, session: int, info: Leased | None) -> None:
        """The expiry was applied. A session that lives on (it had changed meanwhile) gets a whole lease."""
        del self._in_decision[session]
        if info is not None:
            self.begin(session, info.lease_ms)

    # ---- lock-delays, and leases of revoked holds ----

    def watch(self, waits: Waits) -> None:
        """What the state has to wait for, all of one command, the newest first: each not yet known begins now, whole.

        What is older than one that is known is known too: so this costs as much as there is to begin, however many
        lock-delays run.
        """
        assert self.ruling
        for wait, wait_ms in waits:
            if wait in self._waits or wait in self._waits_in_decision:
                return
            self._begin(wait, wait_ms)

    def _begin(self, wait: Wait, wait_ms: int) -> None:
        self._waits[wait] = self._time + wait_ms
        heappush(self._wait_heap, (self._time + wait_ms, wait))

    def wait_left_ms(self, wait: Wait) -> int | None:
        """How long that wait still takes; None where it is not known."""
        deadline = self._waits.get(wait)
        return None if deadline is None else max(0, deadline - self._time)

    def ended(self, is_there: Callable[[Wait], bool], limit: int) -> list[Wait]:
        """At most `limit` waits that are over; from now on they are in decision. `is_there`: for what was waited may
        have gone by another way meanwhile; of that nothing needs to be said."""
        assert self.ruling, "the end of a wait is decided only inside the lease"
        found: list[Wait] = []
        heap = self._wait_heap
        while heap and heap[0][0] <= self._time and len(found) < limit:
            wait = heappop(heap)[1]
            del self._waits[wait]
            if is_there(wait):
                self._waits_in_decision[wait] = None
                found.append(wait)
        return found

    def wait_decided(self, wait: Wait) -> None:
        """The end of that wait was applied."""
        del self._waits_in_decision[wait]
