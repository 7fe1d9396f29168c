"""Replicas that are none, that speak another version, garbage, or nothing: a named error, in time, nothing leaked."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from coordclient import CoordError, Unavailable, UnsupportedVersion, WrongCell
from coordclient.protocol.frames import CHANNEL_VERSION, frame
from coordd.testing import TestCell
from tests.clients.conftest import bind, until

HELLO = frame([CHANNEL_VERSION, "test", 1, 1, None])


@pytest.fixture
async def stranger():
    """A server that does with each channel what the test says; returns its address."""
    runners = []

    async def start(behave):
        async def handle(request):
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            await behave(socket)
            return socket

        app = web.Application()
        app.router.add_get("/v1/channel", handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        runners.append(runner)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()


async def silent(socket):
    async for _ in socket:
        pass


def sends(*messages):
    async def behave(socket):
        for message in messages:
            await (socket.send_str(message) if isinstance(message, str) else socket.send_bytes(message))
        await silent(socket)

    return behave


@pytest.mark.parametrize(
    ("behave", "reason"),
    [
        (silent, "no answer yet"),
        (sends(b""), "no hello"),
        (sends(b"\x00"), "not as coordd does"),
        (sends(b"\x00\x00\x00\x01\xc1"), "not as coordd does"),
        (sends("text"), "text"),
        (sends(frame("text")), "no hello"),
        (sends(frame([CHANNEL_VERSION, "test", 1, 1, 17])), "no text"),
        (sends(frame([0, None, 17])), "internal"),
        (sends(frame([0, None, {"code": "overloaded", "message": "full", "self": 1, 2: 3}])), "overloaded: full"),
        (sends(HELLO, frame("no frame")), "no frame"),
        (sends(HELLO, frame([1])), "no frame"),
        (sends(HELLO, frame([0, None, {"code": "overloaded", "message": "too many"}])), "overloaded: too many"),
        (sends(HELLO, frame([0, None, "nothing"])), "internal"),
    ],
)
async def test_a_replica_that_makes_no_sense_is_unavailable_with_the_reason(make_client, stranger, behave, reason):
    client = make_client([await stranger(behave)], request_timeout=0.3)
    await until(lambda: _refused(client, reason), f"the reason {reason!r}")


async def _refused(client, *words):
    """Whether the refusal has these words; on a busy machine nothing may have been heard when the first one comes."""
    with pytest.raises(Unavailable) as caught:
        await client.get("/a")
    return all(word in str(caught.value) for word in words)


async def test_another_version_is_told_at_once_by_name(make_client, stranger):
    client = make_client([await stranger(sends(frame([99, "test", 1, 1, None])))])
    async with asyncio.timeout(5):
        with pytest.raises(UnsupportedVersion):
            await client.get("/a")


async def test_another_cell_is_refused_at_once_by_name(make_client):
    client = make_client(cell="other")
    async with asyncio.timeout(5):
        with pytest.raises(WrongCell):
            await client.get("/a")


async def test_a_client_stays_in_the_cell_where_it_began_when_an_address_turns_out_to_be_of_another(make_client):
    """Nobody named a cell. The other one knows no session of this client: it called the session over and the lock lost,
    and then it answered from files of its own."""
    with TestCell("one") as cell, TestCell("two") as other:
        client = make_client([*cell.endpoints, *other.endpoints], session_lease=2.0, request_timeout=3.0)
        async with client.lock("/a") as lock:
            with cell.paused(), pytest.raises(CoordError, match="wrong_cell"):
                await client.get("/a")
            await lock.verify()


async def test_nobody_there_names_every_address_and_why(make_client):
    client = make_client(["127.0.0.1:9", "127.0.0.1:10"], request_timeout=0.3)
    await until(lambda: _refused(client, "http://127.0.0.1:9: ", "http://127.0.0.1:10: "), "both to be named")
    with pytest.raises(Unavailable):
        await client.lock("/a").acquire()  # a lock waits for ever, but not for a cell that was never there
    with pytest.raises(Unavailable):
        await client.status()
    assert all(isinstance(answer, Unavailable) for answer in (await client.cell_status()).values())


async def test_another_server_and_an_address_with_tls_are_told_as_what_they_are(make_client, cell):
    """The one was `404, message='Invalid response status', url=...`, the other `operation not permitted`."""

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        client = make_client([f"127.0.0.1:{server.sockets[0].getsockname()[1]}"], request_timeout=0.3)
        await until(lambda: _refused(client, "not as coordd does: HTTP status 404"), "the status")
    client = make_client([cell.endpoints[0].replace("http:", "https:")], request_timeout=0.3)
    await until(lambda: _refused(client, "no TLS with it", "http:// only"), "the way out")


@pytest.mark.parametrize(
    "answer", [{}, {"session": "x"}, [], None, {"session": 1, "secret": "s", "lease_ms": 1_000, "epoch": "?"}]
)
async def test_answers_of_the_wrong_shape_end_in_a_named_error(make_client, stranger, answer):
    async def behave(socket):
        await socket.send_bytes(HELLO)
        await socket.receive()
        number = 1
        async for _ in socket:
            await socket.send_bytes(frame([number, answer]))
            number += 1

    client = bind(make_client([await stranger(behave)], request_timeout=0.3))
    with pytest.raises(Unavailable):
        await client.get("/a")


async def test_a_redirect_to_oneself_or_to_nowhere_ends_in_time(make_client, stranger):
    addresses: list[str] = []

    async def behave(socket):
        await socket.send_bytes(frame([CHANNEL_VERSION, "test", 1, 2, addresses[0] if addresses else "nonsense //"]))
        await silent(socket)

    addresses.append(await stranger(behave))
    for _ in range(2):
        client = bind(make_client([await stranger(behave)], request_timeout=0.4))
        await until(lambda client=client: _refused(client, "not the master"))  # type: ignore[misc]
        addresses.clear()
