"""Membership: one change at a time, through the log, counted from its apply."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordd.paxos import messages as m
from coordd.paxos.ballot import Ballot
from coordd.paxos.effects import ValueKind
from coordd.paxos.membership import Membership
from tests.unit.paxos.cell import LEASE_MS, Cell

BATCH = bytes([ValueKind.BATCH.value])


def entry(membership: Membership) -> bytes:
    return bytes([ValueKind.MEMBERSHIP.value]) + membership.to_bytes()


def add(cell: Cell, replica: int) -> None:
    """Replica 1, the master, takes a new learner in, and it catches up."""
    cell.change(1, cell[1].membership.with_learner(replica))
    cell.settle()
    cell.join(replica)
    cell.run(for_ms=1500)


ADDRESSES = ((2, "http://b:7420"), (9, "http://[::1]:7420"))


def test_membership_in_bytes_and_on_the_wire_comes_back() -> None:
    for membership in (Membership(1, (1,)), Membership(7, (1, 2, 5), (6, 9), 2000, 12, ADDRESSES, (1, 2, 3))):
        assert Membership.from_bytes(membership.to_bytes()) == membership
        assert Membership.from_wire(membership.to_wire()) == membership


def test_what_a_cell_was_founded_with_goes_with_its_membership_for_ever() -> None:
    first = Membership(1, (1, 2, 3), lease_ms=2000)
    later = first.with_learner(4).with_voter(4).without(1)
    assert first.founding == later.founding == "lease_ms 2000, voters 1,2,3"
    assert not replace(first.without(3), founders=(1, 2)).follows(first)
    assert Membership(0, (1, 2, 3), (4,)).founding == "", "who is about to join does not know"


def test_the_bytes_of_a_membership_of_an_earlier_build_are_read() -> None:
    membership = Membership(7, (1, 2, 5), (6, 9), 2000, 12, ADDRESSES, (1, 2, 3))
    unknown = replace(membership, founders=())
    assert Membership.from_bytes(membership.to_bytes()[:-3]) == unknown and unknown.founding == ""
    assert Membership.from_wire(membership.to_wire()[:-1]) == unknown


def test_a_replica_id_is_given_once() -> None:
    membership = Membership(1, (1, 2, 3)).without(3)
    assert membership.highest == 3
    with pytest.raises(AssertionError):
        membership.with_learner(3)


def test_one_change_moves_at_most_one_voter() -> None:
    before = Membership(1, (1, 2, 3))
    assert before.without(3).follows(before)
    assert not Membership(2, (1, 4, 5)).follows(before)
    assert not Membership(3, (1, 2)).follows(before)


def test_a_learner_catches_up_and_is_seen_but_grants_and_counts_nothing() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell.propose(1, b"x")
    cell.settle()
    add(cell, 4)
    assert cell[4].membership == cell[1].membership == Membership(2, (1, 2, 3), (4,), LEASE_MS, founders=(1, 2, 3))
    assert cell.chosen[4] == cell.chosen[1]
    proposer = cell[1].proposer
    assert proposer is not None
    assert proposer.heard[4][1] == cell[1].chosen_upto
    assert proposer.lease.answered_by(4) == 0
    assert cell[4].state.grants.holder is None


def test_a_promoted_learner_votes_and_the_majority_grows() -> None:
    cell = Cell(3)
    cell.elect(1)
    add(cell, 4)
    cell.change(1, cell[1].membership.with_voter(4))
    cell.run(for_ms=600)
    assert cell[4].membership.voters == (1, 2, 3, 4)
    cell.wire.clear()
    slot = cell.propose(1, b"y")
    cell.deliver(lambda _, to, message: to in (1, 2))
    cell.deliver(lambda _, to, message: to == 1)
    assert cell[1].chosen_upto == slot - 1, "two of four are no majority"
    cell.settle()
    assert cell[1].chosen_upto == slot


def test_a_change_counts_from_its_apply_never_from_its_acceptance() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell.change(1, cell[1].membership.without(3))
    cell.deliver(lambda _, to, message: to in (2, 3))
    assert cell[2].membership.version == cell[3].membership.version == cell[1].membership.version == 1
    cell.deliver(lambda _, to, message: to == 1)
    assert cell[1].membership == Membership(2, (1, 2), (), LEASE_MS, highest=3, founders=(1, 2, 3))
    assert cell[2].membership.version == 1


def test_the_change_is_chosen_by_the_old_majority() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell.change(1, cell[1].membership.without(3))
    cell.wire = [entry for entry in cell.wire if entry[1] == 3]
    cell.settle(1, 3)
    assert cell[1].membership.version == 2


def test_nothing_is_proposed_behind_a_change_until_it_is_applied() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell.propose(1, b"x")
    assert not cell[1].can_change(), "the pipeline is drained before"
    cell.settle()
    cell.change(1, cell[1].membership.without(3))
    assert not cell[1].can_propose(), "and behind"
    cell.settle(1, 2)
    assert cell[1].can_propose()


def test_no_further_change_before_a_heartbeat_sent_after_the_last_one_was_answered_by_the_new_majority() -> None:
    cell = Cell(5)
    cell.elect(1)
    cell.change(1, cell[1].membership.without(5))
    while cell[1].membership.version == 1:
        assert cell.deliver()
    assert cell[1].can_propose()
    assert not cell[1].can_change()
    after = [message for _, _, message in cell.wire if isinstance(message, m.Heartbeat)]
    assert len(after) == 3, "it is asked for at once"
    cell.settle()
    assert cell[1].can_change()


def test_a_removed_replica_is_told_and_leaves() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell.change(1, cell[1].membership.without(3))
    cell.run(for_ms=600)
    assert cell.left == {3}


def test_a_replica_removed_while_it_was_away_is_told_when_it_comes_back() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell.crash(3)
    cell.change(1, cell[1].membership.without(3))
    cell.run(1, 2, for_ms=1000)
    cell.boot(3)
    cell.run(for_ms=500)
    assert cell.left == {3}


def test_a_replica_that_is_about_to_join_takes_no_notice_of_not_being_a_member() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell.join(4)
    cell.run(for_ms=500)
    assert not cell.left
    cell.change(1, cell[1].membership.with_learner(4))
    cell.run(for_ms=1000)
    assert cell.chosen[4] == cell.chosen[1]


def test_a_joining_replica_is_not_taken_for_removed_by_changes_from_before_its_time() -> None:
    cell = Cell(3)
    cell.elect(1)
    add(cell, 4)
    cell.change(1, cell[1].membership.without(4))
    cell.run(for_ms=1000)
    add(cell, 5)
    assert cell.left == {4}
    assert cell[5].membership.learners == (5,)


def test_a_master_that_removes_itself_stops_serving_when_that_is_applied_and_another_follows() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell.change(1, cell[1].membership.without(1))
    cell.settle()
    assert not cell.serves(1)
    cell.run(for_ms=2000)
    assert cell.serves(2) or cell.serves(3)
    assert cell[2].membership.voters == (2, 3)
    assert cell.left == {1}


def test_in_recovery_too_the_slots_behind_a_change_wait_for_the_promises_of_the_new_members() -> None:
    cell = Cell(3)
    cell.tick()
    cell.settle()
    # 2 accepted a change of a dead master for slot 1, and 3 values of an even older one behind it.
    smaller = Membership(1, (1, 2, 3), (), LEASE_MS).without(3)
    cell.disks[2].durable.entries[1] = (Ballot(2, 3), entry(smaller))
    cell.disks[2].durable.promised = Ballot(2, 3)
    cell.disks[1].durable.entries[2] = (Ballot(1, 3), BATCH + b"behind")
    cell.disks[1].durable.promised = Ballot(1, 3)
    for replica in (1, 2):
        cell.crash(replica)
        cell.boot(replica)
    cell[1].state.ask_at_ms = cell[2].state.ask_at_ms = cell.now_ms + 60_000
    cell.run(1, 2, for_ms=LEASE_MS + 200)
    master = cell.elect(1, 1, 2)
    assert master.membership == smaller
    kinds = [chosen.kind for chosen in cell.chosen[1]]
    assert kinds[:2] == [ValueKind.MEMBERSHIP, ValueKind.BATCH]


def test_recovery_asks_the_voters_that_the_change_brought() -> None:
    cell = Cell(3)
    cell.elect(1)
    add(cell, 4)
    cell.change(1, cell[1].membership.with_voter(4))
    cell.deliver(lambda _, to, message: to == 2)  # only 1 and 2 have it: chosen, known to 1 alone
    cell.deliver(lambda _, to, message: to == 1)
    assert cell[1].membership.version == 3
    cell.crash(1)
    cell.wire.clear()
    cell.now_ms += LEASE_MS
    master = cell.elect(2, 2, 3, 4)
    assert master.membership.voters == (1, 2, 3, 4)
    slot = cell.propose(2, b"z")
    cell.settle(2, 3, 4)
    assert cell[2].chosen_upto == slot
    assert cell[4].state.is_voter


def test_an_answer_of_a_voter_that_does_not_know_itself_to_be_one_carries_no_lease() -> None:
    cell = Cell(2)
    cell.elect(1)
    add(cell, 3)
    cell.change(1, cell[1].membership.with_voter(3))
    cell.deliver(lambda _, to, message: to == 2)
    cell.deliver(lambda _, to, message: to == 1)
    assert cell[1].membership.voters == (1, 2, 3)
    cell.wire.clear()
    until_ms = cell[1].proposer.lease.until_ms if cell[1].proposer else 0
    cell.now_ms += 400
    cell[3].receive(m.Heartbeat(1, 1, cell[1].ballot, number=999, chosen_upto=0, caches=False), cell.now_ms)
    cell.perform(3)
    (answer,) = [message for _, to, message in cell.wire if to == 1]
    assert isinstance(answer, m.HeartbeatAnswer)
    assert answer.number == 0
    assert until_ms == (cell[1].proposer.lease.until_ms if cell[1].proposer else 0)


def test_a_boost_keeps_a_change_that_is_in_flight() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell.crash(2)
    cell.wire.clear()
    cell[3].state.promise(Ballot(cell[1].ballot.round + 10, 3))
    cell.perform(3)
    cell.change(1, cell[1].membership.without(2))
    cell.run(1, 3, for_ms=900)
    assert cell[1].membership.voters == (1, 3)
    assert cell.serves(1)
    slot = cell.propose(1, b"after")
    cell.settle(1, 3)
    assert cell[1].chosen_upto == slot
