"""One test per sentence of *Paxos Made Simple* that the core rests on; each name has the sentence."""

from __future__ import annotations

from coordd.paxos import messages as m
from coordd.paxos.ballot import ZERO, Ballot
from coordd.paxos.effects import AcceptedRecord, PromiseRecord, ValueKind
from tests.unit.paxos.cell import LEASE_MS, Cell, sent_by

BATCH = bytes([ValueKind.BATCH.value])


def acceptor(cell: Cell) -> None:
    """Replica 1 has heard the Hellos of the others."""
    cell.tick()
    cell.settle()


def test_p1_an_acceptor_must_accept_the_first_proposal_that_it_receives() -> None:
    cell = Cell(3)
    acceptor(cell)
    cell[1].receive(m.Accept(2, 1, Ballot(1, 2), 1, 0, ((1, BATCH + b"v"),), caches=False), cell.now_ms)
    effects = cell[1].take_effects()
    assert AcceptedRecord(1, Ballot(1, 2), BATCH + b"v") in effects.persist
    assert isinstance(effects.send_after_persist[0][1], m.Accepted)


def test_p1a_an_acceptor_accepts_n_iff_it_has_not_responded_to_a_prepare_greater_than_n() -> None:
    cell = Cell(3)
    acceptor(cell)
    cell[1].receive(m.Prepare(3, 1, Ballot(5, 3)), cell.now_ms)
    cell.perform(1)
    cell.wire.clear()
    cell[1].receive(m.Accept(2, 1, Ballot(4, 2), 1, 0, ((1, BATCH + b"old"),), caches=False), cell.now_ms)
    effects = cell[1].take_effects()
    assert not effects.persist and not effects.send_after_persist
    assert effects.send_now == [(2, m.Nack(1, 1, Ballot(5, 3), refused=Ballot(4, 2)))]


def test_phase_1b_promise_carries_the_highest_numbered_proposal_accepted_per_slot() -> None:
    cell = Cell(3)
    acceptor(cell)
    cell[1].receive(
        m.Accept(2, 1, Ballot(1, 2), 1, 0, ((1, BATCH + b"a"), (2, BATCH + b"b")), caches=False), cell.now_ms
    )
    cell.perform(1)
    cell.wire.clear()
    cell.now_ms += LEASE_MS
    cell[1].receive(m.Prepare(3, 1, Ballot(7, 3)), cell.now_ms)
    effects = cell[1].take_effects()
    assert effects.persist == [PromiseRecord(Ballot(7, 3))]
    (to, promise) = effects.send_after_persist[0]
    assert to == 3
    assert isinstance(promise, m.Promise)
    assert promise.entries == ((1, Ballot(1, 2), BATCH + b"a"), (2, Ballot(1, 2), BATCH + b"b"))
    assert promise.chosen_upto == 0


def test_a_lower_prepare_is_refused_and_the_higher_ballot_named() -> None:
    cell = Cell(3)
    acceptor(cell)
    cell[1].receive(m.Prepare(3, 1, Ballot(5, 3)), cell.now_ms)
    cell.perform(1)
    cell.wire.clear()
    cell[1].receive(m.Prepare(2, 1, Ballot(4, 2)), cell.now_ms)
    assert cell[1].take_effects().send_now == [(2, m.Nack(1, 1, Ballot(5, 3), refused=Ballot(4, 2)))]


def test_p2c_a_candidate_adopts_the_value_of_the_highest_ballot_among_the_promises() -> None:
    cell = Cell(5)
    # The second acceptor took "old" in ballot 1.4, the third "new" in 2.5; neither is known to be chosen.
    cell.disks[2].durable.entries[1] = (Ballot(1, 4), BATCH + b"old")
    cell.disks[3].durable.entries[1] = (Ballot(2, 5), BATCH + b"new")
    cell.disks[2].durable.promised = Ballot(1, 4)
    cell.disks[3].durable.promised = Ballot(2, 5)
    for replica in (2, 3):
        cell.boot(replica)
    cell.elect(1, 1, 2, 3)
    assert cell.value(1, 1) == b"new"


def test_section_3_gaps_below_a_known_value_are_closed_with_no_ops() -> None:
    cell = Cell(3)
    cell.disks[2].durable.entries[3] = (Ballot(1, 3), BATCH + b"third")
    cell.disks[2].durable.promised = Ballot(1, 3)
    cell.boot(2)
    cell.elect(1, 1, 2)
    kinds = [chosen.kind for chosen in cell.chosen[1]]
    assert kinds == [ValueKind.NO_OP, ValueKind.NO_OP, ValueKind.BATCH, ValueKind.EPOCH]
    assert cell.value(1, 3) == b"third"


def test_a_value_is_chosen_when_a_majority_has_accepted_it_and_not_before() -> None:
    cell = Cell(3)
    cell.elect(1)
    slot = cell.propose(1, b"x")
    assert cell[1].chosen_upto == slot - 1
    cell.deliver(lambda _, to, message: to == 2)
    assert cell[1].chosen_upto == slot - 1
    cell.deliver(sent_by(2, m.Accepted))
    assert cell[1].chosen_upto == slot


def test_the_own_vote_counts_only_after_the_own_fsync() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell.sync = False
    slot = cell.propose(1, b"x")
    cell.deliver(lambda _, to, message: to == 2)
    cell.sync_disk(2)
    cell.deliver(sent_by(2, m.Accepted))
    assert cell[1].chosen_upto == slot - 1, "one durable vote of three is no majority"
    cell.sync_disk(1)
    assert cell[1].chosen_upto == slot


def test_persist_then_speak_promise_and_accepted_wait_for_the_disk() -> None:
    cell = Cell(3)
    cell.tick()
    cell.settle()
    cell.sync = False
    cell[1].receive(m.Prepare(2, 1, Ballot(3, 2)), cell.now_ms)
    cell.perform(1)
    cell[1].receive(m.Accept(2, 1, Ballot(3, 2), 1, 0, ((1, BATCH + b"v"),), caches=False), cell.now_ms)
    cell.perform(1)
    assert not cell.wire
    cell.sync_disk(1)
    assert [type(message) for _, _, message in cell.wire] == [m.Promise, m.Accepted]


def test_prepare_leaves_only_after_the_own_promise_is_durable() -> None:
    cell = Cell(3)
    cell.tick()
    cell.settle()
    cell.sync = False
    cell[1].state.ask_at_ms = 0
    cell.tick(1)
    cell.deliver()
    cell.deliver(lambda _, to, message: isinstance(message, m.Willing))
    assert cell[1].state.promised > ZERO
    assert not [entry for entry in cell.wire if isinstance(entry[2], m.Prepare)]
    cell.sync_disk(1)
    assert [to for _, to, message in cell.wire if isinstance(message, m.Prepare)] == [2, 3]


def test_a_promise_repeated_before_it_is_durable_still_waits() -> None:
    cell = Cell(3)
    cell.tick()
    cell.settle()
    cell.sync = False
    for _ in range(2):
        cell[1].receive(m.Prepare(2, 1, Ballot(3, 2)), cell.now_ms)
        cell.perform(1)
    assert not cell.wire
    cell.sync_disk(1)
    assert [type(message) for _, _, message in cell.wire] == [m.Promise, m.Promise]


def test_ballot_rounds_are_never_reused_after_a_restart() -> None:
    cell = Cell(1)
    first = cell.elect(1).ballot
    cell.crash(1)
    cell.boot(1)
    assert cell.elect(1).ballot.round > first.round


def test_learning_a_chosen_value_overrules_what_was_accepted() -> None:
    cell = Cell(3)
    cell.disks[3].durable.entries[1] = (Ballot(1, 3), BATCH + b"lost")
    cell.disks[3].durable.promised = Ballot(1, 3)
    cell.boot(3)
    cell.elect(1, 1, 2)
    cell.propose(1, b"won")
    cell.settle(1, 2)
    cell.run(for_ms=1000)
    assert cell.chosen[3] == cell.chosen[1]
    assert cell.value(3, 1) != b"lost"


def test_messages_of_an_older_start_are_dropped() -> None:
    cell = Cell(3)
    cell.tick()
    cell.settle()
    cell.crash(2)
    cell.boot(2)
    cell.tick()
    cell.settle()
    cell[1].receive(m.Prepare(2, 1, Ballot(9, 2)), cell.now_ms)
    assert not cell[1].take_effects().persist
    cell[1].receive(m.Prepare(2, 2, Ballot(9, 2)), cell.now_ms)
    assert cell[1].take_effects().persist == [PromiseRecord(Ballot(9, 2))]
