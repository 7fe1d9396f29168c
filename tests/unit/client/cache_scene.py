"""The cache on its channel with fakes around it: a keeper and a channel that do at once what they are told to."""

from __future__ import annotations

import asyncio
from typing import Any

from coordclient.aio.cache import Cache
from coordclient.aio.files import bytes_of_file, lockless_file_of
from coordclient.aio.life import Life
from coordclient.clock import in_ns
from coordclient.session import Session
from coordclient.values import File

STAT = {
    "path": "/a", "kind": "file", "instance": 1, "content_generation": 1, "lock_generation": 7, "acl_generation": 1,
    "revision": 5, "checksum": "0" * 16, "size": 1, "created_ms": 0, "modified_ms": 0, "owner": "", "ephemeral": False,
    "children": 0,
}  # fmt: skip


class FakeChannel:
    cell = "here"

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.queue: Any = None
        self.acknowledgements: list[Any] = []
        self.leases: list[asyncio.Future[Any]] = []
        self.lost = ""

    def begin_stream(self, number, acked, operation, arguments, stream) -> None:
        self.sent.append((operation, arguments))
        if operation == "cache":
            self.queue = stream
        else:
            self.acknowledgements.append(stream)

    async def request(self, number, acked, operation, arguments, timeout_ms) -> Any:
        self.sent.append((operation, arguments))
        self.leases.append(asyncio.get_running_loop().create_future())
        return await self.leases[-1]

    def lose(self, reason: str) -> None:
        self.lost = reason


class FakeKeeper:
    request_ms = 10_000

    def __init__(self) -> None:
        self.now = 1_000
        self.followers: list[Cache] = []
        self.life = Life()
        self.life.session = Session(1, "", 12_000, 3, self.clocks())
        self.asked: list[tuple[str, dict[str, object], asyncio.Future[Any]]] = []
        self.gone_to: list[object] = []

    def clocks(self) -> tuple[int, ...]:
        return (self.now, self.now + 5_000)

    def alive(self) -> Life:
        return self.life

    async def begin(self, life, operation, arguments, deadline_ms) -> Any:
        call = life.calls.begin(operation, arguments, deadline_ms, asyncio.get_running_loop().create_future())
        self.asked.append((operation, arguments, call.tag))
        return call

    def go_to(self, address: object) -> None:
        self.gone_to.append(address)


class Scene:
    """A cache whose queue is open, on a fake channel. With `opened=False` it is not open yet."""

    def __init__(self, *, opened: bool = True) -> None:
        self.keeper = FakeKeeper()
        self.cache = Cache(self.keeper, 10**6, in_ns(self.keeper.clocks))  # type: ignore[arg-type]
        self.held = self.cache.held
        self.channel = FakeChannel()
        self.cache.attached(self.keeper.life, self.channel)  # type: ignore[arg-type]
        if opened:
            self.open()

    def open(self) -> None:
        self.channel.queue.pushed({"number": 0, "invalidate": [], "epoch": 3})

    def push(self, number: int, *paths: str) -> None:
        self.channel.queue.pushed({"number": number, "invalidate": list(paths)})

    def get(self, path: str = "/a") -> asyncio.Task[File]:
        return asyncio.create_task(self.cache.read("get", path, lockless_file_of, bytes_of_file))

    def lease(self, lease_ms: int = 1_500, *, drop: bool = False, epoch: int = 3) -> None:
        self.channel.leases[-1].set_result({"number": 1, "epoch": epoch, "lease_ms": lease_ms, "drop": drop})

    def operations(self) -> list[str]:
        return [operation for operation, _ in self.channel.sent]


async def turns(count: int = 8) -> None:
    """Let everything happen that waits for nothing."""
    for _ in range(count):
        await asyncio.sleep(0)


def contents(value: bytes, number: int | None = None) -> dict[str, Any]:
    return {"contents": value, "stat": STAT, **({} if number is None else {"cached": number})}


async def filled(scene: Scene, number: int = 1) -> None:
    """`/a` is held, under a lease."""
    reading = scene.get()
    await turns()
    scene.lease()
    scene.keeper.asked[-1][2].set_result(contents(b"1", number))
    assert (await reading).contents == b"1"
    await turns()
