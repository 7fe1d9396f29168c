"""One outgoing connection: the client side of a WebSocket, written by hand so that a frame is in the socket at once.

The driver writes to its peers just before it syncs its own log; a library that sends from a task of its own would send
after the sync. Frames carry the masking key zero: masking protects proxies from what a browser is made to send
[RFC 6455 10.3], here no foreign party chooses the bytes, and a zero key costs nothing.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import socket
from typing import cast
from urllib.parse import urlsplit

from coordclient.protocol.frames import websocket_header

PEER_PATH = "/v1/peer"
HEAD_BYTES_MAX = 16 * 1024
SERVER_FRAME_BYTES_MAX = 4 * 1024  # the other end only ever says handshake messages,
SERVER_FRAMES_MAX = 8  # and only a few
DEAD_TRANSPORT_MS = 10_000  # unacknowledged data for so long: the kernel gives the connection up
_MASK_ZERO = b"\0\0\0\0"
_WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # [RFC 6455 1.3]
_BINARY, _CLOSE, _PING, _PONG = 0x2, 0x8, 0x9, 0xA


class DialFailed(Exception):
    """The connection cannot be made, or ended; the message says why."""


class Dialled(asyncio.Protocol):
    """A connection to `GET /v1/peer`; made by `dial`."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._key = base64.b64encode(os.urandom(16))
        self._buffer = bytearray()
        self._upgraded = False
        self._messages: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._transport: asyncio.Transport | None = None
        self.closed = asyncio.get_running_loop().create_future()

    # ---- the user's side ----

    async def receive(self) -> bytes:
        """The next message of the other end; `DialFailed` when it closes instead."""
        message = await self._messages.get()
        if message is None:
            raise DialFailed(self.closed.result())
        return message

    def send(self, payload: bytes) -> None:
        """One binary message, into the socket now if it takes it."""
        if self._transport is not None:
            self._transport.write(websocket_header(len(payload), _MASK_ZERO) + payload)

    @property
    def unsent_bytes(self) -> int:
        """What waits for the socket."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def close(self, reason: str) -> None:
        """End the connection; what is unsent is lost."""
        if self._transport is not None:
            self._transport.abort()
        self._end(reason)

    # ---- asyncio's side ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade [RFC 6455 4.1]."""
        self._transport = transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        tune_socket(transport)
        head = (
            f"GET {PEER_PATH} HTTP/1.1\r\nHost: {self._host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {self._key.decode()}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        transport.write(head.encode())

    def data_received(self, data: bytes) -> None:
        """Take the answer to the upgrade, then frames."""
        self._buffer += data
        try:
            if not self._upgraded and not self._take_head():
                return
            while self._take_frame():
                pass
        except DialFailed as error:
            self.close(str(error))

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone."""
        self._end(f"connection lost{f': {exc}' if exc else ''}")

    def _end(self, reason: str) -> None:
        self._transport = None
        if not self.closed.done():
            self.closed.set_result(reason)
            self._messages.put_nowait(None)

    def _take_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > HEAD_BYTES_MAX:
                raise DialFailed("the answer to the upgrade does not end")
            return False
        lines = bytes(self._buffer[:end]).split(b"\r\n")
        del self._buffer[: end + 4]
        status = lines[0].split(b" ", 2)
        if len(status) < 2 or status[1] != b"101":
            raise DialFailed(f"the upgrade was answered {lines[0][:80].decode('latin-1')!r}")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        expected = base64.b64encode(hashlib.sha1(self._key + _WEBSOCKET_GUID).digest())
        if headers.get(b"sec-websocket-accept") != expected:
            raise DialFailed("the upgrade was answered by something that is no WebSocket server")
        self._upgraded = True
        return True

    def _take_frame(self) -> bool:
        """One unfragmented, unmasked frame; anything else ends the connection."""
        buffer = self._buffer
        if len(buffer) < 2:
            return False
        size, start = buffer[1], 2
        if size == 126:
            if len(buffer) < 4:
                return False
            size, start = int.from_bytes(buffer[2:4], "big"), 4
        if buffer[0] & 0xF0 != 0x80 or size > SERVER_FRAME_BYTES_MAX or buffer[1] >= 127:
            raise DialFailed("the other end does not speak like a peer")
        if len(buffer) < start + size:
            return False
        opcode, payload = buffer[0] & 0x0F, bytes(buffer[start : start + size])
        del buffer[: start + size]
        if opcode == _BINARY:
            if self._messages.qsize() >= SERVER_FRAMES_MAX:
                raise DialFailed("the other end says more than a peer does")
            self._messages.put_nowait(payload)
        elif opcode == _PING and self._transport is not None and size < 126:
            self._transport.write(bytes((0x80 | _PONG, 0x80 | size)) + _MASK_ZERO + payload)
        elif opcode == _CLOSE:
            raise DialFailed("closed by the other end")
        return True


async def dial(address: str, timeout_seconds: float) -> Dialled:
    """Connect to `http://host:port` and ask for the upgrade to a WebSocket; `DialFailed` when nobody answers."""
    url = urlsplit(address)
    host = url.netloc
    assert url.hostname is not None and url.port is not None, "the configuration has checked the addresses"
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_seconds):
            _, connection = await loop.create_connection(lambda: Dialled(host), url.hostname, url.port)
    except TimeoutError:
        raise DialFailed(f"no connection within {timeout_seconds} s") from None
    except OSError as error:
        raise DialFailed(error.strerror or str(error)) from None
    return connection


def tune_socket(transport: asyncio.BaseTransport) -> None:
    """No delay for small frames; a connection whose other end vanished is given up by the kernel, never by silence."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, DEAD_TRANSPORT_MS // 1000)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_TRANSPORT_MS)
