"""Calls with several answers on a channel: frames of four, in order, encoded once, beside the calls in flight."""

from __future__ import annotations

import asyncio

import pytest

from coordclient.protocol.codec import decode, encode
from coordclient.protocol.frames import FRAME_BYTES_MAX, split_frames, stream_frame
from coordd.api import reader
from coordd.api.limits import ApiLimits
from coordd.node.service import Piece
from coordd.testing.until import until
from tests.unit.api.fakes import open_house
from tests.unit.api.test_channel import calls, make

WATCH = [1, "watch", {"path": "/a"}, 0]


def test_a_frame_of_several_is_the_array_of_four() -> None:
    body = {"revision": 7, "events": []}
    for call in (1, 127, 128, 65_536, 2**53 - 1):
        (payload,) = split_frames(stream_frame(call, encode(body)))
        assert payload == encode([call, body, None, True])


async def test_several_answers_then_the_last_in_the_order_they_came() -> None:
    async with open_house() as house, house.channel() as speaker:
        await speaker.receive()
        house.service.answer = lambda call: None if call.operation == "watch" else {"did": call.operation}
        await speaker.send(WATCH)
        await until(lambda: house.service.streams)
        ((request, push),) = house.service.streams.items()
        push(Piece({"n": 1}))
        push(Piece({"n": 2}))
        house.service.waiting[request]({"n": 3})
        assert [await speaker.receive() for _ in range(3)] == [
            [1, {"n": 1}, None, True],
            [1, {"n": 2}, None, True],
            [1, {"n": 3}],
        ]


async def test_the_node_knows_channels_apart_and_a_post_by_its_zero() -> None:
    async with open_house() as house, house.channel() as one, house.channel() as other:
        await one.receive()
        await other.receive()
        for speaker in (one, one, other):
            await speaker.call("status", {})
        await house.post("status", {})
        numbers = [call.channel for call in house.service.calls]
        assert numbers[0] == numbers[1] and len(set(numbers)) == 3 and numbers[3] == 0


async def test_streams_are_no_calls_in_flight() -> None:
    channel, service, _ = make(ApiLimits(channel_in_flight=1))
    service.answer = lambda call: None
    await channel.take(calls(*([number, "watch", {"path": "/a"}, 0] for number in range(1, 20)), [20, "status", {}, 0]))
    assert [call.operation for call in service.calls] == ["watch"] * 19 + ["status"]


async def test_the_end_of_a_channel_ends_its_streams() -> None:
    channel, service, _ = make()
    service.answer = lambda call: None
    await channel.take(calls(WATCH, [2, "get", {"path": "/"}, 0]))
    channel.end()
    assert sorted(service.left) == sorted(call.request for call in service.calls)


async def test_an_answer_of_several_that_no_frame_holds_ends_the_stream_by_name() -> None:
    channel, service, pipe = make()
    service.answer = lambda call: None
    await channel.take(calls(WATCH))
    ((request, push),) = service.streams.items()
    push(Piece({"contents": bytes(FRAME_BYTES_MAX - 40)}))
    await asyncio.sleep(0)
    push(Piece({"contents": bytes(FRAME_BYTES_MAX)}))
    await asyncio.sleep(0)
    frames = [decode(payload) for message in pipe.messages() for payload in split_frames(message)]
    assert [len(one) for one in frames] == [4, 3] and frames[1][2]["code"] == "too_large"
    assert service.left == [request]


# ---- clients that do not read ----


async def test_a_channel_that_is_not_read_is_congested_until_half_of_it_was_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reader, "LOOK_SECONDS", 0.001)
    channel, service, pipe = make()
    service.answer = lambda call: None
    await channel.take(calls(WATCH))
    ((_, push),) = service.streams.items()
    limit = ApiLimits().congested_bytes
    pipe.unread = limit
    push(Piece({}))
    await asyncio.sleep(0)
    assert service.congestion == []
    pipe.unread = limit + 1
    push(Piece({}))
    await until(lambda: service.congestion)
    number = service.calls[0].channel
    assert service.congestion == [(number, True)]
    pipe.unread = limit // 2 + 1
    await asyncio.sleep(0)
    pipe.unread = limit // 2
    await until(lambda: service.congestion[-1] == (number, False))
    assert not pipe.cut


async def test_a_channel_of_which_nothing_is_read_for_long_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "LOOK_SECONDS", 0.001)
    channel, service, pipe = make(ApiLimits(congested_seconds=0.01))
    service.answer = lambda call: None
    await channel.take(calls(WATCH))
    pipe.unread = ApiLimits().congested_bytes + 1
    ((_, push),) = service.streams.items()
    push(Piece({}))
    await until(lambda: pipe.cut)


async def test_the_node_need_not_remember_a_channel_that_has_ended() -> None:
    channel, service, pipe = make()
    service.answer = lambda call: None
    await channel.take(calls(WATCH))
    pipe.unread = ApiLimits().congested_bytes + 1
    ((_, push),) = service.streams.items()
    push(Piece({}))
    await until(lambda: service.congestion)
    channel.end()
    channel.end()
    number = service.calls[0].channel
    assert service.congestion == [(number, True), (number, False)], "the node would remember it for ever"


async def test_a_channel_without_streams_is_not_looked_at() -> None:
    channel, service, pipe = make()
    pipe.unread = ApiLimits().congested_bytes + 1
    await channel.take(calls([1, "get", {"path": "/"}, 0]))
    await until(lambda: pipe.written)
    assert service.congestion == []


# ---- POST ----


async def test_a_watch_by_post_waits_beyond_the_time_of_other_calls_and_is_counted_apart() -> None:
    limits = ApiLimits(call_seconds=0.05, posts_in_flight=1, posts_held=1)
    async with open_house(limits) as house, asyncio.TaskGroup() as tasks:
        house.service.answer = lambda call: None if call.arguments.get("wait_ms") else {"revision": 3, "events": []}
        kept = tasks.create_task(house.post("watch", {"path": "/a", "since": 3, "wait_ms": 60_000}))
        await until(lambda: house.service.waiting)
        assert (await house.post("watch", {"path": "/a", "since": 3}))[1] == {"revision": 3, "events": []}
        assert house.service.calls[-1].arguments["wait_ms"] == 0, "there is no room to hold another one"
        ((request, deliver),) = house.service.waiting.items()
        assert request not in house.service.streams and house.service.calls[0].channel == 0
        deliver({"revision": 4, "events": []})
        assert await kept == (200, {"revision": 4, "events": []})


@pytest.mark.parametrize("operation", ["watched", "unwatch"])
async def test_what_is_for_channels_is_refused_by_post(operation: str) -> None:
    async with open_house() as house:
        status, answer = await house.post(
            operation, {"watch": 1, "deliveries": 1} if operation == "watched" else {"watch": 1}
        )
        assert (status, answer["code"]) == (400, "bad_request")
