"""Histories found by looking for them: each one broke a promise, or the process, before it was written down here."""

from __future__ import annotations

from coordd.paxos import messages as m
from coordd.paxos.ballot import Ballot
from coordd.paxos.effects import ValueKind
from coordd.paxos.membership import Membership
from coordd.paxos.replica import Role
from coordd.paxos.starts import count_of
from tests.unit.paxos.cell import LEASE_MS, Cell


def test_a_disk_lost_in_the_first_life_is_noticed_though_the_start_number_is_the_same() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell.propose(1, b"x")
    cell.settle()
    cell.crash(2)
    cell.lose_disk(2)
    cell.boot(2)
    assert count_of(cell[2].state.start) == 1
    cell.run(for_ms=1000)
    assert "went back in time" in cell.stopped[2]


def test_a_late_copy_of_a_hello_stops_nobody_who_has_acknowledged_more_since() -> None:
    cell = Cell(3)
    cell.tick(2)
    hello = next(message for _, to, message in cell.wire if to == 1)
    cell.elect(1)
    slot = cell.propose(1, b"x")
    cell.settle()
    cell[1].receive(hello, cell.now_ms)
    cell.perform(1)
    assert [type(message) for _, _, message in cell.wire] == [m.Regressed]
    cell.run(for_ms=600)
    assert not cell.stopped
    assert cell[2].chosen_upto == slot


def test_a_disk_lost_in_the_first_life_has_not_made_free_what_it_had_granted() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell.run(1, 2, for_ms=LEASE_MS * 2)  # 3 hears nothing and is bound by nothing any more
    assert cell[1].lease_valid(cell.now_ms)
    cell.crash(2)
    cell.lose_disk(2)
    cell.boot(2)
    del cell[3].state.known[2]  # which would refuse it: as if it had never heard of 2
    cell[3].state.ask_at_ms = 0
    while cell[1].lease_valid(cell.now_ms):
        cell.tick(2, 3, after_ms=50)
        cell.settle(2, 3)
        assert cell.role(3) is Role.FOLLOWER
    cell.run(2, 3, for_ms=LEASE_MS * 2)
    assert cell.serves(2) or cell.serves(3)


def test_a_cell_that_is_new_does_not_wait() -> None:
    cell = Cell(3)
    cell.run(for_ms=600)
    assert any(cell.serves(replica) for replica in (1, 2, 3))


def test_no_two_masterships_share_an_epoch() -> None:
    cell = Cell(3)
    cell.tick()
    cell.settle()
    # 1 and 2 ask at the same time; both are wanted; both prepare in the same round.
    for replica in (1, 2):
        cell[replica].state.ask_at_ms = 0
    cell[3].state.ask_at_ms = cell.now_ms + 60_000
    cell.tick(1, 2)
    cell.deliver(lambda *entry: isinstance(entry[2], m.Ask) and entry[1] == 3)
    cell.deliver(lambda *entry: isinstance(entry[2], m.Willing))
    assert cell.role(1) is cell.role(2) is Role.CANDIDATE
    # 1 wins with the vote of 3; 2 hears nothing of it.
    cell.wire = [entry for entry in cell.wire if entry[0] != 2]
    cell.settle(1, 3)
    assert cell.serves(1)
    first = cell[1].epoch
    cell.propose(1, b"x")
    cell.settle(1, 3)
    cell.crash(1)
    # 2 is a candidate still, and prepares again and again until the grant of 3 is over.
    cell[3].state.ask_at_ms = cell.now_ms + 60_000
    cell.run(2, 3, for_ms=LEASE_MS * 2)
    assert cell.serves(2)
    assert cell[2].epoch > first


def test_a_recovering_master_that_is_given_a_snapshot_lives_on() -> None:
    cell = Cell(5)
    cell.elect(1)
    cell.propose(1, b"x")
    cell.deliver(lambda _, to, message: to in (2, 3))
    cell.deliver(lambda origin, to, message: to == 1)  # chosen by 1, 2, 3
    cell.wire.clear()
    cell.tick(1, after_ms=300)
    cell.deliver(lambda _, to, message: to == 2)  # only 2 hears that it is chosen
    cell.wire.clear()
    cell.crash(1)
    slot = cell[2].chosen_upto
    assert slot > cell[3].chosen_upto
    # 2 keeps it in a snapshot only
    cell[2].compact(slot, size=4)
    cell[2].state.log._drop_below(slot + 1)
    cell.snapshot = b"1234"
    cell.now_ms += LEASE_MS
    for other in (3, 5):
        cell[other].state.ask_at_ms = cell.now_ms + 60_000
    cell[4].state.ask_at_ms = 0
    cell.tick(4)
    while cell.role(4) is not Role.MASTER:
        assert cell.deliver(lambda origin, to, _: 2 not in (origin, to))
    # Its Accepts reach 2 first.
    while not cell.stored:
        assert cell.deliver(lambda origin, to, _: 2 in (origin, to))
    cell[4].install(slot, 4, cell.membership, cell.now_ms)
    cell.perform(4)
    cell.elect(4, 2, 3, 4, 5)
    assert cell.serves(4)


def test_a_boost_that_meets_what_is_not_the_masters_own_doing_ends_the_mastership() -> None:
    for left_by in (Ballot(0, 3), Ballot(9, 3)):  # an older master, and one who came and went since
        cell = Cell(3)
        cell.elect(1)
        epoch, slot = cell[1].epoch, cell[1].chosen_upto + 1
        cell[3].state.promise(Ballot(11, 3))
        cell[3].state.accept(slot, left_by, bytes([ValueKind.BATCH.value]) + b"left")
        cell.perform(3)
        cell.crash(2)
        cell.run(1, 3, for_ms=600)
        assert not cell.serves(1) or cell[1].epoch > epoch
        cell.run(1, 3, for_ms=LEASE_MS * 3)
        assert [cell.value(replica, slot) for replica in (1, 3)] == [b"left", b"left"]


def test_a_master_about_to_leave_stays_when_a_change_leaves_it_nobody_to_leave_to() -> None:
    cell = Cell(2)
    cell.elect(1)
    cell.run(for_ms=600)
    cell[1].change(cell[1].membership.without(2), cell.now_ms)
    cell.perform(1)
    cell[1].hand_over(cell.now_ms)
    cell.run(for_ms=LEASE_MS * 3)
    assert cell[1].membership.voters == (1,)
    assert cell.serves(1)


def test_a_master_whose_disk_is_slow_hands_over_though_the_sync_lets_no_tick_pass() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell.sync = False
    cell.propose(1, b"x")
    cell.now_ms += 2_001  # the driver syncs in its one task: the next thing that paxos hears is that it is done
    cell.sync_disk(1)
    cell.tick(1)
    assert cell.role(1) is Role.FOLLOWER
    assert any(isinstance(message, m.HandOver) for _, _, message in cell.wire)


def test_a_learner_knows_the_master() -> None:
    cell = Cell(3, membership=Membership(1, (1, 2), learners=(3,), lease_ms=LEASE_MS))
    cell.elect(1, 1, 2, 3)
    cell.run(for_ms=600)
    cell.tick(3)
    assert cell[3].master == 1
