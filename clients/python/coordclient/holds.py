"""PURE. What is held, and until when it may be believed.

A hold's end is the end of the session's local lease plus its lock-delay, both less the drift bound: before it the cell
cannot grant the lock to another. At `end - stop_margin` the client gives the hold up by itself, whatever the state of
the session. `safe` is therefore computed from the clocks at each look, never remembered; once it has been false because
of the clock it is false for ever. What was given up is released when the session comes back.

A hold that an operator revoked is lost at once. The cell is told (`give_up`) when the holder has stopped, at the latest
`stop_margin` after he was told himself: the cell counts the lock-delay from then on.

A hold that came with a resumed session was another process's. It is believed only when that one cannot believe in it
any more (`Session.doubt_ms`); until then it is neither released nor given up to the cell either, for that might free
it at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, NamedTuple

from coordclient.session import Reading, Session, local_ms

STOP_MARGIN_MS = 1_000
REVOKED_MAX = 1_024  # notices remembered: as many as calls can be unanswered, so that a late grant finds its own


class HoldState(Enum):
    """What became of a hold."""

    HELD = "held"
    HANDING = "handing over"  # a transfer is on its way, and who has it now is not known
    GIVEN_UP = "given up"  # its time was over; to be released when the session comes back
    LOST = "lost"  # the session has ended, or the cell says that it is not held
    RELEASED = "released"  # the application released it, or handed it over


class Part(NamedTuple):
    """One lock of a hold; most holds have one."""

    path: str
    mode: str
    token: int
    sequencer: str
    permits: int


class Hold:
    """What one acquire was granted. `number` is its call number, by which the cell knows it."""

    __slots__ = ("cause", "delay_ms", "number", "parts", "session", "state", "stop_margin_ms", "stopped", "tag",
                 "whole_delay_ms")  # fmt: skip

    def __init__(
        self,
        session: Session,
        number: int,
        grant: Mapping[str, Any],
        lock_delay_ms: int,
        stop_margin_ms: int = STOP_MARGIN_MS,
        tag: object = None,
    ) -> None:
        self.session = session
        self.number = number
        self.parts = parts_of(grant)
        self.whole_delay_ms = lock_delay_ms
        self.delay_ms = local_ms(lock_delay_ms, session.drift_ppm)
        self.stop_margin_ms = stop_margin_ms
        self.state = HoldState.HELD
        self.cause = ""
        self.stopped = False  # whoever worked under it has ended
        self.tag = tag  # belongs to the driver (the lock object)

    @property
    def path(self) -> str:
        """Of the first lock, as are mode, token and sequencer."""
        return self.parts[0].path

    @property
    def mode(self) -> str:
        """See `path`."""
        return self.parts[0].mode

    @property
    def token(self) -> int:
        """See `path`."""
        return self.parts[0].token

    @property
    def sequencer(self) -> str:
        """See `path`."""
        return self.parts[0].sequencer

    def release(self) -> dict[str, object]:
        """The arguments of the release of all of it."""
        return {"hold": self.number} if len(self.parts) > 1 else {"path": self.path, "hold": self.number}

    def left_ms(self, now: Reading) -> int:
        """How long the cell surely keeps the lock from others; not above 0 when that is over."""
        return self.session.left_ms(now) + self.delay_ms

    def doubt_ms(self, now: Reading) -> int:
        """How long the process that had this session before may still believe in it; not above 0: it cannot."""
        return self.session.doubt_ms(self.whole_delay_ms, now)

    def look(self, now: Reading) -> None:
        """Give it up when its time is over."""
        if self.state in (HoldState.HELD, HoldState.HANDING) and self.left_ms(now) <= self.stop_margin_ms:
            self.state = HoldState.GIVEN_UP
            self.cause = (
                "no KeepAlive was answered in time, so the end of the session's lease and lock-delay came too near"
            )

    def safe(self, now: Reading) -> bool:
        """Held by nobody else, and before `end - stop_margin`. A look after that gives the hold up."""
        self.look(now)
        return self.state is HoldState.HELD and self.doubt_ms(now) <= 0


class Owed:
    """A hold that the cell is to be told of: it is given up at `paths`."""

    __slots__ = ("due_ms", "hold", "number", "paths")

    def __init__(self, number: int, path: str, hold: Hold | None, due_ms: int) -> None:
        self.number = number
        self.paths = [path]
        self.hold = hold
        self.due_ms = due_ms  # by the first clock, unless the holder has stopped before

    def left_ms(self, now: Reading) -> int:
        """In how many ms the cell is to be told."""
        return 0 if self.hold is not None and self.hold.stopped else self.due_ms - now[0]

    def calls(self) -> list[tuple[str, dict[str, object]]]:
        """(operation, arguments) by which the cell is told; what the same acquire holds besides is let go with it."""
        told: list[tuple[str, dict[str, object]]] = [
            ("give_up", {"path": path, "hold": self.number}) for path in self.paths
        ]
        if self.hold is not None and len(self.hold.parts) > len(self.paths):
            told.append(("release", self.hold.release()))
        return told


class Holds:
    """The holds of one session."""

    def __init__(self) -> None:
        self._holds: dict[int, Hold] = {}
        self._revoked: dict[tuple[int, str], str] = {}  # (number, path) -> reason, the latest notices
        self._owed: dict[int, Owed] = {}
        self.inherited: dict[int, Hold] = {}  # came with a resumed session, and nobody has adopted it yet

    @property
    def all(self) -> Mapping[int, Hold]:
        """By the call number of the acquire; what was given up stays until it has been released."""
        return self._holds

    def add(self, hold: Hold, now: Reading) -> bool:
        """Believe in a grant, if it can be believed now: False leaves the table as it was (wait for a renewal)."""
        if hold.left_ms(now) <= hold.stop_margin_ms or hold.state is not HoldState.HELD or self.why_revoked(hold):
            return False
        self._holds[hold.number] = hold
        return True

    def adopt(self, hold: Hold, now: Reading) -> bool:
        """As `add`, for one that was inherited."""
        if self.inherited.get(hold.number) is not hold or not self.add(hold, now):
            return False
        del self.inherited[hold.number]
        return True

    def tick(self, now: Reading) -> list[Hold]:
        """The holds that are given up now, or were by a look at `safe` since: each comes at least once, until taken
        with `to_release`."""
        for hold in self._holds.values():
            hold.look(now)
        return [hold for hold in self._holds.values() if hold.state is HoldState.GIVEN_UP]

    def to_release(self, now: Reading) -> list[Hold]:
        """What was given up and is to be released now; call it when the session is active. It leaves the table."""
        given_up = [hold for hold in self._holds.values() if hold.state is HoldState.GIVEN_UP]
        free = [hold for hold in given_up if hold.doubt_ms(now) <= 0]
        for hold in free:
            del self._holds[hold.number]
        return free

    def released(self, hold: Hold) -> None:
        """The application is done with it. From now on it is not `safe`."""
        if hold.state in (HoldState.HELD, HoldState.HANDING):
            hold.state = HoldState.RELEASED
        self._holds.pop(hold.number, None)

    def released_in_doubt(self, hold: Hold) -> None:
        """The application is done with what another process may still believe in: `to_release` gives it later."""
        hold.state, hold.cause = HoldState.GIVEN_UP, "it was released"

    def lost(self, hold: Hold, cause: str) -> None:
        """The cell says that it is not held."""
        hold.state, hold.cause = HoldState.LOST, cause
        self._holds.pop(hold.number, None)

    def session_over(self, reason: str) -> list[Hold]:
        """The session has ended: nothing is held, nothing needs a release. Returns what was lost by it."""
        over = list(self._holds.values())
        self._holds.clear()
        self._owed.clear()
        self.inherited.clear()
        for hold in over:
            if hold.state in (HoldState.HELD, HoldState.HANDING):
                hold.state, hold.cause = HoldState.LOST, f"the session ended: {reason}"
        return over

    # --- what an operator has revoked or broken

    def revoked(self, path: str, number: int, reason: str, now: Reading, pending: bool) -> Hold | None:
        """The cell tells of it, and goes on until it hears `give_up`. The hold that is lost by it, if any.

        `pending`: the acquire of that number is unanswered; its grant, when it comes, is not to be believed.
        """
        if (number, path) in self._revoked:
            return None
        self._revoked[number, path] = reason
        if len(self._revoked) > REVOKED_MAX:
            del self._revoked[next(iter(self._revoked))]
        owed = self._owed.get(number)
        if owed is not None:
            owed.paths.append(path)
            return None
        hold = self._holds.get(number)
        if hold is None:
            orphan = self.inherited.pop(number, None)
            if not pending:
                wait_ms = 0 if orphan is None else max(0, orphan.doubt_ms(now))
                self._owed[number] = Owed(number, path, orphan, now[0] + wait_ms)
            return None
        if hold.state is HoldState.GIVEN_UP:
            return None  # its release is on the way already
        self.lost(hold, reason)
        self._owed[number] = Owed(number, path, hold, now[0] + max(hold.stop_margin_ms, hold.doubt_ms(now)))
        return hold

    def why_revoked(self, hold: Hold) -> str:
        """Why the grant must not be believed, though it has come; empty when there is no reason."""
        if not self._revoked:
            return ""
        return next(
            (self._revoked[key] for part in hold.parts if (key := (hold.number, part.path)) in self._revoked), ""
        )

    def to_give_up(self, now: Reading) -> list[tuple[str, dict[str, object]]]:
        """What the cell is to be told now, once: operations and their arguments."""
        due = [owed for owed in self._owed.values() if owed.left_ms(now) <= 0]
        for owed in due:
            del self._owed[owed.number]
        return [call for owed in due for call in owed.calls()]

    def next_ms(self, now: Reading) -> int:
        """In how many ms the first hold is to be given up, or the cell to be told of one; at least 1."""
        soonest = min((owed.left_ms(now) for owed in self._owed.values()), default=2**62)
        for hold in self._holds.values():
            if hold.state in (HoldState.HELD, HoldState.HANDING):
                soonest = min(soonest, hold.left_ms(now) - hold.stop_margin_ms)
            elif (doubt_ms := hold.doubt_ms(now)) > 0:
                soonest = min(soonest, doubt_ms)
        return max(1, soonest)


def parts_of(grant: Mapping[str, Any]) -> tuple[Part, ...]:
    """The locks that an answer to acquire or acquire_all grants; raises KeyError, TypeError, ValueError where it says
    something else."""
    return tuple(
        Part(str(row["path"]), str(row["mode"]), int(row["token"]), str(row["sequencer"]), int(row.get("permits") or 0))
        for row in grant.get("locks") or (grant,)
    )


def inherited_of(session: Session, rows: Iterable[Mapping[str, Any]]) -> list[Hold]:
    """The holds that came with a resumed session, from the rows of its answer: locks of one acquire are one hold."""
    by_number: dict[int, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_number.setdefault(int(row["hold"]), []).append(row)
    return [
        Hold(session, number, {"locks": several}, int(several[0]["lock_delay_ms"]))
        for number, several in by_number.items()
    ]
