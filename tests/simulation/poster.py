"""Client processes that speak POST and have their KeepAlives held, made of the library's pure parts.

What a client of another language has to do, as docs/doors.md says it: the next KeepAlive goes out when the last one is
answered, the lease counts from its sending, what is revoked is given up, a kill is acknowledged, and a request without
an answer is made again, with the same number, wherever the master is now. Each request is a connection of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from random import Random
from typing import Any, cast

import aiohttp

from coordclient.aio import Client
from coordclient.calls import Calls, Then
from coordclient.endpoints import CHANCE_MAX, Endpoints, backoff_ms
from coordclient.errors import CoordError, OutcomeUnknown, SessionExpired, Unavailable
from coordclient.holds import Hold, Holds, inherited_of
from coordclient.protocol.errors import ERRORS, Action, Refusal
from coordclient.session import Reading, Session, State
from coordclient.tickets import Resume, Ticket
from tests.simulation.client import ClientProcess, Seat
from tests.simulation.posts import packed, unpacked

LAST_WORD_MS = 2_000
LOOK_MS = 500


class NoAnswer(Exception):
    """Nobody said anything; whatever was asked may be done or not."""


class PostLife:
    """One session of a poster: what `coordclient.aio.life.Life` is to the library's own client."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.calls = Calls()
        self.holds = Holds()
        self.over = ""

    def end(self, reason: str) -> None:
        """Nothing of it is believed any more."""
        self.over = self.over or reason
        self.session.ended(reason)
        self.holds.session_over(reason)
        self.calls.session_over(reason)

    def is_doubtful(self, now: Reading) -> bool:
        """Whether the process that had the session before may believe in a lock of it."""
        return any(hold.doubt_ms(now) > 0 for hold in (*self.holds.all.values(), *self.holds.inherited.values()))


class PostClient:
    """See the module docstring. It has at most one session, and opens the next when one is over."""

    def __init__(self, process: PostProcess, chance: Random, ticket: Ticket | None) -> None:
        self._process, self._seat, self._chance = process, process.seat, chance
        self._endpoints = Endpoints(self._seat.endpoints(chance), self._seat.lease_ms)
        self._resume = None if ticket is None else Resume(ticket, chance.randbytes(24).hex())
        self._hold_parts = chance.choice((3, 3, 6, 1))  # of a lease; more than a third is cut by the master
        self._address: str | None = None
        self._members = 0
        self._keeping: list[asyncio.Task[None]] = []
        self.life: PostLife | None = None

    def begin(self) -> None:
        """Open a session and keep it."""
        loop = self._process.loop
        self._keeping = [loop.run_soon(self._keep()), loop.run_soon(self._look())]

    def clocks(self) -> Reading:
        """All of them."""
        return self._seat.reading()

    @property
    def ticket(self) -> str | None:
        """For who resumes the session."""
        life = self.life
        return None if life is None else str(Ticket(life.session.id, life.session.secret))

    # ---- one request ----

    async def ask(
        self,
        operation: str,
        arguments: Mapping[str, object],
        life: PostLife | None = None,
        call: int = 0,
        more_ms: int | None = 0,
    ) -> dict[str, Any]:
        """One request to whoever is taken for the master. `more_ms`: what the answer may take beyond the replica's
        time; None: whatever it takes. Raises Refusal or NoAnswer, and goes elsewhere the next time, if that may help.
        """
        address = await self._where()
        headers = {}
        if life is not None:
            headers["Coord-Session"] = f"{life.session.id}.{life.session.secret}"
            if call:
                headers |= {"Coord-Call": str(call), "Coord-Acked": str(life.calls.acked)}
        patience_ms = None if more_ms is None else self._endpoints.patience_ms(address) + more_ms
        try:
            status, result = await self._post(address, packed(operation, headers, dict(arguments)), patience_ms)
        except (TimeoutError, aiohttp.ClientConnectionError) as error:
            silent = isinstance(error, TimeoutError)
            self._endpoints.failed(address, "no answer" if silent else str(error), self.clocks()[0], silent=silent)
            self._leave_address(address)
            raise NoAnswer(f"{address} did not answer") from None
        if status == 200:
            self._endpoints.connected(address)
            return result
        refusal = Refusal.from_wire(result)
        if refusal.code in ("not_master", "unavailable"):
            to = refusal.details.get("address")
            self._endpoints.redirected(address, to if isinstance(to, str) else None)
            self._leave_address(address)
        raise refusal

    async def _where(self) -> str:
        if self._address is None:
            attempt = self._endpoints.next(self.clocks()[0], self._chance.randrange(CHANCE_MAX))
            await self._process.loop.rest(attempt.wait_ms / 1_000)
            self._address = attempt.address
        return self._address

    def _leave_address(self, address: str) -> None:
        if self._address == address:
            self._address = None

    async def _post(self, address: str, data: bytes, patience_ms: int | None) -> tuple[int, dict[str, Any]]:
        target = int(address.partition("replica-")[2].partition(":")[0])
        request = self._process.port.post(target, data, silent=b"keep_alive" in data and self._seat.is_mute)
        try:
            async with asyncio.timeout(None if patience_ms is None else patience_ms / 1_000):
                return unpacked(await request.answer)
        finally:
            await request.close()

    # ---- the session ----

    async def _keep(self) -> None:
        while True:
            try:
                if self.life is None:
                    await self._open()
                else:
                    await self._keep_alive(self.life)
            except NoAnswer:
                continue  # the next replica is tried, after the wait that is due
            except Refusal:
                await self._process.loop.rest(backoff_ms(3, self._chance.randrange(CHANCE_MAX)) / 1_000)

    async def _open(self) -> None:
        resume, labels, sent = self._resume, {"host": "sim", "name": self._process.name}, self.clocks()
        if resume is None:
            answer = await self.ask("open_session", {"lease_ms": self._seat.lease_ms, "client": labels})
            self.life = PostLife(
                Session(answer["session"], answer["secret"], answer["lease_ms"], answer["epoch"], sent)
            )
            return
        try:
            answer = await self.ask("resume_session", {**resume.arguments(), "client": labels})
        except Refusal as refusal:
            if ERRORS[refusal.code].action is Action.NEW_SESSION:
                self._resume = None
            raise
        self._resume = None
        since = None if answer["left"] else self.clocks()
        number, lease_ms, epoch = answer["session"], answer["lease_ms"], answer["epoch"]
        life = PostLife(Session(number, resume.new_secret, lease_ms, epoch, sent, resumed=True, inherited=since))
        life.calls.go_on_at(answer["next_call"])
        life.holds.inherited.update((hold.number, hold) for hold in inherited_of(life.session, answer["holds"]))
        self.life = life

    async def _keep_alive(self, life: PostLife) -> None:
        """One of them, and what its answer says."""
        session, hold_ms = life.session, life.session.lease_ms // self._hold_parts
        sent = self.clocks()
        number = session.transmit(sent)
        arguments = {"number": number, "hold_ms": hold_ms}
        held_ms = min(hold_ms, session.lease_ms // 3) * (1 if self._seat.clocks_kept else 3)  # by the master's clock
        try:
            answer = await self.ask("keep_alive", arguments, life, more_ms=held_ms)
        except Refusal as refusal:
            if ERRORS[refusal.code].action is not Action.NEW_SESSION:
                raise
            self._session_over(life, refusal)
            return
        now = self.clocks()
        self._let_pass(life, now)
        if life.over:
            return
        if answer["epoch"] < session.epoch:
            self._address = None  # a master that is none any more
            return
        for path, of, reason in answer.get("revoked", ()):
            life.holds.revoked(path, of, reason, now, of in life.calls.pending)
        session.answered(number, answer["epoch"], answer["lease_ms"], now)
        if answer["members"] != self._members:
            await self._learn(answer["members"])
        if self.clocks()[0] - sent[0] < hold_ms // 4:  # there was no room to hold it, or something to tell
            await self._process.loop.rest(hold_ms / 2_000)

    async def _learn(self, version: int) -> None:
        with contextlib.suppress(NoAnswer, Refusal):  # what is known goes on being used
            status = await self.ask("status", {})
            self._endpoints.learn(row["address"] for row in status["members"] if row["address"])
            self._members = version

    async def _look(self) -> None:
        """Look at the clocks now and then, whatever is waited for."""
        while True:
            life, wait_ms = self.life, LOOK_MS
            if life is not None:
                self._let_pass(life, self.clocks())
                wait_ms = max(20, min(LOOK_MS, life.holds.next_ms(self.clocks())))
            await self._process.loop.rest(wait_ms / 1_000)

    def _let_pass(self, life: PostLife, now: Reading) -> None:
        """What is over by these clocks is over; what the cell is to be told, it is told."""
        life.session.tick(now)
        if life.session.state is State.EXPIRED:
            self._session_over(life, None)
            return
        life.holds.tick(now)
        told = life.holds.to_give_up(now)
        if life.session.state is State.ACTIVE:
            told += [("release", hold.release()) for hold in life.holds.to_release(now)]
        for operation, arguments in told:
            self._process.loop.run_soon(self._tell(life, operation, arguments))

    async def _tell(self, life: PostLife, operation: str, arguments: Mapping[str, object]) -> None:
        with contextlib.suppress(CoordError):
            await self.call(life, operation, arguments, lasting=True)

    def _session_over(self, life: PostLife, refusal: Refusal | None) -> None:
        if life.over:
            return
        acknowledges = refusal is not None and refusal.code == "session_killed" and not life.is_doubtful(self.clocks())
        life.end(life.session.reason if refusal is None else refusal.message)
        if self.life is life:
            self.life = None
        if acknowledges:
            self._process.loop.run_soon(self._last_word(life, "acknowledge_kill"))

    async def _last_word(self, life: PostLife, operation: str) -> bool:
        """Said until it is answered, for a while. True: it was done."""
        number, until_ms = life.calls.reserve(), self.clocks()[0] + LAST_WORD_MS
        while self.clocks()[0] < until_ms:
            try:
                await self.ask(operation, {}, life, number)
                return True
            except NoAnswer:
                continue
            except Refusal as refusal:
                if ERRORS[refusal.code].action in (Action.GIVE_UP, Action.NEW_SESSION):
                    return False
                await self._process.loop.rest(0.1)
        return False

    async def close(self) -> None:
        """End the session; nothing is believed from now on."""
        await self._part("close_session")

    async def leave(self) -> str:
        """Leave the session to another process."""
        ticket = self.ticket
        if ticket is None:
            raise SessionExpired("there is no session to leave")
        await self._part("leave_session")
        return ticket

    async def _part(self, operation: str) -> None:
        for task in self._keeping:
            task.cancel()
        life, self.life = self.life, None
        if life is not None and not life.over:
            # While the process before this one may believe, nothing is to be free at once: its lease ends it.
            tells = operation == "leave_session" or not life.is_doubtful(self.clocks())
            life.end("it was left")
            if tells:
                await self._last_word(life, operation)

    # ---- calls ----

    async def present(self) -> PostLife:
        """The session, once it is active."""
        until_ms = self.clocks()[0] + self._seat.request_ms
        while self.life is None or self.life.session.state is not State.ACTIVE:
            if self.clocks()[0] >= until_ms:
                raise Unavailable(f"there is no session: {self._endpoints.report()}")
            await self._process.loop.rest(0.05)
        return self.life

    async def call(
        self, life: PostLife, operation: str, arguments: Mapping[str, object], *, lasting: bool = False
    ) -> tuple[int, dict[str, Any]]:
        """One call, until it is answered or its time is over; its number and its result."""
        calls = life.calls
        if life.over:
            raise SessionExpired(life.over)
        call = calls.begin(operation, arguments, lasting=lasting)
        until_ms = self.clocks()[0] + self._seat.request_ms
        try:
            while True:
                if not lasting and self.clocks()[0] >= until_ms:
                    raise (OutcomeUnknown if call.may_have_run else Unavailable)(f"{operation}: no answer in time")
                call.unsettled = 0  # each request is a channel of its own
                calls.sent(call)
                try:
                    result = await self.ask(operation, arguments, life, call.number, None if call.waits else 0)
                except NoAnswer as error:
                    refusal = Refusal("outcome_unknown", str(error))
                except Refusal as error:
                    refusal = error
                else:
                    if calls.succeeded(call.number) is None:
                        raise OutcomeUnknown(f"{operation}: {life.over}")
                    return call.number, result
                verdict = calls.refused(call.number, refusal, self.clocks()[0], self._chance.randrange(CHANCE_MAX))
                if verdict is None:
                    raise OutcomeUnknown(f"{operation}: {life.over}")
                if verdict.then is Then.SESSION_OVER:
                    self._session_over(life, refusal)
                if verdict.error is not None:
                    raise verdict.error
                await self._process.loop.rest(max(0, call.retry_ms - self.clocks()[0]) / 1_000)
        finally:
            calls.give_up(call)

    async def acquire(
        self, path: str, mode: str, delay_ms: int, stop_margin_ms: int, wait_seconds: float
    ) -> Hold | None:
        """The lock, or None where it did not come in time, or too late to be believed in: then it is let go."""
        life = await self.present()
        number = life.calls.next_number
        arguments = {"path": path, "mode": mode, "lock_delay_ms": delay_ms}
        try:
            async with asyncio.timeout(wait_seconds):
                _, grant = await self.call(life, "acquire", arguments)
        except (TimeoutError, OutcomeUnknown):
            self._process.loop.run_soon(self._tell(life, "cancel", {"target": number}))
            return None
        hold = Hold(life.session, number, grant, delay_ms, stop_margin_ms)
        self._let_pass(life, self.clocks())
        if life.over or not life.holds.add(hold, self.clocks()):
            self._process.loop.run_soon(self._tell(life, "release", hold.release()))
            return None
        return hold

    async def release(self, hold: Hold) -> None:
        """It is believed in no longer; returns when the cell has said so."""
        life = self.life
        if life is None or hold.session is not life.session:
            raise SessionExpired("the session of the hold is over")
        life.holds.released(hold)
        await self.call(life, "release", hold.release(), lasting=True)


class PostProcess(ClientProcess):
    """One process of a poster."""

    works = "posts"
    posts: PostClient

    def __init__(self, seat: Seat, generation: int, ticket: str | None) -> None:
        super().__init__(seat, generation, ticket)
        self.posts.begin()

    def _make(self, seat: Seat, chance: Random) -> Client:
        ticket = None if self.ticket is None else Ticket.parse(self.ticket)
        self.posts = PostClient(self, chance, ticket)
        return cast(Client, self.posts)  # what a seat asks of a client, it has

    def life(self) -> PostLife | None:
        return self.posts.life


class PostSeat(Seat):
    """A machine with posters."""

    process_class = PostProcess
