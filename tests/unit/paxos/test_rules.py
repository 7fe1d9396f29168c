"""The rules of coordd's Multi-Paxos that go beyond the paper: each test is named after the rule that it would break."""

from __future__ import annotations

from coordd.paxos import messages as m
from coordd.paxos.ballot import CHOSEN, Ballot
from coordd.paxos.effects import ValueKind
from coordd.paxos.replica import Role
from tests.unit.paxos.cell import LEASE_MS, Cell

BATCH = bytes([ValueKind.BATCH.value])


# ---- election ----


def test_the_question_before_prepare_a_replica_cut_off_cannot_depose_a_healthy_master() -> None:
    cell = Cell(3)
    master = cell.elect(1)
    cell.run(1, 2, for_ms=LEASE_MS * 4)  # 3 hears nothing
    ballot = master.ballot
    for _ in range(40):
        cell.tick(3, after_ms=50)
        cell.tick(1, 2)
        cell.settle(1, 2, 3)
    assert master.serving
    assert master.ballot == ballot
    assert cell.role(3) is Role.FOLLOWER


def test_a_promise_counts_only_when_whole() -> None:
    cell = Cell(3)
    cell.tick()
    cell.settle()
    cell[1].state.ask_at_ms = 0
    cell.tick(1)
    cell.deliver()
    cell.deliver(lambda _, to, message: isinstance(message, m.Willing))
    ballot = cell[1].ballot
    half = m.Promise(
        2, 1, ballot, chosen_upto=0, part=0, parts=2, entries=((1, Ballot(1, 3), BATCH + b"a"),), cached_ms=0
    )
    cell[1].receive(half, cell.now_ms)
    cell[1].receive(half, cell.now_ms)
    assert cell.role(1) is Role.CANDIDATE
    cell[1].receive(m.Promise(2, 1, ballot, chosen_upto=0, part=1, parts=2, entries=(), cached_ms=0), cell.now_ms)
    assert cell.role(1) is Role.MASTER


def test_a_candidate_proposes_nothing_up_to_the_largest_chosen_upto_of_its_promises() -> None:
    cell = Cell(3)
    cell.tick()
    cell.settle()
    cell.elect(1, 1, 2)
    for payload in (b"a", b"b"):
        cell.propose(1, payload)
        cell.settle(1, 2)
    cell.run(1, 2, for_ms=500)
    known = cell[2].chosen_upto
    cell.crash(1)
    cell.now_ms += LEASE_MS
    cell[3].state.ask_at_ms = 0
    cell.tick(3)
    cell.wire = [entry for entry in cell.wire if entry[1] != 1]
    while cell[3].state.log.chosen_upto == 0:
        delivered = cell.deliver()
        assert not [message for message in delivered if isinstance(message, m.Accept)]
        assert delivered, "the candidate should learn from the promiser that knows more"
    cell.settle(2, 3)
    assert cell.serves(3)
    assert [chosen for chosen in cell.chosen[3] if chosen.slot <= known] == cell.chosen[2][:known]


def test_epoch_entry_awaited_before_any_client_is_served() -> None:
    cell = Cell(3)
    cell.tick()
    cell.settle()
    cell[1].state.ask_at_ms = 0
    cell.tick(1)
    while cell.role(1) is not Role.MASTER:
        assert cell.deliver()
    assert not cell.serves(1)
    assert not cell[1].can_propose()
    assert not cell[1].lease_valid(cell.now_ms)
    cell.settle()
    assert cell.serves(1)
    assert cell.chosen[1][-1].kind is ValueKind.EPOCH


# ---- believing chosen_upto ----


def test_chosen_upto_is_not_believed_across_ballots() -> None:
    cell = Cell(3)
    # 3 accepted a value of a dead master's ballot that was never chosen.
    cell.disks[3].durable.entries[1] = (Ballot(1, 3), BATCH + b"lost")
    cell.disks[3].durable.promised = Ballot(1, 3)
    cell.boot(3)
    cell.elect(1, 1, 2)
    cell.tick()
    cell.settle()
    cell.wire.clear()
    cell[3].receive(m.Heartbeat(1, 1, cell[1].ballot, number=99, chosen_upto=1, caches=False), cell.now_ms)
    effects = cell[3].take_effects()
    assert b"lost" not in [chosen.payload for chosen in effects.chosen]


def test_a_slot_inside_the_chosen_prefix_is_never_accepted_again() -> None:
    cell = Cell(3)
    cell.elect(1)
    before = dict(cell[2].state.log.entries)
    late = m.Accept(1, 1, cell[1].ballot, number=1, chosen_upto=0, entries=((1, BATCH + b"other"),), caches=False)
    cell[2].receive(late, cell.now_ms)
    cell.perform(2)
    answers = [message for _, to, message in cell.wire if to == 1]
    assert m.AlreadyChosen(2, 1, cell[1].ballot, chosen_upto=cell[2].chosen_upto) in answers
    accepted = next(message for message in answers if isinstance(message, m.Accepted))
    assert accepted.slots == ()
    assert cell[2].state.log.entries == before


def test_a_slot_learnt_as_chosen_is_never_overwritten_even_above_the_prefix() -> None:
    cell = Cell(3)
    cell.disks[2].durable.entries[2] = (CHOSEN, BATCH + b"sure")
    cell.boot(2)
    cell.tick()
    cell.settle()
    cell[2].receive(m.Accept(1, 1, Ballot(9, 1), 1, 0, ((2, BATCH + b"other"),), caches=False), cell.now_ms)
    assert cell[2].state.log.entries[2] == (CHOSEN, BATCH + b"sure")


def test_a_serving_master_that_learns_a_chosen_slot_from_anybody_else_steps_down() -> None:
    cell = Cell(3)
    cell.elect(1)
    slot = cell.propose(1, b"mine")
    cell.wire.clear()
    learned = m.Learned(2, 1, cell[2].ballot, first_slot=slot, values=(BATCH + b"theirs",), chosen_upto=slot)
    cell[1].receive(learned, cell.now_ms)
    cell.perform(1)
    assert cell.role(1) is Role.FOLLOWER
    assert cell.value(1, slot) == b"theirs"


def test_a_serving_master_told_of_a_longer_chosen_prefix_steps_down() -> None:
    cell = Cell(3)
    cell.elect(1)
    told = m.AlreadyChosen(2, 1, cell[1].ballot, chosen_upto=cell[1].chosen_upto + 1)
    cell[1].receive(told, cell.now_ms)
    assert cell.role(1) is Role.FOLLOWER


def test_a_recovering_master_learns_a_prefix_that_only_a_voter_outside_its_majority_knew() -> None:
    cell = Cell(5)
    cell.elect(1)
    cell.propose(1, b"x")
    cell.deliver(lambda _, to, message: to in (2, 3))
    cell.deliver(lambda origin, to, message: to == 1)  # chosen by 1, 2, 3
    assert cell.value(1, cell[1].chosen_upto) == b"x"
    cell.wire.clear()
    cell.tick(1, after_ms=300)
    cell.deliver(lambda _, to, message: to == 2)  # only 2 hears that it is chosen
    cell.wire.clear()
    cell.crash(1)
    assert cell[2].chosen_upto > cell[3].chosen_upto
    cell.now_ms += LEASE_MS
    cell.elect(4, 3, 4, 5)
    slot = cell[2].chosen_upto
    cell.run(2, 3, 4, 5, for_ms=1000)
    assert cell.serves(4)
    assert cell.value(4, slot) == b"x"


def test_the_deposed_are_silent() -> None:
    cell = Cell(3)
    cell.elect(1)
    ballot = cell[1].ballot
    cell.now_ms += LEASE_MS + 1
    cell[1].receive(m.Prepare(2, 1, Ballot(ballot.round + 5, 2)), cell.now_ms)
    cell.perform(1)
    cell.wire.clear()
    assert cell.role(1) is Role.FOLLOWER
    for _ in range(20):
        cell.tick(1, after_ms=50)
    assert not [message for _, _, message in cell.wire if message.ballot == ballot]


def test_boost_a_voter_stuck_high_does_not_cost_the_cell_its_master() -> None:
    cell = Cell(3)
    master = cell.elect(1)
    epoch, before = master.epoch, master.ballot
    cell[3].state.promise(Ballot(before.round + 10, 3))
    cell.perform(3)
    cell.crash(2)
    cell.run(1, 3, for_ms=600)
    assert master.serving
    assert master.epoch == epoch
    assert master.ballot.round > before.round + 10
    slot = cell.propose(1, b"after")
    cell.settle(1, 3)
    assert cell.value(1, slot) == b"after"


def test_boost_keeps_what_is_in_flight() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell.crash(2)
    cell.wire.clear()
    cell[3].state.promise(Ballot(cell[1].ballot.round + 10, 3))
    cell.perform(3)
    slot = cell.propose(1, b"flying")
    cell.run(1, 3, for_ms=600)
    assert cell.value(1, slot) == b"flying"


def test_no_silent_reign_a_deaf_master_stops_its_heartbeats() -> None:
    cell = Cell(3)
    cell.elect(1)
    for _ in range(2 * LEASE_MS // 50 + 10):
        cell.tick(after_ms=50)
        cell.wire = [entry for entry in cell.wire if entry[1] != 1]  # 1 speaks and hears nothing
        cell.deliver()
    assert cell.role(1) is not Role.MASTER
    for _ in range(3 * LEASE_MS // 50):
        cell.tick(after_ms=50)
        cell.wire = [entry for entry in cell.wire if entry[1] != 1]
        cell.deliver()
    assert cell.serves(2) or cell.serves(3)


def test_a_master_none_of_whose_proposals_is_chosen_hands_over() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell.propose(1, b"never")
    for _ in range(7000 // 50):
        cell.tick(after_ms=50)
        for _ in range(5):  # heartbeats pass, Accepts do not
            cell.wire = [entry for entry in cell.wire if not isinstance(entry[2], m.Accept)]
            cell.deliver()
    assert cell.role(1) is not Role.MASTER


def test_a_master_whose_own_disk_is_slow_hands_over() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell.sync = False
    cell.propose(1, b"x")
    for _ in range(3000 // 50):
        cell.tick(after_ms=50)
        for other in (2, 3):
            cell.sync_disk(other)
        cell.deliver()
    assert cell.role(1) is not Role.MASTER


def test_disk_full_votes_no_more_and_hands_over() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell[1].disk_full(cell.now_ms)
    cell.run(for_ms=LEASE_MS * 2)
    assert cell.role(1) is Role.FOLLOWER
    assert cell.serves(2) or cell.serves(3)
    cell[1].receive(m.Prepare(2, 1, Ballot(99, 2)), cell.now_ms)
    assert not cell[1].take_effects().send_after_persist


def test_a_disk_that_has_room_again_votes_again() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell[1].disk_full(cell.now_ms)
    cell.run(for_ms=LEASE_MS * 3)
    cell[1].disk_has_room(cell.now_ms)
    cell.crash(2 if cell.serves(3) else 3)
    cell.run(for_ms=LEASE_MS * 3)
    master = next(replica for replica in cell.replicas if cell.serves(replica))
    slot = cell.propose(master, b"x")
    cell.settle()
    assert cell[master].chosen_upto == slot


def test_planned_hand_over_is_quick_and_goes_where_asked() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell.run(for_ms=300)
    cell[1].hand_over(cell.now_ms, to=3)
    cell.run(for_ms=500)
    assert cell.serves(3)
    assert cell.role(1) is Role.FOLLOWER
