"""A node that answers what it is told to, and real doors on loopback in front of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import aiohttp
from aiohttp import web

from coordclient.protocol.codec import decode, encode
from coordclient.protocol.errors import Refusal
from coordclient.protocol.frames import CHANNEL_VERSION, frame, split_frames
from coordd.api.app import Doors, open_doors
from coordd.api.limits import ApiLimits
from coordd.engine.inputs import Call
from coordd.node.service import Health, Piece
from coordd.testing.listening import stop_listening

Result = dict[str, object] | Refusal
WAIT_SECONDS = 10.0


class FakeService:
    """`Service`: answers with `answer(call)`; None keeps the call waiting."""

    def __init__(self) -> None:
        self.cell = "one"
        self.replica = 1
        self.calls: list[Call] = []
        self.left: list[int] = []
        self.congestion: list[tuple[int, bool]] = []
        self.waiting: dict[int, Callable[[Result], None]] = {}
        self.streams: dict[int, Callable[[Piece], None]] = {}
        self.answer: Callable[[Call], Result | None] = lambda call: {"did": call.operation}
        self.known_master: int | None = 2
        self.ready = True
        self._requests = 0

    def new_request(self) -> int:
        self._requests += 1
        return self._requests

    def submit(
        self, call: Call, deliver: Callable[[Result], None], push: Callable[[Piece], None] | None = None
    ) -> None:
        encode(dict(call.arguments))  # whatever passes the doors can be logged
        self.calls.append(call)
        if push is not None:
            self.streams[call.request] = push
        result = self.answer(call)
        if result is None:
            self.waiting[call.request] = deliver
        else:
            asyncio.get_running_loop().call_soon(deliver, result)

    def gone(self, requests: tuple[int, ...]) -> None:
        self.left += requests
        for request in requests:
            self.waiting.pop(request, None)
            self.streams.pop(request, None)

    def congested(self, channel: int, full: bool) -> None:
        self.congestion.append((channel, full))

    def address_of(self, replica: int | None) -> str | None:
        return None if replica is None else f"http://replica-{replica}:7420"

    def master(self) -> int | None:
        return self.known_master

    def health(self) -> Health:
        return Health(self.ready, {"cell": "ok" if self.ready else "no master"}, {"role": "follower"})


@dataclass
class House:
    """Doors that listen."""

    service: FakeService
    doors: Doors
    url: str
    client: aiohttp.ClientSession

    async def post(self, operation: str, arguments: object, **headers: str) -> tuple[int, dict[str, object]]:
        """One POST in msgpack: status and answer."""
        given = {"Content-Type": "application/msgpack"} | {
            name.replace("_", "-"): text for name, text in headers.items()
        }
        data = arguments if isinstance(arguments, bytes) else encode(arguments)
        async with self.client.post(
            f"{self.url}/v1/{operation}", data=data, headers=given, allow_redirects=False
        ) as got:
            return got.status, decode(await got.read())

    @contextlib.asynccontextmanager
    async def channel(self, hello: object = (CHANNEL_VERSION, "", {})) -> AsyncIterator[Speaker]:
        async with self.client.ws_connect(f"{self.url}/v1/channel") as socket:
            speaker = Speaker(socket)
            if hello is not None:
                await socket.send_bytes(frame(hello))
            yield speaker


class Speaker:
    """The client's end of a channel."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.frames: list[list[object]] = []

    async def send(self, *values: object) -> None:
        await self.socket.send_bytes(b"".join(frame(value) for value in values))

    async def receive(self) -> list[object]:
        """The next frame."""
        while not self.frames:
            message = await self.socket.receive_bytes(timeout=WAIT_SECONDS)
            self.frames += [decode(payload) for payload in split_frames(message)]
        return self.frames.pop(0)

    async def call(self, operation: object, arguments: object, call: int = 1, acked: int = 0) -> list[object]:
        await self.send([call, operation, arguments, acked])
        return await self.receive()

    async def closed(self) -> bool:
        return (await self.socket.receive(timeout=WAIT_SECONDS)).type is aiohttp.WSMsgType.CLOSE


async def no_peers(request: web.Request) -> web.StreamResponse:
    return web.Response(text="peers")


@contextlib.asynccontextmanager
async def open_house(limits: ApiLimits | None = None) -> AsyncIterator[House]:
    service = FakeService()
    doors = await open_doors(service, limits or ApiLimits(), no_peers, 75.0)
    server = await asyncio.get_running_loop().create_server(doors.keeper, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with aiohttp.ClientSession() as client:
        try:
            yield House(service, doors, f"http://127.0.0.1:{port}", client)
        finally:
            await stop_listening(server)
            await doors.channels.close()
            await doors.runner.cleanup()
