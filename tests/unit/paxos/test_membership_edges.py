"""Membership at the worst moments: who is needed although he was removed, who does not know yet that he counts."""

from __future__ import annotations

from coordd.paxos import messages as m
from coordd.paxos.ballot import CHOSEN, Ballot
from coordd.paxos.effects import ChosenRecord, ValueKind
from coordd.paxos.membership import Membership
from coordd.paxos.replica import Role
from tests.unit.paxos.cell import LEASE_MS, Cell

BATCH = bytes([ValueKind.BATCH.value])


def entry(membership: Membership) -> bytes:
    return bytes([ValueKind.MEMBERSHIP.value]) + membership.to_bytes()


def add(cell: Cell, replica: int, *, voter: bool = True) -> None:
    """Replica 1, the master, takes a new replica in."""
    cell.change(1, cell[1].membership.with_learner(replica))
    cell.settle()
    cell.join(replica)
    cell.run(for_ms=1500)
    if voter:
        cell.change(1, cell[1].membership.with_voter(replica))
        cell.run(for_ms=600)


def test_an_address_goes_with_its_member() -> None:
    membership = Membership(1, (1, 2)).with_learner(3, "http://c:7420").with_voter(3)
    assert membership.addresses == ((3, "http://c:7420"),)
    assert membership.without(1).addresses == ((3, "http://c:7420"),)
    assert membership.without(3).addresses == ()


# ---- a removed replica is needed until a majority of the others knows ----


def test_a_removed_replica_votes_on_until_a_majority_of_the_others_knows_of_it() -> None:
    cell = Cell(4)
    cell.elect(1)
    cell.change(1, cell[1].membership.without(4))
    cell.deliver(lambda _, to, message: to in (2, 4))
    cell.deliver(lambda _, to, message: to == 1)
    assert cell[1].membership.voters == (1, 2, 3)
    cell.crash(1)  # for ever: the new membership can lose one
    cell.wire.clear()
    cell.run(for_ms=LEASE_MS * 4)
    assert cell.serves(2) or cell.serves(3)
    assert cell[2].membership.voters == cell[3].membership.voters == (1, 2, 3)
    assert cell.left == {4}, "and then he is told"


def test_who_knows_that_he_was_removed_tells_those_that_take_him_for_a_voter() -> None:
    cell = Cell(2)
    cell.elect(1)
    cell.change(1, cell[1].membership.without(1))
    cell.deliver(lambda _, to, message: to == 2)
    cell.deliver(lambda _, to, message: to == 1)
    assert cell[1].state.left
    cell.wire.clear()  # 2 has voted for it and does not know that it is chosen
    cell.run(for_ms=LEASE_MS * 4)
    assert cell.serves(2)
    assert cell.left == {1}


def test_who_starts_from_a_snapshot_that_removed_him_is_told_and_leaves() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell.crash(3)
    cell.change(1, cell[1].membership.without(3))
    cell.settle()
    disk = cell.disks[3].durable
    disk.membership, disk.entries = cell[1].membership, {}
    disk.snapshot_slot = disk.chosen_upto = cell[1].chosen_upto  # it had come as far, and no news is newer
    cell.boot(3)
    assert cell[3].state.left, "he knows it himself"
    cell.run(for_ms=LEASE_MS * 4)
    assert cell.left == {3}


def test_that_a_change_is_chosen_is_durable_before_it_is_reported() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell.change(1, cell[1].membership.without(3))
    cell.settle()
    slot = cell[1].chosen_upto
    assert cell[2].chosen_upto == slot
    assert cell.disks[2].durable.chosen_upto == slot
    cell.sync = False
    cell.change_when_possible(1, cell[1].membership.without(2))
    cell.settle()
    while cell.unsynced[1] and cell[1].chosen_upto == slot:
        cell.sync_disk(1)
        cell.sync_disk(2)
        cell.settle()
    (waiting,) = cell.unsynced[1]
    assert ChosenRecord(slot + 1) in waiting.persist
    proposer = cell[1].proposer
    assert proposer is not None
    assert not proposer.settled
    cell.sync_disk(1)
    assert proposer.settled


def test_a_follower_sends_a_removed_replica_away_only_when_it_knows_that_the_change_has_settled() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell.crash(3)
    cell.change(1, cell[1].membership.without(3))
    for _ in range(40):
        cell.tick(1, 2, after_ms=50)
        cell.settle_but(m.Settled)
        cell.wire.clear()
    cell.boot(3)
    cell.now_ms += LEASE_MS
    cell[3].state.ask_at_ms = 0
    cell.tick(3)
    cell.run(2, 3, for_ms=300)
    assert cell[2].membership.version == 2
    assert not cell.left, "a follower cannot know whether he is needed"
    cell[2].receive(m.Settled(*cell[1].state.header(), version=2), cell.now_ms)
    cell.run(2, 3, for_ms=500)
    assert cell.left == {3}


def test_that_a_change_has_settled_is_said_again() -> None:
    cell = Cell(2)
    cell.elect(1)
    said = []
    for _ in range(12):
        cell.tick(after_ms=300)
        while taken := cell.deliver():
            said += [message for message in taken if isinstance(message, m.Settled)]
    assert said == [m.Settled(*cell[1].state.header(), version=1)]
    assert cell[2].state.settled_version == 1


def test_a_replica_that_was_removed_before_it_ever_knew_that_it_was_added_is_told() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell.change(1, cell[1].membership.with_learner(4))
    cell.run(for_ms=600)
    cell.change(1, cell[1].membership.without(4))
    cell.run(for_ms=600)
    cell.join(4)
    cell.run(for_ms=LEASE_MS * 2)
    assert cell.left == {4}


# ---- who does not know yet that he counts ----


def test_a_voter_that_missed_its_promotion_learns_of_it_from_the_candidate_that_needs_it() -> None:
    cell = Cell(1)
    cell.elect(1)
    add(cell, 2, voter=False)
    cell.change(1, cell[1].membership.with_voter(2))
    cell.sync_disk(1)
    assert cell[1].membership.voters == (1, 2)
    cell.crash(1)
    cell.wire.clear()
    assert not cell[2].state.is_voter
    cell.boot(1)
    cell.run(for_ms=LEASE_MS * 4)
    assert cell.serves(1) or cell.serves(2)
    assert cell[2].state.is_voter


def test_a_replica_that_slept_through_several_changes_learns_from_members_it_has_never_heard_of() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell.crash(3)
    for replica in (4, 5):
        add(cell, replica)
    for replica in (2, 1):
        cell.change_when_possible(1, cell[1].membership.without(replica))
        cell.run(for_ms=2000)
    assert cell[4].membership.voters == (3, 4, 5)
    for replica in (1, 2):
        cell.crash(replica)
    cell.boot(3)
    cell.run(for_ms=LEASE_MS * 3)
    assert cell[3].membership == cell[4].membership
    assert cell[3].chosen_upto == cell[4].chosen_upto


def test_it_learns_even_where_nobody_reigns_because_its_voice_is_needed() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell.crash(3)
    add(cell, 4)
    cell.change_when_possible(1, cell[1].membership.without(2))
    cell.run(for_ms=1000)
    assert cell[4].membership.voters == (1, 3, 4)
    for replica in (1, 2):
        cell.crash(replica)
    cell.boot(3)  # knows 1, 2 and itself
    cell.run(for_ms=LEASE_MS * 4)
    assert cell.serves(3) or cell.serves(4)


def test_a_voter_that_finds_no_voter_asks_the_learners_that_it_knows() -> None:
    cell = Cell(3)
    cell.elect(1)
    add(cell, 4, voter=False)
    cell.crash(3)
    cell.change_when_possible(1, cell[1].membership.with_voter(4))
    cell.run(for_ms=1000)
    for replica in (3, 2, 1):
        cell.change_when_possible(1, cell[1].membership.without(replica))
        cell.run(for_ms=1000)
    for replica in (1, 2):
        cell.crash(replica)
    cell.run(4, for_ms=LEASE_MS * 3)
    cell.boot(3)  # a voter of old that knows 4 as a learner
    assert cell[3].membership.learners == (4,)
    cell.run(3, 4, for_ms=LEASE_MS * 10)
    assert cell.left >= {3}


def test_a_replica_that_is_about_to_join_is_taught_by_a_cell_that_has_changed_since_its_file_was_written() -> None:
    cell = Cell(3)
    cell.elect(1)
    add(cell, 4)
    cell.change_when_possible(1, cell[1].membership.without(3))
    cell.run(for_ms=1000)
    cell.change(1, cell[1].membership.with_learner(5))
    cell.settle()
    cell.join(5)  # its file still says 1, 2, 3
    cell.run(for_ms=LEASE_MS * 2)
    assert cell[5].membership == cell[1].membership
    assert cell.left == {3}


def test_a_stranger_with_a_file_of_its_own_gets_no_vote() -> None:
    cell = Cell(3)
    cell.run(for_ms=LEASE_MS)
    for replica in (1, 2, 3):
        cell[replica].state.ask_at_ms = cell.now_ms + 60_000
    cell.join(4)
    cell[4].state.membership = Membership(1, (3, 4), lease_ms=LEASE_MS)
    cell.run(3, 4, for_ms=LEASE_MS * 3)
    assert not cell.serves(4)


def test_a_learner_knows_its_master_between_two_heartbeats() -> None:
    cell = Cell(3)
    cell.elect(1)
    add(cell, 4, voter=False)
    cell.tick(4, after_ms=200)
    assert cell[4].master == 1
    cell.tick(4, after_ms=LEASE_MS)
    assert cell[4].master is None


def test_a_candidate_that_counts_on_somebody_is_asked_by_him_for_what_he_missed() -> None:
    cell = Cell(3, membership=Membership(1, (1, 2), learners=(3,), lease_ms=LEASE_MS))
    cell.tick()
    cell.settle()
    cell[3].receive(m.Ask(2, 1, Ballot(9, 2), number=1), cell.now_ms)
    cell.perform(3)
    assert cell.wire == [(3, 2, m.LearnRequest(*cell[3].state.header(), first_slot=1))]


def test_who_is_about_to_join_takes_nobody_for_removed() -> None:
    assert not Membership(0, (1, 2), (5,)).has_removed(3)
    assert Membership(1, (1, 2), (5,)).has_removed(3)
    assert not Membership(1, (1, 2), (5,)).has_removed(6)


# ---- recovery ----


def test_in_recovery_a_change_waits_until_everything_before_it_is_chosen() -> None:
    cell = Cell(3)
    cell.tick()
    cell.settle()
    ballot = Ballot(2, 3)
    cell.disks[2].durable.entries |= {1: (ballot, BATCH + b"a"), 2: (ballot, entry(cell.membership.without(3)))}
    cell.disks[2].durable.promised = ballot
    cell.crash(2)
    cell.boot(2)
    for replica in (1, 3):
        cell[replica].state.ask_at_ms = cell.now_ms + 60_000
    cell.now_ms += LEASE_MS
    proposed: list[int] = []
    for _ in range(200):
        cell.tick(after_ms=20)
        for _, _, message in cell.wire:
            if isinstance(message, m.Accept) and message.entries:
                slots = [slot for slot, _ in message.entries]
                assert slots[-1] <= 1 or cell[2].chosen_upto >= 1
                assert 2 not in slots or slots == [2]
                proposed += slots
        cell.deliver()
        if cell.serves(2):
            break
    assert cell[2].membership.voters == (1, 2)
    assert proposed[0] == 1


def recovering_master() -> Cell:
    """Replica 2 recovers a change that it has proposed again; nobody has voted for it yet."""
    cell = Cell(3)
    cell.tick()
    cell.settle()
    cell.disks[2].durable.entries[1] = (Ballot(2, 3), entry(cell.membership.with_learner(4)))
    cell.disks[2].durable.promised = Ballot(2, 3)
    cell.crash(2)
    cell.boot(2)
    for replica in (1, 3):
        cell[replica].state.ask_at_ms = cell.now_ms + 60_000
    cell.now_ms += LEASE_MS
    cell[2].state.ask_at_ms = 0
    while cell[2].proposer is None:
        cell.tick(2, after_ms=50)
        cell.settle_but(m.Accept)
    return cell


def test_a_boost_in_the_middle_of_recovery_learns_first_where_a_voter_knows_more() -> None:
    cell = recovering_master()
    proposer = cell[2].proposer
    assert proposer is not None
    assert proposer.recovering
    value = cell[2].state.log.entries[1][1]
    for slot, chosen in ((1, value), (2, BATCH + b"x")):
        cell[3].state.accept(slot, CHOSEN, chosen)
    cell[3].state.advance_learnt()
    cell[3].state.promise(Ballot(cell[2].ballot.round + 5, 3))
    cell.perform(3)
    cell.tick(2, after_ms=320)
    cell.deliver(lambda _, to, message: to == 1 and not isinstance(message, m.Accept))
    cell.deliver(lambda _, to, message: to == 2)
    assert proposer.lease.until_ms > cell.now_ms
    cell.crash(1)
    cell.wire = [item for item in cell.wire if not isinstance(item[2], m.Accept)]
    cell.settle_but(m.Accept)  # the Nack of 3 makes the boost
    cell.run(2, 3, for_ms=1000)
    assert cell.serves(2)
    assert cell.value(2, 2) == b"x"


def test_a_change_that_is_chosen_some_time_after_a_boost_stops_nothing() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell.change_when_possible(1, cell[1].membership.with_learner(4))
    cell.wire.clear()
    own = cell[1].ballot
    cell[1].receive(m.Nack(3, 1, Ballot(own.round + 5, 3), refused=own), cell.now_ms)
    cell.perform(1)
    cell.settle_but(m.Accept)
    cell.tick(1, after_ms=50)  # the promises have done their work
    cell.run(for_ms=1000)
    assert cell[1].ballot > own and cell[1].membership.learners == (4,)
    assert cell[1].can_propose()


def test_a_disk_that_is_full_in_the_middle_of_recovery_ends_it() -> None:
    cell = recovering_master()
    cell.deliver(lambda _, to, message: to == 3)
    cell[2].disk_full(cell.now_ms)
    cell.perform(2)
    cell.deliver(lambda _, to, message: to == 2)  # the change would be chosen now, and recovery would have to write
    assert cell.role(2) is Role.FOLLOWER
    cell.run(for_ms=LEASE_MS * 4)
    assert cell.serves(1) or cell.serves(3)


def test_changes_that_are_applied_in_recovery_each_begin_the_lease_anew() -> None:
    cell = recovering_master()
    cell.tick(2, after_ms=320)
    cell.settle_but(m.Accept)
    proposer = cell[2].proposer
    assert proposer is not None
    assert proposer.lease.until_ms > cell.now_ms, "granted by the voters from before the change"
    cell.wire = [item for item in cell.wire if not isinstance(item[2], m.Heartbeat)]
    while cell[2].membership.version == 1:
        cell.tick(2, after_ms=50)
        assert cell.deliver(lambda _, to, message: to in (1, 2))
    assert cell[2].state.membership.version == 2
    assert not proposer.serving
    assert proposer.lease.until_ms == 0
