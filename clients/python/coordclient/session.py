"""PURE. The client's side of a session: may it still be believed, and when is the next KeepAlive due?

The session is `active` while its local lease runs, in `jeopardy` from the end of the local lease on (calls wait, and
the cell may or may not have ended it), `active` again when a KeepAlive is answered, or `expired` when the cell says so
or the grace period is over [Chubby 2.8]. `TRANSITIONS` is the whole of it.

What makes it safe (the client stops believing before the cell can end the session):

* The local lease is `lease x (1 - drift)`, counted from the *sending* of the KeepAlive that was answered; the master
  counts the whole lease from its receipt.
* Every transmission has a number of its own, so an answer to an earlier copy never dates a later one.
* Time is a `Reading`: several clocks read together. The one that says that *more* time has passed is believed for
  giving up; no clock can say that less has passed than another. Only the grace period is counted on the first clock
  alone: its end protects nobody, and a step of the wall clock shall not throw a living session away.
* An answer from a smaller epoch than one already seen comes from a deposed master and is not believed.
* A *resumed* session was another process's, which may believe in its lease and in its locks until they are over by its
  own clock (`doubt_ms`), unless it has said that it believes in nothing any more. What was resumed is renewed by its
  first KeepAlive and by nothing else.

A session object begins with the answer to `open_session` or `resume_session` and is never reused after `expired`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from operator import sub

Reading = tuple[int, ...]
"""Several clocks read at one moment, in ms; the first is the one that counts suspended time, where there is one."""

DRIFT_PPM = 10_000
GRACE_MS = 45_000
JEOPARDY_INTERVAL_MS = 1_000
TRANSMISSIONS_MAX = 16


class State(Enum):
    """What the application may believe of the session."""

    ACTIVE = "active"
    JEOPARDY = "jeopardy"
    EXPIRED = "expired"


class Event(Enum):
    """What can happen to a session."""

    RENEWED = "renewed"
    LEASE_OVER = "lease over"
    GRACE_OVER = "grace over"
    ENDED = "ended"  # the cell said so, or the client closed it


TRANSITIONS: Mapping[State, Mapping[Event, State]] = {
    State.ACTIVE: {Event.RENEWED: State.ACTIVE, Event.LEASE_OVER: State.JEOPARDY, Event.ENDED: State.EXPIRED},
    State.JEOPARDY: {
        Event.RENEWED: State.ACTIVE,
        Event.GRACE_OVER: State.EXPIRED,
        Event.ENDED: State.EXPIRED,
    },
    State.EXPIRED: {},
}


def elapsed_ms(since: Reading, now: Reading) -> int:
    """How much time has passed for the purpose of giving up: the most that any clock says."""
    most: int = max(map(sub, now, since))  # asked several times in every tick of every client: no generator
    return most


def local_ms(duration_ms: int, drift_ppm: int) -> int:
    """A duration of the cell as this client may count on it: less the drift bound, rounded down."""
    return duration_ms * (1_000_000 - drift_ppm) // 1_000_000


def waiting_ms(duration_ms: int, drift_ppm: int) -> int:
    """How long to wait here until that duration is surely over for somebody else: and the drift bound, rounded up."""
    return duration_ms + -(-duration_ms * drift_ppm // 1_000_000)


class Session:
    """One session; see the module docstring. `sent` is the reading from which the first lease counts.

    `resumed`: there is no first lease yet. `inherited`: when the answer to the resume came, if the process that had the
    session before has not said goodbye.
    """

    def __init__(
        self,
        session: int,
        secret: str,
        lease_ms: int,
        epoch: int,
        sent: Reading,
        *,
        drift_ppm: int = DRIFT_PPM,
        grace_ms: int = GRACE_MS,
        resumed: bool = False,
        inherited: Reading | None = None,
    ) -> None:
        self.id = session
        self.secret = secret
        self.lease_ms = lease_ms
        self.epoch = epoch
        self.state = State.JEOPARDY if resumed else State.ACTIVE
        self.inherited = inherited
        self._inherited_lease_ms = lease_ms
        self.reason = ""  # why it is expired
        self.drift_ppm = drift_ppm
        self.grace_ms = grace_ms
        # One tuple, so that another thread reads the two together: from when the local lease counts, and how long.
        self.lease: tuple[Reading, int] = (sent, 0 if resumed else local_ms(lease_ms, drift_ppm))
        self._attachment = 0
        self._number = 0
        self._renewed_by = 0
        self._last_sent: Reading | None = sent
        self._transmissions: dict[int, Reading] = {}
        self._entered: list[State] = []  # by the clocks, and not told by `tick` yet

    def left_ms(self, now: Reading) -> int:
        """How much of the local lease is left; not above 0 when it is over. Never looks at `state`."""
        sent, local = self.lease
        return local - elapsed_ms(sent, now)

    def doubt_ms(self, delay_ms: int, now: Reading) -> int:
        """How long the process before this one may believe in a lock with this lock-delay; not above 0: it cannot.

        Counted on the first clock, which never says too much: no clock is believed for going on.
        """
        if self.inherited is None:
            return 0
        return waiting_ms(self._inherited_lease_ms + delay_ms, self.drift_ppm) - (now[0] - self.inherited[0])

    def next_attachment(self) -> int:
        """The number for the next channel of this session; it rises."""
        self._attachment += 1
        return self._attachment

    def keep_alive_due_ms(self, now: Reading) -> int:
        """In how many ms the next KeepAlive is due: 0 or less is now. At once on a new channel."""
        if self._last_sent is None:
            return 0
        interval = self.lease_ms // 3
        if self.left_ms(now) <= 0:
            interval = min(interval, JEOPARDY_INTERVAL_MS)
        return interval - elapsed_ms(self._last_sent, now)

    def transmit(self, now: Reading) -> int:
        """Stamp one transmission of a KeepAlive and return its number. Call it *before* the frame is made."""
        self._number += 1
        self._last_sent = now
        self._transmissions[self._number] = now
        if len(self._transmissions) > TRANSMISSIONS_MAX:
            del self._transmissions[next(iter(self._transmissions))]
        return self._number

    def disconnected(self) -> None:
        """The channel is gone: what was transmitted on it will not be answered, the next KeepAlive is due at once."""
        self._transmissions.clear()
        self._last_sent = None

    def believes(self, epoch: int) -> bool:
        """Whether to listen to a master of this epoch. False means: leave that channel."""
        if epoch < self.epoch:
            return False
        self.epoch = epoch
        return True

    def answered(self, number: int, epoch: int, lease_ms: int, now: Reading) -> bool:
        """The answer to transmission `number` came. True when it renewed the lease.

        What was over before is over, whatever was waiting in a buffer: `tick` tells of it, unless this renewed it.
        """
        sent = self._transmissions.pop(number, None)
        self._let_pass(now)
        if sent is None or number <= self._renewed_by or self.state is State.EXPIRED or not self.believes(epoch):
            return False
        self._renewed_by = number
        self.lease_ms = lease_ms
        self.lease = (sent, local_ms(lease_ms, self.drift_ppm))
        if self.left_ms(now) <= 0:
            return False
        self._entered.clear()  # jeopardy that ended in the moment in which it was noticed
        self._change(Event.RENEWED)
        return True

    def ended(self, reason: str) -> None:
        """The cell says that the session has ended, or this client closed it."""
        if self.state is not State.EXPIRED:
            self.reason = reason
            self._change(Event.ENDED)

    def tick(self, now: Reading) -> list[State]:
        """Let time pass; returns the states entered by it since the last `tick`, in order: each is told once."""
        self._let_pass(now)
        entered, self._entered = self._entered, []
        return entered

    def next_ms(self, now: Reading) -> int:
        """In how many ms `tick` or a KeepAlive is due at the latest, by these clocks; at least 1."""
        if self.state is State.EXPIRED:
            return self.grace_ms
        over = self.left_ms(now) if self.state is State.ACTIVE else self._grace_left_ms(now)
        if self._last_sent is None:
            return max(1, over)  # without a channel nothing can be sent; a new one sends its KeepAlive at once
        return max(1, min(over, self.keep_alive_due_ms(now)))

    def _let_pass(self, now: Reading) -> None:
        if self.state is State.ACTIVE and self.left_ms(now) <= 0:
            self._entered.append(self._change(Event.LEASE_OVER))
        if self.state is State.JEOPARDY and self._grace_left_ms(now) <= 0:
            self.reason = f"no master answered a KeepAlive for the lease and the grace period of {self.grace_ms} ms"
            self._entered.append(self._change(Event.GRACE_OVER))

    def _grace_left_ms(self, now: Reading) -> int:
        sent, local = self.lease
        return local + self.grace_ms - (now[0] - sent[0])

    def _change(self, event: Event) -> State:
        self.state = TRANSITIONS[self.state][event]
        return self.state
