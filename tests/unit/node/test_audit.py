"""Acts of operators leave one line each: who, what, to whom, why and what came of it; never a secret."""

from __future__ import annotations

from typing import Any

from structlog.testing import capture_logs

from coordclient.protocol.errors import Refusal
from coordd.engine.inputs import Call
from tests.unit.node.test_node import make

UNLOCK = {"path": "/l", "reason": "the holder hangs", "now": False, "session": 0, "hold": 0}
KILL = {"session": 7, "reason": "gone wild"}
TRANSFER = {"path": "/l", "hold": 3, "to": 9}


def lines(
    operation: str, arguments: dict[str, object], result: dict[str, object] | Refusal, gone: bool = False, **about: Any
) -> tuple[list[Any], list[object]]:
    """What is logged, and what is delivered, when such a call is answered with `result`."""
    node, hub, _ = make()
    call = Call(node.new_request(), operation, arguments, **about)
    got: list[object] = []
    with capture_logs() as logged:
        node.submit(call, got.append)
        if gone:
            node.gone((call.request,))
        hub.deliver(call.request, result)
    assert not node._audited and len(hub) == 0
    return list(logged), got


async def test_a_line_says_who_did_what_to_whom_and_why() -> None:
    (line,), got = lines("kill_session", KILL, {"holds": 2}, session=5, call=1, principal="ops", secret="hush")
    assert line == {
        "event": "kill_session",
        "log_level": "info",
        "principal": "ops",
        "session": 5,
        "target": 7,
        "reason": "gone wild",
        "outcome": "done",
    }
    assert got == [{"holds": 2}]


async def test_an_unlock_and_a_transfer_are_told_too() -> None:
    (line,), _ = lines("unlock", UNLOCK | {"now": True}, {"holds": []})
    about = (line["event"], line["path"], line["now"], line["reason"], line["principal"], line["session"])
    assert about == ("unlock", "/l", True, "the holder hangs", "anonymous", None)
    (line,), _ = lines("transfer", TRANSFER, {"revision": 3}, session=5)
    assert (line["event"], line["path"], line["hold"], line["to"], line["session"]) == ("transfer", "/l", 3, 9, 5)


async def test_a_refusal_is_an_outcome_but_for_one_that_sends_elsewhere() -> None:
    (line,), _ = lines("unlock", UNLOCK, Refusal("not_held", "nobody holds it"))
    assert line["outcome"] == "not_held"
    (line,), _ = lines("unlock", UNLOCK, Refusal("outcome_unknown", "the mastership ended"))
    assert line["outcome"] == "outcome_unknown"
    for code in ("not_master", "unavailable", "overloaded"):
        assert lines("unlock", UNLOCK, Refusal(code, "not here, not now"))[0] == []


async def test_the_line_is_written_also_when_whoever_asked_has_gone() -> None:
    logged, got = lines("kill_session", KILL, {"holds": 0}, gone=True)
    assert [line["outcome"] for line in logged] == ["done"] and not got


async def test_what_is_no_act_of_an_operator_leaves_no_line() -> None:
    logged, got = lines("get", {"path": "/l"}, {"contents": b"secret"})
    assert not logged and got == [{"contents": b"secret"}]
