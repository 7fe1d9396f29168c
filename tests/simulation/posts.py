"""The POST door of one replica: the daemon's own, on a loop of virtual time that stands still with its process.

A request is one packet and its answer another. A client that gives the request up closes; the door is told, and so is
the engine (`Gone`), unless the request comes later than that. Of HTTP only the parsing is left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from multidict import CIMultiDict

from coordclient.protocol.codec import decode, encode
from coordd.api.calls import MSGPACK, Calls
from coordd.api.limits import ApiLimits
from coordd.engine.inputs import Call
from coordd.node.service import Service
from tests.simulation.loop import SimLoop
from tests.simulation.network import Network
from tests.simulation.process import Process
from tests.simulation.streams import ANSWER, CLOSE, POST, RESET, Packet
from tests.simulation.world import World

EARLY_MAX = 64  # connections that were closed before their request came

Key = tuple[Any, int]  # client, number of the connection
Proof = tuple[int, str]  # session, secret


def packed(operation: str, headers: dict[str, str], arguments: dict[str, object]) -> bytes:
    """One request, as a packet has it."""
    return encode([operation, headers, encode(arguments)])


def unpacked(data: bytes) -> tuple[int, dict[str, Any]]:
    """One answer: status and body."""
    status, body = decode(data)
    return status, decode(body)


class _Request:
    """What `coordd.api.calls` looks at of an `aiohttp.web.Request` whose body has come whole."""

    method = "POST"
    content_type = MSGPACK
    can_read_body = True

    def __init__(self, data: bytes) -> None:
        operation, headers, self._body = decode(data)
        self.match_info = {"operation": operation}
        self.headers = CIMultiDict(headers)
        self.content_length = len(self._body)
        self.content = self.rel_url = self
        self.raw_path = f"/v1/{operation}"

    async def read(self) -> bytes:
        return bytes(self._body)

    def is_eof(self) -> bool:
        return True

    def proof(self) -> Proof:
        """Session and secret."""
        session, _, secret = self.headers.get("Coord-Session", "0.").partition(".")
        return int(session), secret


class DoorLoop(SimLoop):
    """Stands still with the process of the replica. An error that nobody handles is a violation at once."""

    def __init__(self, world: World, process: Process) -> None:
        super().__init__(world, f"posts of {process.name}")
        self._process = process

    def _turn(self) -> None:
        if self._process.stands_still:
            self._due = False
        else:
            super()._turn()

    def runs(self) -> None:
        """The process runs again."""
        self._wake()

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        raise self._world.violation("door", f"replica {self._process.name}: {context}") from context.get("exception")


class PostDoor:
    """All POSTs of one replica process."""

    def __init__(self, world: World, network: Network, process: Process, service: Service, limits: ApiLimits) -> None:
        self._world, self._network, self._process = world, network, process
        self._service, self._limits = service, limits
        self._renew()

    def _renew(self) -> None:
        self._loop = DoorLoop(self._world, self._process)  # type: ignore[abstract]
        self._calls = Calls(self._service, self._limits)
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._closed_early: dict[Key, None] = {}
        self._heard: dict[Proof, int] = {}  # when a KeepAlive came last
        self.keep_alives: dict[int, Proof] = {}  # request -> of whom, while it is not answered

    # ---- packets ----

    def take(self, client: Any, packet: Packet) -> bool:
        """A packet of a client's; False: it is of no POST that is known here."""
        key = client, packet.number
        if packet.kind == POST:
            task = self._tasks[key] = self._loop.create_task(self._answer(client, packet))
            task.add_done_callback(_raise_error)
            if key in self._closed_early:  # the request is read, then the end of the connection
                del self._closed_early[key]
                self._loop.call_soon(self._close, key)
            return True
        if key in self._tasks:
            self._close(key)
            return True
        if packet.kind == CLOSE and packet.place == 2:
            self._closed_early[key] = None
            if len(self._closed_early) > EARLY_MAX:
                del self._closed_early[next(iter(self._closed_early))]
        return False

    def _close(self, key: Key) -> None:
        task = self._tasks.pop(key, None)
        if task is not None:
            task.cancel()

    def cut(self, client: Any, number: int) -> None:
        """The connection breaks and this side is told."""
        if (client, number) in self._tasks:
            self._network.carry_stream(self._process.name, client, Packet(number, RESET, 0, b""))
            self._close((client, number))

    async def _answer(self, client: Any, packet: Packet) -> None:
        request: Any = _Request(packet.data)
        response: Any = await self._calls.handle(request)
        self._tasks.pop((client, packet.number), None)
        answer = encode([response.status, bytes(response.body)])
        self._network.carry_stream(self._process.name, client, Packet(packet.number, ANSWER, 1, answer))

    # ---- the process ----

    def runs(self) -> None:
        """It stood still, and runs again."""
        self._loop.runs()

    def end(self) -> list[Key]:
        """The process is gone. Whose requests it leaves unanswered."""
        unanswered = list(self._tasks)
        self._loop.kill()
        self._renew()
        return unanswered

    # ---- for the checkers ----

    def arrived(self, packet: Packet) -> None:
        """A request is in the kernel's hands."""
        if b"keep_alive" in packet.data:
            self._heard[_Request(packet.data).proof()] = self._world.now_us

    def heard_us(self, session: int, secret: str) -> int | None:
        """When the last KeepAlive with this proof arrived, in this life of the process."""
        return self._heard.get((session, secret))

    def note(self, call: Call) -> None:
        """It goes to the engine now."""
        if call.operation == "keep_alive" and call.secret is not None:
            self.keep_alives[call.request] = call.session, call.secret

    def forget(self, requests: Iterable[int]) -> None:
        """They are answered, or nobody waits for them any more."""
        for request in requests:
            self.keep_alives.pop(request, None)


def _raise_error(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.result()
