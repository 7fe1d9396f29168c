"""A way into the cell of its own: a listener whose connections can be cut without touching anybody else's.

Each line is a whole door of the same replica. It tells its clients no address but its own, so that a client whose line
is cut finds no way around. The listener is bound once and outlives the replica's lives: whoever connects in between is
answered by the next life.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import cast

from aiohttp import web

from coordclient.protocol.errors import Refusal
from coordd import host
from coordd.api.app import Doors, open_doors
from coordd.api.limits import ApiLimits
from coordd.engine.inputs import Call
from coordd.node.directory import Directory
from coordd.node.driver import Driver
from coordd.node.hub import Deliver, Hub, TakePiece
from coordd.node.node import Node
from coordd.testing.listening import stop_listening

HOST = "127.0.0.1"
BACKLOG = 128
CONNECTIONS_MAX = 1_000
INBOX_MAX = 20_000
IDLE_SECONDS = 75.0
SESSIONS_MAX = 10_000  # remembered per line


class Line:
    """See the module docstring. Made in any thread, everything else happens in the replica's loop."""

    def __init__(self, cell: str, replica: int) -> None:
        self._listener = host.bind(HOST, 0)
        self._listener.listen(BACKLOG)
        self.address = f"http://{HOST}:{self._listener.getsockname()[1]}"
        self.is_cut = False
        self.mutex = asyncio.Lock()  # around `open` and `close`
        self.sessions: dict[int, None] = {}  # that were attached here
        self._cell = cell
        self._replica = replica
        self._doors: Doors | None = None
        self._server: asyncio.Server | None = None

    async def open(self, hub: Hub, driver: Driver) -> None:
        """Serve a new life of the replica."""
        node = _Node(self, self._cell, self._replica, hub, driver)
        limits = ApiLimits(connections=CONNECTIONS_MAX)
        self._doors = await open_doors(node, limits, _no_peers, IDLE_SECONDS)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, sock=self._listener.dup())

    async def close(self) -> None:
        """The life is over; what connects waits for the next one."""
        if self._server is not None:
            server, self._server = self._server, None
            await stop_listening(server)
        self.drop()
        if self._doors is not None:
            await self._doors.runner.cleanup()
            self._doors = None

    def end(self) -> None:
        """There is no next life: nobody is accepted any more."""
        self._listener.close()

    def sweep(self) -> None:
        """Close connections that stay silent; about once a second."""
        if self._doors is not None:
            self._doors.keeper.sweep()

    def drop(self) -> None:
        """Reset every present connection."""
        server = None if self._doors is None else self._doors.runner.server
        for protocol in [] if server is None else server.connections:
            if protocol.transport is not None:
                protocol.transport.abort()

    def cut(self) -> None:
        """Reset every present connection, and every new one as soon as it is made."""
        self.is_cut = True
        self.drop()

    def mend(self) -> None:
        """Serve again."""
        self.is_cut = False

    def attached(self, session: int) -> None:
        """A channel of this line is about to speak for that session."""
        if len(self.sessions) >= SESSIONS_MAX:
            del self.sessions[next(iter(self.sessions))]
        self.sessions[session] = None

    def _accept(self) -> asyncio.BaseProtocol:
        if self.is_cut or self._doors is None:
            return _Refused()
        return self._doors.keeper()


class _Refused(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).abort()


class _Node(Node):
    """The replica as it is seen from one line."""

    def __init__(self, line: Line, cell: str, replica: int, hub: Hub, driver: Driver) -> None:
        directory = Directory({replica: line.address})
        super().__init__(cell, replica, directory, hub, driver, _nobody_heard, INBOX_MAX, "testing", may_grow=False)
        self._line = line

    def submit(self, call: Call, deliver: Deliver, push: TakePiece | None = None) -> None:
        if call.operation == "attach":
            session = call.arguments["session"]
            assert isinstance(session, int)
            self._line.attached(session)
        super().submit(call, deliver, push)


def _nobody_heard() -> Mapping[int, int | None]:
    return {}


async def _no_peers(request: web.Request) -> web.StreamResponse:
    raise Refusal("permission_denied", "a cell in a test has one replica")
