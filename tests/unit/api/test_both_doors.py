"""One table, two doors: every bad input is refused by the same name through both, and reaches nobody."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordclient.protocol.errors import Refusal
from coordclient.protocol.operations import CONTENTS_BYTES_MAX, OPERATIONS, check_arguments
from coordd.api.requests import check_call, too_deep
from tests.unit.api.fakes import House, open_house


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


BAD = [
    ("", {}, "unknown_operation"),
    ("nonsense", {}, "unknown_operation"),
    ("expire_session", {"session": 1, "incarnation": 1, "epoch": 1}, "unknown_operation"),
    ("set_sequencer_key", {"key": bytes(32), "epoch": 1}, "unknown_operation"),
    ("get", None, "bad_request"),
    ("get", [], "bad_request"),
    ("get", "path", "bad_request"),
    ("get", {}, "bad_request"),
    ("get", {"path": None}, "bad_request"),
    ("get", {"path": 7}, "bad_request"),
    ("get", {"path": ["/a"]}, "bad_request"),
    ("get", {"path": b"/a"}, "bad_request"),
    ("get", {"path": "/a", "more": 1}, "bad_request"),
    ("get", {"path": nested(40)}, "bad_request"),
    ("get", {"path": {"a": nested(40)}}, "bad_request"),
    ("get", {"path": ""}, "bad_path"),
    ("get", {"path": "a"}, "bad_path"),
    ("get", {"path": "/a/"}, "bad_path"),
    ("get", {"path": "//a"}, "bad_path"),
    ("get", {"path": "/a/../b"}, "bad_path"),
    ("get", {"path": "/\0"}, "bad_path"),
    ("get", {"path": "/a\nb"}, "bad_path"),
    ("get", {"path": "/" + "x" * 1024}, "bad_path"),
    ("get", {"path": "/" + "x" * 256}, "bad_path"),
    ("get", {"path": "/x" * 33}, "bad_path"),
    ("get", {"path": "/ls"}, "bad_path"),
    ("get", {"path": "/ls/one/a/"}, "bad_path"),
    ("get", {"path": "/ls/another/a"}, "wrong_cell"),
    ("put", {"path": "/a", "contents": b"x" * (CONTENTS_BYTES_MAX + 1)}, "too_large"),
    ("put", {"path": "/a", "if_generation": -1}, "bad_request"),
    ("put", {"path": "/a", "if_generation": 2**53}, "bad_request"),
    ("put", {"path": "/a", "if_generation": 1.0}, "bad_request"),
    ("put", {"path": "/a", "if_generation": True}, "bad_request"),
    ("put", {"path": "/a", "parents": 1}, "bad_request"),
    ("open_session", {"lease_ms": 10}, "bad_request"),
    ("open_session", {"lease_ms": 60_001}, "bad_request"),
    ("open_session", {"client": "me"}, "bad_request"),
    ("open_session", {"client": {"pid": 7}}, "bad_request"),
    ("open_session", {"client": {str(number): "x" for number in range(17)}}, "bad_request"),
    ("open_session", {"client": {"host": "h" * 300}}, "too_large"),
    ("check_sequencer", {"sequencer": ""}, "bad_request"),
    ("check_sequencer", {"sequencer": "s" * 4097}, "too_large"),
    ("acquire", {"path": "/a", "mode": "both"}, "bad_request"),
    ("acquire", {"path": "/a", "lock_delay_ms": 60_001}, "bad_request"),
    ("acquire", {"path": "/a", "mode": "semaphore", "permits": 4_097}, "bad_request"),
    ("acquire_all", {}, "bad_request"),
    ("acquire_all", {"locks": "/a"}, "bad_request"),
    ("acquire_all", {"locks": []}, "bad_request"),
    ("acquire_all", {"locks": [{"path": f"/{number}"} for number in range(65)]}, "bad_request"),
    ("acquire_all", {"locks": ["/a"]}, "bad_request"),
    ("acquire_all", {"locks": [{}]}, "bad_request"),
    ("acquire_all", {"locks": [{"path": 7}]}, "bad_request"),
    ("acquire_all", {"locks": [{"path": ""}]}, "bad_path"),
    ("acquire_all", {"locks": [{"path": "/a", "wait": True}]}, "bad_request"),
    ("acquire_all", {"locks": [{"path": "/a", "mode": "semaphore"}]}, "bad_request"),
    ("acquire_all", {"locks": [{"path": "/a", "permits": 2}]}, "bad_request"),
    ("acquire_all", {"locks": [{"path": "/a", "permits": "2"}]}, "bad_request"),
    ("acquire_all", {"locks": [{"path": "/a", "mode": ["shared"]}]}, "bad_request"),
    ("acquire_all", {"locks": [{"path": "/a"}, {"path": "/a", "mode": "shared"}]}, "bad_request"),
    ("acquire_all", {"locks": [{"path": "/a"}, {"path": "/ls/one/a"}]}, "bad_request"),
    ("acquire_all", {"locks": [{"path": "/ls/another/a"}]}, "wrong_cell"),
    ("acquire_all", {"locks": [{"path": nested(40)}]}, "bad_request"),
    ("release", {"path": "/a", "hold": 0}, "bad_request"),
    ("release", {"path": "a", "hold": 1}, "bad_path"),
    ("unlock", {"path": "/a"}, "bad_request"),
    ("unlock", {"path": "/a", "reason": ""}, "bad_request"),
    ("unlock", {"path": "/a", "reason": "r" * 257}, "too_large"),
    ("kill_session", {"session": 0, "reason": "r"}, "bad_request"),
    ("resume_session", {"session": 1, "secret": "s", "new_secret": "n" * 31}, "bad_request"),
    ("put", {"path": "/a", "if_sequencer": ""}, "bad_request"),
    ("watch", {"path": "/a", "scope": "all"}, "bad_request"),
    ("watch", {"path": "/a", "values": ""}, "bad_request"),
    ("watch", {"path": "/a", "since": -1}, "bad_request"),
    ("watch", {"path": "a"}, "bad_path"),
    ("history", {"path": "/a", "count": 0}, "bad_request"),
    ("history", {"path": "/a", "count": 1_001}, "bad_request"),
    ("get_many", {"paths": ["/a", "b"]}, "bad_path"),
    ("txn", {"then": [{"do": "stat", "path": "/"}] * 129}, "bad_request"),
    ("txn", {"then": [{"do": "acquire", "path": "/a"}]}, "bad_request"),
    ("txn", {"then": [{"do": "get", "path": "a"}]}, "bad_path"),
    ("txn", {"guards": [{"path": "/a", "revision": 1, "is": "~"}]}, "bad_request"),
    ("txn", {"guards": [{"path": "a", "exists": True}]}, "bad_path"),
    ("txn", {"then": [{"do": "get", "path": "/ls/another/a"}]}, "wrong_cell"),
    ("close_session", {}, "session_required"),
    ("keep_alive", {"number": 1}, "session_required"),
    ("acquire", {"path": "/a"}, "session_required"),
]


async def through_channel(house: House, operation: str, arguments: object) -> dict[str, object]:
    async with house.channel() as speaker:
        await speaker.receive()
        call, result, error = await speaker.call(operation, arguments)
        assert (call, result) == (1, None) and isinstance(error, dict)
        return error


def spelled(operation: str, arguments: object) -> bytes | None:
    """As JSON, where JSON can say it."""
    if isinstance(arguments, dict) and isinstance(arguments.get("contents"), bytes):
        arguments = arguments | {"contents": {"text": arguments["contents"].decode()}}
    try:
        return json.dumps(arguments).encode()
    except TypeError:
        return None


@pytest.mark.parametrize(("operation", "arguments", "code"), BAD, ids=lambda value: str(value)[:40])
async def test_every_bad_input_gets_the_same_error_through_both_doors(
    operation: str, arguments: object, code: str
) -> None:
    async with open_house() as house:
        by_channel = await through_channel(house, operation, arguments)
        assert by_channel["code"] == code
        if operation:
            assert (await house.post(operation, arguments))[1] == by_channel
            body = spelled(operation, arguments)
            if body is not None:
                headers = {"Content-Type": "application/json"}
                async with house.client.post(f"{house.url}/v1/{operation}", data=body, headers=headers) as got:
                    assert await got.json() == by_channel
        assert not house.service.calls


async def test_a_lone_surrogate_which_only_json_can_spell_reaches_nobody() -> None:
    async with open_house() as house:
        bodies = {
            "get": b'{"path": "/\\ud800"}',
            "put": b'{"path": "/a", "contents": {"text": "\\ud800"}}',
            "open_session": b'{"client": {"host": "\\udfff"}}',
            "check_sequencer": b'{"sequencer": "\\ud800"}',
            "mkdir": b'{"\\ud800": 1}',
        }
        for operation, body in bodies.items():
            headers = {"Content-Type": "application/json"}
            async with house.client.post(f"{house.url}/v1/{operation}", data=body, headers=headers) as got:
                assert (got.status, (await got.json())["code"][:4]) == (400, "bad_"), operation
        assert not house.service.calls


@pytest.mark.parametrize("path", ["/ls/one/a/b", "/ls/local/a/b", "/a/b"])
async def test_the_own_cell_may_be_named_through_both_doors(path: str) -> None:
    async with open_house() as house:
        await house.post("get", {"path": path})
        async with house.channel() as speaker:
            await speaker.receive()
            await speaker.call("get", {"path": path})
        assert [call.arguments["path"] for call in house.service.calls] == ["/a/b", "/a/b"]


def test_the_own_cell_may_be_named_in_each_of_several_locks() -> None:
    arguments = {"locks": [{"path": "/ls/one/a"}, {"path": "/ls/local/b", "mode": None, "permits": None}]}
    _, checked = check_call("one", "acquire_all", arguments)
    plain = {"mode": "exclusive", "permits": 0}
    assert checked["locks"] == [{"path": "/a", **plain}, {"path": "/b", **plain}]


def test_a_release_without_a_path_is_of_all_that_its_acquire_holds() -> None:
    for arguments in ({"hold": 1}, {"hold": 1, "path": ""}, {"hold": 1, "path": None}):
        assert check_call("one", "release", arguments)[1] == {"path": "", "hold": 1}


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
_NAMES = st.sampled_from(sorted(OPERATIONS))


@given(_NAMES, st.data())
def test_any_arguments_are_checked_or_refused_by_name(name: str, data: st.DataObject) -> None:
    known = st.sampled_from([argument.name for argument in OPERATIONS[name].arguments] or ["none"])
    arguments = data.draw(st.dictionaries(known | st.text(max_size=5), _VALUES, max_size=4))
    try:
        operation, checked = check_call("one", name, arguments)
    except Refusal:
        return
    assert set(checked) == set(operation.by_name)
    assert check_arguments(operation, checked) == checked, "what has passed passes again"


def test_nesting_is_measured_without_recursion() -> None:
    assert not too_deep(nested(30))
    assert too_deep(nested(33))
    assert too_deep({"a": {"b": nested(40)}})
    assert too_deep(nested(100_000))
