"""The least that a client of coordd, of etcd and of ZooKeeper needs for W4 and W6, on one connection each.

They are here so that what is measured is the systems and not their libraries for Python: no session is kept alive, no
answer decoded further than needed, nothing is tried again.
"""

from __future__ import annotations

import asyncio
import struct
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from typing import Self, cast

from coordclient.protocol.codec import decode
from coordclient.protocol.frames import CHANNEL_VERSION, frame, split_frames, split_push, websocket_header

HOST = "127.0.0.1"
Told = Callable[[], object]
"""The callback of a watcher."""


class BareClient(asyncio.Protocol, ABC):
    """One connection; every call raises OSError when it is refused or the connection is lost."""

    ways: tuple[str, ...]
    """The kinds of `get`, by their names in the table."""
    lasting: bool
    """Whether a watch tells more than once, and several of one key on a connection are told one by one."""
    transport: asyncio.Transport
    waiting: deque[asyncio.Future[bytes]] | dict[int, asyncio.Future[bytes]]

    def __init__(self) -> None:
        self._rest = b""

    @classmethod
    async def open(cls, port: int) -> Self:
        """Connected, and understood by the server."""
        _, client = await asyncio.get_running_loop().create_connection(cls, HOST, port)
        await client.begin()
        return client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        futures = self.waiting.values() if isinstance(self.waiting, dict) else self.waiting
        for future in futures:
            if not future.done():
                future.set_exception(ConnectionError("the server has closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._rest = self.take(self._rest + data if self._rest else data)

    def close(self) -> None:
        self.transport.close()

    @abstractmethod
    def take(self, data: bytes) -> bytes:
        """Take in all whole messages; what is left of `data`."""

    @abstractmethod
    async def begin(self) -> None: ...

    @abstractmethod
    async def make(self, key: str, value: bytes) -> None:
        """The first `put`."""

    @abstractmethod
    async def put(self, key: str, value: bytes) -> None: ...

    @abstractmethod
    async def get(self, key: str, way: str) -> bytes:
        """The answer, in which the value is somewhere."""

    @abstractmethod
    async def watch(self, key: str, told: Told) -> None:
        """Registered."""


# ---- coordd: a WebSocket [RFC 6455] of frames, see `coordclient.protocol.frames`

_UPGRADE = (
    f"GET /v1/channel HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
_BINARY, _WS_PING, _WS_PONG = 2, 9, 0x8A
_MASK = bytes(4)  # leaves what it masks as it is
_GREETED = 0  # what begin waits for, among the calls


class Coordd(BareClient):
    """A channel without a session. What is sent in one turn of the loop leaves in one message."""

    ways = ("linearizable",)
    lasting = True

    def __init__(self) -> None:
        super().__init__()
        self.waiting: dict[int, asyncio.Future[bytes]] = {}  # by call
        self._number = 0
        self._upgraded = False
        self._told: dict[int, Told] = {}
        self._out: list[bytes] = []

    async def begin(self) -> None:
        self.waiting[_GREETED] = upgraded = asyncio.get_running_loop().create_future()
        self.transport.write(_UPGRADE.encode())
        await upgraded
        self.waiting[_GREETED] = greeted = asyncio.get_running_loop().create_future()
        self._send(frame([CHANNEL_VERSION, "", {}]))
        await greeted

    def call(self, operation: str, arguments: dict[str, object]) -> asyncio.Future[bytes]:
        self._number += 1
        self.waiting[self._number] = future = asyncio.get_running_loop().create_future()
        self._send(frame([self._number, operation, arguments, 0]))
        return future

    def _send(self, data: bytes) -> None:
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        message, self._out = b"".join(self._out), []
        self.transport.write(websocket_header(len(message), _MASK) + message)

    def take(self, data: bytes) -> bytes:
        if not self._upgraded:
            head, found, rest = data.partition(b"\r\n\r\n")
            if not found:
                return data
            self._upgraded, data = True, rest
            self.waiting.pop(_GREETED).set_result(head)
        at = 0
        while len(data) - at >= 2:
            size, start = data[at + 1], at + 2
            if size > 125:
                start = at + (4 if size == 126 else 10)
                size = int.from_bytes(data[at + 2 : start], "big")
            end = start + size
            if end > len(data) or start > len(data):
                break
            self._taken(data[at] & 15, data[start:end])
            at = end
        return data[at:]

    def _taken(self, kind: int, message: bytes) -> None:
        if kind == _BINARY:
            for payload in split_frames(message):
                self._answered(payload)
        elif kind == _WS_PING:
            self.transport.write(bytes((_WS_PONG, 0x80 | len(message))) + _MASK + message)

    def _answered(self, payload: bytes) -> None:
        if (greeted := self.waiting.pop(_GREETED, None)) is not None:
            greeted.set_result(payload)
        elif (push := split_push(payload)) is not None:
            call, body = push
            if (registered := self.waiting.pop(call, None)) is not None:
                registered.set_result(body)
            elif decode(body)["events"]:  # else it is a mark
                self._told[call]()
        else:
            call, *answer = decode(payload)
            future = self.waiting.pop(call)
            if len(answer) == 1:
                future.set_result(payload)
            else:
                future.set_exception(OSError(str(answer[1])))

    async def make(self, key: str, value: bytes) -> None:
        await self.put(key, value)

    async def put(self, key: str, value: bytes) -> None:
        await self.call("put", {"path": key, "contents": value})

    async def get(self, key: str, way: str) -> bytes:
        return await self.call("get", {"path": key})

    async def watch(self, key: str, told: Told) -> None:
        registered = self.call("watch", {"path": key, "scope": "node", "values": "new"})
        self._told[self._number] = told
        await registered


# ---- ZooKeeper: each message has a length; requests are answered in their order

_CREATE, _GET, _SET, _SYNC = 1, 4, 5, 9
_TOLD = -1
_ANYBODY = struct.pack(">iii5si6s", 1, 31, 5, b"world", 6, b"anyone")
_SESSION_MS = 40_000  # the longest that is given; each session speaks more often than that by what is measured


def _text(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


class ZooKeeper(BareClient):
    """A session of ZooKeeper. A `sync` and the read behind it are sent together."""

    ways = ("sync and read", "local, may be stale")
    lasting = False

    def __init__(self) -> None:
        super().__init__()
        self.waiting: deque[asyncio.Future[bytes]] = deque()
        self._number = 0
        self._told: Told | None = None

    async def begin(self) -> None:
        self.waiting.append(greeted := asyncio.get_running_loop().create_future())
        self.transport.write(_text(struct.pack(">iqiq", 0, 0, _SESSION_MS, 0) + _text(bytes(16)) + b"\0"))
        await greeted

    def call(self, kind: int, body: bytes) -> asyncio.Future[bytes]:
        self.waiting.append(future := asyncio.get_running_loop().create_future())
        self._number += 1
        self.transport.write(struct.pack(">iii", len(body) + 8, self._number, kind) + body)
        return future

    def take(self, data: bytes) -> bytes:
        at = 0
        while (end := at + 4 + int.from_bytes(data[at : at + 4], "big")) <= len(data):
            number, _, error = struct.unpack_from(">iqi", data, at + 4)
            if number == _TOLD and self._told is not None:
                self._told()
            else:
                future = self.waiting.popleft()
                if number and error:  # the greeting has no number
                    future.set_exception(OSError(f"ZooKeeper's error {error}"))
                else:
                    future.set_result(data[at + 20 : end])
            at = end
        return data[at:]

    async def put(self, key: str, value: bytes) -> None:
        await self.call(_SET, _text(key.encode()) + _text(value) + b"\xff\xff\xff\xff")

    async def make(self, key: str, value: bytes) -> None:
        await self.call(_CREATE, _text(key.encode()) + _text(value) + _ANYBODY + bytes(4))

    async def get(self, key: str, way: str) -> bytes:
        path = _text(key.encode())
        synced = self.call(_SYNC, path) if way == self.ways[0] else None
        read = self.call(_GET, path + b"\0")
        if synced is not None:
            await synced
        return await read

    async def watch(self, key: str, told: Told) -> None:
        self._told = told
        await self.call(_GET, _text(key.encode()) + b"\1")


# ---- etcd: gRPC, which is HTTP/2 [RFC 9113] with a length before each message

_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GO_AWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_WINDOW_MAX = 2**31 - 1
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">HBBBI", len(payload) >> 8, len(payload) & 255, kind, flags, stream) + payload


def _headers(method: str) -> bytes:
    """The request's, in HPACK [RFC 7541 6.2.2] without any table of its own."""
    path = f"/etcdserverpb.{method}".encode()
    return b"".join(
        (b"\x83\x86\x04", bytes([len(path)]), path, b"\x01\x04etcd\x0f\x10\x10application/grpc\0\2te\x08trailers")
    )


_RANGE, _PUT, _WATCH = _headers("KV/Range"), _headers("KV/Put"), _headers("Watch/Watch")


def _field(number: int, value: bytes) -> bytes:
    """A field of bytes in a protobuf message."""
    assert len(value) < 128, "its length would take two bytes"
    return bytes((number << 3 | 2, len(value))) + value


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a protobuf message that has numbers and bytes only."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        value, at = _varint(message, at)
        if tag & 7 == 2:
            yield tag >> 3, message[at : at + value]
            at += value
        else:
            yield tag >> 3, value


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """The number that begins there, and where the next one begins."""
    value = shift = 0
    while message[at] > 127:
        value |= (message[at] & 127) << shift
        shift, at = shift + 7, at + 1
    return value | message[at] << shift, at + 1


class Etcd(BareClient):
    """A connection to etcd. All its watches are on one stream, as those of etcd's own client."""

    ways = ("linearizable",)
    lasting = True

    def __init__(self) -> None:
        super().__init__()
        self.waiting: dict[int, asyncio.Future[bytes]] = {}  # by stream
        self._stream = 1
        self._bodies: dict[int, bytes] = {}
        self._watches = 0  # the stream of all watches; 0: there is none yet
        self._registering: deque[tuple[asyncio.Future[None], Told]] = deque()
        self._told: dict[int | bytes, Told] = {}

    async def begin(self) -> None:
        window = struct.pack(">HI", 4, _WINDOW_MAX)  # of each stream; then that of the connection: 64 KiB is the start
        more = (_WINDOW_MAX - 65_535).to_bytes(4, "big")
        self.transport.write(_GREETING + _frame(_SETTINGS, 0, 0, window) + _frame(_WINDOW, 0, 0, more))

    def call(self, headers: bytes, message: bytes) -> asyncio.Future[bytes]:
        self.waiting[self._stream] = future = asyncio.get_running_loop().create_future()
        self._send(self._stream, headers, message, _END_STREAM)
        self._stream += 2
        return future

    def _send(self, stream: int, headers: bytes, message: bytes, flags: int) -> None:
        opening = _frame(_HEADERS, _END_HEADERS, stream, headers) if headers else b""
        body = _frame(_DATA, flags, stream, b"\0" + len(message).to_bytes(4, "big") + message)
        self.transport.write(opening + body)

    def take(self, data: bytes) -> bytes:
        at = 0
        while len(data) - at >= 9:
            high, low, kind, flags, stream = struct.unpack_from(">HBBBI", data, at)
            end = at + 9 + (high << 8 | low)
            if end > len(data):
                break
            self._taken(kind, flags, stream, data[at + 9 : end])
            at = end
        return data[at:]

    def _taken(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _DATA:
            body = self._bodies.get(stream, b"") + payload
            self._bodies[stream] = self._news(body) if stream == self._watches else body
        elif kind == _SETTINGS and not flags & _ACK:
            self.transport.write(_frame(_SETTINGS, _ACK, 0))
        elif kind == _PING and not flags & _ACK:
            self.transport.write(_frame(_PING, _ACK, 0, payload))
        elif kind == _GO_AWAY:
            self.transport.close()
        elif (kind == _HEADERS and flags & _END_STREAM) or kind == _RESET:
            body, future = self._bodies.pop(stream, b""), self.waiting.pop(stream, None)
            if future is not None and body:
                future.set_result(body[5:])
            elif future is not None:
                future.set_exception(OSError("the call was refused"))

    def _news(self, data: bytes) -> bytes:
        """Take in whole messages to the watches; what is left of `data`."""
        at = 0
        while (end := at + 5 + int.from_bytes(data[at + 1 : at + 5], "big")) <= len(data):
            found = list(fields(data[at + 5 : end]))
            kinds, watch = {number for number, _ in found}, dict(found).get(2, 0)
            if 3 in kinds:  # created
                registered, self._told[watch] = self._registering.popleft()
                registered.set_result(None)
            elif 11 in kinds:  # events
                self._told[watch]()
            at = end
        return data[at:]

    async def put(self, key: str, value: bytes) -> None:
        await self.call(_PUT, _field(1, key.encode()) + _field(2, value))

    async def make(self, key: str, value: bytes) -> None:
        await self.put(key, value)

    async def get(self, key: str, way: str) -> bytes:
        return await self.call(_RANGE, _field(1, key.encode()))

    async def watch(self, key: str, told: Told) -> None:
        registered = asyncio.get_running_loop().create_future()
        self._registering.append((registered, told))
        headers = b""
        if not self._watches:
            headers, self._watches, self._stream = _WATCH, self._stream, self._stream + 2
        self._send(self._watches, headers, _field(1, _field(1, key.encode())), 0)
        await registered
