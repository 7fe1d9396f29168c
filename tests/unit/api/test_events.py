"""`GET /v1/watch`: a watch as server-sent events; what is sent, when it is acknowledged, how it ends, bad input."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from coordclient.protocol.errors import Refusal
from coordd.api.events import EventStreams
from coordd.api.limits import ApiLimits
from coordd.node.service import Piece
from coordd.testing.until import until
from tests.unit.api.fakes import House, open_house

CHANGE: dict[str, object] = {"revision": 7, "events": [{"path": "/a", "after": b"\xff"}, {"path": "/b", "after": b"x"}]}


@contextlib.asynccontextmanager
async def stream(house: House, query: str = "path=/a", **headers: str) -> AsyncIterator[aiohttp.ClientResponse]:
    """The answer, which begins when the first piece is pushed."""
    house.service.answer = lambda call: None if call.operation == "watch" else {}
    async with house.client.get(f"{house.url}/v1/watch?{query}", headers=headers) as response:
        yield response


async def begin(house: House, *bodies: dict[str, object]) -> None:
    await until(lambda: house.service.streams)
    for body in bodies:
        push(house, body)


def push(house: House, body: dict[str, object]) -> None:
    (take,) = house.service.streams.values()
    take(Piece(body))


async def read_event(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """The next event by its fields; comments have none."""
    found: dict[str, Any] = {}
    async with asyncio.timeout(5):
        while line := (await response.content.readline()).decode().rstrip("\n"):
            name, _, text = line.partition(": ")
            found[name] = json.loads(text) if name == "data" else text
    return found


async def test_each_delivery_is_an_event_with_the_revision_as_its_id() -> None:
    async with open_house() as house, asyncio.TaskGroup() as tasks:
        progress: dict[str, object] = {"revision": 6, "events": []}
        piece: dict[str, object] = {"revision": 9, "resync": True, "piece": 0, "entries": [], "more": True}
        tasks.create_task(begin(house, progress, CHANGE, piece, {**piece, "piece": 1, "more": False}))
        async with stream(house) as response:
            assert response.status == 200 and response.headers["Content-Type"].startswith("text/event-stream")
            assert response.headers["Cache-Control"] == "no-store"
            assert await read_event(response) == {"retry": "1000"}
            assert await read_event(response) == {"id": "6", "event": "progress", "data": progress}
            change = await read_event(response)
            assert (change["id"], change["event"]) == ("7", "change")
            assert [row["after"] for row in change["data"]["events"]] == [{"base64": "/w=="}, {"text": "x"}]
            first, last = await read_event(response), await read_event(response)
            assert "id" not in first and last["id"] == "9", "a resync counts when it is whole"
            assert first["event"] == last["event"] == "resync"


async def test_what_is_asked_is_checked_as_at_the_other_doors_and_the_last_event_counts() -> None:
    async with open_house() as house:
        for query, headers, wanted in (
            (
                "path=/ls/one/a&scope=subtree&since=5&values=both",
                {},
                {"scope": "subtree", "since": 5, "values": "both"},
            ),
            ("path=/a&since=5", {"Last-Event-ID": "8"}, {"since": 8}),
            ("path=/a&since=5", {"Last-Event-ID": ""}, {"since": 5}),
            ("path=/a", {}, {"since": None, "scope": "node", "values": "new"}),
        ):
            house.service.calls.clear()
            house.service.streams.clear()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(begin(house, CHANGE))
                async with stream(house, query, **headers):
                    (call,) = house.service.calls[:1]
                    assert call.channel and call.arguments["path"] == "/a"
                    assert {name: call.arguments[name] for name in wanted} == wanted
            await until(lambda: house.service.left)
            assert house.service.left.pop() == call.request


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("", "bad_request"),
        ("path=a", "bad_path"),
        ("path=/a&path=/b", "bad_request"),
        ("path=/a&scope=all", "bad_request"),
        ("path=/a&values=old", "bad_request"),
        ("path=/a&since=-1", "bad_request"),
        ("path=/a&since=1e3", "bad_request"),
        ("path=/a&since=99999999999999999999", "bad_request"),
        ("path=/a&wait_ms=1", "bad_request"),
        ("path=/ls/two/a", "wrong_cell"),
        ("path=/a%ff", "bad_request"),
    ],
)
async def test_bad_questions_have_named_errors(query: str, code: str) -> None:
    async with open_house() as house, house.client.get(f"{house.url}/v1/watch?{query}") as response:
        assert response.status in (400, 421) and (await response.json())["code"] == code
        assert not house.service.calls


async def test_what_is_sent_back_after_a_break_is_checked_by_its_own_name() -> None:
    async with open_house() as house:
        headers = {"Last-Event-ID": "rubbish"}
        async with house.client.get(f"{house.url}/v1/watch?path=/a&since=5", headers=headers) as response:
            error = await response.json()
            assert response.status == 400 and error["code"] == "bad_request" and "Last-Event-ID" in error["message"]


async def test_a_refusal_before_the_first_event_is_an_ordinary_error() -> None:
    async with open_house() as house:
        moved = Refusal("not_master", "no", master=2, address="http://replica-2:7420")
        for refusal, status, header in (
            (moved, 307, ("Location", "http://replica-2:7420/v1/watch?path=/a%20b&since=3")),
            (Refusal("not_master", "no", master=None, address=None), 503, ("Retry-After", "1")),
            (Refusal("limit", "too many"), 429, ("Content-Type", "application/json")),
        ):
            house.service.answer = lambda call, refusal=refusal: refusal  # type: ignore[misc]
            url = f"{house.url}/v1/watch?path=/a%20b&since=3"
            async with house.client.get(url, allow_redirects=False) as response:
                assert response.status == status and (await response.json())["code"] == refusal.code
                assert response.headers[header[0]] == header[1]


async def test_the_end_of_a_reign_is_the_last_event() -> None:
    async with open_house() as house, asyncio.TaskGroup() as tasks:
        tasks.create_task(begin(house, CHANGE))
        async with stream(house) as response:
            await read_event(response), await read_event(response)
            ((_, deliver),) = [one for one in house.service.waiting.items() if one[0] in house.service.streams]
            deliver(Refusal("not_master", "no", master=2, address="http://replica-2:7420"))
            end = await read_event(response)
            assert end["event"] == "end" and end["data"]["address"] == "http://replica-2:7420"
            assert not await response.content.read()


async def test_what_was_written_is_acknowledged_and_what_waits_is_not() -> None:
    async with open_house() as house, asyncio.TaskGroup() as tasks:
        tasks.create_task(begin(house, CHANGE))
        async with stream(house) as response:
            await until(lambda: len(house.service.calls) == 2)
            said = house.service.calls[1]
            assert said.operation == "watched" and said.arguments == {"watch": 1, "deliveries": 1}
            assert said.channel == house.service.calls[0].channel
            for number in range(8, 40):
                push(house, {"revision": number, "events": [{"path": "/a", "after": bytes(400_000)}]})
            await until(lambda: len(house.service.calls) == 3 or response.content.total_bytes > 500_000)
            assert len(house.service.calls) == 2, "its client does not read"


async def test_a_silent_stream_says_that_it_is_alive_and_hang_ups_are_noticed() -> None:
    async with open_house(ApiLimits(event_idle_seconds=0.01)) as house, asyncio.TaskGroup() as tasks:
        tasks.create_task(begin(house, CHANGE))
        async with stream(house) as response:
            await read_event(response), await read_event(response)
            assert await read_event(response) == {"": "still here"}
        (request,) = house.service.streams
        await until(lambda: request in house.service.left)


async def test_an_acknowledgement_that_is_refused_is_said_again_in_the_silence_that_follows() -> None:
    async with open_house(ApiLimits(event_idle_seconds=0.01)) as house, asyncio.TaskGroup() as tasks:
        tasks.create_task(begin(house, CHANGE))
        async with stream(house) as response:
            house.service.answer = lambda call: Refusal("overloaded", "later")
            push(house, {**CHANGE, "revision": 8})
            await until(lambda: len(house.service.calls) >= 5)
            house.service.answer = lambda call: {}
            refused = len(house.service.calls)
            while len(house.service.calls) == refused:
                await read_event(response)
            for _ in range(8):
                await read_event(response)
            said = house.service.calls[2:]
            assert {call.operation for call in said} == {"watched"} and said[-1].arguments["deliveries"] == 2
            assert len(house.service.calls) == refused + 1, "once it is heard, it is not said again"


async def test_event_streams_are_limited() -> None:
    async with open_house(ApiLimits(event_streams=1)) as house, asyncio.TaskGroup() as tasks:
        tasks.create_task(begin(house, CHANGE))
        async with stream(house), house.client.get(f"{house.url}/v1/watch?path=/a") as refused:
            assert refused.status == 503 and (await refused.json())["code"] == "overloaded"


async def test_a_replica_that_does_not_answer_is_said_to_be_unavailable() -> None:
    async with open_house(ApiLimits(call_seconds=0.02)) as house:
        house.service.answer = lambda call: None
        async with house.client.get(f"{house.url}/v1/watch?path=/a") as late:
            assert late.status == 503 and (await late.json())["code"] == "unavailable"
        await until(lambda: len(house.service.left) == 1)


# ---- clients that do not read ----


async def test_whoever_takes_nothing_of_what_is_written_is_cut() -> None:
    async with open_house(ApiLimits(congested_seconds=0.05)) as house, asyncio.TaskGroup() as tasks:
        tasks.create_task(begin(house, CHANGE))
        async with stream(house) as response:
            (request,) = house.service.streams
            for number in range(8, 60):
                push(house, {"revision": number, "events": [{"path": "/a", "after": bytes(400_000)}]})
            await until(lambda: request in house.service.left)
            with pytest.raises(aiohttp.ClientError):
                await response.read()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="SKIPPED: needs Linux")
async def test_a_stream_is_ended_by_the_kernel_where_a_machine_has_died(monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[socket.socket] = []
    serve = EventStreams._serve

    async def noted(self: EventStreams, request: web.Request, stream: Any) -> web.StreamResponse:
        assert request.transport is not None
        ends.append(request.transport.get_extra_info("socket"))
        return await serve(self, request, stream)

    monkeypatch.setattr(EventStreams, "_serve", noted)
    async with open_house() as house, asyncio.TaskGroup() as tasks:
        tasks.create_task(begin(house, CHANGE))
        async with stream(house):
            assert ends[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000
