"""Catching up, the bounds of what is in flight, and peers whose data went back in time."""

from __future__ import annotations

from coordd.paxos import messages as m
from coordd.paxos.ballot import Ballot
from coordd.paxos.effects import ValueKind
from coordd.paxos.membership import Membership
from tests.unit.paxos.cell import LEASE_MS, Cell

BATCH = bytes([ValueKind.BATCH.value])


def test_a_follower_with_a_gap_asks_for_the_slots() -> None:
    cell = Cell(3)
    cell.elect(1)
    for payload in (b"a", b"b", b"c"):
        cell.propose(1, payload)
        cell.settle(1, 2)
    assert cell[3].chosen_upto < cell[1].chosen_upto
    cell.run(for_ms=600)
    assert cell.chosen[3] == cell.chosen[1]


def test_past_the_start_of_the_log_a_follower_gets_the_snapshot_in_chunks() -> None:
    cell = Cell(3)
    cell.elect(1, 1, 2)
    for number in range(5):
        cell.propose(1, b"%d" % number)
        cell.settle(1, 2)
    upto = cell[1].chosen_upto
    cell.snapshot = b"0123456789"
    cell[1].compact(upto, size=10)
    cell[1].state.log._drop_below(upto + 1)  # what a long log does by its bounds
    cell.run(1, 3, for_ms=1000)
    assert b"".join(chunk.data for chunk in cell.stored) == cell.snapshot
    assert [chunk.offset for chunk in cell.stored] == [0, 4, 8]
    cell[3].install(upto, 10, cell.membership, cell.now_ms)
    assert cell[3].chosen_upto == upto
    cell.run(for_ms=600)
    assert cell[3].chosen_upto == cell[1].chosen_upto


def test_an_acceptor_takes_no_slot_far_above_its_prefix_so_that_every_promise_is_bounded() -> None:
    cell = Cell(3)
    cell.tick()
    cell.settle()
    cell[1].receive(m.Accept(2, 1, Ballot(1, 2), 1, 0, ((256, BATCH), (257, BATCH)), caches=False), cell.now_ms)
    assert set(cell[1].state.log.entries) == {256}


def test_the_window_bounds_the_slots_in_flight() -> None:
    cell = Cell(3)
    cell.elect(1)
    count = 0
    while cell[1].can_propose():
        cell.propose(1, b"x")
        count += 1
    assert count == cell[1].state.settings.window_slots


def test_an_accept_that_was_lost_is_sent_again_to_whoever_has_not_voted_but_answers() -> None:
    cell = Cell(3)
    cell.elect(1)
    slot = cell.propose(1, b"x")
    cell.deliver(lambda _, to, message: to == 2)
    cell.wire = [entry for entry in cell.wire if entry[1] != 3]
    cell.settle(1, 2)
    assert cell[1].chosen_upto == slot
    slot = cell.propose(1, b"y")
    cell.wire.clear()
    cell.tick(1, after_ms=250)
    cell.tick(1, after_ms=250)
    assert not [to for _, to, message in cell.wire if isinstance(message, m.Accept)], "they have answered nothing since"
    cell.settle()
    cell.tick(1, after_ms=250)
    again = [to for _, to, message in cell.wire if isinstance(message, m.Accept)]
    assert again == [2, 3]
    cell.settle()
    assert cell[1].chosen_upto == slot


# ---- data that went back in time ----


def test_a_replica_that_knows_less_than_it_acknowledged_is_refused_and_stops() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell.propose(1, b"x")
    cell.settle()
    cell.crash(2)
    cell.disks[2].durable.entries.clear()
    cell.disks[2].durable.chosen_upto = 0
    cell.boot(2)
    cell.tick()
    cell.settle()
    assert "went back in time" in cell.stopped[2]


def test_a_late_hello_of_a_dead_start_stops_nobody() -> None:
    cell = Cell(3)
    cell.tick(2)
    hello = next(message for _, to, message in cell.wire if to == 1)
    cell.elect(1)
    cell.crash(2)
    cell.boot(2)
    cell.tick()
    cell.settle()
    cell[1].receive(hello, cell.now_ms)
    cell.perform(1)
    cell.settle()
    assert not cell.stopped


def test_nothing_of_a_new_start_is_listened_to_before_its_hello() -> None:
    cell = Cell(3)
    cell.tick()
    cell.settle()
    cell[1].receive(m.Prepare(2, 2, Ballot(9, 2)), cell.now_ms)
    cell.perform(1)
    (answer,) = [message for _, to, message in cell.wire if to == 2]
    assert isinstance(answer, m.Hello)
    assert answer.asks
    assert cell[1].ballot < Ballot(9, 2)


def test_strangers_are_not_listened_to() -> None:
    cell = Cell(3)
    cell.tick()
    cell.settle()
    cell[1].receive(m.Hello(7, 1, Ballot(9, 7), log_upto=0, asks=False, remembers=0), cell.now_ms)
    cell[1].receive(m.Prepare(7, 1, Ballot(9, 7)), cell.now_ms)
    effects = cell[1].take_effects()
    assert not effects.persist
    assert {type(message) for _, message in effects.send_now} <= {m.Hello, m.LearnRequest}, "it may know more, no more"
    assert cell[1].ballot < Ballot(9, 7)


def test_a_learner_neither_promises_nor_grants_nor_counts_but_learns() -> None:
    cell = Cell(3, membership=Membership(1, (1, 2), learners=(3,), lease_ms=LEASE_MS))
    cell.elect(1, 1, 2)
    slot = cell.propose(1, b"x")
    cell.deliver(lambda _, to, message: to == 3)
    assert not [message for origin, _, message in cell.wire if origin == 3 and isinstance(message, m.Accepted)]
    assert cell[1].chosen_upto < slot
    cell.run(for_ms=600)
    assert cell.chosen[3] == cell.chosen[1]
    cell[3].receive(m.Prepare(2, 1, Ballot(99, 2)), cell.now_ms)
    assert not cell[3].take_effects().send_after_persist


def test_chosen_upto_survives_a_restart_as_a_hint_so_that_a_lone_replica_proposes_little_again() -> None:
    cell = Cell(1)
    cell.elect(1)
    for number in range(20):
        cell.propose(1, b"%d" % number)
    chosen = list(cell.chosen[1])
    cell.crash(1)
    cell.boot(1)
    cell.perform(1)
    assert len(cell.chosen[1]) >= len(chosen) - 1
    assert cell.chosen[1] == chosen[: len(cell.chosen[1])]
