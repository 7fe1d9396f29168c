"""What the doors allow, and the door-keeper that counts connections.

A connection over the limit is answered 503 with a named error and closed; one that has not sent a whole request head
within `head_seconds` is closed, so that silent strangers cannot use the limit up.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import cast

import structlog
from aiohttp import web

from coordclient.protocol.errors import Refusal
from coordd.api import json_body

_log = structlog.get_logger("coordd.api")


@dataclass(frozen=True, slots=True)
class ApiLimits:
    """Sizes in bytes, times in seconds."""

    connections: int = 25_000
    body_bytes: int = 512 * 1024
    outbox_bytes: int = 4 * 1024 * 1024  # replies that a channel's client has not read
    congested_bytes: int = 256 * 1024  # unread: from here on its streams wait
    congested_seconds: float = 60.0  # without any of it being read: the channel is cut
    silent_seconds: float = 24.0  # without a sign of life of a channel's client, or its lease where that is longer
    event_streams: int = 10_000  # GET /v1/watch
    event_idle_seconds: float = 15.0  # of silence, after which an event stream says that it is alive
    channel_in_flight: int = 4_096  # calls of one channel without an answer
    posts_in_flight: int = 10_000
    posts_held: int = 10_000  # KeepAlives that the master holds on purpose
    head_seconds: float = 10.0
    hello_seconds: float = 10.0
    body_seconds: float = 10.0
    call_seconds: float = 10.0


class _TurnedAway(asyncio.Protocol):
    """A connection over the limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        refusal = Refusal("overloaded", f"this replica has its limit of {self._limit} connections")
        body = json_body.render(refusal.to_wire()) + b"\n"
        head = (
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
            f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        transport.write(head.encode() + body)
        transport.close()


class DoorKeeper:
    """Makes the protocol of each accepted connection; use as the factory of the listener."""

    def __init__(self, server: web.Server, limits: ApiLimits) -> None:
        self._server = server
        self._limits = limits
        self._count_upper = 0  # never below the true number: closed connections are subtracted by the next count
        self._silent: dict[asyncio.BaseProtocol, float] = {}
        self.turned_away = 0
        self.accepted = 0

    def __call__(self) -> asyncio.BaseProtocol:
        """asyncio's factory."""
        if self._count_upper >= self._limits.connections:
            self._count_upper = len(self._server.connections)
        if self._count_upper >= self._limits.connections:
            self.turned_away += 1
            return _TurnedAway(self._limits.connections)
        self._count_upper += 1
        self.accepted += 1
        protocol = self._server()
        self._silent[protocol] = asyncio.get_running_loop().time() + self._limits.head_seconds
        return protocol

    def heard(self, request: web.Request) -> None:
        """A whole request head has come over this connection."""
        self._silent.pop(request.protocol, None)

    def sweep(self) -> None:
        """Close connections that stay silent; to be called about every second."""
        now = asyncio.get_running_loop().time()
        self._count_upper = len(self._server.connections)
        for protocol, deadline in list(self._silent.items()):
            transport = getattr(protocol, "transport", None)
            if transport is None or transport.is_closing():
                del self._silent[protocol]
            elif now >= deadline:
                del self._silent[protocol]
                transport.abort()
                _log.debug("silent connection closed")
