"""Keeps one client's session alive and its calls moving, until each is answered, over its deadline, or lost with it.

It drives the pure parts and decides nothing that they decide. All of it runs in one loop, and everything that time does
happens in `tick`, a plain callback armed for the next moment at which anything is due, never more than a quarter of a
second away (a loop's timer does not count the time that the machine was suspended).
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from coordclient import clock
from coordclient.aio.channel import Channel, refusal_of
from coordclient.aio.guard import Guard
from coordclient.aio.life import Backlog, Life, settle, settle_error
from coordclient.aio.link import Link
from coordclient.aio.pulse import Pulse
from coordclient.calls import NEVER_MS, Call, Then, Verdict
from coordclient.endpoints import CHANCE_MAX, Endpoints
from coordclient.errors import BadRequest, ClientClosed, CoordError, InternalError, SessionExpired, Unavailable
from coordclient.holds import Hold
from coordclient.protocol.errors import ERRORS, Action
from coordclient.protocol.frames import frame
from coordclient.serving import Serving
from coordclient.session import Reading, State
from coordclient.tickets import Resume, Ticket

TICK_MS_MAX = 250
CLOSE_MS = 2_000
log = logging.getLogger("coordclient")


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
            endpoints, cell=cell, lease_ms=lease_ms, labels=labels, clocks=clocks, owner=self, on_frames=self._on_frames
        )
        self._run: asyncio.Task[None] | None = None
        self._chance = random.Random()
        self._timer: asyncio.TimerHandle | None = None
        self._armed_ms = NEVER_MS
        self._serving = Serving(lease_ms)
        self._pulse = Pulse(endpoints, self._link, self._serving, clocks, self)
        self._told = State.EXPIRED

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
            self._send(channel, life, call)
        if deadline_ms < self._armed_ms:
            self._arm(deadline_ms - self.clocks()[0])
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
        self._flush(life)
        if deadline_ms < self._armed_ms:
            self._arm(deadline_ms - self.clocks()[0])
        return future

    def withdraw(self, life: Life, call: Call) -> None:
        """Nobody waits for this acquire any more: leave no waiter and no hold of it behind."""
        if not self.guard.in_its_loop():
            return  # the loop has ended, and whatever is left of it is thrown away
        answered = call.number not in life.calls.pending  # with a grant, perhaps, that nobody has taken
        if (life.calls.give_up(call) or answered) and life.over is None:
            self.begin_lasting(life, "cancel", {"target": call.number})

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
        if self._link.channel is not None:
            return f"connected to {self._link.channel.address}, which did not answer"
        return self.endpoints.report()

    @property
    def state(self) -> str:
        """What the application was last told: active, jeopardy or expired."""
        return self._told.value

    @property
    def connected(self) -> bool:
        """Whether a channel speaks for the session now."""
        return self._link.channel is not None

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
        self.tick()

    def detached(self, life: Life) -> None:
        """What was in flight may have arrived or not."""
        life.calls.disconnected()
        life.keep_alives.clear()
        if life.session is not None:
            life.session.disconnected()

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

    def resumed(self, life: Life) -> None:
        """The ticket is used up. The session has the lease that it was opened with."""
        self._ticket = self._resume = None
        self.lease_ms = life.session.lease_ms if life.session is not None else self.lease_ms

    # --- frames

    def _send(self, channel: Channel, life: Life, call: Call) -> None:
        try:
            payload = frame([call.number, call.operation, call.arguments, life.calls.acked])
        except (TypeError, ValueError, OverflowError) as error:
            life.calls.give_up(call)
            settle_error(call.tag, BadRequest(f"{call.operation}: an argument cannot be sent: {error}"))
            return
        life.calls.sent(call)
        channel.send(payload)

    def _flush(self, life: Life) -> None:
        """Use the room in the window, and send whatever may be sent now."""
        life.make_room()
        channel = self._link.channel
        if channel is not None and life is self.life:
            for call in life.calls.due(self.clocks()[0]):
                self._send(channel, life, call)

    def _on_frames(self, channel: Channel, frames: list[list[Any]]) -> None:
        life = self.life
        if life is None or channel is not self._link.channel:
            for item in frames:
                channel.answer(item)
            return
        leave, served = None, False
        succeeded = life.calls.succeeded
        for item in frames:
            if len(item) == 2:
                call = succeeded(item[0])
                if call is not None:
                    served = True
                    settle(call.tag, item[1])
                else:
                    self._own_answer(life, channel, item)
            else:
                leave = self._refused(life, channel, item) or leave
        if served:
            self._serving.served()
        if life.over is None and (life.backlog or life.room):
            self._flush(life)
        if leave is not None and life.over is None:
            if leave.then is Then.GO_TO_MASTER:
                self._link.go_to(leave.address)
            else:
                channel.lose("the session has a newer channel")

    def _refused(self, life: Life, channel: Channel, item: list[Any]) -> Verdict | None:
        """Deal with an error; the verdict, if the channel is to be left."""
        refusal = refusal_of(item)
        if refusal is None or item[0] in life.keep_alives or item[0] == 0:
            self._own_answer(life, channel, item)
            return None
        verdict = life.calls.refused(item[0], refusal, self.clocks()[0], self._chance.randrange(CHANCE_MAX))
        if verdict is None:
            channel.answer(item)
            return None
        if verdict.error is not None:
            settle_error(verdict.call.tag, verdict.error)
        if verdict.then is Then.SESSION_OVER:
            self._pulse.session_over(life, refusal)
        elif verdict.then is Then.RETRY:
            self._serving.refused(refusal.code, self.clocks()[0])
            if verdict.call.retry_ms < self._armed_ms:
                self._arm(verdict.call.retry_ms - self.clocks()[0])
        return verdict if verdict.then in (Then.GO_TO_MASTER, Then.LEAVE) else None

    def _own_answer(self, life: Life, channel: Channel, item: list[Any]) -> None:
        """An answer to what is not in the table of calls: a KeepAlive, a request of the channel's own, or call 0."""
        number = life.keep_alives.pop(item[0], None)
        refusal = refusal_of(item)
        if number is None:
            if item[0] == 0 and refusal is not None and ERRORS[refusal.code].action is Action.NEW_SESSION:
                self._pulse.session_over(life, refusal)
            channel.answer(item)
        elif refusal is None:
            self._pulse.renewed(life, channel, number, item[1])
        else:
            self._pulse.refused(life, refusal)

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
        self._flush(life)
        self._pulse.send(life, now)
        self._arm(self._next_ms(life, now))

    def give_up(self, life: Life, now: Reading) -> None:
        """Tell the holders of what is over by these clocks."""
        for hold in life.holds.tick(now):
            self.lost(hold)

    def _next_ms(self, life: Life, now: Reading) -> int:
        next_ms = min(TICK_MS_MAX, life.calls.next_ms(now[0]), life.holds.next_ms(now))
        return next_ms if life.session is None else min(next_ms, life.session.next_ms(now))

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
