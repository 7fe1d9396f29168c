"""Links over real sockets of loopback: messages arrive, strangers do not get in, nothing waits and nothing grows."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

import aiohttp
import pytest
from aiohttp import web

from coordclient.protocol.codec import decode, encode
from coordd.paxos import messages as m
from coordd.paxos.ballot import Ballot
from coordd.testing.until import WAIT_SECONDS, until
from coordd.transport import links
from coordd.transport.hello import Dialler, Identity
from coordd.transport.links import Links
from coordd.transport.wire import PEER_VERSION, encode_message, pack

SECRET = b"the secret of this cell"
CELL = b"cell-one"
OUTBOX_BYTES = 64 * 1024 * 1024


def heartbeat(sender: int, number: int, start: int = 1) -> m.Heartbeat:
    return m.Heartbeat(sender, start, Ballot(1, sender), number, 0, caches=False)


class Replica:
    """One replica's links behind a listener of its own."""

    def __init__(self, number: int, start: int = 1, secret: bytes = SECRET, cell: bytes = CELL) -> None:
        self.identity = Identity(cell, number, start, secret)
        self.received: list[m.Message] = []
        self.links: Links
        self.port = 0
        self._runner: web.AppRunner

    async def listen(self) -> None:
        async def door(request: web.Request) -> web.StreamResponse:
            return await self.links.accept(request)

        app = web.Application()
        app.router.add_get("/v1/peer", door)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    def link(self, others: list[Replica], outbox_bytes: int = OUTBOX_BYTES) -> None:
        addresses = {other.identity.replica: f"http://127.0.0.1:{other.port}" for other in [self, *others]}
        self.links = Links(self.identity, addresses, outbox_bytes, self._deliver)

    def _deliver(self, message: m.Message, size: int) -> None:
        assert size == (0 if isinstance(message, m.Removed) else len(encode_message(message)))
        self.received.append(message)

    async def until_connected(self, peer: int) -> None:
        await until(lambda: self.links.connected()[peer])

    async def close(self) -> None:
        self.links.close()
        await self._runner.cleanup()


@contextlib.asynccontextmanager
async def running(*replicas: Replica) -> AsyncIterator[None]:
    for replica in replicas:
        await replica.listen()
    for replica in replicas:
        replica.link([other for other in replicas if other is not replica])
    tasks = [asyncio.create_task(replica.links.run()) for replica in replicas]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for replica in replicas:
            await replica.close()


async def test_messages_arrive_in_their_order_both_ways() -> None:
    one, two = Replica(1), Replica(2, start=4)
    async with running(one, two):
        await one.until_connected(2)
        await two.until_connected(1)
        there = [heartbeat(1, number) for number in range(100)]
        back = [heartbeat(2, number, start=4) for number in range(100)]
        one.links.send([(2, message) for message in there])
        two.links.send([(1, message) for message in back])
        await until(lambda: len(two.received) >= 100)
        await until(lambda: len(one.received) >= 100)
        assert (two.received, one.received) == (there, back)


async def test_a_message_larger_than_a_socket_takes_at_once_arrives_whole() -> None:
    one, two = Replica(1), Replica(2)
    async with running(one, two):
        await one.until_connected(2)
        large = m.SnapshotChunk(1, 1, Ballot(1, 1), 9, 2**24, 0, bytes(range(256)) * 32_768)
        one.links.send([(2, large), (2, heartbeat(1, 1))])
        await until(lambda: len(two.received) == 2)
        assert two.received == [large, heartbeat(1, 1)]


async def test_a_message_for_a_peer_that_is_not_there_is_dropped_and_nobody_waits() -> None:
    one, two = Replica(1), Replica(2)
    async with running(one, two):
        one.links.send([(3, heartbeat(1, 1))])
        assert one.links.connected().keys() == {2}


async def test_a_full_outbox_drops_and_does_not_grow() -> None:
    one, two = Replica(1), Replica(2)
    async with running(one, two):
        one.link([two], outbox_bytes=1_000)
        task = asyncio.create_task(one.links.run())
        await one.until_connected(2)
        chunk = m.SnapshotChunk(1, 1, Ballot(1, 1), 9, 2**24, 0, bytes(2_000))
        one.links.send([(2, chunk), (2, heartbeat(1, 1)), (2, chunk)])
        await until(lambda: bool(two.received))
        assert two.received == [heartbeat(1, 1)]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_lost_connection_is_dialled_again() -> None:
    one, two = Replica(1), Replica(2)
    async with running(one, two):
        await one.until_connected(2)
        await two.close()
        await until(lambda: not one.links.connected()[2])
        await two.listen()
        await one.until_connected(2)
        one.links.send([(2, heartbeat(1, 7))])
        await until(lambda: heartbeat(1, 7) in two.received)


@contextlib.asynccontextmanager
async def stranger(target: Replica) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"http://127.0.0.1:{target.port}/v1/peer") as socket,
    ):
        yield socket


async def refusal_of(socket: aiohttp.ClientWebSocketResponse) -> str:
    answer = decode(await socket.receive_bytes(timeout=WAIT_SECONDS))
    assert answer[:3] == [PEER_VERSION, CELL, "refused"]
    assert (await socket.receive(timeout=WAIT_SECONDS)).type is aiohttp.WSMsgType.CLOSE
    return str(answer[3])


@pytest.mark.parametrize(
    ("hello", "code"),
    [
        (b"garbage", "malformed"),
        (encode([PEER_VERSION, CELL, "hello"]), "malformed"),
        (encode([PEER_VERSION + 1, CELL, "hello", 2, 1, 1, bytes(32)]), "unsupported_version"),
        (encode([PEER_VERSION, b"cell-two", "hello", 2, 1, 1, bytes(32)]), "wrong_cell"),
        (encode([PEER_VERSION, CELL, "hello", 2, 3, 1, bytes(32)]), "wrong_replica"),
        (encode([PEER_VERSION, CELL, "hello", 9, 1, 1, bytes(32)]), "wrong_replica"),
        (pack([encode_message(heartbeat(2, 1))]), "malformed"),
    ],
)
async def test_what_is_no_hello_of_a_peer_is_refused_by_name(hello: bytes, code: str) -> None:
    one, two = Replica(1), Replica(2)
    async with running(one, two), stranger(one) as socket:
        await socket.send_bytes(hello)
        assert await refusal_of(socket) == code
        assert not one.received


async def test_a_peer_with_another_secret_never_speaks_paxos() -> None:
    one, two = Replica(1), Replica(2, secret=b"another secret, not ours")
    async with running(one, two), stranger(one) as socket:
        await socket.send_bytes(encode([PEER_VERSION, CELL, "hello", 2, 1, 1, bytes(32)]))
        assert decode(await socket.receive_bytes())[2] == "challenge"
        await socket.send_bytes(encode([PEER_VERSION, CELL, "proof", "", bytes(32)]))
        assert await refusal_of(socket) == "bad_proof"
        assert not one.links.connected()[2] and not two.links.connected()[1]


async def test_the_peer_door_is_no_page() -> None:
    one, two = Replica(1), Replica(2)
    async with (
        running(one, two),
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{one.port}/v1/peer") as answer,
    ):
        assert answer.status == 426


@pytest.mark.parametrize("forged", [heartbeat(3, 1), heartbeat(2, 1, start=2)], ids=["sender", "start"])
async def test_a_message_in_another_name_than_the_hello_ends_the_link_undelivered(forged: m.Message) -> None:
    one, two = Replica(1), Replica(2)
    async with running(one, two):
        await two.until_connected(1)
        two.links.send([(1, forged)])
        await until(lambda: not two.links.connected()[1])
        assert forged not in one.received


async def test_a_start_that_is_over_is_heard_but_takes_nobodys_place() -> None:
    one, two = Replica(1), Replica(2, start=5)
    async with running(one, two):
        await two.until_connected(1)
        two.links.send([(1, heartbeat(2, 1, start=5))])
        await until(lambda: bool(one.received))
        late = Dialler(replace(two.identity, start=4), 1, bytes(32))
        async with stranger(one) as socket:
            await socket.send_bytes(late.hello())
            await socket.send_bytes(late.challenged(await socket.receive_bytes()))
            late.welcomed(await socket.receive_bytes())
            hello = m.Hello(2, 4, Ballot(0, 0), log_upto=0, asks=False, remembers=0)
            await socket.send_bytes(pack([encode_message(hello)]))
            await until(lambda: hello in one.received)
            two.links.send([(1, heartbeat(2, 2, start=5))])
            await until(lambda: heartbeat(2, 2, start=5) in one.received)
            assert two.links.connected()[1]
        assert two.links.connected()[1], "the living start keeps its link"


async def test_links_follow_the_membership_while_they_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "LINGER_SECONDS", 0.01)
    one, two, three = Replica(1), Replica(2), Replica(3)
    async with running(one, two, three):
        await one.until_connected(2)
        await two.until_connected(1)
        addresses = {number: f"http://127.0.0.1:{peer.port}" for number, peer in ((1, one), (3, three))}
        one.links.follow(addresses, lambda replica: replica == 2)
        assert one.links.connected().keys() == {3}
        await until(lambda: not two.links.connected()[1])
        await one.until_connected(3)
        one.links.send([(3, heartbeat(1, 1)), (2, heartbeat(1, 1))])
        await until(lambda: bool(three.received))
        assert not two.received


async def test_a_removed_replica_that_calls_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "LINGER_SECONDS", 0.01)
    one, two = Replica(1), Replica(2)
    settled: list[tuple[int, int]] = []
    async with running(one, two):
        await two.until_connected(1)
        one.links._dismissal = lambda replica: settled[0] if settled else None
        one.links.follow({}, lambda replica: replica == 2)
        await until(lambda: not two.links.connected()[1])
        assert not two.received, "nobody is sent away before the change has settled"
        settled.append((5, 4))
        await until(lambda: bool(two.received))
        assert two.received[0] == m.Removed(1, 0, Ballot(0, 0), version=5, known_start=4)
