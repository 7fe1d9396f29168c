"""Calls, once: retries, refusals that say only what is true, doors of sessions, what the end of a mastership tells."""

from __future__ import annotations

from typing import Any

from coordclient.protocol.errors import Refusal
from coordclient.protocol.operations import OPERATIONS, Way
from coordd.engine.effects import Push, Reply
from coordd.engine.inputs import Call, Gone
from coordd.engine.pending import Pending, PendingCalls
from coordd.engine.settings import EngineSettings
from coordd.paxos.messages import Accept, Message
from coordd.paxos.state import PaxosSettings
from tests.unit.engine.cell import Cell, Node

WINDOW = PaxosSettings(1).window_slots


def code(cell: Cell, request: int) -> str:
    answer = cell.answers[request]
    assert isinstance(answer, Refusal), answer
    return answer.code


def log_upto(node: Node) -> int:
    return node.engine.replica.chosen_upto


# ---- once ----


def test_a_retry_of_an_answered_call_is_answered_without_being_logged():
    cell = Cell()
    client, node = cell.open(), cell.master()
    first = client.do("create", path="/a")
    upto = log_upto(node)
    assert client.do("create", number=client.number, path="/a") == first
    assert log_upto(node) == upto
    assert client.do("create", path="/a").code == "exists"


def test_a_retry_of_a_call_on_its_way_waits_with_the_first_try():
    cell = Cell()
    client, node = cell.open(), cell.master()
    node.disk_held = True
    requests = [client.call("create", path="/a")]
    cell.settle()
    requests += [client.call("create", number=client.number, path="/a") for _ in range(2)]
    cell.settle()
    assert not set(requests) & set(cell.answers)
    node.disk_held = False
    cell.settle()
    assert len({str(cell.answers[request]) for request in requests}) == 1
    assert cell.answers[requests[0]]["stat"]["path"] == "/a"


def test_every_logged_operation_twice_under_one_number_waits_with_the_first_try():
    """Also one that no client of ours numbers within a session, as open_session: a stranger may."""
    writes = {row.name: row for row in OPERATIONS.values() if row.way is Way.WRITE}
    values: dict[str, Any] = {"path": "/a", "hold": 1, "target": 1, "to": 1, "new_secret": "n" * 32, "reason": "why"}
    values |= {"locks": [{"path": "/a"}], "instance": 1}
    for first in writes.values():
        for second in (first, writes["open_session"]):
            cell = Cell()
            client, node = cell.open(), cell.master()
            values |= {"session": client.session, "secret": client.secret}
            node.disk_held = True
            requests = []
            for row in (first, second):
                needed = {argument.name: values[argument.name] for argument in row.arguments if argument.required}
                requests.append(client.call(row.name, number=7, **needed))
                cell.settle()
            node.disk_held = False
            cell.settle()
            assert str(cell.answers[requests[0]]) == str(cell.answers[requests[1]]), (first.name, second.name)


def test_a_retry_of_a_waiting_acquire_attaches_to_the_waiter_and_both_are_answered():
    cell = Cell(3)
    holder, client = cell.open(), cell.open()
    held = holder.do("acquire", path="/l")
    first = client.call("acquire", path="/l")
    cell.settle()
    second = client.call("acquire", number=client.number, path="/l")
    cell.settle()
    holder.do("release", path="/l", hold=held["hold"])
    assert cell.answers[first] == cell.answers[second]
    assert cell.answers[first]["hold"] == client.number


def test_a_retry_on_its_way_whose_waiter_is_granted_meanwhile_is_answered_once():
    cell = Cell(3)
    holder, client = cell.open(), cell.open()
    held = holder.do("acquire", path="/l")
    client.call("acquire", path="/l")
    cell.settle()
    cell.master().crash()
    new = cell.master()
    holder.attach()
    client.attach()
    new.disk_held = True
    for node in cell.nodes.values():
        node.disk_held = True
    released = holder.call("release", new, path="/l", hold=held["hold"])
    new.step()
    again = client.call("acquire", new, number=client.number, path="/l")
    new.step()
    third = client.call("acquire", new, number=client.number, path="/l")
    for node in cell.nodes.values():
        node.disk_held = False
    cell.settle()
    assert cell.answers[released]["revision"]
    assert cell.answers[again] == cell.answers[third]
    assert cell.answers[again]["hold"] == client.number


def test_a_waiter_whose_client_has_not_come_back_to_the_new_master_is_granted_all_the_same():
    cell = Cell(3)
    holder, away, other = cell.open(), cell.open(), cell.open()
    held = holder.do("acquire", path="/l")
    elsewhere = holder.do("acquire", path="/other")
    away.call("acquire", path="/l")
    number = away.number
    cell.settle()
    cell.master().crash()
    cell.master()
    holder.attach()
    other.attach()
    waiting = other.call("acquire", path="/other")
    cell.settle()
    holder.do("release", path="/l", hold=held["hold"])
    assert waiting not in cell.answers
    away.attach()
    assert away.do("acquire", number=number, path="/l")["hold"] == number
    holder.do("release", path="/other", hold=elsewhere["hold"])
    assert cell.answers[waiting]["hold"] == other.number


def test_a_call_below_what_was_acknowledged_is_unknown_and_never_run():
    cell = Cell()
    client = cell.open()
    client.do("put", path="/a", contents=b"1")
    old = client.number
    client.do("put", path="/a", contents=b"2", acked=old + 1)
    assert client.do("put", number=old, path="/a", contents=b"3").code == "outcome_unknown"
    assert cell.do("get", path="/a")["contents"] == b"2"


def test_a_cancel_ends_the_waiting_call():
    cell = Cell()
    holder, client = cell.open(), cell.open()
    holder.do("acquire", path="/l")
    waiting = client.call("acquire", path="/l")
    cell.settle()
    target = client.number
    assert client.do("cancel", target=target)["did"] == "withdrew"
    assert code(cell, waiting) == "cancelled"


def test_nobody_waits_any_more_and_the_call_goes_on():
    cell = Cell()
    client, node = cell.open(), cell.master()
    node.disk_held = True
    request = client.call("put", path="/a", contents=b"x")
    cell.settle()
    node.inbox.append(Gone((request, 999)))
    cell.settle()
    node.disk_held = False
    cell.settle()
    assert request not in cell.answers
    assert cell.do("get", path="/a")["contents"] == b"x"
    assert not node.engine._mastership.calls.open


# ---- what is told ----


def test_a_follower_names_the_master():
    cell = Cell(3)
    master = cell.master()
    follower = next(node for node in cell.nodes.values() if node is not master)
    cell.run(500)
    answer = cell.do("put", follower, path="/a", contents=b"x")
    assert answer.code == "not_master"
    assert answer.details == {"master": master.replica, "address": None}


def test_without_a_known_master_nothing_was_done():
    cell = Cell(3)
    for replica in cell.nodes:
        cell.isolate(replica)
    node = cell.nodes[1]
    cell.run(5_000)
    assert cell.refused("put", node, path="/a") == "unavailable"
    assert cell.refused("get", node, path="/a") == "unavailable"


def test_not_master_is_said_only_of_a_call_that_was_not_proposed():
    cell = Cell(3)
    holder, waiter = cell.open(), cell.open()
    holder.do("acquire", path="/l")
    waiting = waiter.call("acquire", path="/l")
    cell.settle()
    old = cell.master()
    cell.isolate(old.replica)
    proposed = []
    for turn in range(WINDOW):
        proposed.append(cell.call("put", old, path=f"/p{turn}"))
        old.step()
    queued = [cell.call("put", old, path=f"/q{turn}") for turn in range(3)]
    old.step()
    cell.run(200)
    new_read = cell.call("get", old, path="/")
    keep_alive = holder.keep_alive(old)
    cell.until(lambda: old.engine.replica.proposer is None)
    assert {code(cell, request) for request in proposed} == {"outcome_unknown"}
    assert {code(cell, request) for request in queued} == {"not_master"}
    assert code(cell, waiting) == "outcome_unknown"
    assert code(cell, new_read) == "is_a_directory", "inside its lease it may still read"
    assert cell.answers[keep_alive]["lease_ms"]
    cell.heal()
    new = cell.master()
    cell.run(1_000)
    for turn in range(3):
        assert cell.refused("get", new, path=f"/q{turn}") == "not_found", "not_master was the truth"
    waiter.attach()
    again = waiter.call("acquire", number=waiter.number, path="/l")
    cell.settle()
    assert again not in cell.answers, "it waits still, in its old place"


def test_no_answer_comes_from_a_slot_that_somebody_else_has_filled():
    """A deposed master learns, in the very step that deposes it, what was chosen for the slots that it had proposed."""
    cell = Cell(3)
    cell.do("put", path="/a", contents=b"before")
    old = cell.master()
    mine = old.replica
    cell.cut |= {(mine, replica) for replica in cell.nodes}
    lost = []
    for turn in range(3):
        lost.append(cell.call("put", old, path=f"/lost{turn}"))
        old.step()
        old.sync()
    old.paused = True  # what the others say gathers in its inbox
    new = cell.master()
    assert new is not old
    written = [cell.do("put", new, path=f"/kept{turn}") for turn in range(3)]
    cell.run(400)
    assert all("stat" in answer for answer in written)
    old.step()
    assert old.engine.replica.chosen_upto == new.engine.replica.chosen_upto
    assert {code(cell, request) for request in lost} == {"outcome_unknown"}
    cell.heal()
    old.paused = False
    cell.run(500)
    assert cell.refused("get", new, path="/lost0") == "not_found"
    assert old.engine.machine.digest() == new.engine.machine.digest()


def test_a_gap_is_closed_and_what_stood_behind_it_takes_effect_though_its_master_never_knew():
    cell = Cell(3)
    old = cell.master()
    cell.do("put", path="/a")
    gap = old.engine.replica.chosen_upto + 1

    def lose_the_gap(sender: int, to: int, message: Message) -> bool:
        return isinstance(message, Accept) and any(slot == gap for slot, _ in message.entries)

    cell.dropped = lose_the_gap
    lost = cell.call("put", old, path="/lost")
    old.step()
    kept = cell.call("put", old, path="/kept")
    old.step()
    for node in cell.nodes.values():
        if node is not old:
            node.step()
            node.sync()
    old.crash()
    cell.dropped = lambda sender, to, message: False
    new = cell.master()
    assert not {lost, kept} & set(cell.answers)
    assert cell.refused("get", new, path="/lost") == "not_found"
    assert cell.do("get", new, path="/kept")["stat"]
    old.start()
    cell.run(3_000)
    assert old.engine.machine.digest() == cell.master().engine.machine.digest()


def test_a_finished_retry_does_not_hide_a_later_one():
    calls = PendingCalls(EngineSettings(PaxosSettings(1)))
    replies: list[Reply | Push] = []
    first, later = (Pending(Call(number, "acquire", {}, 7, 3), b"command", 0) for number in (1, 2))
    calls.enqueue(first)
    calls.finish(first, {}, replies)
    calls.enqueue(later)
    calls.finish(first, {}, replies)
    assert calls.by_call == {(7, 3): later}
    assert replies == [Reply(1, {})]


def test_a_new_master_holds_calls_until_it_serves():
    cell = Cell(3)
    cell.open()
    cell.master().crash()
    standing: list[Node] = []

    def elected() -> bool:
        standing[:] = [n for n in cell.nodes.values() if n.alive and n.engine.replica.proposer is not None]
        return bool(standing)

    while not elected():  # one round of syncs at a time, so that it is seen between its election and its epoch entry
        for node in cell.nodes.values():
            node.disk_held = False
            node.sync()
            node.disk_held = True
        cell.run(50)
    (node,) = standing
    assert not node.engine.replica.serving
    write, read = cell.call("put", node, path="/a", contents=b"x"), cell.call("get", node, path="/b")
    node.step()
    assert write not in cell.answers and read not in cell.answers
    for each in cell.nodes.values():
        each.disk_held = False
    cell.settle()
    assert cell.answers[write]["stat"] and code(cell, read) == "not_found"


def test_a_call_that_cannot_even_be_begun_is_told_so_in_time():
    cell = Cell(patience_ms=1_000)
    client, node = cell.open(), cell.master()
    node.disk_held = True
    for turn in range(WINDOW):
        client.call("put", path=f"/p{turn}")
        node.step()
    late = client.call("put", path="/late")
    cell.run(500)
    assert late not in cell.answers
    cell.run(900)
    assert code(cell, late) == "unavailable"
    node.disk_held = False
    cell.settle()
    assert cell.refused("get", path="/late") == "not_found"


def test_a_call_that_waits_in_vain_for_a_round_is_told_so_in_time():
    cell = Cell(3, patience_ms=800)
    master = cell.master()
    cell.cut |= {(replica, master.replica) for replica in cell.nodes}
    cell.until(lambda: not master.engine.replica.lease_valid(cell.now_ms))
    read = cell.call("get", master, path="/")
    cell.run(700)
    assert read not in cell.answers
    cell.run(400)
    assert code(cell, read) == "unavailable"
