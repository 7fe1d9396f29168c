"""Reads are linearizable: from memory inside the lease, otherwise by a confirming round that began after they came."""

from __future__ import annotations

import pytest

from coordclient.protocol.errors import Refusal
from coordd.engine.effects import RoleChange
from coordd.engine.inputs import Call, HandOverRequest
from coordd.engine.reads import WaitingCall, WaitingCalls
from coordd.engine.settings import EngineSettings
from coordd.paxos.messages import Accepted, HeartbeatAnswer, Message
from coordd.paxos.state import PaxosSettings
from tests.unit.engine.cell import Cell, Node


def waiting(request: int, since_ms: int = 0) -> WaitingCall:
    return WaitingCall(Call(request, "get", {"path": "/"}), since_ms)


def rounds() -> WaitingCalls:
    return WaitingCalls(EngineSettings(PaxosSettings(1)))


def requests(calls: list[WaitingCall]) -> list[int]:
    return [each.call.request for each in calls]


def test_a_round_covers_only_what_came_before_it_was_asked_for():
    calls = rounds()
    calls.add(waiting(1))
    calls.number(10)
    calls.add(waiting(2))
    assert requests(calls.take_confirmed(10)) == [1]
    assert requests(calls.take_confirmed(10**9)) == [], "not numbered: not covered by any round"
    calls.number(11)
    assert requests(calls.take_confirmed(10)) == []
    assert requests(calls.take_confirmed(12)) == [2]


def test_rounds_are_numbered_anew_each_time():
    calls = rounds()
    calls.add(waiting(1))
    calls.number(10)
    calls.add(waiting(2))
    with pytest.raises(AssertionError, match="anew"):
        calls.number(10)


def test_inside_the_lease_everybody_goes_in_the_order_of_arrival():
    calls = rounds()
    for request in (1, 2, 3):
        calls.add(waiting(request))
        if request < 3:
            calls.number(request)
    assert requests(calls.take_all()) == [1, 2, 3]
    assert len(calls) == 0 and not calls.needs_round


def test_those_that_came_too_long_ago_are_taken_out_of_every_round():
    calls = rounds()
    calls.add(waiting(1, since_ms=100))
    calls.number(1)
    calls.add(waiting(2, since_ms=300))
    calls.number(2)
    calls.add(waiting(3, since_ms=150))
    assert requests(calls.take_late(200)) == [1, 3]
    assert requests(calls.take_all()) == [2]


def test_whom_nobody_waits_for_is_dropped():
    calls = rounds()
    gone = waiting(1)
    calls.add(gone)
    gone.leave(1)
    assert calls.take_all() == [] and len(calls) == 0


# ---- whole engines ----


def no_answers(cell: Cell, master: Node, held: list[tuple[int, int, Message]] | None = None) -> None:
    """The master's words go out; the answers to them are lost, or kept in `held`."""

    def drop(sender: int, to: int, message: Message) -> bool:
        answer = to == master.replica and isinstance(message, HeartbeatAnswer | Accepted)
        if answer and held is not None:
            held.append((sender, to, message))
        return answer

    cell.dropped = drop


def all_answers(cell: Cell) -> None:
    cell.dropped = lambda sender, to, message: False


def test_inside_the_lease_a_read_is_answered_in_the_very_step():
    cell = Cell(3)
    cell.do("put", path="/a", contents=b"x")
    master = cell.master()
    request = cell.call("get", path="/a")
    effects = master.step()
    assert cell.answers[request]["contents"] == b"x"
    assert not effects.send_now and not effects.persist


def test_outside_the_lease_a_read_waits_for_its_round():
    cell = Cell(3)
    cell.do("put", path="/a", contents=b"x")
    master = cell.master()
    no_answers(cell, master)
    cell.until(lambda: not master.engine.replica.lease_valid(cell.now_ms))
    request = cell.call("get", master, path="/a")
    cell.settle()
    assert request not in cell.answers
    all_answers(cell)
    cell.run(350)
    assert cell.answers[request]["contents"] == b"x"


def test_a_confirmed_round_lets_through_a_read_that_came_before_it_and_none_that_came_after():
    cell = Cell(3)
    client = cell.open()
    cell.do("put", path="/a", contents=b"x")
    master = cell.master()
    replica = master.engine.replica
    held: list[tuple[int, int, Message]] = []
    no_answers(cell, master, held)
    cell.until(lambda: not replica.lease_valid(cell.now_ms))
    before = cell.call("get", master, path="/a")
    keep_alive = client.keep_alive(master)
    cell.settle()
    assert replica.proposer is not None
    number = replica.proposer.lease.number
    # The answers to that round come when the lease that it gave is over too: only the round itself is worth something.
    lease_end_ms = cell.now_ms + 1_482
    cell.run(lease_end_ms - cell.now_ms - 20, tick_ms=20)
    cell.run(20, tick_ms=1)
    after = cell.call("get", master, path="/a")
    master.step()
    all_answers(cell)
    for sender, to, message in held:
        if isinstance(message, HeartbeatAnswer) and message.number == number:
            cell.send(sender, to, message)
    no_answers(cell, master)
    master.step()
    assert replica.serving and replica.confirmed == number and not replica.lease_valid(cell.now_ms)
    assert cell.answers[before]["contents"] == b"x"
    assert after not in cell.answers
    assert keep_alive not in cell.answers, "a KeepAlive is answered inside the lease only"


def test_a_deposed_master_never_answers_a_read_from_what_it_knew():
    cell = Cell(3)
    cell.do("put", path="/a", contents=b"old")
    old = cell.master()
    cell.isolate(old.replica)
    cell.until(lambda: not old.engine.replica.lease_valid(cell.now_ms))
    old.paused = True
    new = cell.master()
    cell.do("put", new, path="/a", contents=b"new")
    old.paused = False
    request = cell.call("get", old, path="/a")
    old.step()
    assert request not in cell.answers
    cell.heal()
    cell.settle()
    cell.run(2_000)
    answer = cell.answers[request]
    assert isinstance(answer, Refusal) and answer.code == "not_master"
    assert cell.do("get", new, path="/a")["contents"] == b"new"


def test_after_a_hand_over_the_old_master_answers_nothing_and_the_new_one_everything():
    cell = Cell(3)
    cell.do("put", path="/a", contents=b"x")
    old = cell.master()
    to = next(replica for replica in cell.nodes if replica != old.replica)
    old.inbox.append(HandOverRequest(to))
    begun_ms = cell.now_ms
    cell.run(50)
    assert cell.refused("get", old, path="/a") in ("not_master", "unavailable")
    new = cell.master()
    assert new.replica == to and cell.now_ms - begun_ms < 1_500, "nobody waits for a lease that was given up"
    assert cell.do("get", new, path="/a")["contents"] == b"x"


def test_a_read_sees_every_write_that_was_answered_before_it_came():
    cell = Cell(3)
    for turn in range(50):
        answered = cell.do("put", path="/a", contents=str(turn).encode())
        read = cell.do("get", path="/a")
        assert read["contents"] == str(turn).encode() and read["stat"] == answered["stat"]


def test_sessions_are_listed_with_what_is_left_of_their_leases():
    cell = Cell()
    client = cell.open(lease_ms=5_000)
    cell.run(2_000)
    (row,) = cell.do("list_sessions")["sessions"]
    assert row["session"] == client.session and row["left_ms"] == 3_000


def test_outside_the_lease_sessions_are_listed_after_a_round_and_a_long_list_comes_in_pages():
    cell = Cell(3)
    master = cell.master()
    no_answers(cell, master)
    cell.until(lambda: not master.engine.replica.lease_valid(cell.now_ms))
    request = cell.call("list_sessions", master)
    master.step()
    assert request not in cell.answers
    all_answers(cell)
    cell.run(350)
    assert cell.answers[request]["sessions"] == []
    for _ in range(2_500):
        cell.call("open_session", client={"host": "h" * 50})
    cell.settle()
    first = cell.do("list_sessions")
    rest = cell.do("list_sessions", after=first["sessions"][-1]["session"])
    assert (first["more"], rest["more"]) == (True, False)
    assert len({row["session"] for row in first["sessions"] + rest["sessions"]}) == 2_500
    assert all("left_ms" in row for row in rest["sessions"])


def test_status_is_answered_by_everybody():
    cell = Cell(3)
    master = cell.master()
    cell.run(500)
    for node in cell.nodes.values():
        status = cell.do("status", node)
        assert status["replica"] == node.replica and status["master"] == master.replica
        assert status["role"] == ("master" if node is master else "follower")
        assert status["chosen_upto"] == node.engine.replica.chosen_upto


def test_a_role_is_told_when_it_changes_and_only_then():
    cell = Cell(3)
    master = cell.master()
    told: list[RoleChange] = []
    for turn in range(100):
        if turn == 20:
            assert told == []
            cell.isolate(master.replica)
        cell.now_ms += 50
        change = master.step().role
        if change is not None:
            told.append(change)
        cell.settle()
    assert told[0].role == "follower" and told[0].master is None
