"""What comes late, twice, from the wrong one or at the wrong moment changes nothing, or does only what it still may."""

from __future__ import annotations

from coordd.paxos import messages as m
from coordd.paxos.ballot import Ballot
from coordd.paxos.effects import ValueKind
from coordd.paxos.membership import Membership
from coordd.paxos.replica import Role
from tests.unit.paxos.cell import LEASE_MS, Cell
from tests.unit.paxos.test_guards import candidate
from tests.unit.paxos.test_pieces import cell_with_a_snapshot

BATCH = bytes([ValueKind.BATCH.value])


def kinds(cell: Cell) -> set[type[m.Message]]:
    return {type(message) for _, _, message in cell.wire}


def told(cell: Cell, replica: int, message: m.Message) -> None:
    """`message` arrives, and what the replica does about it is on the wire."""
    cell.wire.clear()
    cell[replica].receive(message, cell.now_ms)
    cell.perform(replica)


# ---- the lease ----


def test_a_grant_to_one_is_not_given_to_another_in_a_ballot_that_was_promised_long_ago() -> None:
    cell = Cell(3)
    cell.elect(1)
    state = cell[2].state
    state.grants.void((1, 1), cell[1].ballot, state.grants.number, cell.now_ms, caches=False)
    state.grants.grant((3, 1), Ballot(99, 3), 1, LEASE_MS, cell.now_ms, caches=False)
    told(cell, 2, m.Heartbeat(1, 1, cell[1].ballot, number=99, chosen_upto=0, caches=False))
    assert kinds(cell) == set()


def test_a_ballot_that_was_handed_over_is_granted_no_lease_by_its_late_heartbeats() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell.tick(1, after_ms=600)
    beats = [message for _, to, message in cell.wire if to == 2 and isinstance(message, m.Heartbeat)]
    cell.settle()
    cell[1].hand_over(cell.now_ms, 3)
    cell.tick(1)
    cell.deliver(lambda _, to, __: to == 2)
    assert beats
    told(cell, 2, beats[-1])
    assert kinds(cell) == set()
    assert cell[2].state.grants.may_promise(3, 1, cell.now_ms)


def test_an_answer_to_a_heartbeat_of_another_ballot_or_never_sent_gives_no_lease() -> None:
    cell = Cell(3)
    cell.elect(1)
    proposer = cell[1].proposer
    assert proposer is not None
    before = (proposer.lease.until_ms, proposer.lease.confirmed, dict(proposer.heard))
    cell.now_ms += 100
    for ballot, number in ((Ballot(0, 1), proposer.lease.number), (Ballot(cell[1].ballot.round, 2), 1)):
        told(cell, 1, m.HeartbeatAnswer(2, 1, ballot, number=number, chosen_upto=0))
        assert (proposer.lease.until_ms, proposer.lease.confirmed, proposer.heard) == before
    told(cell, 1, m.HeartbeatAnswer(2, 1, cell[1].ballot, number=proposer.lease.number + 1, chosen_upto=0))
    assert (proposer.lease.until_ms, proposer.lease.confirmed) == before[:2]
    assert proposer.heard[2][0] == cell.now_ms, "but it was heard"


def test_answers_to_a_master_of_the_past_are_for_nobody() -> None:
    cell = Cell(3)
    cell.elect(1)
    for message in (
        m.HeartbeatAnswer(1, 1, Ballot(1, 2), number=1, chosen_upto=0),
        m.Accepted(1, 1, Ballot(1, 2), number=1, chosen_upto=0, slots=()),
    ):
        told(cell, 2, message)
        assert kinds(cell) == set() and cell.role(2) is Role.FOLLOWER


# ---- standing for election ----


def test_who_has_granted_a_lease_since_he_asked_does_not_stand() -> None:
    cell = Cell(3)
    cell.tick()
    cell.settle()
    cell[1].state.ask_at_ms = 0
    cell.tick(1)
    cell.deliver(lambda *entry: isinstance(entry[2], m.Ask))
    cell[1].receive(m.Heartbeat(3, 1, Ballot(1, 3), number=1, chosen_upto=0, caches=False), cell.now_ms)
    cell.deliver(lambda *entry: isinstance(entry[2], m.Willing))
    assert cell.role(1) is Role.FOLLOWER and cell[1].ballot == Ballot(1, 3)


def test_a_candidate_whom_no_majority_answers_gives_up() -> None:
    cell = candidate()
    ballot = cell[1].ballot
    assert cell.role(1) is Role.CANDIDATE
    cell.tick(1, after_ms=cell[1].state.settings.candidate_ms + 1)
    assert cell.role(1) is Role.FOLLOWER and cell[1].ballot == ballot


def test_a_refusal_by_a_learner_or_during_a_boost_changes_no_reign() -> None:
    cell = Cell(4, membership=Membership(1, (1, 2, 3), learners=(4,), lease_ms=LEASE_MS))
    cell.elect(1, 1, 2, 3)
    cell.tick()
    cell.settle()
    high = Ballot(cell[1].ballot.round + 5, 4)
    told(cell, 1, m.Nack(4, 1, high, refused=cell[1].ballot))
    assert m.Prepare not in kinds(cell)
    told(cell, 1, m.Nack(3, 1, Ballot(high.round, 3), refused=cell[1].ballot))
    assert kinds(cell) == {m.Prepare}
    boosted = cell[1].ballot
    told(cell, 1, m.Nack(2, 1, Ballot(boosted.round + 5, 2), refused=boosted))
    assert kinds(cell) == set() and cell[1].ballot == boosted and cell.role(1) is Role.MASTER


# ---- a master that steps down ----


def test_a_boosting_master_that_hands_over_says_nothing_in_its_old_ballot() -> None:
    cell = Cell(3)
    cell.elect(1)
    told(cell, 1, m.Nack(3, 1, Ballot(99, 3), refused=cell[1].ballot))
    cell.wire.clear()
    cell[1].hand_over(cell.now_ms, 2)
    cell.tick(1, after_ms=500)
    assert cell.role(1) is Role.FOLLOWER
    assert kinds(cell) <= {m.HandOver, m.Prepare}


def recovering() -> Cell:
    """Replica 1 adopts a value of slot 1 and begins its epoch in slot 2; nothing of it has left yet."""
    cell = candidate()
    held = ((1, Ballot(0, 3), BATCH + b"held"),)
    cell[1].receive(
        m.Promise(2, 1, cell[1].ballot, chosen_upto=0, part=0, parts=1, entries=held, cached_ms=0), cell.now_ms
    )
    assert cell.role(1) is Role.MASTER and not cell.serves(1)
    return cell


def test_a_master_that_learns_in_its_recovery_what_it_did_not_adopt_steps_down() -> None:
    cell = recovering()
    cell[1].receive(m.Learned(3, 1, Ballot(0, 3), 1, (BATCH + b"other",), 1), cell.now_ms)
    assert cell.role(1) is Role.FOLLOWER
    cell.perform(1)
    assert cell.value(1, 1) == b"other"


def test_a_slot_learnt_to_be_chosen_before_its_accept_has_left_is_in_no_flight_any_more() -> None:
    cell = recovering()
    cell[1].receive(m.Learned(3, 1, Ballot(0, 3), 1, (BATCH + b"held",), 1), cell.now_ms)
    cell.perform(1)
    assert cell.role(1) is Role.MASTER and cell.value(1, 1) == b"held"
    (accept,) = [message for _, to, message in cell.wire if to == 2 and isinstance(message, m.Accept)]
    assert [slot for slot, _ in accept.entries] == [1, 2], "whoever lacks it may take it from here"
    cell.settle(1, 2)
    assert cell.serves(1)


# ---- who is who ----


def test_a_message_in_the_own_name_is_nobodys() -> None:
    cell = Cell(3)
    cell.tick()
    cell.settle()
    told(cell, 1, m.Prepare(1, 1, Ballot(9, 1)))
    assert kinds(cell) == set() and cell[1].ballot < Ballot(9, 1)


def test_the_news_of_a_removal_that_is_older_than_the_membership_ends_nobody() -> None:
    cell = Cell(3)
    cell.tick()
    cell.settle()
    told(cell, 2, m.Removed(1, 1, Ballot(1, 1), version=cell.membership.version, known_start=1))
    cell.tick(2)
    assert cell.left == set()
    told(cell, 2, m.Removed(1, 1, Ballot(1, 1), version=cell.membership.version + 1, known_start=1))
    cell.tick(2)
    assert cell.left == {2}


def test_only_who_was_removed_and_is_not_needed_may_be_dismissed() -> None:
    cell = Cell(4)
    cell.elect(1)
    cell.change_when_possible(1, cell.membership.without(4))
    assert not cell[1].dismissal(4), "it may still be needed"
    cell.settle()
    cell.run(for_ms=600)
    assert cell[1].dismissal(4) and not cell[1].dismissal(3)


def test_a_removed_replica_that_is_asked_for_its_promise_says_how_far_it_knows() -> None:
    cell = Cell(3)
    cell.elect(1)
    slot = cell.change_when_possible(1, cell.membership.without(3))
    cell.settle(1, 2)
    change = cell[1].state.log.entries[slot][1]
    told(cell, 3, m.Learned(2, 1, cell[1].ballot, slot, (change,), slot))
    assert cell[3].state.left
    told(cell, 3, m.Prepare(2, 1, Ballot(99, 2)))
    ((_, to, answer),) = cell.wire
    assert to == 2 and isinstance(answer, m.Learned)
    assert (answer.values, answer.chosen_upto) == ((), cell[3].chosen_upto)


# ---- learning ----


def test_a_replica_without_room_asks_for_nothing() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell[3].disk_full(cell.now_ms)
    cell.wire.clear()
    cell[3].learner.want(99, 1)
    cell.perform(3)
    assert kinds(cell) == set()


def test_room_that_was_never_lacking_changes_nothing() -> None:
    cell = Cell(3)
    cell.elect(1)
    before = cell[2].state.ask_at_ms
    cell[2].disk_has_room(cell.now_ms)
    assert cell[2].state.ask_at_ms == before and not cell[2].state.mute


def test_an_answer_that_nobody_waits_for_and_that_tells_of_more_is_asked_further() -> None:
    cell = Cell(3)
    cell.tick()
    cell.settle()
    told(cell, 3, m.Learned(2, 1, Ballot(1, 1), 1, (BATCH + b"one",), 5))
    ((_, to, question),) = cell.wire
    assert to == 2 and isinstance(question, m.LearnRequest) and question.first_slot == 2


def test_an_offer_made_twice_begins_nothing_anew() -> None:
    cell, slot = cell_with_a_snapshot()
    while not cell.stored:
        cell.tick(1, 3, after_ms=50)
        cell.deliver(lambda origin, to, _: {origin, to} == {1, 3})
    told(cell, 3, m.SnapshotOffer(1, cell[1].state.start, cell[1].ballot, slot=slot, size=10))
    ((_, _, request),) = cell.wire
    assert isinstance(request, m.SnapshotRequest) and (request.slot, request.offset) == (slot, 4)


def test_bytes_behind_the_end_of_a_snapshot_are_not_given() -> None:
    cell, slot = cell_with_a_snapshot()
    for offset in (10, 2**62):
        told(cell, 1, m.SnapshotRequest(2, cell[2].state.start, cell[1].ballot, slot=slot, offset=offset))
        assert cell.wire == []
