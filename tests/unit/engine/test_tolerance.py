"""Who is counted on when members change or the mastership is handed on: voters that answer, and keep up."""

from __future__ import annotations

from typing import Any

import pytest

from coordclient.protocol.errors import Refusal
from coordd.engine.inputs import DiskFull, DiskHasRoom, HandOverRequest
from coordd.paxos.messages import Heartbeat, Learned
from tests.unit.engine.cell import Cell
from tests.unit.engine.changing import add, cell_of, change


def test_a_voter_that_does_not_answer_is_not_counted_on() -> None:
    cell = cell_of(3)
    next(node for node in cell.nodes.values() if node is not cell.master()).crash()
    cell.run(4_000)
    said = cell.do("members")
    assert (said["answering"], said["can_lose"]) == (2, 0)


def test_a_voter_that_is_far_behind_is_not_counted_on_before_it_has_caught_up() -> None:
    cell = cell_of(3, caught_up_slots=20)
    fast, slow = [node for node in cell.nodes.values() if node is not cell.master()]
    cell.isolate(slow.replica)
    for number in range(40):
        cell.do("put", path=f"/{number}")
    cell.heal()
    cell.dropped = lambda sender, to, message: to == slow.replica and isinstance(message, Learned)
    cell.run(1_000)
    said = cell.do("members")
    assert all(row["heard_ms_ago"] < 1_000 for row in said["members"])
    assert (said["answering"], said["can_lose"]) == (2, 0)
    refusal = change(cell, "remove_member", replica=fast.replica)
    assert isinstance(refusal, Refusal) and f"far behind: {slow.replica}" in refusal.message
    cell.dropped = lambda sender, to, message: False
    cell.run(3_000)
    assert cell.do("members")["can_lose"] == 1
    assert change(cell, "remove_member", replica=fast.replica)["changed"]


def test_a_voter_without_room_on_its_disk_is_not_counted_on() -> None:
    cell = cell_of(3)
    full, other = [node for node in cell.nodes.values() if node is not cell.master()]
    full.step(DiskFull())
    cell.run(4_000)
    assert cell.do("members")["can_lose"] == 0
    assert cell.do("status", full)["disk_full"]
    refusal = change(cell, "remove_member", replica=other.replica)
    assert isinstance(refusal, Refusal) and f"silent: {full.replica}" in refusal.message
    full.step(DiskHasRoom())
    cell.run(4_000)
    assert cell.do("members")["can_lose"] == 1


# ---- the mastership ----


@pytest.mark.parametrize("operation", ["transfer_master", "remove_member"])
def test_whoever_gave_the_mastership_up_sends_clients_to_whom_it_gave_it(operation: str) -> None:
    cell = cell_of(3)
    master = cell.master()
    arguments: dict[str, Any] = {"replica": master.replica} if operation == "remove_member" else {}
    request = cell.call(operation, **arguments)
    cell.until(lambda: request in cell.answers, limit_ms=1_000)
    answer = cell.do("get", master, path="/")
    assert isinstance(answer, Refusal) and answer.code == "not_master"
    assert answer.details["master"] in {1, 2, 3} - {master.replica}
    assert cell.master().replica == answer.details["master"]


def test_the_mastership_goes_to_whom_it_is_given() -> None:
    cell = cell_of(3)
    to = next(replica for replica in cell.nodes if replica != cell.master().replica)
    was = cell.master().replica
    request = cell.call("transfer_master", to=to)
    cell.until(lambda: cell.nodes[to].engine.replica.lease_valid(cell.now_ms), limit_ms=1_000)
    assert cell.answers[request] == {"master": was, "to": to, "changed": True}


def test_the_mastership_is_not_given_to_who_does_not_answer() -> None:
    cell = cell_of(3)
    to = next(replica for replica in cell.nodes if replica != cell.master().replica)
    cell.nodes[to].crash()
    cell.run(4_000)
    assert change(cell, "transfer_master", to=to).code == "conflict"
    assert change(cell, "transfer_master")["changed"]


def test_one_replica_alone_keeps_the_mastership() -> None:
    assert change(cell_of(1), "transfer_master").code == "conflict"


def test_a_keep_alive_held_back_is_forgotten_with_its_mastership():
    cell = Cell(3)
    client = cell.open(lease_ms=1_000)
    old = cell.master()
    cell.run(950)
    cell.isolate(old.replica)
    cell.run(150)
    client.keep_alive(old)
    cell.settle()
    old.paused = True
    new = cell.master()
    cell.heal()
    old.paused = False
    cell.run(200)
    new.inbox.append(HandOverRequest(old.replica))
    cell.run(100)
    assert cell.master() is old
    assert client.session in old.engine.machine.sessions, "the expiry was never chosen"
    cell.run(2_000)
    assert client.session not in old.engine.machine.sessions


def test_a_promotion_is_answered_when_the_cell_can_bear_the_loss_that_the_answer_speaks_of() -> None:
    cell = cell_of(2)
    master = cell.master()
    other = next(replica for replica in cell.nodes if replica != master.replica)
    add(cell, 3)
    cell.dropped = lambda sender, to, message: isinstance(message, Heartbeat)  # that it is chosen stays at the master
    request = cell.call("promote_member", replica=3)
    cell.until(lambda: len(master.engine.replica.membership.voters) == 3, limit_ms=1_000)
    cell.run(100)
    assert request not in cell.answers
    assert cell.do("members")["can_lose"] == 0
    cell.dropped = lambda sender, to, message: False
    cell.until(lambda: request in cell.answers, limit_ms=1_000)
    assert (cell.answers[request]["changed"], cell.answers[request]["can_lose"]) == (True, 1)
    master.crash()
    assert cell.master().replica in (other, 3)


def test_a_reign_that_ends_before_a_promotion_has_settled_answers_that_none_can_be_lost() -> None:
    cell = cell_of(2)
    master = cell.master()
    add(cell, 3)
    cell.dropped = lambda sender, to, message: isinstance(message, Heartbeat)
    request = cell.call("promote_member", replica=3)
    cell.until(lambda: len(master.engine.replica.membership.voters) == 3, limit_ms=1_000)
    master.inbox.append(HandOverRequest())
    cell.until(lambda: request in cell.answers, limit_ms=1_000)
    assert (cell.answers[request]["changed"], cell.answers[request]["can_lose"]) == (True, 0)


def test_a_master_that_removes_itself_says_how_many_more_may_fail() -> None:
    cell = cell_of(5)
    request = cell.call("remove_member", replica=cell.master().replica)
    cell.until(lambda: request in cell.answers, limit_ms=1_000)
    assert (cell.answers[request]["voters"], cell.answers[request]["can_lose"]) == (4, 1)
