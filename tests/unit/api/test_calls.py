"""The POST door: msgpack and JSON, sessions by header, redirects, and time limits with names."""

from __future__ import annotations

import asyncio
import base64
import json

import aiohttp
import pytest

from coordclient.protocol.codec import decode, encode
from coordclient.protocol.errors import Refusal
from coordclient.protocol.operations import OPERATIONS
from coordd.api.calls import Calls, _Caller
from coordd.api.limits import ApiLimits
from coordd.engine.inputs import Call
from coordd.testing.until import until
from tests.unit.api.fakes import FakeService, House, open_house

JSON = {"Content-Type": "application/json"}


async def post_json(house: House, operation: str, body: object, **headers: str) -> tuple[int, dict[str, object]]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with house.client.post(f"{house.url}/v1/{operation}", data=data, headers=JSON | headers) as got:
        assert got.content_type == "application/json"
        return got.status, json.loads(await got.read())


async def test_everything_can_be_done_with_json() -> None:
    async with open_house() as house:
        assert await post_json(house, "mkdir", {"path": "/a"}) == (200, {"did": "mkdir"})
        assert house.service.calls == [
            Call(1, "mkdir", {"path": "/a", "ephemeral": False, "parents": False, "if_sequencer": None})
        ]


async def test_msgpack_in_gives_msgpack_out() -> None:
    async with open_house() as house:
        assert await house.post("mkdir", {"path": "/a"}) == (200, {"did": "mkdir"})


async def test_accept_chooses_the_format_of_the_answer() -> None:
    async with open_house() as house:
        headers = JSON | {"Accept": "application/msgpack, */*;q=0.1"}
        async with house.client.post(f"{house.url}/v1/mkdir", data=b'{"path": "/a"}', headers=headers) as got:
            assert (got.content_type, decode(await got.read())) == ("application/msgpack", {"did": "mkdir"})


async def test_a_post_without_body_has_no_arguments() -> None:
    async with open_house() as house, house.client.post(f"{house.url}/v1/status") as got:
        assert (got.status, await got.json()) == (200, {"did": "status"})


@pytest.mark.parametrize(
    ("spelled", "contents"),
    [({"text": "grün"}, "grün".encode()), ({"base64": base64.b64encode(b"\xff\0").decode()}, b"\xff\0"), (None, b"")],
)
async def test_json_contents_are_spelled_out_never_guessed(spelled: object, contents: bytes) -> None:
    async with open_house() as house:
        status, _ = await post_json(house, "put", {"path": "/a", "contents": spelled})
        assert (status, house.service.calls[0].arguments["contents"]) == (200, contents)


async def test_json_contents_and_paths_in_the_steps_of_a_transaction_are_spelled_so_too() -> None:
    async with open_house() as house:
        cell = "one"
        steps = [
            {"do": "put", "path": f"/ls/{cell}/a", "contents": {"text": "x"}},
            {"do": "create", "path": "/b", "contents": {"base64": "/w=="}},
            {"do": "stat", "path": "/c"},
        ]
        guards = [{"path": f"/ls/{cell}/a", "exists": True}]
        assert (await post_json(house, "txn", {"then": steps, "guards": guards, "else": None}))[0] == 200
        arguments = house.service.calls[0].arguments
        assert [step.get("contents") for step in arguments["then"]] == [b"x", b"\xff", None]  # type: ignore[attr-defined]
        assert [step["path"] for step in arguments["then"]] == ["/a", "/b", "/c"]  # type: ignore[attr-defined]
        assert arguments["guards"] == [{"path": "/a", "exists": True}] and arguments["else"] == []


@pytest.mark.parametrize("step", [7, [], {"do": ["put"]}, {"do": "acquire"}, {"do": "put", "contents": "x"}])
async def test_json_steps_that_are_none_are_refused(step: object) -> None:
    async with open_house() as house:
        assert (await post_json(house, "txn", {"then": [step]}))[1]["code"] == "bad_request"
        assert not house.service.calls


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        ({"then": [{"do": "stat", "path": "/a"}, {"do": "get", "path": "a"}]}, "txn: then[1] get: "),
        ({"else": [{"do": "put", "path": "/a", "contents": "x"}]}, "txn: else[0] put: "),
        ({"else": [{"do": "put", "path": 7}]}, "txn: else[0] put: "),
        ({"guards": [{"path": "/a/", "exists": True}], "then": []}, "txn: guards[0]: "),
        ({"then": [{"do": "stat", "path": "/a"}, {"do": "stat", "path": "/ls/other/a"}]}, "txn: then[1]: "),
        ({"guards": [{"path": "/a", "exists": True}, {"path": "/a", "held": 1}], "then": []}, "txn: guards[1]: "),
    ],
)
async def test_what_is_wrong_in_a_transaction_is_said_with_its_place(arguments: dict[str, object], where: str) -> None:
    async with open_house() as house:
        status, error = await post_json(house, "txn", arguments)
        assert status in (400, 421) and str(error["message"]).startswith(where) and not house.service.calls


@pytest.mark.parametrize(
    "spelled",
    ["plain", 7, [], {}, {"text": 1}, {"hex": "00"}, {"base64": "!"}, {"base64": "ü"}, {"text": "a", "base64": ""}],
)
async def test_json_contents_spelled_otherwise_are_refused(spelled: object) -> None:
    async with open_house() as house:
        status, error = await post_json(house, "put", {"path": "/a", "contents": spelled})
        assert (status, error["code"]) == (400, "bad_request")
        assert "contents" in str(error["message"]) and not house.service.calls


@pytest.mark.parametrize(("contents", "spelled"), [(b"hi", {"text": "hi"}), (b"\xff", {"base64": "/w=="})])
async def test_contents_come_out_spelled_too(contents: bytes, spelled: object) -> None:
    async with open_house() as house:
        house.service.answer = lambda call: {"contents": contents}
        assert await post_json(house, "get", {"path": "/a"}) == (200, {"contents": spelled})


async def test_the_headers_name_session_and_call() -> None:
    async with open_house() as house:
        await house.post("close_session", {}, Coord_Session="12.abcdef", Coord_Call="7", Coord_Acked="3")
        assert house.service.calls == [Call(1, "close_session", {}, session=12, call=7, acked=3, secret="abcdef")]


@pytest.mark.parametrize(
    "headers",
    [
        {"Coord_Session": "abc"},
        {"Coord_Session": "12"},
        {"Coord_Session": "12."},
        {"Coord_Session": "-1.ab"},
        {"Coord_Session": "0.ab"},
        {"Coord_Session": "99999999999999999.ab"},
        {"Coord_Session": "1." + "a" * 129},
        {"Coord_Session": "1.ab", "Coord_Call": "0"},
        {"Coord_Session": "1.ab", "Coord_Call": "x"},
        {"Coord_Session": "1.ab", "Coord_Acked": "9007199254740992"},
        {"Coord_Call": "3"},
    ],
)
async def test_headers_that_make_no_sense_are_refused_by_name(headers: dict[str, str]) -> None:
    async with open_house() as house:
        status, error = await house.post("mkdir", {"path": "/a"}, **headers)
        assert (status, error["code"]) == (400, "bad_request")
        assert not house.service.calls


async def test_what_needs_a_session_says_so() -> None:
    async with open_house() as house:
        status, error = await house.post("close_session", {})
        assert (status, error["code"]) == (401, "session_required")


async def test_attach_is_for_channels() -> None:
    async with open_house() as house:
        status, error = await house.post("attach", {"session": 1, "secret": "x", "attachment": 1})
        assert (status, error["code"]) == (400, "bad_request")


async def test_another_replica_is_named_by_its_configured_address() -> None:
    async with open_house() as house:
        house.service.answer = lambda call: Refusal("not_master", "not here", master=2, address="http://there:7420")
        headers = {"Content-Type": "application/msgpack", "Host": "evil.example"}
        url = f"{house.url}/v1/mkdir"
        async with house.client.post(url, data=encode({"path": "/a"}), headers=headers, allow_redirects=False) as got:
            assert (got.status, got.headers["Location"]) == (307, "http://there:7420/v1/mkdir")


@pytest.mark.parametrize(
    "refusal",
    [Refusal("not_master", "?", master=None, address=None), Refusal("unavailable", "?"), Refusal("overloaded", "?")],
    ids=lambda refusal: refusal.code,
)
async def test_where_none_is_known_the_answer_is_503_with_retry_after(refusal: Refusal) -> None:
    async with open_house() as house:
        house.service.answer = lambda call: refusal
        async with house.client.post(f"{house.url}/v1/status", allow_redirects=False) as got:
            assert (got.status, got.headers["Retry-After"]) == (503, "1")
            assert (await got.json())["code"] == refusal.code


async def test_a_body_over_the_limit_is_refused_by_name() -> None:
    async with open_house(ApiLimits(body_bytes=1_000)) as house:
        status, error = await house.post("put", bytes(1_001))
        assert (status, error["code"]) == (413, "too_large")


async def test_a_body_of_unknown_length_over_the_limit_is_refused_by_name() -> None:
    async def body() -> object:
        for _ in range(100):
            yield bytes(100)

    async with open_house(ApiLimits(body_bytes=1_000)) as house:
        headers = {"Content-Type": "application/msgpack"}
        async with house.client.post(f"{house.url}/v1/put", data=body(), headers=headers) as got:
            assert (got.status, decode(await got.read())["code"]) == (413, "too_large")


async def test_a_post_that_never_ends_is_refused_by_name() -> None:
    async with open_house(ApiLimits(body_seconds=0.05)) as house:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(house.url.rpartition(":")[2]))
        writer.write(
            b"POST /v1/put HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 90\r\n\r\n{"
        )
        async with asyncio.timeout(10):
            answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 400 ") and b'"code":"bad_request"' in answer and b"did not end" in answer
        assert not house.service.calls
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("later", [False, True], ids=["with the head", "later"])
async def test_a_body_in_broken_chunks_is_refused(later: bool) -> None:
    async with open_house(ApiLimits(body_seconds=0.1)) as house:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(house.url.rpartition(":")[2]))
        head = b"POST /v1/put HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        writer.write(head + b"Transfer-Encoding: chunked\r\n\r\n" + (b"1\r\n{\r\n" if later else b""))
        if later:
            await writer.drain()
            await until(lambda: house.doors.runner.server.requests_count)  # type: ignore[union-attr]
        writer.write(b"not a size\r\n{}\r\n0\r\n\r\n")
        async with asyncio.timeout(10):
            answer = await reader.read()
        assert b" 400 " in answer.partition(b"\r\n")[0]
        assert not house.service.calls
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(("operation", "code"), [("put", "outcome_unknown"), ("get", "unavailable")])
async def test_an_answer_that_never_comes_is_never_called_failed(operation: str, code: str) -> None:
    async with open_house(ApiLimits(call_seconds=0.01)) as house:
        house.service.answer = lambda call: None
        _, error = await house.post(operation, {"path": "/a"})
        assert error["code"] == code
        assert house.service.left == [1]


async def test_an_acquire_waits_as_long_as_its_client() -> None:
    async with open_house(ApiLimits(call_seconds=0.01)) as house:
        house.service.answer = lambda call: None
        headers = {"Coord_Session": "1.ab", "Coord_Call": "1"}
        post = asyncio.create_task(house.post("acquire", {"path": "/a"}, **headers))
        await until(lambda: house.service.waiting)
        await asyncio.wait({post}, timeout=0.05)
        house.service.waiting.popitem()[1]({"token": 5})
        assert await post == (200, {"token": 5})


async def keep_alive(house: House, hold_ms: int) -> tuple[int, dict[str, object]]:
    return await house.post("keep_alive", {"number": 1, "hold_ms": hold_ms}, Coord_Session="1.ab")


async def test_a_keep_alive_that_is_held_has_its_hold_on_top_of_the_time_of_any_call() -> None:
    async with open_house(ApiLimits(call_seconds=0.01)) as house:
        house.service.answer = lambda call: None
        held = asyncio.create_task(keep_alive(house, 20_000))
        await until(lambda: house.service.waiting)
        await asyncio.wait({held}, timeout=0.05)
        house.service.waiting.popitem()[1]({"number": 1})
        assert await held == (200, {"number": 1})
        _, error = await keep_alive(house, 10)
        assert error["code"] == "unavailable" and "0.02 s" in str(error["message"])


async def test_a_client_that_leaves_its_held_keep_alive_is_not_waited_for() -> None:
    async with open_house() as house:
        house.service.answer = lambda call: None
        held = asyncio.create_task(keep_alive(house, 20_000))
        await until(lambda: house.service.waiting)
        held.cancel()
        await until(lambda: house.service.left == [1])


async def test_held_keep_alives_take_no_room_of_other_posts_and_beyond_their_own_are_not_held() -> None:
    async with open_house(ApiLimits(posts_in_flight=1, posts_held=1)) as house:
        house.service.answer = lambda call: None if call.arguments.get("hold_ms") else {"did": call.operation}
        held = asyncio.create_task(keep_alive(house, 20_000))
        await until(lambda: house.service.waiting)
        assert await house.post("get", {"path": "/a"}) == (200, {"did": "get"})
        assert await keep_alive(house, 20_000) == (200, {"did": "keep_alive"})
        house.service.waiting.popitem()[1]({"number": 1})
        assert await held == (200, {"number": 1})
        again = asyncio.create_task(keep_alive(house, 20_000))
        await until(lambda: house.service.waiting)
        again.cancel()


async def test_a_client_that_leaves_is_not_waited_for() -> None:
    async with open_house() as house:
        house.service.answer = lambda call: None
        post = asyncio.create_task(house.post("acquire", {"path": "/a"}, Coord_Session="1.ab", Coord_Call="1"))
        await until(lambda: house.service.waiting)
        post.cancel()
        await until(lambda: house.service.left == [1])


async def test_an_answer_in_the_very_turn_in_which_its_client_left_breaks_nothing() -> None:
    service = FakeService()
    service.answer = lambda call: None
    post = asyncio.create_task(Calls(service, ApiLimits())._submit(OPERATIONS["get"], {"path": "/"}, _Caller()))
    await until(lambda: service.waiting)
    deliver = service.waiting[1]
    post.cancel()
    deliver({})
    await asyncio.gather(post, return_exceptions=True)
    assert post.cancelled() and service.left == [1]


async def test_too_many_posts_at_once_are_refused_by_name() -> None:
    async with open_house(ApiLimits(posts_in_flight=1)) as house:
        house.service.answer = lambda call: None
        first = asyncio.create_task(house.post("get", {"path": "/a"}))
        await until(lambda: house.service.waiting)
        assert (await house.post("get", {"path": "/a"}))[1]["code"] == "overloaded"
        house.service.waiting.popitem()[1]({})
        assert await first == (200, {})


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"\xff\xfe",
        b'{"path": NaN}',
        b'{"path": "/a", "path": "/b"}',
        b"[" * 100_000,
        b'{"path": ' + b"9" * 10_000 + b"}",
    ],
)
async def test_json_that_is_none_is_refused_by_name(body: bytes) -> None:
    async with open_house() as house:
        status, error = await post_json(house, "mkdir", body)
        assert (status, error["code"]) == (400, "bad_request")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
async def test_another_content_type_is_refused_by_name(content_type: str) -> None:
    async with open_house() as house:
        headers = {"Content-Type": content_type}
        async with house.client.post(f"{house.url}/v1/mkdir", data=b'{"path":"/a"}', headers=headers) as got:
            assert (got.status, (await got.json())["code"]) == (400, "bad_request")


async def test_a_compressed_body_is_not_unpacked() -> None:
    async with open_house() as house:
        headers = JSON | {"Content-Encoding": "gzip"}
        async with house.client.post(f"{house.url}/v1/mkdir", data=b"\x1f\x8b", headers=headers) as got:
            assert (got.status, (await got.json())["code"]) == (400, "bad_request")


async def test_operations_are_called_with_post() -> None:
    async with open_house() as house, house.client.get(f"{house.url}/v1/get") as got:
        assert (got.status, (await got.json())["code"]) == (400, "bad_request")


async def test_a_bug_is_internal_and_tells_nothing() -> None:
    def bug(call: Call) -> dict[str, object]:
        raise RuntimeError("with a secret in it")

    async with open_house() as house:
        house.service.answer = bug
        async with house.client.post(f"{house.url}/v1/status") as got:
            answer = await got.text()
            assert (got.status, json.loads(answer)["code"]) == (500, "internal")
            assert "secret" not in answer


async def test_many_posts_over_one_connection() -> None:
    async with open_house() as house:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as one:
            for _ in range(20):
                async with one.post(f"{house.url}/v1/status") as got:
                    assert got.status == 200
        assert house.doors.keeper.accepted == 1


async def test_the_paths_of_many_reads_may_name_the_cell() -> None:
    async with open_house() as house:
        assert (await post_json(house, "get_many", {"paths": ["/ls/one/a", "/ls/local/b", "/c"]}))[0] == 200
        assert house.service.calls[0].arguments["paths"] == ["/a", "/b", "/c"]
        for paths in (["/ls/other/a"], [7], "/a"):
            assert "code" in (await post_json(house, "get_many", {"paths": paths}))[1]
