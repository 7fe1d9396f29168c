"""What one session of a client consists of: the pure parts, and who waits for them. A new session is a new Life."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from coordclient.calls import Calls
from coordclient.errors import CoordError, SessionExpired, SessionKilled, Unavailable
from coordclient.holds import Hold, Holds, HoldState
from coordclient.opens import Opens
from coordclient.protocol.errors import Refusal
from coordclient.session import Reading, Session
from coordclient.tickets import Resume

WAIT_MS_MAX = 3_600_000  # of one wait inside a loop


class Backlog:
    """Calls that must be made as soon as the window has room, whoever waits for them or not (release, cancel)."""

    __slots__ = ("arguments", "deadline_ms", "future", "operation")

    def __init__(
        self, operation: str, arguments: Mapping[str, object], deadline_ms: int, future: asyncio.Future[Any]
    ) -> None:
        self.operation = operation
        self.arguments = arguments
        self.deadline_ms = deadline_ms
        self.future = future


class Life:
    """One session from the first call to its end. `session` is None until the cell has opened it."""

    def __init__(self, resume: Resume | None = None) -> None:
        self.session: Session | None = None
        self.resume = resume  # instead of opening a session
        self.calls = Calls()
        self.holds = Holds()
        self.over: CoordError | None = None  # why it is over
        self.keep_alives: dict[int, int] = {}  # call number -> number of the transmission, on the present channel
        self.room: deque[asyncio.Future[None]] = deque()  # who waits for room in the window
        self.backlog: deque[Backlog] = deque()
        self.opens = Opens()
        self.watched = False  # a watch is open, which needs a channel
        self.changed: list[asyncio.Future[None]] = []  # who waits for a renewal, the opening, the end, or a holder's

    def wanted(self) -> bool:
        """Whether anybody needs the session: it exists, or somebody waits for it."""
        if self.session is not None or self.watched:
            return True
        return bool(self.calls.pending or self.changed or self.backlog or self.room)

    async def change(self, wait_ms: int) -> bool:
        """Wait until the session is attached, renewed or over; False when `wait_ms` passed before."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.changed.append(future)
        await asyncio.wait([future], timeout=min(wait_ms, WAIT_MS_MAX) / 1_000)
        if future.done():
            return True
        self.changed.remove(future)
        return False

    async def all_stopped(self, holds: list[Hold], wait_ms: int) -> None:
        """Wait until whoever worked under these holds has ended, or until `wait_ms` passed."""
        loop = asyncio.get_running_loop()
        end = loop.time() + wait_ms / 1_000
        while any(not hold.stopped for hold in holds) and (left := end - loop.time()) > 0:
            await self.change(max(1, round(left * 1_000)))

    async def wait_for_room(self, operation: str, deadline_ms: int, clocks: Callable[[], Reading]) -> None:
        """Wait until a call can be begun; raises Unavailable at the deadline, by the first clock."""
        while self.backlog or not self.calls.free():
            left_ms = deadline_ms - clocks()[0]
            if left_ms <= 0:
                raise Unavailable(f"{operation}: too many calls were unanswered for too long, nothing was done")
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.room.append(future)
            await asyncio.wait([future], timeout=min(left_ms, WAIT_MS_MAX) / 1_000)
            if future.done():
                future.result()

    def doubtful(self, now: Reading) -> bool:
        """Whether the process that had this session before may still believe in a lock of it."""
        return any(hold.doubt_ms(now) > 0 for hold in (*self.holds.all.values(), *self.holds.inherited.values()))

    def leaves_behind(self, actor: str) -> bool:
        """Whether the cell may still see this actor hold or wait for what it has given up or released here.

        An acquire that named the actor then might be called a deadlock with something that is about to go.
        """
        for number in self.calls.acquires_of(actor):
            hold = self.holds.all.get(number)
            if number not in self.calls.pending and (hold is None or hold.state is not HoldState.HELD):
                return True
        return False

    def wake(self) -> None:
        """Tell those who wait for a change of the session's state."""
        waiters, self.changed = self.changed, []
        for future in waiters:
            if not future.done():
                future.set_result(None)

    def make_room(self) -> None:
        """Begin what is in the backlog, then let waiting calls try again, as far as the window has room."""
        while self.backlog and self.calls.free():
            item = self.backlog.popleft()
            self.calls.begin(item.operation, item.arguments, item.deadline_ms, item.future, lasting=True)
        if self.room and not self.backlog and self.calls.free():
            for future in self.room:
                if not future.done():
                    future.set_result(None)
            self.room.clear()

    def drop_calls(self, error: CoordError) -> None:
        """Nobody is to wait for an answer any more, though the session goes on for a moment."""
        for call in list(self.calls.pending.values()):
            self.calls.give_up(call)
            settle_error(call.tag, error.fresh())

    def end(self, error: CoordError) -> None:
        """It is over: every call, hold and waiter of it is told. Does nothing the second time."""
        if self.over is not None:
            return
        self.over = error
        if self.session is not None:
            self.session.ended(str(error))
        kind = type(error) if isinstance(error, SessionExpired) else SessionExpired
        for call, lost in self.calls.session_over(str(error), kind):
            settle_error(call.tag, lost if self.session is not None else error.fresh())
        for item in self.backlog:
            settle_error(item.future, error.fresh())
        self.backlog.clear()
        for future in self.room:
            settle_error(future, error.fresh())
        self.room.clear()
        self.wake()


def settle(tag: object, result: Any) -> None:
    """Give the result to whoever waits; nobody may (the waiting task was cancelled)."""
    if isinstance(tag, asyncio.Future) and not tag.done():
        tag.set_result(result)


def settle_error(tag: object, error: CoordError) -> None:
    """Give the error to whoever waits; it counts as seen, for a release or a cancel may have nobody who looks."""
    if isinstance(tag, asyncio.Future) and not tag.done():
        tag.set_exception(error)
        tag.exception()


def over_of(refusal: Refusal) -> SessionExpired:
    """Why a session is over, as the application is told: an operator's reason is in its text."""
    reason = refusal.details.get("reason")
    text = f"an operator has ended the session: {reason}" if refusal.code == "session_killed" else refusal.message
    return (SessionKilled if refusal.code == "session_killed" else SessionExpired)(text, details=refusal.details)
