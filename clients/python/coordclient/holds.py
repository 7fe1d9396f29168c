"""PURE. What is held, and until when it may be believed.

A hold's end is the end of the session's local lease plus its lock-delay, both less the drift bound: before it the cell
cannot grant the lock to another. At `end - stop_margin` the client gives the hold up by itself, whatever the state of
the session. `safe` is therefore computed from the clocks at each look, never remembered; once it has been false because
of the clock it is false for ever. What was given up is released when the session comes back.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from coordclient.session import Reading, Session, local_ms

STOP_MARGIN_MS = 1_000


class HoldState(Enum):
    """What became of a hold."""

    HELD = "held"
    GIVEN_UP = "given up"  # its time was over; to be released when the session comes back
    LOST = "lost"  # the session has ended, or the cell says that it is not held
    RELEASED = "released"  # the application released it


class Hold:
    """One granted lock. `number` is the call number of its acquire, by which the cell knows it."""

    __slots__ = ("cause", "delay_ms", "mode", "number", "path", "sequencer", "session", "state", "stop_margin_ms",
                 "tag", "token")  # fmt: skip

    def __init__(
        self,
        session: Session,
        number: int,
        grant: Mapping[str, object],
        lock_delay_ms: int,
        stop_margin_ms: int = STOP_MARGIN_MS,
        tag: object = None,
    ) -> None:
        self.session = session
        self.number = number
        self.path = str(grant["path"])
        self.mode = str(grant["mode"])
        self.token: int = int(grant["token"])  # type: ignore[call-overload]
        self.sequencer = str(grant["sequencer"])
        self.delay_ms = local_ms(lock_delay_ms, session.drift_ppm)
        self.stop_margin_ms = stop_margin_ms
        self.state = HoldState.HELD
        self.cause = ""
        self.tag = tag  # belongs to the driver (the lock object)

    def left_ms(self, now: Reading) -> int:
        """How long the cell surely keeps the lock from others; not above 0 when that is over."""
        return self.session.left_ms(now) + self.delay_ms

    def safe(self, now: Reading) -> bool:
        """Held, and before `end - stop_margin`. A look that says no gives the hold up."""
        if self.state is not HoldState.HELD:
            return False
        if self.left_ms(now) > self.stop_margin_ms:
            return True
        self.state = HoldState.GIVEN_UP
        self.cause = "no KeepAlive was answered in time, so the end of the session's lease and lock-delay came too near"
        return False


class Holds:
    """The holds of one session."""

    def __init__(self) -> None:
        self._holds: dict[int, Hold] = {}

    @property
    def all(self) -> Mapping[int, Hold]:
        """By the call number of the acquire; what was given up stays until it has been released."""
        return self._holds

    def add(self, hold: Hold, now: Reading) -> bool:
        """Believe in a grant, if it can be believed now: False leaves the table as it was (wait for a renewal)."""
        if hold.left_ms(now) <= hold.stop_margin_ms or hold.state is not HoldState.HELD:
            return False
        self._holds[hold.number] = hold
        return True

    def tick(self, now: Reading) -> list[Hold]:
        """The holds that are given up now, or were by a look at `safe` since: each comes at least once, until taken
        with `to_release`."""
        return [hold for hold in self._holds.values() if not hold.safe(now)]

    def to_release(self) -> list[Hold]:
        """What was given up and is to be released now; call it when the session is active. It leaves the table."""
        given_up = [hold for hold in self._holds.values() if hold.state is HoldState.GIVEN_UP]
        for hold in given_up:
            del self._holds[hold.number]
        return given_up

    def released(self, hold: Hold) -> None:
        """The application is done with it. From now on it is not `safe`."""
        if hold.state is HoldState.HELD:
            hold.state = HoldState.RELEASED
        self._holds.pop(hold.number, None)

    def lost(self, hold: Hold, cause: str) -> None:
        """The cell says that it is not held."""
        hold.state, hold.cause = HoldState.LOST, cause
        self._holds.pop(hold.number, None)

    def session_over(self, reason: str) -> list[Hold]:
        """The session has ended: nothing is held, nothing needs a release. Returns what was lost by it."""
        over = list(self._holds.values())
        self._holds.clear()
        for hold in over:
            if hold.state is HoldState.HELD:
                hold.state, hold.cause = HoldState.LOST, f"the session ended: {reason}"
        return over

    def next_ms(self, now: Reading) -> int:
        """In how many ms the first hold is to be given up; at least 1."""
        held = [hold for hold in self._holds.values() if hold.state is HoldState.HELD]
        left = [hold.left_ms(now) - hold.stop_margin_ms for hold in held]
        return max(1, min(left, default=2**62))
