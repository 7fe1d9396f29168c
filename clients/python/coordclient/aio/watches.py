"""The watches of one client: each is registered on every channel anew, until it is closed.

A watch outlives channels, masters and sessions: what it saw last is told with each registration (`coordclient.watching`
says how). All of it runs in the loop, but for `Watcher.take`, which a thread of the application may call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, TypeVar

from coordclient.aio.channel import Channel, ChannelError
from coordclient.aio.keeper import Keeper
from coordclient.aio.life import WAIT_MS_MAX, Life
from coordclient.errors import (
    BadRequest,
    ClientClosed,
    CoordError,
    InternalError,
    SessionExpired,
    Unavailable,
    error_of,
)
from coordclient.protocol.errors import ERRORS, Action, Refusal
from coordclient.watching import Delivery, Watching
from coordclient.worker import call_safely

_T = TypeVar("_T")


class Watches:
    """All open watches of one client; a follower of its keeper."""

    def __init__(self, keeper: Keeper) -> None:
        self.keeper = keeper
        self._open: dict[Watcher, None] = {}
        self._last: tuple[Any, Delivery] | None = None  # what came last, and what was made of it
        keeper.followers.append(self)

    def open(self, watcher: Watcher) -> None:
        """Register it, now and on every channel from now on. Raises when the client cannot be used here."""
        life = self.keeper.alive()
        self._open[watcher] = None
        life.watched = True
        watcher.register(life, self.keeper.channel)

    def close(self, watcher: Watcher) -> None:
        """It is registered no more."""
        self._open.pop(watcher, None)
        if self.keeper.life is not None:
            self.keeper.life.watched = bool(self._open)

    def delivery(self, body: Any) -> Delivery:
        """What was pushed. Watches that are told the same share what is made of it."""
        last = self._last
        if last is None or last[0] is not body:
            if not isinstance(body, dict):
                raise InternalError("a delivery of a watch is no map")
            self._last = last = (body, Delivery(body))
        return last[1]

    # --- what the keeper tells

    def attached(self, life: Life, channel: Channel) -> None:
        """Every watch goes on here, before any call is sent."""
        for watcher in list(self._open):
            watcher.register(life, channel)

    def detached(self, life: Life) -> None:
        """Each watch is told by the channel."""

    def ended(self, life: Life, error: CoordError) -> None:
        """A watch needs no certain session: it goes on in the next one, which it opens."""
        if isinstance(error, SessionExpired) and not self.keeper.guard.closed:
            if self._open:
                asyncio.get_running_loop().call_soon(self._go_on)
            return
        for watcher in list(self._open):
            watcher.over(error)

    def _go_on(self) -> None:
        if self._open and not self.keeper.guard.closed:
            self.keeper.alive().watched = True


class _Word:
    """Something told about a watch. Where the cell's queues were full it is told again, for as long as the channel
    lasts: without an acknowledgement the watch would stand still for ever."""

    def __init__(
        self, keeper: Keeper, life: Life, channel: Channel, operation: str, arguments: dict[str, object]
    ) -> None:
        self._keeper = keeper
        self._life = life
        self._channel = channel
        self._operation = operation
        self._arguments = arguments
        self._tries = 0

    def say(self) -> None:
        """Send it, if the channel is the present one."""
        if self._channel is self._keeper.channel:
            calls = self._life.calls
            self._channel.begin_stream(calls.reserve(), calls.acked, self._operation, self._arguments, self)

    def pushed(self, body: Any) -> None:
        """It has one answer."""

    def ended(self, error: Refusal | ChannelError | None) -> None:
        """That answer."""
        if isinstance(error, Refusal) and ERRORS[error.code].action is Action.RETRY:
            self._tries += 1
            asyncio.get_running_loop().call_later(self._keeper.backoff_ms(self._tries) / 1_000, self.say)


class Watcher:
    """One watch, driven. `mutex`: held while `watching` is used, where threads take from it."""

    def __init__(
        self,
        watches: Watches,
        watching: Watching,
        mutex: AbstractContextManager[Any],
        on_live: Callable[[bool], object] | None = None,
    ) -> None:
        self.watching = watching
        self.mutex = mutex
        self.keeper = watches.keeper
        self.closed = False
        self.error: CoordError | None = None  # why it is over
        self.live = False  # a master that answers has it registered
        self._on_live = on_live
        self._watches = watches
        self._begun = False
        self._channel: Channel | None = None
        self._life: Life | None = None
        self._call: int | None = None  # of the present registration
        self._held_back = False  # a registration, until more of what is here is taken
        self._tries = 0
        self._timer: asyncio.TimerHandle | None = None
        self._waiters: list[asyncio.Future[None]] = []

    # --- for the application

    def take(self, take: Callable[[], _T | None]) -> _T | None:
        """`take()` of the pure part, in any thread; None when it is closed. Look at `due` afterwards."""
        self.keeper.guard.check_process()
        if self.closed:
            return None
        with self.mutex:
            return take()

    @property
    def due(self) -> bool:
        """Whether `settle` has something to do."""
        return self.watching.due or self._held_back

    def settle(self) -> None:
        """Acknowledge what was taken; register, where that waited for it."""
        if self.watching.due:
            self._acknowledge()
        if self._held_back and self._life is not None:
            self.register(self._life, self.keeper.channel)

    async def next(self, take: Callable[[], _T | None], deadline_ms: int | None = None) -> _T | None:
        """What `take()` gives, when there is something; None when the watch was closed, or at the deadline."""
        item = self.take(take) if self.watching.filled else None
        while item is None and await self.wait(deadline_ms):
            with self.mutex:
                item = take()
        if self.due:
            self.settle()
        return item

    async def wait(self, deadline_ms: int | None = None) -> bool:
        """Wait until there may be something to take; False when the watch is closed, or at the deadline, by the first
        clock. Raises why it is over."""
        self.keeper.guard.use()
        if self.closed:
            return False
        if not self._begun:
            self._begin()
        if self.due:
            self.settle()
        if self.watching.filled:
            return True
        if self.error is not None:
            raise self.error.fresh()
        return await self._wait(deadline_ms)

    async def registered(self) -> None:
        """Wait until the watch is registered: nothing is missed from then on. Raises Unavailable after the request
        time-out."""
        deadline_ms = self.keeper.clocks()[0] + self.keeper.request_ms
        while not self.watching.settled:
            if not await self.wait(deadline_ms) and not self.watching.settled:
                if self.closed:
                    raise ClientClosed("the watch was closed")
                raise Unavailable(f"watch: not registered in time ({self.keeper.report()})")

    def close(self) -> None:
        """In the loop: nothing of it is left here or in the cell, and whoever waits is told. `closed` may be set."""
        self.closed = True
        self._leave()
        self._wake()

    def over(self, error: CoordError) -> None:
        """It cannot go on: whoever takes has what is here still, and then this error."""
        if not self.closed and self.error is None:
            self.error = error
            self._leave()
            self._wake()

    def forgotten(self) -> None:
        """The object of the application is gone; in whatever thread, of whatever process."""
        if self._begun and not self.closed:
            self.keeper.guard.post(self.close)

    # --- the registration

    def register(self, life: Life, channel: Channel | None) -> None:
        """On this channel from now on, unless it is registered or must wait."""
        self._life = life
        self._held_back = self.watching.crowded
        if channel is None or self._call is not None or self._held_back or self._timer is not None:
            return
        with self.mutex:
            arguments = self.watching.register()
        self._channel, self._call = channel, life.calls.reserve()
        try:
            channel.begin_stream(self._call, life.calls.acked, "watch", arguments, self)
        except (TypeError, ValueError, OverflowError) as error:
            self._call = None
            self.over(BadRequest(f"watch: an argument cannot be sent: {error}"))

    def pushed(self, body: Any) -> None:
        """A delivery."""
        try:
            delivery = self._watches.delivery(body)
            with self.mutex:
                self.watching.received(delivery)
        except InternalError as error:
            self.keeper.leave_replica(error.message)
            return
        self._tries = 0
        if not self.live:
            self._tell_live(True)
        if delivery.more and self.watching.due:
            self._acknowledge()
        if self._waiters:
            self._wake()

    def ended(self, error: Refusal | ChannelError | None) -> None:
        """The registration is over."""
        self._call = None
        self._tell_live(False)
        if isinstance(error, ChannelError):
            return  # the next channel is told
        action = Action.RETRY if error is None else ERRORS[error.code].action
        if error is not None and error.code == "stale_channel":
            if self._channel is not None:
                self._channel.lose("the session has a newer channel")
        elif error is not None and action is Action.GIVE_UP:
            self.over(error_of(error))
        elif error is not None and action is Action.GO_TO_MASTER:
            self.keeper.go_to(error.details.get("address"))
        elif action is not Action.NEW_SESSION:
            self._tries += 1
            wait_ms = self.keeper.backoff_ms(self._tries)
            self._timer = asyncio.get_running_loop().call_later(wait_ms / 1_000, self._again)

    def _tell_live(self, live: bool) -> None:
        if live is not self.live:
            self.live = live
            if self._on_live is not None and not self.closed:
                call_safely(partial(self._on_live, live))

    def _again(self) -> None:
        self._timer = None
        if self._life is not None and self._life is self.keeper.life:
            self.register(self._life, self.keeper.channel)

    def _begin(self) -> None:
        if self.closed or self.error is not None:
            return
        self._watches.open(self)
        self._begun = True

    def _leave(self) -> None:
        self._watches.close(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        call, self._call, self.live = self._call, None, False
        if call is not None and self._channel is not None and self._channel is self.keeper.channel:
            self._channel.forget_stream(call)
            self._tell("unwatch", {"watch": call})

    def _acknowledge(self) -> None:
        with self.mutex:
            deliveries = self.watching.acknowledge()
        if self._call is not None and self._channel is self.keeper.channel:
            self._tell("watched", {"watch": self._call, "deliveries": deliveries})

    def _tell(self, operation: str, arguments: dict[str, object]) -> None:
        """A word to which no answer is waited for."""
        if self._channel is not None and self._life is not None:
            _Word(self.keeper, self._life, self._channel, operation, arguments).say()

    # --- who waits

    async def _wait(self, deadline_ms: int | None) -> bool:
        """Until something has come, or the end; False at the deadline."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(future)
        try:
            if deadline_ms is None:
                await future
            else:
                left_ms = max(0, deadline_ms - self.keeper.clocks()[0])
                await asyncio.wait([future], timeout=min(left_ms, WAIT_MS_MAX) / 1_000)
        finally:
            if future in self._waiters:  # the time is over, or the task that waits was cancelled
                self._waiters.remove(future)
        return future.done()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for future in waiters:
            if not future.done():  # cancelled with the task that waited
                future.set_result(None)
