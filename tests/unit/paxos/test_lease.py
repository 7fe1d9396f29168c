"""The master lease: who may believe what, until when."""

from __future__ import annotations

from coordd.paxos import messages as m
from coordd.paxos.ballot import Ballot
from coordd.paxos.lease import Grants, MasterLease
from coordd.paxos.membership import Membership
from tests.unit.paxos.cell import LEASE_MS, Cell

MEMBERS = Membership(1, (1, 2, 3), lease_ms=LEASE_MS)


def test_the_master_counts_its_lease_from_the_sending_and_less_the_drift() -> None:
    lease = MasterLease(drift_ppm=10_000)
    number = lease.begin_round(1_000)
    lease.answer(1, number, MEMBERS)
    assert lease.until_ms == 0
    lease.answer(2, number, MEMBERS)
    assert lease.until_ms == 1_000 + 1485 - 3


def test_the_majority_heartbeat_is_the_highest_that_a_majority_answered() -> None:
    lease = MasterLease(drift_ppm=0)
    for now_ms in (0, 100, 200):
        lease.begin_round(now_ms)
    lease.answer(1, 3, MEMBERS)
    lease.answer(2, 1, MEMBERS)
    assert (lease.confirmed, lease.until_ms) == (1, LEASE_MS - 3)
    lease.answer(3, 2, MEMBERS)
    assert (lease.confirmed, lease.until_ms) == (2, 100 + LEASE_MS - 3)
    lease.answer(3, 1, MEMBERS)
    assert lease.confirmed == 2, "a late answer takes nothing back"


def test_answers_of_learners_and_strangers_do_not_count() -> None:
    lease = MasterLease(drift_ppm=0)
    number = lease.begin_round(0)
    lease.answer(1, number, MEMBERS)
    lease.answer(9, number, MEMBERS)
    assert lease.confirmed == 0


def test_a_grant_is_given_to_one_start_of_one_replica() -> None:
    grants = Grants(boot_until_ms=0)
    grants.grant((1, 4), Ballot(1, 1), 1, LEASE_MS, now_ms=0, caches=False)
    assert grants.may_promise(1, 4, now_ms=1)
    assert not grants.may_promise(1, 5, now_ms=LEASE_MS - 1), "the same replica, restarted"
    assert not grants.may_promise(2, 1, now_ms=LEASE_MS - 1)
    assert grants.may_promise(2, 1, now_ms=LEASE_MS)


def test_boot_wait_a_restarted_acceptor_promises_to_nobody_for_one_lease_itself_included() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell.crash(2)
    cell.boot(2)
    cell.tick(2)
    cell.tick(1, 3)
    cell.settle()
    assert not cell[2].state.grants.may_promise(3, 1, cell.now_ms)
    assert not cell[2].state.grants.may_promise(2, 2, cell.now_ms)
    cell.wire.clear()
    cell[2].receive(m.Ask(3, 1, Ballot(99, 3), number=1), cell.now_ms)
    cell[2].receive(m.Prepare(3, 1, Ballot(99, 3)), cell.now_ms)
    cell.perform(2)
    (willing,) = [message for _, _, message in cell.wire]
    assert isinstance(willing, m.Willing)
    assert not willing.yes


def test_boot_wait_holds_for_a_single_replica_too_but_not_at_its_very_first_start() -> None:
    cell = Cell(1)
    cell.run(for_ms=500)
    assert cell.serves(1)
    cell.crash(1)
    cell.boot(1)
    cell.run(for_ms=LEASE_MS - 100)
    assert not cell.serves(1)
    cell.run(for_ms=600)
    assert cell.serves(1)


def test_no_promise_to_another_within_a_grant() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell.tick(1, after_ms=300)
    cell.settle()
    cell.wire.clear()
    promised = cell[2].ballot
    cell.now_ms += LEASE_MS - 1
    cell[2].receive(m.Prepare(3, 1, Ballot(99, 3)), cell.now_ms)
    assert cell[2].ballot == promised
    cell.now_ms += 1
    cell[2].receive(m.Prepare(3, 1, Ballot(99, 3)), cell.now_ms)
    assert cell[2].ballot == Ballot(99, 3)


def test_the_lease_ends_at_the_master_before_any_grant_ends() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell.tick(1, after_ms=300)
    cell.settle()
    until_ms = cell[1].proposer.lease.until_ms if cell[1].proposer else 0
    assert cell[1].lease_valid(until_ms - 1)
    assert not cell[1].lease_valid(until_ms)
    assert all(until_ms < cell[other].state.grants.until_ms for other in (1, 2, 3))


def test_a_confirming_round_covers_only_what_came_before_it() -> None:
    cell = Cell(3)
    cell.elect(1)
    number = cell[1].confirm(cell.now_ms)
    assert cell[1].confirmed < number
    cell.perform(1)
    cell.deliver(lambda _, to, message: to == 2)
    later = cell[1].confirm(cell.now_ms)
    assert later > number, "numbered anew each time"
    for _, to, message in cell.wire:
        if to == 1:
            cell[1].receive(message, cell.now_ms)
    assert cell[1].confirmed == number, "the later round has not been sent yet"
    cell.perform(1)
    cell.settle()
    assert cell[1].confirmed == later


def test_an_old_hand_over_message_drops_no_newer_grant() -> None:
    grants = Grants(boot_until_ms=0)
    grants.grant((1, 1), Ballot(1, 1), 5, LEASE_MS, now_ms=0, caches=False)
    assert not grants.void((1, 1), Ballot(1, 1), number=4, now_ms=10, caches=False)
    grants.grant((1, 1), Ballot(3, 1), 1, LEASE_MS, now_ms=20, caches=False)
    assert not grants.void((1, 1), Ballot(1, 1), number=9, now_ms=30, caches=False)
    assert not grants.may_promise(2, 1, now_ms=40)


def test_a_late_copy_of_a_heartbeat_makes_no_grant_older() -> None:
    grants = Grants(boot_until_ms=0)
    grants.grant((1, 1), Ballot(1, 1), 5, LEASE_MS, now_ms=0, caches=False)
    grants.grant((1, 1), Ballot(1, 1), 3, LEASE_MS, now_ms=10, caches=False)
    assert not grants.void((1, 1), Ballot(1, 1), number=4, now_ms=20, caches=False)


def test_nobody_is_sent_to_a_master_that_has_handed_over() -> None:
    cell = Cell(3)
    cell.elect(1)
    assert cell[3].master == 1
    cell[1].hand_over(cell.now_ms, to=2)
    cell.tick(1)
    cell.settle()
    cell.tick(3)
    assert cell[3].master is None


def test_a_ballot_that_was_handed_over_never_holds_a_lease_again() -> None:
    grants = Grants(boot_until_ms=0)
    grants.grant((1, 1), Ballot(1, 1), 5, LEASE_MS, now_ms=0, caches=False)
    assert grants.void((1, 1), Ballot(1, 1), number=5, now_ms=10, caches=False)
    assert not grants.grant((1, 1), Ballot(1, 1), 4, LEASE_MS, now_ms=20, caches=False)
    assert grants.may_promise(2, 1, now_ms=20)


def test_the_master_gives_its_lease_up_before_it_says_so() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell.run(for_ms=300)
    assert cell[1].lease_valid(cell.now_ms)
    cell[1].hand_over(cell.now_ms)
    cell[1].tick(cell.now_ms, 0)
    assert not cell[1].lease_valid(cell.now_ms)
    assert any(isinstance(message, m.HandOver) for _, message in cell[1].take_effects().send_now)


def test_no_heartbeat_of_another_is_obeyed_within_a_grant() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell.tick(1, after_ms=300)
    cell.settle()
    before = cell[2].ballot
    above = Ballot(before.round + 1, 3)
    for message in (
        m.Heartbeat(3, 1, above, 1, 0, caches=False),
        m.Accept(3, 1, above, 1, 0, ((9, b"\2x"),), caches=False),
    ):
        cell[2].receive(message, cell.now_ms)
        cell.perform(2)
        assert not cell.wire and cell[2].ballot == before and cell[2].master == 1
    cell.now_ms += LEASE_MS
    cell[2].receive(m.Heartbeat(3, 1, above, 1, 0, caches=False), cell.now_ms)
    cell.perform(2)
    assert [type(message) for _, to, message in cell.wire if to == 3] == [m.HeartbeatAnswer]
    assert cell[2].ballot == above and cell[2].master == 3


def test_nobody_speaks_in_a_ballot_that_is_not_its_own() -> None:
    cell = Cell(3)
    cell.tick()
    cell.settle()
    cell[2].receive(m.Heartbeat(3, 1, Ballot(5, 1), 1, 0, caches=False), cell.now_ms)
    cell[2].receive(m.Accept(3, 1, Ballot(5, 1), 1, 0, ((1, b"\2x"),), caches=False), cell.now_ms)
    cell.perform(2)
    assert not cell.wire and not cell[2].state.log.entries


def test_a_late_heartbeat_of_a_ballot_that_was_handed_over_is_not_answered() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell.run(for_ms=300)
    late = m.Heartbeat(1, 1, cell[1].ballot, 99, 0, caches=False)
    cell[1].hand_over(cell.now_ms, 2)
    cell.tick(1)
    cell.deliver(lambda _, to, __: to == 3)
    cell.wire.clear()
    cell[3].receive(late, cell.now_ms)
    cell.perform(3)
    assert not cell.wire
    assert cell[3].state.grants.may_promise(2, 1, cell.now_ms)


def test_with_a_full_disk_nothing_is_granted_or_learnt_into_the_log() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell[3].disk_full(cell.now_ms)
    slot = cell.propose(1, b"x")
    cell.wire.clear()
    ballot = cell[1].ballot
    for message in (
        m.Heartbeat(1, 1, ballot, 9, 0, caches=False),
        m.Ask(2, 1, Ballot(99, 2), 1),
        m.Learned(1, 1, ballot, slot, (b"\2x",), slot),
    ):
        cell[3].receive(message, cell.now_ms)
        cell.perform(3)
    assert not cell.wire and slot not in cell[3].state.log.entries
    cell[3].disk_has_room(cell.now_ms)
    cell.run(for_ms=1000)
    assert cell.value(3, slot) == b"x"
