"""What a master may decide by time: the one rule, and the rules of sessions, on whole engines."""

from __future__ import annotations

from typing import Any

import pytest

from coordclient.protocol.errors import Refusal
from coordd.engine.inputs import HandOverRequest
from coordd.machine.commands import Command, decode_batch, encode_batch, pack_command
from coordd.paxos.ballot import Ballot
from coordd.paxos.effects import AcceptedRecord, ValueKind
from tests.unit.engine.cell import Cell, Client, Node


def commands(node: Node) -> list[Command]:
    """Every command in this replica's log, in order."""
    values = {r.slot: r.value for r in node.disk.records if isinstance(r, AcceptedRecord)}
    batches = [values[slot][1:] for slot in sorted(values) if values[slot][0] == ValueKind.BATCH.value]
    return [command for batch in batches for command in decode_batch(batch)[1]]


def lives(cell: Cell, client: Client, node: Node | None = None) -> bool:
    return client.session in (node or cell.master()).engine.machine.sessions


def deafen(cell: Cell, master: Node) -> None:
    """The master's words go out, no answer comes in: its lease ends, and nobody else can be elected."""
    cell.cut |= {(replica, master.replica) for replica in cell.nodes if replica != master.replica}


def deaf_master_outside_its_lease(cell: Cell) -> Node:
    master = cell.master()
    deafen(cell, master)
    cell.until(lambda: not master.engine.replica.lease_valid(cell.now_ms))
    assert master.engine.replica.serving
    return master


# ---- the one rule ----


def test_a_keep_alive_outside_the_lease_waits_for_a_confirming_round():
    cell = Cell(3)
    client = cell.open()
    master = deaf_master_outside_its_lease(cell)
    request = client.keep_alive(master)
    cell.settle()
    assert request not in cell.answers
    cell.heal()
    cell.run(300)
    assert master.engine.replica.lease_valid(cell.now_ms)
    assert cell.answers[request]["epoch"] == master.engine.replica.epoch


def test_nobody_is_expired_outside_the_lease_and_with_the_lease_regained_everybody_has_a_whole_lease():
    cell = Cell(3)
    client = cell.open(lease_ms=2_000)
    master = deaf_master_outside_its_lease(cell)
    reign = master.engine.replica.epoch
    cell.run(1_000)
    assert lives(cell, client, master)
    cell.heal()
    assert cell.master() is master and master.engine.replica.epoch == reign
    regained_ms = cell.now_ms
    cell.run(1_900)
    assert lives(cell, client), "a whole fresh lease, counted from the first moment KeepAlives can be answered"
    cell.until(lambda: not lives(cell, client))
    assert cell.now_ms <= regained_ms + 2_200
    assert [c.operation for c in commands(master)].count("expire_session") == 1


def test_a_lease_that_lapsed_and_came_back_between_two_steps_counts_as_regained():
    cell = Cell(3)
    client = cell.open(lease_ms=1_700)
    master = cell.master()
    replica = master.engine.replica
    deafen(cell, master)
    while replica.lease_valid(cell.now_ms + 100):
        cell.run(20, tick_ms=20)
    for _ in range(10):
        cell.now_ms += 10
        master.step()  # words go out, and the others answer, but what they say is not yet taken in
        if not replica.lease_valid(cell.now_ms + 10):
            break
    cell.heal()
    replica.confirm(cell.now_ms)
    master.step()
    for node in cell.nodes.values():
        if node is not master:
            node.step()
    cell.now_ms += 20
    assert master.inbox and not replica.lease_valid(cell.now_ms)
    left_ms = master.engine._mastership.lessor.left_ms(client.session)
    assert left_ms is not None and left_ms < 300
    master.step()
    assert replica.lease_valid(cell.now_ms)
    assert master.engine._mastership.lessor.left_ms(client.session) == 1_700


def test_no_lock_delay_ends_outside_the_lease_and_with_the_lease_regained_it_begins_whole():
    cell = Cell(3)
    dead, waiter = cell.open(lease_ms=1_000), cell.open(lease_ms=60_000)
    dead.do("acquire", path="/l", lock_delay_ms=2_000)
    waiting = waiter.call("acquire", path="/l")
    cell.until(lambda: not lives(cell, dead))
    master = deaf_master_outside_its_lease(cell)
    cell.run(1_000)
    assert waiting not in cell.answers
    cell.heal()
    assert cell.master() is master
    cell.run(1_900)
    assert waiting not in cell.answers
    cell.run(200)
    assert cell.answers[waiting]["token"]


def test_a_master_that_is_no_longer_one_expires_nobody_and_forgets_the_deadlines():
    cell = Cell(3)
    client = cell.open(lease_ms=3_000)
    old = cell.master()
    cell.isolate(old.replica)
    cell.run(4_000)
    assert lives(cell, client, old), "cut off, it decides nothing"
    assert old.engine._mastership.lessor.left_ms(client.session) is None
    assert "expire_session" not in [command.operation for command in commands(old)]


# ---- sessions ----


def test_1_from_the_moment_an_expiry_is_queued_until_it_is_decided_no_keep_alive_is_answered():
    cell = Cell()
    client, other = cell.open(lease_ms=1_000), cell.open()
    node = cell.master()
    node.disk_held = True
    cell.run(1_050)
    request, others = client.keep_alive(), other.keep_alive()
    cell.run(200)
    assert request not in cell.answers
    assert cell.answers[others]["lease_ms"] == 12_000, "nobody else waits for that"
    node.disk_held = False
    cell.settle()
    assert cell.answers[request].code == "session_expired"


def test_1_a_keep_alive_held_back_is_told_the_truth_when_the_mastership_ends():
    cell = Cell(3)
    client = cell.open(lease_ms=1_000)
    old = cell.master()
    cell.run(950)
    cell.isolate(old.replica)
    cell.run(150)
    assert old.engine._mastership.lessor.in_decision(client.session)
    request = client.keep_alive(old)
    cell.settle()
    assert request not in cell.answers
    cell.run(4_000)
    assert cell.answers[request].code == "not_master"


def test_1_a_decision_that_was_lost_with_a_mastership_holds_nobody_up_in_the_next_one():
    cell = Cell(3)
    client = cell.open(lease_ms=1_000)
    old = cell.master()
    cell.run(950)
    cell.isolate(old.replica)
    cell.run(150)
    assert old.engine._mastership.lessor.in_decision(client.session)
    old.paused = True
    new = cell.master()
    cell.heal()
    old.paused = False
    cell.run(200)
    client.attach()
    kept = client.keep_alive(new)
    cell.settle()
    assert cell.answers[kept]["lease_ms"] == 1_000, "the expiry was never chosen"
    new.inbox.append(HandOverRequest(old.replica))
    cell.run(100)
    assert cell.master() is old
    kept = client.keep_alive(old)
    cell.settle()
    assert cell.answers[kept]["lease_ms"] == 1_000


def test_2_a_new_master_gives_every_session_a_whole_fresh_lease():
    cell = Cell(3)
    client = cell.open(lease_ms=10_000)
    old = cell.master()
    cell.run(9_000)
    old.crash()
    new = cell.master()
    assert new is not old
    begun_ms = cell.now_ms
    cell.run(9_900)
    assert lives(cell, client)
    cell.until(lambda: not lives(cell, client))
    assert cell.now_ms <= begun_ms + 11_000


def test_2_a_stall_of_the_master_is_charged_to_nobody():
    cell = Cell(3)
    client = cell.open(lease_ms=2_000)
    cell.run(1_900)
    cell.now_ms += 1_000  # nobody steps: the machine stood still
    cell.run(50)
    assert lives(cell, client)
    cell.run(50)
    cell.until(lambda: not lives(cell, client), limit_ms=200)


def test_2_after_a_stall_the_inbox_is_drained_before_anything_is_decided():
    cell = Cell(3)
    client = cell.open(lease_ms=2_000)
    cell.run(1_950)
    request = client.keep_alive(cell.master())
    cell.now_ms += 1_000
    cell.run(100)
    assert cell.answers[request]["lease_ms"] == 2_000
    cell.run(1_850)
    assert lives(cell, client)


@pytest.mark.parametrize("lease_ms", [1_000, 12_000, 60_000])
def test_4_expiry_comes_at_lease_and_at_the_latest_a_tenth_later(lease_ms: int):
    cell = Cell(3)
    client = cell.open(lease_ms=lease_ms)
    cell.run(500)
    kept = client.keep_alive()
    cell.settle()
    kept_ms = cell.now_ms
    assert cell.answers[kept]["lease_ms"] == lease_ms
    cell.run(lease_ms - 100, tick_ms=100)
    assert lives(cell, client)
    cell.run(200, tick_ms=100)
    assert not lives(cell, client)
    assert cell.now_ms - kept_ms <= lease_ms + lease_ms // 10


def test_4_a_session_that_an_older_master_opened_without_knowing_is_expired_like_any_other():
    cell = Cell(3)
    cell.open()
    master = cell.master()
    stuck, other = (node for node in cell.nodes.values() if node is not master)
    # `stuck` was not in the majority that elected this master. It has accepted, of an older one, what nobody else has,
    # and has promised a higher ballot to a candidate that came to nothing.
    arguments = {"lease_ms": 2_000, "secret": "ab" * 16, "client": {}}
    opening = encode_batch(0, [pack_command("open_session", 0, 0, 0, "anonymous", arguments)])
    state = stuck.engine.replica.state
    slot, promised = state.log.upto + 2, Ballot(state.promised.round + 10, stuck.replica)
    state.accept(slot, Ballot(0, stuck.replica), bytes([ValueKind.BATCH.value]) + opening)
    state.promise(promised)
    other.crash()
    cell.until(lambda: len(cell.master().engine.machine.sessions) == 2)
    cell.run(2_000 + 200 + 2 * 1_500)
    assert len(cell.master().engine.machine.sessions) == 1


def test_4_an_expiry_names_incarnation_and_epoch():
    cell = Cell(3)
    client = cell.open(lease_ms=1_000)
    cell.run(1_100)
    master = cell.master()
    (expiry,) = [command for command in commands(master) if command.operation == "expire_session"]
    assert expiry.arguments == {"session": client.session, "incarnation": 1, "epoch": master.engine.replica.epoch}


def test_4_an_expiry_of_an_older_incarnation_ends_nobody_and_a_whole_lease_begins():
    cell = Cell()
    client = cell.open(lease_ms=1_000)
    node = cell.master()
    node.disk_held = True
    cell.run(1_050)
    assert node.engine._mastership.lessor.in_decision(client.session)
    node.engine.machine.sessions[client.session].incarnation = 2
    node.disk_held = False
    cell.settle()
    assert lives(cell, client)
    assert node.engine._mastership.lessor.left_ms(client.session) == 1_000
    client.attach()
    assert client.do("put", path="/a")["stat"]
    cell.run(1_100)
    assert not lives(cell, client)


def test_4_many_expiries_come_in_bounded_pieces():
    cell = Cell(decisions_per_step_max=16)
    clients = [cell.open(lease_ms=1_000) for _ in range(100)]
    node = cell.master()
    seen = node.engine.replica.chosen_upto
    cell.run(1_100)
    values = [r.value for r in node.disk.records if isinstance(r, AcceptedRecord) and r.slot > seen]
    sizes = [len(decode_batch(value[1:])[1]) for value in values]
    assert sum(sizes) == 100 and max(sizes) == 16
    assert not any(lives(cell, client) for client in clients)


def test_7_nobodys_keep_alive_is_evidence_for_anybody_elses_session():
    cell = Cell()
    one, other = cell.open(lease_ms=1_000), cell.open(lease_ms=1_000)
    for _ in range(4):
        cell.run(300)
        one.keep_alive()
    cell.settle()
    assert lives(cell, one) and not lives(cell, other)


def test_neither_a_write_nor_an_attach_renews_a_lease():
    cell = Cell()
    client = cell.open(lease_ms=1_000)
    for _ in range(4):
        cell.run(300)
        client.do("put", path="/a", contents=b"x")
        answer = client.attach()
    assert isinstance(answer, Refusal) and not lives(cell, client)


def test_a_session_that_closes_says_no_more():
    cell = Cell()
    client = cell.open(lease_ms=1_000)
    client.do("close_session")
    request = client.keep_alive()
    cell.settle()
    assert cell.answers[request].code == "session_expired"
    cell.run(2_000)
    assert "expire_session" not in [command.operation for command in commands(cell.master())]


# ---- locks ----


def test_the_earliest_grant_to_another_is_the_end_of_the_lease_and_the_lock_delay():
    cell = Cell(3)
    dead, waiter = cell.open(lease_ms=2_000), cell.open(lease_ms=60_000)
    dead.do("acquire", path="/l", lock_delay_ms=3_000)
    waiting = waiter.call("acquire", path="/l")
    kept = dead.keep_alive()
    cell.settle()
    kept_ms = cell.now_ms
    assert kept in cell.answers
    cell.until(lambda: waiting in cell.answers)
    assert kept_ms + 5_000 <= cell.now_ms <= kept_ms + 5_000 + 200 + 50


def test_a_new_master_restarts_a_lock_delay_whole():
    cell = Cell(3)
    dead, waiter = cell.open(lease_ms=1_000), cell.open(lease_ms=60_000)
    dead.do("acquire", path="/l", lock_delay_ms=5_000)
    waiting = waiter.call("acquire", path="/l")
    cell.until(lambda: not lives(cell, dead))
    cell.run(4_500)
    old = cell.master()
    old.crash()
    new = cell.master()
    begun_ms = cell.now_ms
    assert cell.answers.pop(waiting, None) is None
    again = waiter_again(cell, waiter, new)
    cell.until(lambda: again in cell.answers)
    assert begun_ms + 5_000 <= cell.now_ms <= begun_ms + 5_000 + 100


def waiter_again(cell: Cell, waiter: Client, node: Node) -> int:
    """The client's retry of its waiting acquire, at a new master."""
    waiter.attach()
    return waiter.call("acquire", node, number=waiter.number, path="/l")


def test_the_end_of_a_lock_delay_names_the_hold_and_the_epoch():
    cell = Cell()
    dead = cell.open(lease_ms=1_000)
    held: dict[str, Any] = dead.do("acquire", path="/l", lock_delay_ms=500)
    cell.run(1_700)
    master = cell.master()
    (end,) = [command for command in commands(master) if command.operation == "end_lock_delay"]
    names = {"path": "/l", "session": dead.session, "hold": held["hold"], "epoch": master.engine.replica.epoch}
    assert end.arguments == names


def test_the_sequencer_key_is_set_before_the_first_grant_and_only_once():
    cell = Cell(3)
    client = cell.open()
    assert client.do("acquire", path="/l")["sequencer"]
    cell.run(1_000)
    names = [command.operation for command in commands(cell.master())]
    assert names[0] == "set_sequencer_key" and names.count("set_sequencer_key") == 1
