"""The doors of sessions: who may speak for one, and no refusal from a state that may be old."""

from __future__ import annotations

from typing import Any

import pytest

from coordd.engine.inputs import Call
from tests.unit.engine.cell import Cell
from tests.unit.engine.test_calls import code, log_upto


def test_an_attach_proves_the_session_by_its_secret():
    cell = Cell()
    client = cell.open()
    for session, secret in ((client.session, "0" * 32), (client.session + 1, client.secret), (client.session, "é")):
        assert cell.refused("attach", session=session, secret=secret, attachment=5) == "session_expired"
    assert client.attach() == {
        "session": client.session,
        "lease_ms": 12_000,
        "epoch": cell.master().engine.machine.epoch,
        "incarnation": 1,
    }


def test_frames_of_an_older_attachment_are_refused_and_what_was_accepted_stays():
    cell = Cell()
    client, node = cell.open(), cell.master()
    node.disk_held = True
    accepted = client.call("put", path="/a", contents=b"x")
    cell.settle()
    old = client.attachment
    client.attach()
    client.attachment, new = old, client.attachment
    assert client.do("put", path="/b").code == "stale_channel"
    late = client.keep_alive()
    cell.settle()
    assert code(cell, late) == "stale_channel"
    node.disk_held = False
    cell.settle()
    assert cell.answers[accepted]["stat"]
    assert cell.refused("attach", session=client.session, secret=client.secret, attachment=old) == "stale_channel"
    client.attachment = new
    assert client.do("put", path="/b")["stat"]


def test_a_channel_that_was_left_can_come_back_with_a_higher_number():
    cell = Cell()
    client = cell.open()
    client.attach()
    about: dict[str, Any] = {"session": client.session, "secret": client.secret}
    answers = []
    for attachment in (1, 3):  # what the door sends for a channel that is attached with number 1
        arguments = {**about, "attachment": attachment}
        cell._requests += 1
        cell.master().inbox.append(Call(cell._requests, "attach", arguments, client.session, 9, 0, attachment=1))
        cell.settle()
        answers.append(cell.answers[cell._requests])
    assert answers[0].code == "stale_channel" and answers[1]["session"] == client.session


def test_nobody_speaks_for_a_session_without_a_proof():
    cell = Cell()
    session = cell.do("open_session")["session"]
    assert cell.refused("put", path="/a", session=session, call=1) == "stale_channel"
    assert cell.refused("get", path="/a", session=session) == "stale_channel"


def test_a_post_proves_its_session_each_time():
    cell = Cell()
    client = cell.open()
    about: dict[str, Any] = {"session": client.session, "call": 100}
    assert cell.do("put", path="/a", secret=client.secret, **about)["stat"]
    for operation in ("put", "get"):
        assert cell.refused(operation, path="/a", secret="f" * 32, **about) == "session_expired"
    assert cell.refused("put", path="/a", secret=client.secret, session=99_999, call=1) == "session_expired"


def test_a_call_of_a_dead_session_is_refused_before_it_can_reach_the_log():
    cell = Cell()
    client, node = cell.open(), cell.master()
    client.do("close_session")
    upto = log_upto(node)
    assert client.do("put", path="/a").code == "session_expired"
    assert log_upto(node) == upto


def test_an_operation_of_a_session_needs_one_and_an_acquire_a_number():
    cell = Cell()
    client = cell.open()
    assert cell.refused("acquire", path="/l") == "session_required"
    assert cell.refused("close_session") == "session_required"
    assert cell.refused("acquire", path="/l", session=client.session, secret=client.secret) == "bad_request"


def test_an_operation_that_this_build_does_not_know_is_refused_by_name():
    cell = Cell()
    cell.master().inbox.append(Call(77, "explode", {}))
    cell.settle()
    assert code(cell, 77) == "unknown_operation"


def test_no_refusal_is_taken_from_a_state_that_may_be_old():
    """A session opened at the new master must not be called expired by the old one."""
    cell = Cell(3)
    old = cell.master()
    cell.isolate(old.replica)
    old.paused = True
    new = cell.master()
    client = cell.open()
    assert new is not old
    old.paused = False
    requests = [
        cell.call("put", old, path="/a", session=client.session, call=50, secret=client.secret),
        cell.call("attach", old, session=client.session, secret=client.secret, attachment=9),
        client.keep_alive(old),
        cell.call("get", old, path="/a"),
    ]
    logged = client.call("put", old, path="/a")
    old.step()
    assert old.engine.replica.serving, "it does not know yet"
    assert not {*requests, logged} & set(cell.answers)
    cell.run(4_000)
    assert {code(cell, request) for request in requests} == {"not_master"}
    assert code(cell, logged) == "outcome_unknown"


@pytest.mark.parametrize("replicas", [1, 3])
def test_secrets_differ_and_come_from_the_entropy_that_was_given(replicas: int):
    secrets = []
    for seed in (1, 1, 2):
        cell = Cell(replicas, seed=seed)
        cell.master()
        requests = [cell.call("open_session") for _ in range(3)]
        cell.settle()
        secrets.append([cell.answers[request]["secret"] for request in requests])
    assert secrets[0] == secrets[1] != secrets[2]
    assert len(set(secrets[0])) == 3 and all(len(secret) == 32 for secret in secrets[0])
