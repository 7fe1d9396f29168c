"""Connections between clients and replicas: each an ordered stream of messages in both directions, until it breaks.

What is lost on the way is sent again by the kernel, later; what a cut holds back comes, in order, when it heals, even
if one side has given the connection up long ago. A connection can also go silent without either side being told.
`SimHttp` and `Socket` are what `coordclient.aio.channel` takes for aiohttp's session and WebSocket.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import aiohttp

from tests.simulation.loop import SimLoop
from tests.simulation.network import Network

OPEN, ACCEPT, DATA, CLOSE, RESET = "open", "accept", "data", "close", "reset"
POST, ANSWER = "post", "answer"  # a connection on which one request is made and one answer given


class Packet(NamedTuple):
    """One message of a connection; `number` names it for its client, `place` is its position in the stream."""

    number: int
    kind: str
    place: int
    data: bytes


@dataclass(slots=True)
class InOrder:
    """Hands packets on in the order in which they were sent."""

    expected: int = 1
    early: dict[int, Packet] | None = None

    def take(self, packet: Packet) -> list[Packet]:
        """What can be handed on now that `packet` is here."""
        if packet.place != self.expected:
            if packet.place > self.expected:
                self.early = self.early or {}
                self.early[packet.place] = packet
            return []
        self.expected += 1
        if not self.early:
            return [packet]
        ready = [packet]
        while (following := self.early.pop(self.expected, None)) is not None:
            ready.append(following)
            self.expected += 1
        return ready


class Message(NamedTuple):
    """What `Socket.receive` returns."""

    type: aiohttp.WSMsgType
    data: Any


class Socket:
    """The client's end of one connection."""

    def __init__(self, port: Port, number: int, target: int) -> None:
        self._port = port
        self.number = number
        self.source, self.target = port.name, target
        self.order = InOrder()
        self.opened: asyncio.Future[None] | None = None
        self.close_code: int | None = None
        self.over = False
        self.silent = False  # nothing passes any more, and nobody is told
        self.stuck: list[Packet] | None = None  # not None: what is sent waits in the kernel's buffer
        self._sent = 0
        self._inbox: deque[Message] = deque()
        self._waiting: asyncio.Future[None] | None = None

    def transmit(self, kind: str, data: bytes = b"") -> None:
        """Put a packet on the way."""
        self._sent += 1
        packet = Packet(self.number, kind, self._sent, data)
        if self.stuck is not None:
            self.stuck.append(packet)
        elif not self.silent:
            self._port.carry(self.target, packet)

    async def send_bytes(self, data: bytes) -> None:
        """aiohttp's."""
        if self.over:
            raise aiohttp.ClientConnectionResetError("the connection is closed")
        data = self._port.says(data)
        if data:
            self.transmit(DATA, data)

    async def receive(self) -> Message:
        """aiohttp's."""
        while not self._inbox:
            if self.over:
                return Message(aiohttp.WSMsgType.CLOSED, None)
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
            self._waiting = None
        return self._inbox.popleft()

    async def close(self) -> None:
        """aiohttp's, without waiting for the other side."""
        if not self.over:
            self.transmit(CLOSE)
            self.shut()
        self._port.forget(self)

    def deliver(self, packet: Packet) -> None:
        """One packet of the replica's, in order."""
        if packet.kind == ACCEPT:
            if self.opened is not None and not self.opened.done():
                self.opened.set_result(None)
        elif packet.kind == DATA:
            self._inbox.append(Message(aiohttp.WSMsgType.BINARY, packet.data))
            self._ring()
        else:
            self.shut()

    def shut(self) -> None:
        """The connection is over on this side."""
        self.over = True
        if self.opened is not None and not self.opened.done():
            self.opened.set_exception(aiohttp.ClientConnectionError("connection refused"))
        self._ring()

    def _ring(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


class Request(Socket):
    """The client's end of one POST, on a connection that is there already."""

    def __init__(self, port: Port, number: int, target: int, answer: asyncio.Future[bytes]) -> None:
        super().__init__(port, number, target)
        self.answer = answer

    def deliver(self, packet: Packet) -> None:
        if packet.kind == ANSWER and not self.answer.done():
            self.answer.set_result(packet.data)
            self.over = True
        else:
            self.shut()

    def shut(self) -> None:
        self.over = True
        if not self.answer.done():
            self.answer.set_exception(aiohttp.ClientConnectionError("the connection broke before an answer came"))
            self.answer.exception()  # who has given the request up does not look


class SimHttp:
    """Stands for an `aiohttp.ClientSession`."""

    def __init__(self, port: Port) -> None:
        self._port = port

    async def ws_connect(self, url: str, **_: Any) -> Socket:
        """Connect to `http://replica-N:7420/v1/channel`."""
        target = int(url.partition("replica-")[2].partition(":")[0])
        socket = self._port.connect(target)
        assert socket.opened is not None
        await socket.opened
        return socket

    async def close(self) -> None:
        """aiohttp's."""


class Port:
    """All connections of one client process."""

    def __init__(
        self,
        network: Network,
        name: str,
        loop: SimLoop,
        next_number: Callable[[], int],
        says: Callable[[bytes], bytes],
    ) -> None:
        self._network = network
        self.name = name
        self._loop = loop
        self._next_number = next_number
        self.says = says
        self.sockets: dict[int, Socket] = {}  # requests, too
        self.dead = False
        network.join(name, self._arrived)

    def connect(self, target: int) -> Socket:
        """A new connection; its `opened` is done when the replica's kernel answers."""
        number = self._next_number()
        socket = self.sockets[number] = Socket(self, number, target)
        socket.opened = self._loop.create_future()
        socket.transmit(OPEN)
        return socket

    def post(self, target: int, data: bytes, *, silent: bool) -> Request:
        """One request; with `silent` it never leaves."""
        number = self._next_number()
        request = self.sockets[number] = Request(self, number, target, self._loop.create_future())
        request.silent = silent
        request.transmit(POST, data)
        return request

    def carry(self, target: int, packet: Packet) -> None:
        """To the network, unless the process is dead."""
        if not self.dead:
            self._network.carry_stream(self.name, target, packet)

    def forget(self, socket: Socket) -> None:
        """Nobody uses it any more."""
        self.sockets.pop(socket.number, None)

    def kill(self) -> None:
        """The process is gone."""
        self.dead = True
        self._network.leave(self.name)

    def _arrived(self, source: Any, packet: Packet) -> None:
        socket = self.sockets.get(packet.number)
        if self.dead or socket is None:
            if packet.kind not in (CLOSE, RESET):
                self._network.carry_stream(self.name, source, Packet(packet.number, RESET, 0, b""))
            return
        if socket.silent:
            return
        if packet.kind == RESET:
            socket.shut()
            return
        for ready in socket.order.take(packet):
            socket.deliver(ready)


class ServerEnd:
    """The replica's end of one connection. It is an `Outlet` of `coordd.api.channel`."""

    def __init__(self, network: Network, replica: int, client: Any, number: int) -> None:
        self._network = network
        self._replica = replica
        self._client = client
        self._number = number
        self._sent = 0
        self.order = InOrder()
        self.over = False

    def transmit(self, kind: str, data: bytes = b"") -> None:
        """Put a packet on the way."""
        self._sent += 1
        self._network.carry_stream(self._replica, self._client, Packet(self._number, kind, self._sent, data))

    def reset(self) -> None:
        """Nobody knows this connection; the client's end takes it at any place of the stream."""
        self._network.carry_stream(self._replica, self._client, Packet(self._number, RESET, 0, b""))

    def write(self, data: bytes) -> None:
        """A whole WebSocket message, with its header."""
        self.transmit(DATA, data[_header_bytes(data) :])

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.over

    def abort(self) -> None:
        self.over = True
        self.transmit(CLOSE)


def _header_bytes(data: bytes) -> int:
    return {126: 4, 127: 10}.get(data[1] & 0x7F, 2)
