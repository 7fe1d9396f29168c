"""Channels whose clients have died without a word: found, cut, and everything that they held given back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import aiohttp
import pytest

from coordclient.protocol.frames import CHANNEL_VERSION, frame
from coordd.api.heart import PING, Heart
from coordd.api.limits import ApiLimits
from coordd.testing.until import until
from tests.unit.api.fakes import WAIT_SECONDS, House, Speaker, open_house
from tests.unit.api.test_channel import ATTACH, ATTACHED, Pipe

SOON = ApiLimits(silent_seconds=0.03)


class Clock:
    """Timers that run when they are told to."""

    def __init__(self) -> None:
        self.due: list[asyncio.TimerHandle] = []

    def later(self, seconds: float, action: object) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(seconds, action, (), asyncio.get_running_loop())  # type: ignore[arg-type]
        self.due.append(handle)
        return handle

    def turn(self) -> float:
        """The next timer; the seconds that it waited for."""
        handle = self.due.pop()
        assert not self.due, "one timer for each channel"
        if not handle.cancelled():
            handle._run()
        return handle.when()


def begin(lease_ms: int = 0) -> tuple[Heart, Pipe, Clock]:
    pipe, clock = Pipe(), Clock()
    return Heart(ApiLimits(), pipe, lambda: lease_ms, clock.later), pipe, clock


def silence(heart: Heart, pipe: Pipe, clock: Clock) -> float:
    """How long a client may say nothing until it is cut."""
    heart.heard()
    seconds = 0.0
    while not pipe.cut:
        seconds += clock.turn()
    return seconds


async def test_whoever_says_nothing_is_asked_and_cut_after_half_a_minute() -> None:
    heart, pipe, clock = begin()
    assert 24 <= silence(heart, pipe, clock) <= 32
    assert len(pipe.written) >= 2 and set(pipe.written) == {PING} and not clock.due


async def test_a_client_with_a_session_may_stand_still_for_its_lease() -> None:
    assert 60 <= silence(*begin(lease_ms=60_000)) <= 76
    assert 24 <= silence(*begin(lease_ms=1_000)) <= 32


async def test_a_client_that_speaks_is_not_asked_and_one_that_answers_not_cut() -> None:
    heart, pipe, clock = begin()
    for _ in range(20):
        heart.heard()
        clock.turn()
    assert not pipe.written
    for _ in range(20):
        heart.heard()
        clock.turn()
        clock.turn()
    assert len(pipe.written) == 20 and not pipe.cut


async def test_a_client_that_still_takes_what_it_was_sent_is_not_cut() -> None:
    """It cannot answer a ping that is behind the rest."""
    heart, pipe, clock = begin()
    for unread in range(4_000_000, 0, -200_000):
        pipe.unread = unread
        clock.turn()
    assert not pipe.cut
    assert 24 <= silence(heart, pipe, clock) <= 32, "it takes no more"


async def test_nothing_is_sent_behind_the_end() -> None:
    heart, pipe, clock = begin()
    pipe.cut = True
    clock.turn()
    assert not clock.due and not pipe.written
    heart, pipe, clock = begin()
    heart.end()
    clock.turn()
    assert not clock.due and not pipe.written


# ---- on real sockets ----


@contextlib.asynccontextmanager
async def dead_client(house: House) -> AsyncIterator[asyncio.StreamReader]:
    """It has opened a channel and a watch, and asked something; then its machine dies: nothing more comes, no end."""
    url = urlsplit(house.url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    head = (
        "GET /v1/channel HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    asked = (["watch", {"path": "/a"}], ["cache", {}], ["get", {"path": "/a"}])
    frames = [frame([CHANNEL_VERSION, "", {}]), frame([1, "attach", ATTACH, 0])]
    frames += [frame([call, *one, 0]) for call, one in enumerate(asked, 2)]
    writer.write(head.encode())
    for one in frames:
        writer.write(bytes((0x82, 0x80 | len(one), 0, 0, 0, 0)) + one)
        if one is frames[1]:
            await until(lambda: house.service.calls)
            await asyncio.sleep(0)
    try:
        yield reader
    finally:
        writer.close()


@pytest.mark.parametrize(("lease_ms", "asked"), [(10, 2), (100, 9)])
async def test_a_client_that_died_without_a_word_is_cut_and_all_that_it_held_given_back(
    lease_ms: int, asked: int
) -> None:
    async with open_house(SOON) as house:
        house.service.answer = lambda call: ATTACHED | {"lease_ms": lease_ms} if call.operation == "attach" else None
        async with dead_client(house) as reader, asyncio.timeout(WAIT_SECONDS):
            await until(lambda: len(house.service.waiting) == 3)
            assert len(house.service.streams) == 2 and len(house.doors.channels) == 1
            assert abs((await reader.read()).count(PING) - asked) <= 1, "until it is cut"
            await until(lambda: not house.doors.channels)
            assert not house.service.waiting and not house.service.streams
            assert sorted(house.service.left) == sorted(call.request for call in house.service.calls[1:])


async def test_an_idle_client_without_a_session_stays_as_long_as_it_answers() -> None:
    async with open_house(SOON) as house, house.client.ws_connect(f"{house.url}/v1/channel", autoping=False) as socket:
        await socket.send_bytes(frame([CHANNEL_VERSION, "", {}]))
        await socket.receive_bytes(timeout=WAIT_SECONDS)
        for _ in range(10):  # that many silences
            message = await socket.receive(timeout=WAIT_SECONDS)
            assert message.type is aiohttp.WSMsgType.PING
            await socket.pong(message.data)
        assert len(house.doors.channels) == 1
        asked = 0
        while (await socket.receive(timeout=WAIT_SECONDS)).type is aiohttp.WSMsgType.PING:
            asked += 1
        assert asked and not house.doors.channels


async def test_a_client_that_pings_is_answered() -> None:
    async with open_house() as house, house.client.ws_connect(f"{house.url}/v1/channel", autoping=False) as socket:
        await socket.send_bytes(frame([CHANNEL_VERSION, "", {}]))
        await Speaker(socket).receive()
        await socket.ping(b"there?")
        answer = await socket.receive(timeout=WAIT_SECONDS)
        assert (answer.type, answer.data) == (aiohttp.WSMsgType.PONG, b"there?")
