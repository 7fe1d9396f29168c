"""What a channel does with the frames that come: requests, and calls of which there are several answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from coordclient.aio import channel as channels
from coordclient.aio.channel import Channel, ChannelError
from coordclient.protocol import codec
from coordclient.protocol.errors import Refusal
from coordclient.protocol.frames import frame


class Socket:
    """Stands for a WebSocket: what is `put` comes in."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[aiohttp.WSMessage] = asyncio.Queue()
        self.sent: list[bytes] = []
        self.close_code = None

    async def receive(self) -> aiohttp.WSMessage:
        return await self.incoming.get()

    async def send_bytes(self, data: bytes) -> None:
        self.sent.append(data)

    async def close(self) -> None:
        return

    def put(self, *items: Any) -> None:
        data = b"".join(frame(item) for item in items)
        self.incoming.put_nowait(aiohttp.WSMessage(aiohttp.WSMsgType.BINARY, data, None))


class Answers:
    """A stream that keeps what it is told."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []
        self.ends: list[Any] = []

    def pushed(self, body: Any) -> None:
        self.bodies.append(body)

    def ended(self, error: Any) -> None:
        self.ends.append(error)


@pytest.fixture
async def opened():
    socket, lost = Socket(), []
    channel = Channel("http://here", socket, [1, "test", 1, 1, None])  # type: ignore[arg-type]

    def hand_out(channel: Channel, items: list[list[Any]]) -> None:
        for item in items:
            channel.answer(item)

    channel.start(hand_out, lambda channel, reason: lost.append(reason))
    yield channel, socket, lost
    await channel.close()


async def settle(condition: Callable[[], Any]) -> None:
    for _ in range(20):
        await asyncio.sleep(0)
    assert condition()


async def test_each_answer_goes_to_its_stream_until_the_last(opened):
    channel, socket, _ = opened
    one, two = Answers(), Answers()
    channel.begin_stream(7, 1, "watch", {}, one)
    channel.begin_stream(300, 1, "watch", {}, two)
    socket.put([7, {"a": 1}, None, True], [300, {"b": 1}, None, True], [7, {"a": 2}, None, True])
    socket.put([7, {}], [7, {"late": 1}, None, True], [300, None, {"code": "limit", "message": "too many"}])
    await settle(lambda: two.ends)
    assert one.bodies == [{"a": 1}, {"a": 2}]
    assert one.ends == [None]
    assert two.bodies == [{"b": 1}]
    assert isinstance(two.ends[0], Refusal) and two.ends[0].code == "limit"


async def test_a_channel_that_is_lost_ends_its_streams_once_and_one_that_is_forgotten_hears_nothing(opened):
    channel, socket, lost = opened
    one, forgotten = Answers(), Answers()
    channel.begin_stream(7, 1, "watch", {}, one)
    channel.begin_stream(8, 1, "watch", {}, forgotten)
    channel.forget_stream(8)
    socket.put([8, {}, None, True])
    await settle(lambda: channel.received)
    channel.lose("torn")
    channel.lose("torn again")
    assert lost == ["torn"]
    assert [str(error) for error in one.ends] == ["torn"] and isinstance(one.ends[0], ChannelError)
    assert forgotten.bodies == forgotten.ends == []


async def test_the_same_result_for_many_calls_is_decoded_once(opened, monkeypatch):
    channel, socket, _ = opened
    decoded = []

    def count(data: bytes) -> Any:
        decoded.append(data)
        return codec.decode(data)

    monkeypatch.setattr(channels, "decode", count)
    streams = [Answers() for _ in range(50)]
    for number, stream in enumerate(streams):
        channel.begin_stream(number + 100, 1, "watch", {}, stream)
    socket.put(*([number + 100, {"revision": 5}, None, True] for number in range(50)))
    socket.put([100, {"revision": 6}, None, True])
    await settle(lambda: len(streams[0].bodies) == 2)
    assert all(stream.bodies[0] == {"revision": 5} for stream in streams)
    assert streams[0].bodies[1] == {"revision": 6}
    assert len(decoded) == 2


@pytest.mark.parametrize("item", [[1, 2, 3, 4], [1, 2, None, False], [1, 2, None, True, 5], ["x", 2, None, True]])
async def test_a_frame_of_another_shape_ends_the_channel(opened, item):
    _, socket, lost = opened
    socket.put(item)
    await settle(lambda: lost)
    assert "no frame" in lost[0]
