"""What does not fit into one message, and what comes from several sources: promises, slots and snapshots in pieces."""

from __future__ import annotations

import pytest

from coordd.paxos import messages as m
from coordd.paxos.ballot import CHOSEN, Ballot
from coordd.paxos.effects import ValueKind
from coordd.paxos.log import KEPT_BYTES
from coordd.paxos.membership import Membership
from coordd.paxos.replica import Role
from coordd.paxos.state import MESSAGE_BYTES
from tests.unit.paxos.cell import LEASE_MS, Cell

BATCH = bytes([ValueKind.BATCH.value])
LARGE = MESSAGE_BYTES * 2 // 3


def large(number: int) -> bytes:
    return bytes([number]) * LARGE


def cell_with_large_values_that_only_its_voters_know() -> Cell:
    """Slots 2, 3, 4 are accepted by 1 and 2, and nobody but the dead 1 knows that they are chosen."""
    cell = Cell(3)
    cell.elect(1)
    for number in (1, 2, 3):
        cell.propose(1, large(number))
    cell.deliver(lambda _, to, __: to == 2)
    cell.crash(1)
    cell.wire.clear()
    cell.now_ms += LEASE_MS
    return cell


def test_a_promise_in_parts_is_adopted_whole_and_proposed_in_several_accepts() -> None:
    cell = cell_with_large_values_that_only_its_voters_know()
    cell[3].state.ask_at_ms = 0
    cell.tick(3)
    while cell.role(3) is not Role.MASTER:
        cell.deliver(lambda _, to, message: to == 2 or not isinstance(message, m.Promise))
        parts = [message for _, _, message in cell.wire if isinstance(message, m.Promise)]
        if parts:
            assert [(part.part, part.parts) for part in parts] == [(0, 3), (1, 3), (2, 3)]
            cell.wire.reverse()  # in whatever order they come
            cell.deliver()
    accepts = [message for _, to, message in cell.wire if to == 2 and isinstance(message, m.Accept)]
    assert [len(message.entries) for message in accepts] == [1, 1, 2], "three large values and the epoch entry"
    cell.settle(2, 3)
    assert [cell.value(3, slot) for slot in (2, 3, 4)] == [large(1), large(2), large(3)]
    assert cell.serves(3)


def test_parts_of_two_promises_between_which_a_slot_was_accepted_make_a_whole_one() -> None:
    """The candidate proposes a change in recovery, and asks again: the voter has one more slot than it had before."""
    cell = Cell(3)
    cell.tick()
    cell.settle()
    voter, ballot = cell[3], Ballot(9, 2)
    sizes = {1: 500, 2: 400, 3: 400, 4: 600}  # thousands of bytes
    for slot in (2, 3, 4):
        voter.receive(
            m.Accept(1, 1, Ballot(1, 1), slot, 0, ((slot, BATCH + bytes(sizes[slot] * 1000)),), caches=False),
            cell.now_ms,
        )
    cell.perform(3)
    cell.now_ms += LEASE_MS
    promises: list[list[m.Promise]] = []
    for _ in range(2):
        cell.wire.clear()
        voter.receive(m.Prepare(2, 1, ballot), cell.now_ms)
        cell.perform(3)
        promises.append([message for _, _, message in cell.wire if isinstance(message, m.Promise)])
        voter.receive(m.Accept(2, 1, ballot, 1, 0, ((1, BATCH + bytes(sizes[1] * 1000)),), caches=False), cell.now_ms)
        cell.perform(3)
    election = cell[2].election
    election.prepare()
    election.ballot = ballot
    before, after = promises
    for part in (*after[:-1], before[-1]):
        election.on_promise(part)
    assert [sorted(whole.entries) for whole in election._whole.values()] == [[1, 2, 3, 4]]


def test_what_promises_carried_is_not_held_once_the_master_serves() -> None:
    cell = cell_with_large_values_that_only_its_voters_know()
    cell.elect(3, 2, 3)
    late = m.Promise(2, 1, cell[3].election.ballot, chosen_upto=0, part=0, parts=1, entries=(), cached_ms=0)
    for _ in range(2):
        cell.tick(3)
        assert not (cell[3].election._whole or cell[3].election._parts)
        cell[3].receive(late, cell.now_ms)


def test_a_part_of_a_promise_that_was_lost_comes_with_the_next_prepare() -> None:
    cell = cell_with_large_values_that_only_its_voters_know()
    cell[3].state.ask_at_ms = 0
    cell.tick(3)
    while not any(isinstance(message, m.Promise) for _, _, message in cell.wire):
        assert cell.deliver()
    cell.wire = [entry for entry in cell.wire if isinstance(entry[2], m.Promise) and entry[2].part != 1]
    cell.deliver()
    assert cell.role(3) is Role.CANDIDATE
    cell.run(2, 3, for_ms=1000)
    assert cell.serves(3)
    assert cell.value(3, 3) == large(2)


def test_what_was_missed_comes_in_messages_of_bounded_size_each_asked_for_once() -> None:
    cell = Cell(3)
    cell.elect(1)
    for number in range(6):
        cell.propose(1, large(number))
        cell.settle(1, 2)
    cell.tick(1, after_ms=300)
    asked = 0
    for _ in range(40):
        answers = [message for message in cell.deliver() if isinstance(message, m.Learned)]
        assert all(len(message.values) == 1 for message in answers)
        asked += len(answers)
        cell.wire += [entry for entry in cell.wire if isinstance(entry[2], m.Learned)]  # each answer comes twice
    assert cell.chosen[3] == cell.chosen[1]
    assert asked <= 2 * 7, "the second copy of an answer asks nothing"


def test_the_log_keeps_a_bounded_tail_below_its_snapshot() -> None:
    cell = Cell(1)
    cell.elect(1)
    for number in range(10):
        cell.propose(1, large(number))
    upto = cell[1].chosen_upto
    cell[1].compact(upto, 100)
    cell[1].compact(upto, 100)
    kept = upto + 1 - cell[1].log_first_slot
    assert 1 <= kept * (LARGE + 1) <= KEPT_BYTES


# ---- values learnt as chosen above a hole: the hint that they were is lost with a torn tail ----


def test_a_value_known_to_be_chosen_above_a_hole_is_never_proposed_again_by_who_knows() -> None:
    cell = Cell(3)
    cell.disks[1].durable.entries[2] = (CHOSEN, BATCH + b"sure")
    cell.boot(1)
    cell.elect(1, 1, 2)
    assert cell.chosen[1][0].kind is ValueKind.NO_OP
    assert cell.value(1, 2) == b"sure"
    cell.run(1, 2, for_ms=1000)
    assert cell.value(2, 2) == b"sure"


def test_a_value_that_only_a_promiser_knows_to_be_chosen_wins_over_every_ballot() -> None:
    cell = Cell(3)
    cell.disks[2].durable.entries[1] = (CHOSEN, BATCH + b"sure")
    cell.disks[1].durable.entries[1] = (Ballot(7, 3), BATCH + b"lost")
    cell.disks[1].durable.promised = Ballot(7, 3)
    for replica in (1, 2):
        cell.boot(replica)
    cell.elect(1, 1, 2)
    assert cell.value(1, 1) == b"sure"


def test_a_boost_that_finds_a_voter_with_a_longer_prefix_ends_the_mastership() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell[3].state.promise(Ballot(11, 3))
    cell.perform(3)
    slot = cell[3].chosen_upto + 1
    cell[3].receive(m.Learned(2, 1, Ballot(11, 3), slot, (BATCH + b"theirs",), slot), cell.now_ms)
    cell.perform(3)
    cell.crash(2)
    epoch = cell[1].epoch
    cell.run(1, 3, for_ms=LEASE_MS * 3)
    assert not cell.serves(1) or cell[1].epoch > epoch
    assert cell.value(1, slot) == cell.value(3, slot) == b"theirs"


# ---- snapshots ----


def cell_with_a_snapshot(size: int = 10) -> tuple[Cell, int]:
    """1 and 2 have snapshots of the same slot and nothing below it; 3 lacks it all."""
    cell = Cell(3)
    cell.elect(1, 1, 2)
    cell.propose(1, b"x")
    cell.settle(1, 2)
    cell.run(1, 2, for_ms=300)
    slot = cell[1].chosen_upto
    cell.snapshot = b"0123456789abcdef"[:size]
    for replica in (1, 2):
        cell[replica].compact(slot, size)
        cell[replica].state.log._drop_below(slot + 1)
    return cell, slot


def test_a_snapshot_goes_on_from_the_master_where_its_source_fell_silent() -> None:
    cell, slot = cell_with_a_snapshot()
    cell.tick(3)
    cell.settle()
    cell[3].learner.want(slot, 2)
    cell.perform(3)
    while not cell.stored:
        assert cell.deliver(lambda origin, to, _: {origin, to} == {2, 3})
    cell.wire.clear()
    cell.crash(2)
    cell[3].learner.want(slot, 1)
    cell.perform(3)
    assert not cell.wire, "one question at a time"
    cell.run(1, 3, for_ms=1500)
    assert [chunk.offset for chunk in cell.stored] == [0, 4, 8]
    cell[3].install(slot, 10, Membership(1, (1, 2, 3), lease_ms=LEASE_MS), cell.now_ms)
    assert cell[3].chosen_upto == slot
    assert cell[3].membership == cell.membership, "an older membership replaces nothing"


@pytest.mark.parametrize("older", [False, True], ids=["no snapshot", "an older snapshot"])
def test_where_the_source_of_a_snapshot_fell_silent_the_next_one_gives_the_slots_if_it_has_them(older: bool) -> None:
    cell = Cell(3)
    cell.elect(1)
    cell.run(for_ms=600)
    slot = cell[3].chosen_upto
    assert slot == cell[1].chosen_upto
    cell.snapshot = b"0123456789"
    if older:
        cell[1].compact(slot, 10)
    for number in range(3):
        cell.propose(1, b"%d" % number)
        cell.settle(1, 2)
    cell.run(1, 2, for_ms=300)
    upto = cell[2].chosen_upto
    cell[2].compact(upto, 10)
    cell[2].state.log._drop_below(upto + 1)
    cell[3].learner.want(upto, 2)
    cell.perform(3)
    while not cell.stored:
        assert cell.deliver(lambda origin, to, _: {origin, to} == {2, 3})
    cell.wire.clear()
    cell.crash(2)
    cell.run(1, 3, for_ms=3_000)
    assert len(cell.stored) == 1 and cell.chosen[3] == cell.chosen[1]


def test_a_newer_snapshot_at_the_source_is_begun_anew() -> None:
    cell, slot = cell_with_a_snapshot()
    while not cell.stored:
        cell.tick(1, 3, after_ms=50)
        cell.deliver(lambda origin, to, _: {origin, to} == {1, 3})
    cell.propose(1, b"y")
    cell.settle(1, 2)
    newer = cell[1].chosen_upto
    cell[1].compact(newer, 6)
    cell[1].state.log._drop_below(newer + 1)
    cell.snapshot = b"newer!"
    cell.run(1, 2, 3, for_ms=1500)
    assert [(chunk.slot, chunk.offset) for chunk in cell.stored] == [(slot, 0), (newer, 0), (newer, 4)]


def test_what_was_not_asked_for_is_not_stored() -> None:
    cell, slot = cell_with_a_snapshot()
    cell.tick(3)
    cell.settle()
    start, ballot = cell[2].state.start, cell[2].ballot
    chunk = m.SnapshotChunk(2, start, ballot, slot=slot, size=10, offset=0, data=b"0123")
    cell[3].receive(m.SnapshotOffer(2, start, ballot, slot=slot, size=10), cell.now_ms)
    cell[3].receive(chunk, cell.now_ms)
    cell[3].learner.want(slot, 2)
    for size in (0, 2**40):
        cell[3].receive(m.SnapshotOffer(2, start, ballot, slot=slot, size=size), cell.now_ms)
    cell[3].receive(m.SnapshotOffer(2, start, ballot, slot=0, size=10), cell.now_ms)
    cell[3].receive(chunk, cell.now_ms)
    cell[3].receive(m.SnapshotOffer(2, start, ballot, slot=slot, size=10), cell.now_ms)
    foreign = m.SnapshotChunk(1, cell[1].state.start, ballot, slot=slot, size=10, offset=0, data=b"0123")
    beyond = m.SnapshotChunk(2, start, ballot, slot=slot, size=10, offset=0, data=b"0123456789a")
    empty = m.SnapshotChunk(2, start, ballot, slot=slot, size=10, offset=0, data=b"")
    for message in (foreign, beyond, empty):
        cell[3].receive(message, cell.now_ms)
    cell.perform(3)
    assert cell.stored == []
    cell[3].receive(chunk, cell.now_ms)
    cell.perform(3)
    assert [stored.data for stored in cell.stored] == [b"0123"]


def test_a_snapshot_that_turned_out_damaged_is_asked_for_again() -> None:
    cell, _ = cell_with_a_snapshot(size=4)
    cell.run(for_ms=600)
    assert [chunk.offset for chunk in cell.stored] == [0]
    cell[3].forget_snapshot()
    cell.run(for_ms=600)
    assert [chunk.offset for chunk in cell.stored] == [0, 0]


def test_nothing_is_offered_by_who_has_nothing() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell.run(for_ms=300)
    start, ballot = cell[2].state.start, cell[2].ballot
    for message in (
        m.SnapshotRequest(2, start, ballot, slot=1, offset=0),
        m.LearnRequest(2, start, ballot, first_slot=99),
    ):
        cell[1].receive(message, cell.now_ms)
    effects = cell[1].take_effects()
    assert not effects.send_now and not effects.snapshot_transfers
