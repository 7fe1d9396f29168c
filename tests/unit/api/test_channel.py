"""The channel: many calls in flight, one session, one write per turn, bounds on everything."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordclient.protocol.codec import decode, encode
from coordclient.protocol.errors import Refusal
from coordclient.protocol.frames import (
    CHANNEL_VERSION,
    FRAME_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    frame,
    split_frames,
)
from coordclient.protocol.operations import OPERATIONS
from coordd.api.channel import FRAMES_PER_TURN, Channel
from coordd.api.limits import ApiLimits
from coordd.engine.inputs import Call
from coordd.testing.until import until
from tests.unit.api.fakes import FakeService, open_house

ATTACH = {"session": 9, "secret": "s", "attachment": 2}
ATTACHED: dict[str, object] = {"session": 9, "incarnation": 1, "lease_ms": 12_000}


class Pipe:
    """The socket of a channel: keeps what is written; `unread` is what its client has not taken."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.unread = 0
        self.cut = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return self.unread

    def is_closing(self) -> bool:
        return self.cut

    def abort(self) -> None:
        self.cut = True

    def messages(self) -> list[bytes]:
        """The payloads of the WebSocket messages written [RFC 6455 5.2]."""
        data, payloads = b"".join(self.written), []
        while data:
            assert data[0] == 0x82, "one whole binary message"
            size, start = data[1], 2
            if size >= 126:
                start = 4 if size == 126 else 10
                size = int.from_bytes(data[2:start], "big")
            payloads.append(data[start : start + size])
            data = data[start + size :]
        return payloads


def make(limits: ApiLimits | None = None) -> tuple[Channel, FakeService, Pipe]:
    service, pipe = FakeService(), Pipe()
    loop = asyncio.get_running_loop()
    return Channel(service, limits or ApiLimits(), pipe, loop.call_soon, loop.call_later), service, pipe


def calls(*values: object) -> bytes:
    return b"".join(frame(value) for value in values)


async def test_both_say_hello_first() -> None:
    async with open_house() as house, house.channel() as speaker:
        assert await speaker.receive() == [CHANNEL_VERSION, "one", 1, 2, "http://replica-2:7420"]


@pytest.mark.parametrize(
    ("hello", "code"),
    [
        ((CHANNEL_VERSION + 1, "", {}), "unsupported_version"),
        (("1", "", {}), "unsupported_version"),
        ((CHANNEL_VERSION, "two", {}), "wrong_cell"),
        ((CHANNEL_VERSION, 7, {}), "bad_request"),
        ((CHANNEL_VERSION, ""), "bad_request"),
        ((CHANNEL_VERSION, "", {"pid": 7}), "bad_request"),
        ((), "bad_request"),
        ({"hello": 1}, "bad_request"),
        ([1, "get", {"path": "/"}, 0], "bad_request"),
    ],
)
async def test_a_hello_that_is_none_is_refused_by_name_and_the_channel_closed(hello: object, code: str) -> None:
    async with open_house() as house, house.channel(hello) as speaker:
        call, result, error = await speaker.receive()
        assert (call, result) == (0, None) and isinstance(error, dict) and error["code"] == code
        assert await speaker.closed()


async def test_a_silent_channel_is_refused_by_name() -> None:
    async with open_house(ApiLimits(hello_seconds=0.02)) as house, house.channel(hello=None) as speaker:
        assert (await speaker.receive())[2]["code"] == "bad_request"  # type: ignore[index]
        assert await speaker.closed()


async def test_many_calls_are_in_flight_and_answered_in_any_order() -> None:
    async with open_house() as house, house.channel() as speaker:
        await speaker.receive()
        house.service.answer = lambda call: None
        await speaker.send(*([number, "get", {"path": f"/{number}"}, 0] for number in range(1, 101)))
        await until(lambda: len(house.service.waiting) == 100)
        for request, deliver in reversed(list(house.service.waiting.items())):
            deliver({"request": request})
        answers = [await speaker.receive() for _ in range(100)]
        assert [answer[0] for answer in answers] == list(range(100, 0, -1))


async def test_replies_of_one_turn_leave_in_one_write() -> None:
    channel, service, pipe = make()
    service.answer = lambda call: None
    await channel.take(calls(*([number, "get", {"path": "/"}, 0] for number in range(1, 51))))
    for deliver in service.waiting.values():
        deliver({})
    await asyncio.sleep(0)
    assert len(pipe.written) == 1
    assert [decode(payload)[0] for payload in split_frames(pipe.messages()[0])] == list(range(1, 51))


async def test_a_write_larger_than_a_message_is_cut_between_frames() -> None:
    channel, service, pipe = make()
    service.answer = lambda call: {"contents": bytes(400_000)}
    await channel.take(calls(*([number, "get", {"path": "/"}, 0] for number in range(1, 6))))
    await until(lambda: pipe.written)
    messages = pipe.messages()
    assert max(map(len, messages)) <= MESSAGE_BYTES_MAX
    assert [decode(payload)[0] for message in messages for payload in split_frames(message)] == [1, 2, 3, 4, 5]


async def test_an_answer_larger_than_a_frame_is_refused_by_name() -> None:
    channel, service, pipe = make()
    service.answer = lambda call: {"contents": bytes(FRAME_BYTES_MAX)}
    await channel.take(calls([1, "get", {"path": "/"}, 0]))
    await until(lambda: pipe.written)
    assert decode(split_frames(pipe.messages()[0])[0])[2]["code"] == "too_large"


async def test_a_client_that_does_not_read_is_cut() -> None:
    channel, _service, pipe = make(ApiLimits(outbox_bytes=1_000))
    pipe.unread = MESSAGE_BYTES_MAX + 1_000
    await channel.take(calls([1, "get", {"path": "/"}, 0]))
    await until(lambda: pipe.cut)
    assert not pipe.written


async def test_calls_beyond_the_limit_are_overloaded_and_the_others_go_on() -> None:
    channel, service, pipe = make(ApiLimits(channel_in_flight=2))
    service.answer = lambda call: None
    await channel.take(calls(*([number, "get", {"path": "/"}, 0] for number in (1, 2, 3))))
    await until(lambda: pipe.written)
    assert decode(split_frames(pipe.messages()[0])[0])[2]["code"] == "overloaded"
    assert len(service.waiting) == 2


async def test_a_long_message_is_taken_in_pieces() -> None:
    channel, service, _ = make()
    service.answer = lambda call: None
    turns: list[int] = []
    asyncio.get_running_loop().call_soon(lambda: turns.append(len(service.calls)))
    await channel.take(calls(*([number, "get", {"path": "/"}, 0] for number in range(1, 3 * FRAMES_PER_TURN))))
    assert turns == [FRAMES_PER_TURN]


async def test_a_channel_speaks_for_a_session_once_attach_was_answered() -> None:
    channel, service, pipe = make()
    service.answer = lambda call: None
    await channel.take(
        calls([1, "keep_alive", {"number": 1}, 0], [2, "attach", ATTACH, 0], [3, "close_session", {}, 0])
    )
    assert [call.operation for call in service.calls] == ["attach"]
    service.waiting.pop(service.calls[0].request)(ATTACHED | {"incarnation": 3})
    await channel.take(calls([4, "keep_alive", {"number": 5}, 3]))
    about: dict[str, Any] = {"session": 9, "call": 4, "acked": 3, "attachment": 2, "incarnation": 3}
    about |= {"channel": service.calls[0].channel}
    assert service.calls[-1] == Call(service.calls[0].request + 1, "keep_alive", {"number": 5, "hold_ms": 0}, **about)
    await until(lambda: pipe.written)
    answers = [decode(payload) for payload in split_frames(pipe.messages()[0])]
    assert {answer[0]: answer[2]["code"] for answer in answers if len(answer) == 3} == {
        1: "session_required",
        3: "session_required",
    }


async def test_a_refused_attach_gives_no_session() -> None:
    channel, service, _ = make()
    service.answer = lambda call: Refusal("session_expired", "no")
    await channel.take(calls([1, "attach", ATTACH, 0]))
    await until(lambda: service.calls)
    await asyncio.sleep(0)
    await channel.take(calls([2, "get", {"path": "/"}, 0]))
    assert service.calls[-1].session == 0


async def test_a_channel_speaks_for_one_session() -> None:
    async with open_house() as house, house.channel() as speaker:
        await speaker.receive()
        house.service.answer = lambda call: ATTACHED
        await speaker.call("attach", ATTACH)
        _, _, error = await speaker.call("attach", ATTACH | {"session": 10}, call=2)
        assert isinstance(error, dict) and error["code"] == "bad_request"
        assert await speaker.call("attach", ATTACH | {"attachment": 3}, call=3) == [3, ATTACHED]
        await speaker.call("keep_alive", {"number": 1}, call=4)
        assert (house.service.calls[-1].session, house.service.calls[-1].attachment) == (9, 3)


async def test_a_channel_that_attaches_anew_after_a_resume_counts_from_the_new_incarnation() -> None:
    async with open_house() as house, house.channel() as speaker:
        await speaker.receive()
        answers = iter([ATTACHED | {"incarnation": incarnation} for incarnation in (1, 2, 1)])
        house.service.answer = lambda call: next(answers) if call.operation == "attach" else {}
        await speaker.call("attach", ATTACH | {"attachment": 5})
        await speaker.call("attach", ATTACH | {"attachment": 1}, call=2)
        await speaker.call("attach", ATTACH | {"attachment": 9}, call=3)  # the answer of an attach that was overtaken
        await speaker.call("get", {"path": "/"}, call=4)
        assert (house.service.calls[-1].incarnation, house.service.calls[-1].attachment) == (2, 1)


async def test_when_a_channel_ends_nobody_waits_for_its_calls() -> None:
    async with open_house() as house:
        house.service.answer = lambda call: None
        async with house.channel() as speaker:
            await speaker.receive()
            await speaker.send([1, "get", {"path": "/"}, 0], [2, "get", {"path": "/"}, 0])
            await until(lambda: len(house.service.waiting) == 2)
        await until(lambda: house.service.left == [call.request for call in house.service.calls])
        assert len(house.doors.channels) == 0


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"\0", "bad_request"),
        (b"\0\0\0\5abc", "bad_request"),
        (b"\xff\xff\xff\xff", "bad_request"),
        (b"\0\0\0\1\xc1", "bad_request"),
        (frame(7), "bad_request"),
        (frame([1, "get", {}]), "bad_request"),
        (frame([0, "get", {"path": "/"}, 0]), "bad_request"),
        (frame([-1, "get", {"path": "/"}, 0]), "bad_request"),
        (frame([2**53, "get", {"path": "/"}, 0]), "bad_request"),
        (frame([True, "get", {"path": "/"}, 0]), "bad_request"),
        (frame(["1", "get", {"path": "/"}, 0]), "bad_request"),
        (frame([1, "get", {"path": "/"}, -1]), "bad_request"),
        (frame([1, "get", {"path": "/"}, None]), "bad_request"),
        (b"\0\0\x40\0" + b"\x91" * 16_384, "bad_request"),
        (bytes(MESSAGE_BYTES_MAX + 1), "too_large"),
    ],
)
async def test_garbage_is_answered_on_call_0_and_the_channel_closed(message: bytes, code: str) -> None:
    async with open_house() as house, house.channel() as speaker:
        await speaker.receive()
        await speaker.socket.send_bytes(message)
        call, result, error = await speaker.receive()
        assert (call, result) == (0, None) and isinstance(error, dict) and error["code"] == code
        assert await speaker.closed()
        assert not house.service.calls


async def test_text_is_garbage_too() -> None:
    async with open_house() as house, house.channel() as speaker:
        await speaker.receive()
        await speaker.socket.send_str("hello")
        assert (await speaker.receive())[2]["code"] == "bad_request"  # type: ignore[index]
        assert await speaker.closed()


async def test_the_channel_door_is_no_page() -> None:
    async with open_house() as house, house.client.get(f"{house.url}/v1/channel") as got:
        assert (got.status, (await got.json())["code"]) == (400, "bad_request")


@pytest.mark.parametrize(("origin", "status"), [("http://evil.example", 403), ("null", 403), ("own", 101)])
async def test_a_page_of_another_origin_opens_no_channel(origin: str, status: int) -> None:
    async with open_house() as house:
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
        upgrade |= {"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Origin": house.url if origin == "own" else origin}
        async with house.client.get(f"{house.url}/v1/channel", headers=upgrade) as got:
            assert got.status == status


async def test_a_daemon_that_stops_closes_its_channels() -> None:
    async with open_house() as house, house.channel() as speaker:
        await speaker.receive()
        closing = asyncio.create_task(house.doors.channels.close())
        assert await speaker.closed()
        await closing


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=9)
    | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)
_FRAMES = st.lists(_VALUES, max_size=5) | st.tuples(
    st.integers(1, 99), st.sampled_from(sorted(OPERATIONS)), _VALUES, st.integers(0, 99)
)


@given(st.lists(st.binary(max_size=60) | _FRAMES.map(frame) | _VALUES.map(frame), max_size=4))
def test_any_bytes_are_calls_or_refused_by_name(pieces: list[bytes]) -> None:
    async def take() -> None:
        for step in ("greet", "take"):
            channel, service, pipe = make()
            try:
                done = getattr(channel, step)(b"".join(pieces))
                if done is not None:
                    await done
            except Refusal as refusal:
                channel.fail(refusal)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            for message in pipe.messages():
                assert all(isinstance(decode(payload), list) for payload in split_frames(message))
            assert all(call.operation in OPERATIONS for call in service.calls)

    asyncio.run(take())


async def test_many_bytes_do_not_make_a_deep_message() -> None:
    async with open_house() as house, house.channel() as speaker:
        await speaker.receive()
        deep: object = "x"
        for _ in range(40):
            deep = [deep]
        assert len(encode(deep)) < 50
        _, _, error = await speaker.call("put", {"path": deep})
        assert isinstance(error, dict) and error["code"] == "bad_request" and "nested" in error["message"]
