"""Client processes that only watch, over plain frames: what a client of another language has to do, as docs/doors.md
says it, and a few that are slower than they should be.

One connection at a time, to whoever is taken for the master. Every watch is registered there anew, from the last
revision that it was told of. There is no session: what answers is asked now and then whether it still does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from random import Random
from typing import Any, cast

import aiohttp

from coordclient.aio import Client
from coordclient.endpoints import CHANCE_MAX, Endpoints, backoff_ms
from coordclient.errors import SessionExpired
from coordclient.protocol.codec import decode
from coordclient.protocol.errors import Refusal
from coordclient.protocol.frames import CHANNEL_VERSION, frame, split_frames
from tests.simulation.checkers.tree import Version
from tests.simulation.checkers.watching import Following, Told
from tests.simulation.client import ClientProcess, Seat
from tests.simulation.doors import CELL
from tests.simulation.streams import SimHttp, Socket

QUIET_SECONDS = 1.0  # after so long without a word it asks whether anybody is there


class NotServed(Exception):
    """The connection is of no more use; the text says why."""


class PlainWatch:
    """One watch of a watcher, over all its connections."""

    def __init__(self, following: Following, lag: int) -> None:
        self.following = following
        self.call = 0  # of the present connection; 0: it is not registered there
        self.lag = lag  # it acknowledges when so many deliveries wait for that
        self.deliveries = self.acknowledged = 0
        self._entries: dict[str, Version] | None = None  # of a resync that is not whole yet

    def arguments(self) -> dict[str, object]:
        """To register with."""
        told = self.following.revision
        self.deliveries = self.acknowledged = 0
        self._entries = None
        return {
            "path": self.following.path,
            "scope": self.following.scope,
            "since": self.following.since if told is None else told,
            "values": self.following.values,
        }

    def take(self, delivery: Mapping[str, Any], *, clocks_kept: bool) -> None:
        """One delivery."""
        self.deliveries += 1
        following, revision = self.following, delivery["revision"]
        if delivery.get("resync"):
            self._entries = self._entries if self._entries is not None and delivery["piece"] else {}
            self._entries.update((row["path"], version_of(row)) for row in delivery["entries"])
            if not delivery["more"]:
                following.resync(revision, self._entries)
                self._entries = None
            return
        if following.revision is None:
            following.begins(revision if following.since is None else following.since, clocks_kept=clocks_kept)
        for event in delivery["events"]:
            following.event(told_of(event))
        following.upto(revision)

    def owes(self, *, quiet: bool) -> bool:
        """Whether it acknowledges now; when nothing comes any more it always does, sooner or later."""
        return self.deliveries - self.acknowledged > (0 if quiet else self.lag)


def told_of(event: Mapping[str, Any]) -> Told:
    """An event of a delivery, in the words of the checker."""
    return Told(
        event["revision"],
        event["path"],
        event["kind"],
        event["directory"],
        event["instance"],
        event.get("before"),
        event.get("after"),
        event["session"],
        event["operation"],
    )


def version_of(row: Mapping[str, Any]) -> Version:
    """A node in a resync."""
    stat = row["stat"]
    contents = None if stat["kind"] == "directory" else row.get("contents", b"")
    return Version(stat["instance"], stat["content_generation"], contents)


class WatchClient:
    """See the module docstring."""

    def __init__(self, process: WatchProcess, chance: Random) -> None:
        self._process, self._seat, self._chance = process, process.seat, chance
        self._endpoints = Endpoints(self._seat.endpoints(chance), self._seat.lease_ms)
        self._http = SimHttp(process.port)
        self._socket: Socket | None = None
        self._calls = 0  # of the present connection
        self._asked = 0  # the call of the question whether anybody is there; 0: none is open
        self._running: asyncio.Task[None] | None = None
        self.clocks_kept = process.seat.clocks_kept
        self.watches: list[PlainWatch] = []
        self.ticket: str | None = None  # there is no session to hand on

    def begin(self) -> None:
        """Find somebody to ask, for ever."""
        self._running = self._process.loop.run_soon(self._run())

    def look(self) -> None:
        """Raises what went wrong, if anything did."""
        if self._running is not None and self._running.done() and not self._running.cancelled():
            self._running.result()

    async def add(self, watch: PlainWatch) -> None:
        """One watch more."""
        self.watches.append(watch)
        if self._socket is not None:
            await self._register(self._socket, watch)

    async def drop(self, watch: PlainWatch) -> None:
        """One watch less."""
        self.watches.remove(watch)
        if self._socket is not None and watch.call:
            await self._send(self._socket, "unwatch", {"watch": watch.call})

    async def close(self) -> None:
        """It watches no more."""
        if self._running is not None:
            self._running.cancel()

    async def leave(self) -> str:
        """There is nothing to leave."""
        await self.close()
        raise SessionExpired("a watcher has no session")

    # ---- connections ----

    async def _run(self) -> None:
        while True:
            attempt = self._endpoints.next(self._seat.reading()[0], self._chance.randrange(CHANCE_MAX))
            await self._process.loop.rest(attempt.wait_ms / 1_000)
            address = attempt.address
            silent = False
            try:
                async with asyncio.timeout(self._endpoints.patience_ms(address) / 1_000):
                    socket = await self._http.ws_connect(address)
                try:
                    await self._serve(socket, address)
                finally:
                    self._socket = None
                    await socket.close()
            except (TimeoutError, aiohttp.ClientConnectionError, NotServed) as error:
                silent = isinstance(error, TimeoutError)
                self._endpoints.failed(address, repr(error), self._seat.reading()[0], silent=silent)
            except Refusal as refusal:
                to = refusal.details.get("address")
                self._endpoints.redirected(address, to if isinstance(to, str) else None)
                await self._process.loop.rest(backoff_ms(2, self._chance.randrange(CHANCE_MAX)) / 1_000)

    async def _serve(self, socket: Socket, address: str) -> None:
        """Until the connection is over, or of no more use."""
        self._calls = self._asked = 0
        for watch in self.watches:
            watch.call = 0
        await socket.send_bytes(frame([CHANNEL_VERSION, CELL, {}]))
        (hello,) = await self._frames(socket, self._endpoints.patience_ms(address) / 1_000)
        if hello[0] != CHANNEL_VERSION:
            raise NotServed("another version")
        self._socket = socket
        for watch in list(self.watches):
            await self._register(socket, watch)
        while True:
            try:
                frames = await self._frames(socket, QUIET_SECONDS)
            except TimeoutError:
                if self._asked:
                    raise
                self._asked = await self._send(socket, "stat", {"path": "/"})
                for watch in self.watches:
                    await self._acknowledge(socket, watch, quiet=True)
                continue
            for item in frames:
                await self._take(socket, address, item)

    async def _frames(self, socket: Socket, seconds: float) -> list[list[Any]]:
        async with asyncio.timeout(seconds):
            message = await socket.receive()
        if message.type is not aiohttp.WSMsgType.BINARY:
            raise NotServed("the connection is over")
        return [decode(payload) for payload in split_frames(message.data)]

    async def _take(self, socket: Socket, address: str, item: list[Any]) -> None:
        call, result, refused = item[0], item[1], item[2] if len(item) == 3 else None
        if refused is not None:
            refusal = Refusal.from_wire(refused)
            if refusal.code not in ("not_master", "unavailable", "overloaded"):
                raise self._process.wrong(f"{address} refuses call {call}: {refusal!r}")
            raise refusal
        if call == self._asked:
            self._asked = 0
            self._endpoints.connected(address)
            return
        watch = next((one for one in self.watches if one.call == call), None)
        if watch is None:
            return  # acknowledged, or given up meanwhile
        if len(item) != 4:
            raise self._process.wrong(f"{address} ends {watch.following} with an answer")
        watch.take(result, clocks_kept=self.clocks_kept)
        await self._acknowledge(socket, watch, quiet=False)

    async def _acknowledge(self, socket: Socket, watch: PlainWatch, *, quiet: bool) -> None:
        if watch.owes(quiet=quiet):
            watch.acknowledged = watch.deliveries
            await self._send(socket, "watched", {"watch": watch.call, "deliveries": watch.deliveries})

    async def _register(self, socket: Socket, watch: PlainWatch) -> None:
        watch.call = await self._send(socket, "watch", watch.arguments())

    async def _send(self, socket: Socket, operation: str, arguments: dict[str, object]) -> int:
        self._calls += 1
        number = self._calls
        await socket.send_bytes(frame([number, operation, arguments, 0]))
        return number


class WatchProcess(ClientProcess):
    """One process of a watcher."""

    works = "watchers"
    watcher: WatchClient

    def __init__(self, seat: Seat, generation: int, ticket: str | None) -> None:
        super().__init__(seat, generation, ticket)
        self.watcher.begin()

    def _make(self, seat: Seat, chance: Random) -> Client:
        self.watcher = WatchClient(self, chance)
        return cast(Client, self.watcher)  # what a seat asks of a client, it has

    def life(self) -> Any:
        return None

    def wrong(self, text: str) -> Exception:
        """What no replica may say."""
        return self.seat.world.violation("watches", f"{self.name}: {text}")


class WatchSeat(Seat):
    """A machine with watchers."""

    process_class = WatchProcess
