"""What stands before every replica: a TCP proxy with a link of its own for each dialler, and each way of it.

A *way* passes bytes on, late (`delay_ms`, `jitter_ms`), in a trickle (`bytes_per_s`), or not at all while it is shut.
It may have several troubles at once; the end of one leaves the others as they are.
What a shut way holds back is delivered late when it opens ("stall"); if a trouble ends with `torn` ("cut"), the
connections that it held up are reset instead, so that nothing of it arrives. A shut way soon reads no more, so the
sender's buffers fill.
Bytes are never lost, repeated or reordered inside a connection: TCP does not do that either.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from coordd.testing.listening import stop_listening
from tests.nemesis.dialers import Dialers

PIECE_BYTES = 65_536
PIECES_UNDER_WAY_MAX = 16
TRICKLE_BYTES = 256
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST


@dataclass(eq=False, slots=True)
class Trouble:
    """What a way suffers from; 0 bytes per second are no limit."""

    shut: bool = False
    delay_ms: int = 0
    jitter_ms: int = 0
    bytes_per_s: int = 0


class Way:
    """One direction of one link; its troubles hold for present and future connections."""

    def __init__(self, chance: random.Random) -> None:
        self._troubles: list[Trouble] = []
        self._open = asyncio.Event()
        self._open.set()
        self._chance = chance

    @property
    def is_open(self) -> bool:
        return self._open.is_set()

    @property
    def bytes_per_s(self) -> int:
        """That of the worst trouble; 0: no limit."""
        return min((trouble.bytes_per_s for trouble in self._troubles if trouble.bytes_per_s), default=0)

    def suffer(self, trouble: Trouble) -> None:
        self._troubles.append(trouble)
        if trouble.shut:
            self._open.clear()

    def recover(self, trouble: Trouble) -> None:
        self._troubles.remove(trouble)
        if not any(trouble.shut for trouble in self._troubles):
            self._open.set()

    def late_s(self) -> float:
        """By how much what comes now is to be late."""
        late_ms = [trouble.delay_ms + self._chance.uniform(0, trouble.jitter_ms) for trouble in self._troubles]
        return max(late_ms, default=0.0) / 1_000

    async def wait_open(self) -> None:
        await self._open.wait()


class Connection:
    """One TCP connection through a link: the dialler's half and the replica's."""

    def __init__(self, link: Link, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self.link = link
        self._near, self._far = near, far
        self.held_up = False

    def reset(self) -> None:
        for writer in (self._near, self._far):
            sock = writer.get_extra_info("socket")
            if sock is not None and sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
            writer.transport.abort()

    async def run(self, near: asyncio.StreamReader, far: asyncio.StreamReader) -> None:
        """Until either half has ended and what it said before is delivered."""
        ways = ((near, self._far, self.link.there), (far, self._near, self.link.back))
        async with asyncio.TaskGroup() as tasks:
            for source, sink, way in ways:
                under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(PIECES_UNDER_WAY_MAX)
                tasks.create_task(self._take(source, under_way, way))
                tasks.create_task(self._deliver(sink, under_way, way))

    async def _take(
        self, source: asyncio.StreamReader, under_way: asyncio.Queue[tuple[float, bytes]], way: Way
    ) -> None:
        loop = asyncio.get_running_loop()
        data = b"."
        while data:
            try:
                data = await source.read(PIECE_BYTES)
            except OSError:  # reset by the other side
                data = b""
            self.link.bytes += len(data)
            await under_way.put((loop.time() + way.late_s(), data))

    async def _deliver(
        self, sink: asyncio.StreamWriter, under_way: asyncio.Queue[tuple[float, bytes]], way: Way
    ) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                due, data = await under_way.get()
                late = due - loop.time()
                if late > 0:
                    await asyncio.sleep(late)
                if not data:
                    await self._pass(way)
                    sink.close()
                    return
                for piece in _pieces(data, way):
                    await self._pass(way)
                    sink.write(piece)
                    await sink.drain()
                    if way.bytes_per_s:
                        await asyncio.sleep(len(piece) / way.bytes_per_s)
        except OSError:  # the receiver is gone: so must the sender be told
            self.reset()
            while (await under_way.get())[1]:
                pass

    async def _pass(self, way: Way) -> None:
        while not way.is_open:  # it may be shut anew before this goes on
            self.held_up = True
            await way.wait_open()


def _pieces(data: bytes, way: Way) -> Iterator[bytes]:
    size = TRICKLE_BYTES if way.bytes_per_s else PIECE_BYTES
    return (data[at : at + size] for at in range(0, len(data), size))


class Link:
    """Everything between one dialler and one replica. `there`: what the dialler says; `back`: what it is answered."""

    def __init__(self, dialler: str, replica: int, chance: random.Random) -> None:
        self.dialler, self.replica = dialler, replica
        self.there, self.back = Way(chance), Way(chance)
        self.connections: set[Connection] = set()
        self.accepted = 0
        self.bytes = 0

    def reset(self) -> int:
        """Reset every present connection; how many there were."""
        present = list(self.connections)
        for connection in present:
            connection.reset()
        return len(present)

    def settle(self, torn: bool) -> None:
        """A trouble has ended; with `torn`, what was held up never arrives."""
        held_up = [connection for connection in self.connections if connection.held_up]
        for connection in held_up:
            if torn:
                connection.reset()
            elif self.there.is_open and self.back.is_open:
                connection.held_up = False


@contextmanager
def troubled(links: Iterable[Link], ways: Iterable[Way], trouble: Trouble, torn: bool = False) -> Iterator[None]:
    """These ways, which are some of these links, have this trouble for a while."""
    links, ways = list(links), list(ways)
    for way in ways:
        way.suffer(trouble)
    try:
        yield
    finally:
        for way in ways:
            way.recover(trouble)
        for link in links:
            link.settle(torn)


class Proxies:
    """One listener before each replica, and the links through them."""

    def __init__(self, dialers: Dialers, chance: random.Random) -> None:
        self._dialers = dialers
        self._chance = chance
        self._links: dict[tuple[str, int], Link] = {}
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self.strangers = 0  # connections of processes that are not known, or were gone already

    async def listen(self, replica: int, port: int, target: int) -> None:
        """Stand before a replica: from now on whoever dials `port` reaches `target`, by a link of his own."""

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.get_running_loop().create_task(self._serve(replica, target, reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(lambda _: writer.transport.abort())  # however it ends

        self._servers.append(await asyncio.start_server(connected, "127.0.0.1", port))

    def link(self, dialler: str, replica: int) -> Link:
        """That link, whether anything went through it so far or not."""
        key = (dialler, replica)
        if key not in self._links:
            self._links[key] = Link(dialler, replica, self._chance)
        return self._links[key]

    def traffic(self) -> dict[str, int]:
        """Connections accepted and bytes passed, over all links."""
        links = self._links.values()
        return {"connections": sum(link.accepted for link in links), "bytes": sum(link.bytes for link in links)}

    async def close(self) -> None:
        for server in self._servers:
            await stop_listening(server)
        for link in self._links.values():
            link.reset()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(
        self, replica: int, target: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        name = self._dialers.find(writer.get_extra_info("peername"), writer.get_extra_info("sockname"))
        if name is None:
            self.strangers += 1
            return
        link = self.link(name, replica)
        link.accepted += 1
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
        except OSError:  # nobody listens: the replica is down
            return
        connection = Connection(link, writer, far_writer)
        for half in (writer, far_writer):
            half.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link.connections.add(connection)
        try:
            await connection.run(reader, far_reader)
        finally:
            link.connections.discard(connection)
            far_writer.transport.abort()
