"""PURE. The calls of one session: their numbers, which of them are unanswered, and what an answer to one means.

* Numbers start at 1, or where a resumed session goes on, and rise. A retry has the number of the first try, so the cell
  runs it once.
* `acked`, told with every frame: every call below it has been answered. A waiting acquire holds it back only until a
  later logged call has been answered on the same channel (then the acquire is in the log too, and the cell remembers it
  by its waiter or its hold), or until half the window is used up.
* No call is begun at `acked + WINDOW` or beyond.
* "Nothing was done" (unavailable, overloaded, not_master) and a lost connection are retried with the same number until
  the call's deadline. So is "outcome unknown", once per channel: the reply cache of the next master settles it.
* A call that ends without an answer is `Unavailable` if no transmission of it can have taken effect (or it only reads),
  `OutcomeUnknown` otherwise. `session_expired` in answer to a retry tells nothing about the earlier transmission.
* A *lasting* call (release, cancel) outlives its deadline: whoever waits for it is told that no answer came, and it is
  retried until it is answered or the session ends.
* An answer to a call that is not known any more is ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from coordclient.endpoints import backoff_ms
from coordclient.errors import CLASSES, CoordError, OutcomeUnknown, SessionExpired, Unavailable, error_of
from coordclient.protocol.errors import ERRORS, Action, Refusal
from coordclient.protocol.operations import OPERATIONS, Way

WINDOW = 1_024
NEVER_MS = 2**62
_LOGGED = frozenset(row.name for row in OPERATIONS.values() if row.way is Way.WRITE)
_ACQUIRES = ("acquire", "acquire_all")
_LEAVING = frozenset({*_ACQUIRES, "release", "cancel", "give_up"})  # what ends a hold, or makes none
_CHANGES = _LOGGED | {row.name for row in OPERATIONS.values() if row.way is Way.CELL and row.name != "members"}


class Call:
    """One call. `tag` belongs to the driver (its future)."""

    __slots__ = ("arguments", "deadline_ms", "in_flight", "lasting", "number", "operation", "retry_ms", "tag", "tries",
                 "unknown", "unsettled", "waits")  # fmt: skip

    def __init__(
        self,
        number: int,
        operation: str,
        arguments: Mapping[str, object],
        deadline_ms: int,
        tag: object,
        lasting: bool,
    ) -> None:
        self.number = number
        self.operation = operation
        self.arguments = arguments
        self.deadline_ms = deadline_ms
        # An acquire that waits: the answer takes as long as it takes.
        self.waits = operation in _ACQUIRES and arguments.get("wait", True) is True
        self.lasting = lasting
        self.tag = tag
        self.in_flight = False  # transmitted on the present channel, no answer yet
        self.unknown = False  # an earlier transmission was never answered, so it may take effect
        self.unsettled = 0  # answers "outcome unknown" on the present channel
        self.tries = 0
        self.retry_ms = 0  # not to be sent before

    @property
    def may_have_run(self) -> bool:
        """True when some transmission of it may have taken, or may yet take, effect."""
        return (self.unknown or self.in_flight) and self.operation in _CHANGES


class Then(Enum):
    """What follows from a refusal."""

    ENDED = "ended"  # the call is over with `error`
    RETRY = "retry"  # it stays; `due` gives it when its time has come
    GO_TO_MASTER = "go to master"  # it stays; leave this channel for `address` (None: wherever the rotation leads)
    LEAVE = "leave"  # it stays; leave this channel
    SESSION_OVER = "session over"  # the call is over with `error`, and the session with it


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a refusal means for its call and for the channel it came on."""

    then: Then
    call: Call
    error: CoordError | None = None
    address: str | None = None


class Calls:
    """The table of one session's calls; see the module docstring."""

    def __init__(self) -> None:
        self.next_number = 1
        self._low = 1  # every number below it is answered, given up, or a remembered waiter
        self._pending: dict[int, Call] = {}
        self._aside: set[int] = set()  # pending waiting acquires that hold `acked` back no more
        self._fresh: dict[int, Call] = {}  # waiting acquires in flight that still do, by number
        self._idle: dict[int, Call] = {}  # pending and not in flight
        self._soonest_ms = NEVER_MS  # no pending call has an earlier deadline
        # actor -> its acquires that may hold or wait in the cell -> at how many paths
        self._acquires: dict[str, dict[int, int]] = {}
        self._actors: dict[int, str] = {}  # the same, by number

    @property
    def acked(self) -> int:
        """Every call below it has been answered, waiting acquires aside."""
        low, pending, aside = self._low, self._pending, self._aside
        while low < self.next_number and (low not in pending or low in aside):
            low += 1
        self._low = low
        return low

    @property
    def pending(self) -> Mapping[int, Call]:
        """The unanswered calls by number."""
        return self._pending

    def acquires_of(self, actor: str) -> Iterable[int]:
        """The acquires of this actor that may hold or wait in the cell: whatever is not known to have left it."""
        return self._acquires.get(actor, ())

    def free(self) -> bool:
        """Whether another call may be begun now."""
        if self.next_number - self._low < WINDOW // 2:
            return True
        for number in [number for number in self._fresh if number < self.next_number - WINDOW // 2]:
            self._put_aside(number)
        return self.next_number - self.acked < WINDOW

    def go_on_at(self, number: int) -> None:
        """The session was resumed: its numbers go on here, beyond every call of the process before. Only while
        nothing of the table was sent.
        """
        ahead = number - self._low
        waiting = list(self._pending.values())
        for call in waiting:
            call.number += ahead
        self._low, self.next_number = number, self.next_number + ahead
        self._pending = {call.number: call for call in waiting}
        self._idle = dict(self._pending)
        self._actors = {of + ahead: actor for of, actor in self._actors.items()}
        self._acquires = {
            actor: {of + ahead: paths for of, paths in numbers.items()} for actor, numbers in self._acquires.items()
        }

    def reserve(self) -> int:
        """A number for what the keeper sends by itself and never twice (attach, KeepAlive); it counts as answered."""
        number = self.next_number
        self.next_number = number + 1
        return number

    def begin(
        self,
        operation: str,
        arguments: Mapping[str, object],
        deadline_ms: int = NEVER_MS,
        tag: object = None,
        lasting: bool = False,
    ) -> Call:
        """A new call, not yet sent. Only when `free()`."""
        number = self.next_number
        self.next_number = number + 1
        call = Call(number, operation, arguments, deadline_ms, tag, lasting)
        self._pending[number] = call
        self._idle[number] = call
        if deadline_ms < self._soonest_ms:
            self._soonest_ms = deadline_ms
        actor = arguments.get("actor")
        if actor and isinstance(actor, str):
            self._actors[number] = actor
            locks = arguments.get("locks")
            self._acquires.setdefault(actor, {})[number] = len(locks) if isinstance(locks, list) else 1
        return call

    def sent(self, call: Call) -> None:
        """It goes out on the present channel now."""
        self._idle.pop(call.number, None)
        call.in_flight = True
        call.tries += 1
        if call.waits and call.number not in self._aside:
            self._fresh[call.number] = call

    def due(self, now_ms: int) -> list[Call]:
        """The calls to send now, in the order of their numbers. Empty is the usual case and costs nothing."""
        if not self._idle:
            return []
        return sorted((call for call in self._idle.values() if call.retry_ms <= now_ms), key=lambda call: call.number)

    def succeeded(self, number: int) -> Call | None:
        """A result came. The call it belongs to, which is over; None when nobody waits for it any more."""
        call = self._pending.get(number)
        if call is None:
            return None
        if self._fresh and call.operation in _LOGGED:
            self._fresh.pop(number, None)
            self._remembered_before(number)
        self._drop(call)
        if call.operation == "transfer":
            self._has_left(call)
        elif call.lasting:
            self._left_by(call)
        return call

    def refused(self, number: int, refusal: Refusal, now_ms: int, chance: int) -> Verdict | None:
        """An error came. What follows from it; None when nobody waits for it any more."""
        call = self._pending.get(number)
        if call is None:
            return None
        call.in_flight = False
        action = ERRORS[refusal.code].action
        if refusal.code == "outcome_unknown":
            call.unknown = True
            call.unsettled += 1
            if call.unsettled > 1 and not call.lasting:
                return self._end(call, error_of(refusal))
            return self._later(call, now_ms, chance)
        if action is Action.RETRY:
            return self._later(call, now_ms, chance)
        if action is Action.GO_TO_MASTER:
            self._idle[number] = call
            address = refusal.details.get("address")
            return Verdict(Then.GO_TO_MASTER, call, address=address if isinstance(address, str) else None)
        if refusal.code == "stale_channel":
            self._idle[number] = call
            return Verdict(Then.LEAVE, call)
        if action is Action.NEW_SESSION:
            self._drop(call)
            return Verdict(Then.SESSION_OVER, call, self._lost(call, refusal.message, CLASSES[refusal.code]))
        if call.operation == "transfer" and refusal.code == "not_held":
            self._has_left(call)
        self._left_by(call)
        return self._end(call, error_of(refusal))

    def disconnected(self) -> None:
        """The channel is gone: what was in flight may have taken effect or not, and is to be sent again at once."""
        for call in self._pending.values():
            call.unknown = call.unknown or call.in_flight
            call.in_flight = False
            call.unsettled = 0
            call.retry_ms = 0
            self._idle[call.number] = call
        self._fresh.clear()

    def give_up(self, call: Call) -> bool:
        """The application waits for it no more. True when some transmission of it may still take effect."""
        if self._pending.get(call.number) is not call:
            return False
        may_have_run = call.may_have_run
        self._drop(call)
        if not may_have_run:
            self._left_by(call)
        return may_have_run

    def expire(self, now_ms: int, why: str) -> list[tuple[Call, CoordError]]:
        """The calls whose deadline has come, with the error of each. `why` says what was tried."""
        if now_ms < self._soonest_ms:
            return []
        over = [call for call in self._pending.values() if call.deadline_ms <= now_ms]
        for call in over:
            if call.lasting:
                call.deadline_ms = NEVER_MS
            else:
                self._drop(call)
                if not call.may_have_run:
                    self._left_by(call)
        self._soonest_ms = min((call.deadline_ms for call in self._pending.values()), default=NEVER_MS)
        return [(call, _no_answer(call, why)) for call in over]

    def session_over(self, reason: str, kind: type[CoordError] = SessionExpired) -> list[tuple[Call, CoordError]]:
        """The session has ended: every pending call is over, with the error of each; `kind` where nothing was done."""
        over = list(self._pending.values())
        for call in over:
            self._drop(call)
        return [(call, self._lost(call, reason, kind)) for call in over]

    def next_ms(self, now_ms: int) -> int:
        """In how many ms `due` or `expire` may have something; at least 1."""
        soonest = self._soonest_ms
        for call in self._idle.values():
            if call.retry_ms > now_ms:
                soonest = min(soonest, call.retry_ms)
        return max(1, soonest - now_ms)

    def expects_answer(self) -> bool:
        """Whether something is in flight to which a prompt answer is due (a waiting acquire has time)."""
        quiet = len(self._idle) + len(self._aside) + len(self._fresh)
        if len(self._pending) > quiet:
            return True
        return any(call.in_flight and not call.waits for call in self._pending.values())

    def _left_by(self, call: Call) -> None:
        """This release or cancel was answered, or this acquire ended without a grant: nothing of it is in the cell.

        Whatever else names a hold (a transfer that was refused, or never sent) leaves it where it is.
        """
        if call.operation in _LEAVING:
            self._has_left(call)

    def _has_left(self, call: Call) -> None:
        """The acquire that this call is, or names, neither holds nor waits in the cell any more.

        Of several paths a `give_up` ends one; what is held besides is released by another call, which may come late.
        """
        number = call.arguments.get("hold", call.arguments.get("target", call.number))
        if not isinstance(number, int) or number not in self._actors:
            return
        numbers = self._acquires[self._actors[number]]
        if call.operation == "give_up" and numbers[number] > 1:
            numbers[number] -= 1
            return
        actor = self._actors.pop(number)
        del numbers[number]
        if not numbers:
            del self._acquires[actor]

    def _later(self, call: Call, now_ms: int, chance: int) -> Verdict:
        call.retry_ms = now_ms + backoff_ms(call.tries, chance)
        self._fresh.pop(call.number, None)
        self._idle[call.number] = call
        return Verdict(Then.RETRY, call)

    def _end(self, call: Call, error: CoordError) -> Verdict:
        self._drop(call)
        return Verdict(Then.ENDED, call, error)

    def _lost(self, call: Call, reason: str, kind: type[CoordError]) -> CoordError:
        if call.may_have_run:
            return OutcomeUnknown(f"{call.operation}: the session ended before an answer came: {reason}")
        return kind(f"{call.operation}: {reason}")

    def _remembered_before(self, number: int) -> None:
        """A logged call sent after these acquires, on the same channel, has been answered."""
        while self._fresh:
            first = next(iter(self._fresh))
            if first > number:
                return
            self._put_aside(first)

    def _put_aside(self, number: int) -> None:
        del self._fresh[number]
        self._aside.add(number)

    def _drop(self, call: Call) -> None:
        number = call.number
        self._pending.pop(number, None)
        self._idle.pop(number, None)
        if call.waits:
            self._fresh.pop(number, None)
            self._aside.discard(number)


def _no_answer(call: Call, why: str) -> CoordError:
    if call.may_have_run:
        return OutcomeUnknown(f"{call.operation}: no answer in time, it may or may not take effect ({why})")
    return Unavailable(f"{call.operation}: no answer in time, nothing was done ({why})")
