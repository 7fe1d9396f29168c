"""Finds the master and keeps one channel to it that speaks for the session: connect, open or attach, again when lost.

It knows nothing of calls; the keeper is told when a channel is attached, when it is lost, and when the session is over.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import aiohttp

from coordclient.aio.channel import Channel, ChannelError, OnFrames, open_channel
from coordclient.aio.life import Life, over_of
from coordclient.endpoints import CHANCE_MAX, PATIENCE_MS_MAX, Endpoints, linger_ms, poll_ms
from coordclient.errors import CoordError, error_of
from coordclient.holds import inherited_of
from coordclient.protocol.errors import ERRORS, Action, Refusal
from coordclient.session import Reading, Session

ATTACH_MS_MAX = 3_000  # a new master may not serve yet
LAST_WORD_MS_MAX = 2_000


class Owner(Protocol):
    """What the link tells, in the loop."""

    def attached(self, life: Life, channel: Channel) -> None:
        """The channel speaks for the session from now on."""

    def detached(self, life: Life) -> None:
        """It does no more."""

    def ended(self, life: Life, error: CoordError) -> None:
        """The cell says that the session is over, or every replica refuses to open one."""

    def resumed(self, life: Life) -> None:
        """The session of a ticket is this life's from now on."""


class Link:
    """See the module docstring. `channel` is the attached one, or None."""

    def __init__(
        self,
        endpoints: Endpoints,
        *,
        cell: str,
        lease_ms: int,
        labels: Mapping[str, str],
        clocks: Callable[[], Reading],
        owner: Owner,
        on_frames: OnFrames,
    ) -> None:
        self.channel: Channel | None = None
        self._endpoints = endpoints
        self._cell = cell
        self._lease_ms = lease_ms
        self._labels = dict(labels)
        self._clocks = clocks
        self._owner = owner
        self._on_frames = on_frames
        self._chance = random.Random()
        self._http: aiohttp.ClientSession | None = None
        self._members = 0  # the version of the membership whose members were asked for
        self._tasks: set[asyncio.Task[Any]] = set()
        self._leaving: set[Channel] = set()  # channels that still say something for a session that is over here
        self._refusals: dict[str, CoordError] = {}  # address -> why it will never open a session for us

    async def run(self, life: Life) -> None:
        """Keep `life` connected until it is over, or until nobody needs a session that could not be opened."""
        self._refusals.clear()
        while life.over is None and life.wanted():
            attempt = self._endpoints.next(self._clocks()[0], self._chance.randrange(CHANCE_MAX))
            if attempt.wait_ms:
                await asyncio.sleep(attempt.wait_ms / 1_000)
            try:
                await self._connect(life, attempt.address)
            except ChannelError as error:
                self._endpoints.failed(attempt.address, str(error), self._clocks()[0], silent=error.silent)
                self._refused(life, attempt.address, error.refusal)
            except Refusal as refusal:
                self._refused_to_attach(life, attempt.address, refusal)

    async def ask(self, address: str, operation: str, timeout_ms: int) -> Mapping[str, Any]:
        """One question to one replica about itself, on a channel of its own and without a session."""
        channel = await open_channel(
            self._session(), address, self._cell, self._labels, min(PATIENCE_MS_MAX, timeout_ms)
        )
        channel.start(_hand_out, lambda *_: None)
        try:
            return await channel.request(1, 1, operation, {}, timeout_ms)
        finally:
            await channel.close()

    def leave(self, reason: str) -> None:
        """The replica does not serve: let go of the present channel; its calls go out again on the next one."""
        channel = self.channel
        if channel is not None:
            channel.lose(reason)
            self._endpoints.failed(channel.address, reason, self._clocks()[0])

    def go_to(self, address: str | None) -> None:
        """The replica says that it is not the master, and who is."""
        channel = self.channel
        if channel is not None:
            channel.lose("not the master")
            self._endpoints.redirected(channel.address, address)

    def say_last(self, life: Life, operation: str, after: Callable[[], Any]) -> None:
        """The session is over here: when `after()` has come to its end the cell is told so by `operation`, as far as
        the present channel carries it. Nobody else speaks on that channel any more."""
        channel = self.channel
        if channel is not None:
            self.channel = None
            self._leaving.add(channel)
            self.background(self._say_last(channel, life, operation, after))

    async def _say_last(self, channel: Channel, life: Life, operation: str, after: Callable[[], Any]) -> None:
        try:
            await after()
            acked = life.calls.acked  # before the number is taken: a logged call below it would be taken for answered
            await channel.request(life.calls.reserve(), acked, operation, {}, LAST_WORD_MS_MAX)
        except (ChannelError, Refusal):
            return  # the session ends by its lease instead
        finally:
            self._leaving.discard(channel)
            await channel.close()

    async def close(self) -> None:
        """Everything that it opened."""
        if self.channel is not None:
            self.channel.lose("closed by this client")
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))
        if self._http is not None:
            await self._http.close()

    def background(self, coroutine: Any) -> None:
        """A task that ends by itself and is awaited by `close` at the latest."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, life: Life, address: str) -> None:
        """One channel, from connecting to its loss."""
        patience_ms = self._endpoints.patience_ms(address)
        channel = await open_channel(self._session(), address, self._cell, self._labels, patience_ms)
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def on_lost(channel: Channel, reason: str) -> None:
            if self.channel is channel:
                self.channel = None
                self._endpoints.broke_off(address, reason)
                self._owner.detached(life)
            if not lost.done():
                lost.set_result(None)

        channel.start(self._on_frames, on_lost)
        try:
            if channel.master != channel.replica and not await self._linger(life, channel, patience_ms):
                return
            await self._attach(life, channel, min(ATTACH_MS_MAX, 3 * patience_ms))
            if not lost.done() and life.over is None:
                self._refusals.clear()
                self._cell = channel.cell  # from now on any other is refused: to it every session would be over
                self.channel = channel
                self._owner.attached(life, channel)
                self.background(self._learn(life, channel))
                await lost
        finally:
            if self.channel is channel:
                channel.lose("closed by this client")
            if channel not in self._leaving:
                self.background(channel.close())

    async def _linger(self, life: Life, channel: Channel, patience_ms: int) -> bool:
        """With a living replica that is not the master: until it knows one to try, or is it itself (True)."""
        endpoints, calls = self._endpoints, life.calls
        begun_ms, polls, address = self._clocks()[0], 0, channel.master_address
        while life.over is None:
            now_ms = self._clocks()[0]
            known = address is not None and endpoints.trusts(address, now_ms)
            if known or now_ms - begun_ms >= linger_ms(self._lease_ms):
                if polls:
                    endpoints.lingered()
                endpoints.redirected(channel.address, address)
                return False
            polls += 1
            await asyncio.sleep(poll_ms(polls, self._chance.randrange(CHANCE_MAX)) / 1_000)
            status = await channel.request(calls.reserve(), calls.acked, "status", {}, patience_ms)
            if status.get("master") == channel.replica:
                return True
            named = status.get("master_address")
            address = named if isinstance(named, str) else None
        return False

    async def _attach(self, life: Life, channel: Channel, timeout_ms: int) -> None:
        calls = life.calls
        session = life.session or await (self._open if life.resume is None else self._resume)(life, channel, timeout_ms)
        attaching = {"session": session.id, "secret": session.secret, "attachment": session.next_attachment()}
        number = calls.reserve()
        answer = await channel.request(number, calls.acked, "attach", attaching, timeout_ms)
        epoch = answer.get("epoch")
        if not isinstance(epoch, int) or not session.believes(epoch):
            raise ChannelError(f"is a master of epoch {epoch!r}, which is over")

    async def _open(self, life: Life, channel: Channel, timeout_ms: int) -> Session:
        opening = {"lease_ms": self._lease_ms, "client": self._labels}
        number, sent = life.calls.reserve(), self._clocks()
        answer = await channel.request(number, life.calls.acked, "open_session", opening, timeout_ms)
        life.session = session = _session_of(answer, sent)
        return session

    async def _resume(self, life: Life, channel: Channel, timeout_ms: int) -> Session:
        resume = life.resume
        if resume is None:
            raise ChannelError("no ticket to resume a session by")
        resuming = {**resume.arguments(), "client": self._labels}
        number, sent = life.calls.reserve(), self._clocks()
        answer = await channel.request(number, life.calls.acked, "resume_session", resuming, timeout_ms)
        session = _resumed(answer, resume.new_secret, sent, self._clocks())
        try:
            inherited = inherited_of(session, answer["holds"])
            life.calls.go_on_at(int(answer["next_call"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ChannelError(f"resumed a session, but does not say what it holds: {error!r}") from None
        life.holds.inherited.update((hold.number, hold) for hold in inherited)
        life.session = session
        self._owner.resumed(life)
        return session

    def members_are(self, version: object, life: Life, channel: Channel) -> None:
        """The master says which membership counts; who takes part is asked for when it is another than before.

        A channel may outlive every replica that its client knew when it was made.
        """
        if isinstance(version, int) and version != self._members:
            self.background(self._learn(life, channel))

    async def _learn(self, life: Life, channel: Channel) -> None:
        """Ask for the members of the cell; the answer comes when it comes."""
        try:
            status = await channel.request(life.calls.reserve(), life.calls.acked, "status", {}, PATIENCE_MS_MAX)
        except (ChannelError, Refusal):
            return  # what is known goes on being used; the next channel asks again
        members, version = status.get("members"), status.get("membership_version")
        if isinstance(members, list):
            self._members = version if isinstance(version, int) else 0
            addresses = [member.get("address") for member in members if isinstance(member, dict)]
            self._endpoints.learn(address for address in addresses if isinstance(address, str))

    def _refused_to_attach(self, life: Life, address: str, refusal: Refusal) -> None:
        action = ERRORS[refusal.code].action
        if action is Action.GO_TO_MASTER:
            to = refusal.details.get("address")
            self._endpoints.redirected(address, to if isinstance(to, str) else None)
        elif action is Action.NEW_SESSION:
            self._owner.ended(life, over_of(refusal))
        else:
            self._endpoints.failed(address, f"{refusal.code}: {refusal.message}", self._clocks()[0])
            self._refused(life, address, refusal)

    def _refused(self, life: Life, address: str, refusal: Refusal | None) -> None:
        """When every replica refuses for ever to open a session, nobody waits for the request time-out."""
        if refusal is None or ERRORS[refusal.code].action is not Action.GIVE_UP or refusal.code == "stale_channel":
            self._refusals.pop(address, None)
            return
        self._refusals[address] = error_of(refusal)
        if life.session is None and self._refusals.keys() >= set(self._endpoints.known):
            self._owner.ended(life, self._refusals[address])

    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        return self._http


def _hand_out(channel: Channel, frames: list[list[Any]]) -> None:
    for item in frames:
        channel.answer(item)


def _resumed(answer: Mapping[str, Any], secret: str, sent: Reading, now: Reading) -> Session:
    session, lease_ms, epoch, left = (answer.get(name) for name in ("session", "lease_ms", "epoch", "left"))
    if not (isinstance(session, int) and isinstance(lease_ms, int) and isinstance(epoch, int)):
        raise ChannelError("resumed a session, but does not say which")
    return Session(session, secret, lease_ms, epoch, sent, resumed=True, inherited=None if left is True else now)


def _session_of(answer: Mapping[str, Any], sent: Reading) -> Session:
    session, secret, lease_ms, epoch = (answer.get(name) for name in ("session", "secret", "lease_ms", "epoch"))
    if not (
        isinstance(session, int) and isinstance(secret, str) and isinstance(lease_ms, int) and isinstance(epoch, int)
    ):
        raise ChannelError("opened a session, but does not say which")
    return Session(session, secret, lease_ms, epoch, sent)
