"""Keeps one client's session alive and its calls moving, until each is answered, over its deadline, or lost with it.

It drives the pure parts and decides nothing that they decide. All of it runs in one loop, and everything that time does
happens in `tick`, a plain callback armed for the next moment at which anything is due, never more than a quarter of a
second away (a loop's timer does not count the time that the machine was suspended).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from coordclient import clock
from coordclient.aio.channel import Channel, Frames
from coordclient.aio.guard import Guard
from coordclient.aio.life import Backlog, Life, settle_error
from coordclient.aio.link import Link
from coordclient.aio.pulse import Pulse
from coordclient.aio.traffic import Traffic
from coordclient.calls import NEVER_MS, Call
from coordclient.endpoints import Endpoints, backoff_ms
from coordclient.errors import ClientClosed, CoordError, InternalError, SessionExpired, Unavailable
from coordclient.holds import Hold
from coordclient.serving import Serving
from coordclient.session import Reading, State
from coordclient.tickets import Resume, Ticket

TICK_MS_MAX = 250
CLOSE_MS = 2_000
log = logging.getLogger("coordclient")


class Follower(Protocol):
    """Who begins something of its own on each channel, besides the calls. Called in the loop; it must not raise."""

    def attached(self, life: Life, channel: Channel) -> None:
        """This channel speaks for the session from now on; the unanswered calls follow what is sent here."""

    def detached(self, life: Life) -> None:
        """It does no more."""

    def ended(self, life: Life, error: CoordError) -> None:
        """This life is over; for good, unless the error is a SessionExpired: then `alive` begins another."""


class Keeper:
    """See the module docstring. What begins with `on_` is called in the loop and must not raise: `on_jeopardy` for each
    hold that is believed when its session goes into jeopardy."""

    def __init__(
        self,
        endpoints: Endpoints,
        *,
        cell: str,
        lease_ms: int,
        request_ms: int,
        labels: Mapping[str, str],
        on_state: Callable[[str], None],
        on_given_up: Callable[[Hold], None],
        on_jeopardy: Callable[[Hold], None],
        ticket: Ticket | None = None,
        clocks: Callable[[], Reading] = clock.read,
    ) -> None:
        self.endpoints = endpoints
        self.request_ms = request_ms
        self.lease_ms = lease_ms
        self.labels = labels
        self.clocks = clocks
        self.life: Life | None = None
        self.guard = Guard()
        self._on_state = on_state
        self._on_jeopardy = on_jeopardy
        self.lost = on_given_up
        self._ticket = ticket  # of a session that is to be resumed and was not yet
        self._resume: Resume | None = None
        self.draw_secret: Callable[[], str] = lambda: secrets.token_urlsafe(32)
        self._link = Link(
            endpoints,
            cell=cell,
            lease_ms=lease_ms,
            labels=labels,
            clocks=clocks,
            owner=self,
            on_frames=self._arrived,
        )
        self._run: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._armed_ms = NEVER_MS
        self._serving = Serving(lease_ms)
        self._pulse = Pulse(endpoints, self._link, self._serving, clocks, self)
        self._traffic = Traffic(self._link, self._serving, self._pulse, clocks, self)
        self._told = State.EXPIRED
        self.followers: list[Follower] = []

    # --- what clients and locks ask for

    async def call(self, operation: str, arguments: Mapping[str, object], life: Life | None = None) -> Any:
        """One call, in the present life unless another is named; its result, or the exception of its error."""
        if life is None:
            life = self.alive()
        call = await self.begin(life, operation, arguments, self.clocks()[0] + self.request_ms)
        try:
            return await call.tag  # type: ignore[misc]
        except asyncio.CancelledError:
            life.calls.give_up(call)
            raise

    def alive(self) -> Life:
        """The present life; a new one begins if there is none. Raises when this client cannot be used here."""
        self.guard.use()
        life = self.life
        if life is None or life.over is not None:
            if self._ticket is not None and self._resume is None:
                # Drawn at the first use: two processes that were forked before it must not resume as one.
                self._resume = Resume(self._ticket, self.draw_secret())
            life = self.life = Life(self._resume)
            self._run = asyncio.get_running_loop().create_task(self._live(life))
            self._arm(TICK_MS_MAX)
        return life

    async def begin(self, life: Life, operation: str, arguments: Mapping[str, object], deadline_ms: int) -> Call:
        """Begin a call when the window has room, and send it if possible; its `tag` is the future of its answer."""
        calls = life.calls
        if life.backlog or not calls.free():
            await life.wait_for_room(operation, deadline_ms, self.clocks)
        if life.over is not None:
            raise life.over.fresh()
        call = calls.begin(operation, arguments, deadline_ms, asyncio.get_running_loop().create_future())
        channel = self._link.channel
        if channel is not None and life is self.life:
            self._traffic.send(channel, life, call)
        self.due_by(deadline_ms)
        return call

    def begin_lasting(
        self, life: Life, operation: str, arguments: Mapping[str, object], timeout_ms: int | None = None
    ) -> asyncio.Future[Any]:
        """Begin a call that is retried until it is answered or the session ends, whoever waits for it.

        With `timeout_ms` the future has an error after that time, while the call goes on.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if life.over is not None:
            settle_error(future, life.over.fresh())
            return future
        deadline_ms = NEVER_MS if timeout_ms is None else self.clocks()[0] + timeout_ms
        life.backlog.append(Backlog(operation, arguments, deadline_ms, future))
        self._traffic.flush(life)
        self.due_by(deadline_ms)
        return future

    def withdraw(self, life: Life, call: Call) -> None:
        """Nobody waits for this acquire any more: leave no waiter and no hold of it behind."""
        if not self.guard.in_its_loop():
            return  # the loop has ended, and whatever is left of it is thrown away
        answered = call.number not in life.calls.pending  # with a grant, perhaps, that nobody has taken
        if (life.calls.give_up(call) or answered) and life.over is None:
            self.begin_lasting(life, "cancel", {"target": call.number})

    def go_on_alone(self, life: Life, call: Call, then: Callable[[Mapping[str, Any]], None]) -> None:
        """Nobody waits for this call any more, and its result is not to be lost: it goes on until it is answered or
        the session ends, and a result is given to `then`."""

        def told(future: asyncio.Future[Any]) -> None:
            if not future.cancelled() and future.exception() is None and isinstance(future.result(), dict):
                then(future.result())

        if not self.guard.in_its_loop():
            return
        future: Any = call.tag
        if life.calls.pending.get(call.number) is call:
            call.tag = future = asyncio.get_running_loop().create_future()
            call.lasting, call.deadline_ms = True, NEVER_MS
        future.add_done_callback(told)

    async def ready(self, life: Life, deadline_ms: int) -> None:
        """Wait until the session has been opened; raises Unavailable at the deadline, or after the request time-out."""
        deadline_ms = min(deadline_ms, self.clocks()[0] + self.request_ms)
        while life.session is None and life.over is None:
            if not await life.change(max(0, deadline_ms - self.clocks()[0])):
                raise Unavailable(f"no session could be opened in time, nothing was done ({self.report()})")
        if life.over is not None:
            raise life.over.fresh()

    def report(self) -> str:
        """What was tried to reach the cell and how it went."""
        if self.channel is not None:
            return f"connected to {self.channel.address}, which did not answer"
        return self.endpoints.report()

    @property
    def state(self) -> str:
        """What the application was last told: active, jeopardy or expired."""
        return self._told.value

    @property
    def channel(self) -> Channel | None:
        """The channel that speaks for the session now."""
        return self._link.channel

    def go_to(self, address: object) -> None:
        """The replica at the other end says that it is not the master, and perhaps who is."""
        self._link.go_to(address if isinstance(address, str) else None)

    def leave_replica(self, reason: str) -> None:
        """The replica at the other end does not do what it should: go on with another."""
        self._link.leave(reason)

    def backoff_ms(self, tries: int) -> int:
        """The wait before attempt number `tries`."""
        return backoff_ms(tries, self._traffic.draw())

    async def ask(self, address: str, operation: str) -> Mapping[str, Any]:
        """One question to one replica about itself, without a session; raises ChannelError or Refusal."""
        self.guard.use()
        return await self._link.ask(address, operation, self.request_ms)

    async def close(self) -> None:
        """Close the session, if the cell can be told; then everything else. The second time it does nothing."""
        if self.guard.close():
            await self._part("close_session", "the client was closed")

    async def leave(self, busy: Callable[[Hold], bool]) -> Ticket:
        """As `close`, but the session stays for whoever resumes it: the ticket for that. The cell is told that nothing
        is believed any more when no hold is `busy`, at the latest after the longest stop margin."""
        self.guard.use()
        life = self.life
        session = None if life is None or life.over is not None else life.session
        if session is None:
            raise SessionExpired("there is no session to leave")
        if self.guard.close():
            await self._part("leave_session", "this process has left it to another", busy)
        return Ticket(session.id, session.secret)

    async def _part(self, operation: str, reason: str, busy: Callable[[Hold], bool] | None = None) -> None:
        """Nothing is believed from now on; tell the cell by `operation`; then let go of everything."""
        life = self.life
        if life is not None and life.over is None:
            error = ClientClosed(f"{reason}, before an answer came")
            life.drop_calls(error)
            # While the process before this one may believe, nothing is to be free at once: its lease ends it.
            tells = operation == "leave_session" or not life.doubtful(self.clocks())
            if life.session is not None and self._link.channel is not None:
                # The cell may free every lock before its answer is here.
                over = life.holds.session_over(reason)
                for hold in over:
                    self.lost(hold)
                working = [hold for hold in over if busy is not None and busy(hold)]
                await life.all_stopped(working, max((hold.stop_margin_ms for hold in working), default=0))
                if tells:
                    await asyncio.wait([self.begin_lasting(life, operation, {}, min(CLOSE_MS, self.request_ms))])
            self.ended(life, ClientClosed(reason))
        if self._timer is not None:
            self._timer.cancel()
        if self._run is not None:
            self._run.cancel()
            await asyncio.wait([self._run])
        await self._link.close()

    # --- what the link tells

    def attached(self, life: Life, channel: Channel) -> None:
        """Send at once what is due: a KeepAlive, and every unanswered call with its own number."""
        self._serving.attached(channel.received)
        if life.session is not None:
            life.session.disconnected()
            if life.session.state is State.ACTIVE and life.session.left_ms(self.clocks()) > 0:
                self.tell(State.ACTIVE)
        life.wake()
        for follower in self.followers:
            follower.attached(life, channel)
        self.tick()

    def detached(self, life: Life) -> None:
        """What was in flight may have arrived or not."""
        life.calls.disconnected()
        life.keep_alives.clear()
        if life.session is not None:
            life.session.disconnected()
        for follower in self.followers:
            follower.detached(life)

    def ended(self, life: Life, error: CoordError) -> None:
        """This life is over; the next call begins another one."""
        if life.over is not None:
            return
        if life.session is None and isinstance(error, SessionExpired):
            self._ticket = self._resume = None  # there is nothing to resume; the next call opens a session
        life.end(error)
        for hold in life.holds.session_over(str(error)):
            self.lost(hold)
        if self.life is life:
            self.life = None
            if self._link.channel is not None:
                self._link.channel.lose("the session is over")
            if self._run is not None and self._run is not asyncio.current_task():
                self._run.cancel()
        if life.session is not None:
            self.tell(State.EXPIRED)
        for follower in self.followers:
            follower.ended(life, error)

    def resumed(self, life: Life) -> None:
        """The ticket is used up. The session has the lease that it was opened with."""
        self._ticket = self._resume = None
        self.lease_ms = life.session.lease_ms if life.session is not None else self.lease_ms

    def _arrived(self, channel: Channel, frames: Frames) -> None:
        self._traffic.arrived(channel, frames)

    # --- time

    def tick(self) -> None:
        """Do whatever is due by the clocks, and arm the timer for what comes next."""
        life = self.life
        if life is None:
            return
        now = self.clocks()
        self.give_up(life, now)
        session = life.session
        if session is not None:
            for state in session.tick(now):
                if state is State.EXPIRED:
                    self.ended(life, SessionExpired(session.reason))
                    return
                self.tell(state)
                for hold in [hold for hold in life.holds.all.values() if hold.safe(now)]:
                    self._on_jeopardy(hold)
            if session.state is State.ACTIVE:
                for hold in life.holds.to_release(now):
                    self.begin_lasting(life, "release", hold.release())
            for operation, arguments in life.holds.to_give_up(now):
                self.begin_lasting(life, operation, arguments)
        for call, error in life.calls.expire(now[0], self.report()):
            settle_error(call.tag, error)
        self._traffic.flush(life)
        self._pulse.send(life, now)
        self._arm(self._next_ms(life, now))

    def give_up(self, life: Life, now: Reading) -> None:
        """Tell the holders of what is over by these clocks."""
        for hold in life.holds.tick(now):
            self.lost(hold)

    def _next_ms(self, life: Life, now: Reading) -> int:
        next_ms = min(TICK_MS_MAX, life.calls.next_ms(now[0]), life.holds.next_ms(now))
        return next_ms if life.session is None else min(next_ms, life.session.next_ms(now))

    def due_by(self, at_ms: int) -> None:
        """Something is due then, by the first clock: `tick` at the latest at that time."""
        if at_ms < self._armed_ms:
            self._arm(at_ms - self.clocks()[0])

    def _arm(self, in_ms: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        in_ms = max(1, in_ms)
        self._armed_ms = self.clocks()[0] + in_ms
        self._timer = asyncio.get_running_loop().call_later(in_ms / 1_000, self.tick)

    async def _live(self, life: Life) -> None:
        try:
            await self._link.run(life)
        except Exception as error:
            log.exception("the keeper of a session failed")
            self.ended(life, InternalError(f"a bug in coordclient: {type(error).__name__}: {error}"))
        self.ended(life, Unavailable(f"no session could be opened ({self.endpoints.report()})"))

    def tell(self, state: State) -> None:
        """Tell the application, once."""
        if state is not self._told:
            self._told = state
            self._on_state(state.value)
