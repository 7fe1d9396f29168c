"""Small conditions with large consequences: each test goes red when its condition is taken out of the code."""

from __future__ import annotations

from coordd.paxos import messages as m
from coordd.paxos.ballot import Ballot
from coordd.paxos.effects import AcceptedRecord, ValueKind
from coordd.paxos.lease import MasterLease
from coordd.paxos.membership import Membership
from coordd.paxos.replica import Role
from tests.unit.paxos.cell import LEASE_MS, Cell

BATCH = bytes([ValueKind.BATCH.value])
NO_OP = bytes([ValueKind.NO_OP.value])


def candidate(size: int = 3) -> Cell:
    """Replica 1 has prepared; nothing of it has reached anybody."""
    cell = Cell(size)
    cell.tick()
    cell.settle()
    cell[1].state.ask_at_ms = 0
    cell.tick(1)
    cell.deliver(lambda *entry: isinstance(entry[2], m.Ask))
    cell.deliver(lambda *entry: isinstance(entry[2], m.Willing))
    assert cell.role(1) is Role.CANDIDATE
    cell.wire.clear()
    return cell


# ---- of which ballot ----


def test_a_promise_of_another_ballot_elects_nobody() -> None:
    cell = candidate()
    ballot = cell[1].ballot
    for other in (Ballot(ballot.round - 1, 1), Ballot(ballot.round, 2), Ballot(ballot.round + 1, 1)):
        cell[1].receive(m.Promise(2, 1, other, chosen_upto=0, part=0, parts=1, entries=(), cached_ms=0), cell.now_ms)
        assert cell.role(1) is Role.CANDIDATE
    cell[1].receive(m.Promise(2, 1, ballot, chosen_upto=0, part=0, parts=1, entries=(), cached_ms=0), cell.now_ms)
    assert cell.role(1) is Role.MASTER


def test_a_second_promise_of_one_voter_changes_nothing_in_what_it_promised() -> None:
    cell = candidate(5)
    ballot = cell[1].ballot
    held = ((1, Ballot(0, 3), BATCH + b"held"),)
    cell[1].receive(m.Promise(2, 1, ballot, chosen_upto=0, part=0, parts=1, entries=held, cached_ms=0), cell.now_ms)
    cell[1].receive(m.Promise(2, 1, ballot, chosen_upto=0, part=0, parts=1, entries=(), cached_ms=0), cell.now_ms)
    cell[1].receive(m.Promise(3, 1, ballot, chosen_upto=0, part=0, parts=1, entries=(), cached_ms=0), cell.now_ms)
    assert cell.role(1) is Role.MASTER
    assert cell[1].state.log.entries[1] == (ballot, BATCH + b"held")


def test_parts_of_two_promises_are_not_put_together() -> None:
    """What was chosen between the two is in neither half; taken for one, they would close it with a no-op."""
    cell = candidate()
    election, old = cell[1].election, Ballot(1, 2)
    head = (2, 1, election.ballot)
    election.on_promise(m.Promise(*head, chosen_upto=1, part=0, parts=2, entries=((2, old, NO_OP),), cached_ms=0))
    election.on_promise(m.Promise(*head, chosen_upto=3, part=1, parts=2, entries=((5, old, NO_OP),), cached_ms=0))
    assert election.winners() is None
    election.on_promise(m.Promise(*head, chosen_upto=3, part=0, parts=2, entries=((4, old, NO_OP),), cached_ms=0))
    assert election.furthest() == (3, 2)


def test_a_nack_to_another_ballot_stops_nobody() -> None:
    cell = candidate()
    ballot = cell[1].ballot
    above = Ballot(ballot.round + 3, 3)
    cell[1].receive(m.Nack(3, 1, above, refused=Ballot(ballot.round - 1, 1)), cell.now_ms)
    assert cell.role(1) is Role.CANDIDATE
    cell[1].receive(m.Nack(3, 1, above, refused=ballot), cell.now_ms)
    assert cell.role(1) is Role.FOLLOWER


def test_a_vote_in_an_older_ballot_does_not_count_for_the_new_one() -> None:
    cell = Cell(5)
    cell.elect(1)
    before = cell[1].ballot
    cell[5].state.promise(Ballot(before.round + 10, 5))
    cell.perform(5)
    slot = cell.propose(1, b"x")
    for replica in (2, 3, 4):
        cell[replica].state.put_off_asking(cell.now_ms + 60_000)
    cell.deliver(lambda _, to, __: to == 5)  # its Nack makes the master boost
    cell.deliver(lambda origin, to, message: to == 1 and isinstance(message, m.Nack))
    cell.wire = [entry for entry in cell.wire if not isinstance(entry[2], m.Accept)]
    cell.deliver(lambda *entry: isinstance(entry[2], m.Prepare))
    cell.deliver(lambda *entry: isinstance(entry[2], m.Promise))
    assert cell[1].ballot > before and cell.role(1) is Role.MASTER
    for voter in (2, 3, 4):
        cell[1].receive(m.Accepted(voter, 1, before, number=1, chosen_upto=0, slots=(slot,)), cell.now_ms)
    assert cell[1].chosen_upto < slot
    cell.settle()
    assert cell.value(1, slot) == b"x"


def test_what_is_accepted_again_in_a_higher_ballot_is_written_again() -> None:
    cell = Cell(3)
    cell.tick()
    cell.settle()
    low, high = Ballot(1, 1), Ballot(2, 2)
    cell[3].receive(m.Accept(1, 1, low, 1, 0, ((1, BATCH + b"x"),), caches=False), cell.now_ms)
    cell.perform(3)
    cell.now_ms += LEASE_MS
    cell[3].receive(m.Accept(2, 1, high, 1, 0, ((1, BATCH + b"x"),), caches=False), cell.now_ms)
    assert AcceptedRecord(1, high, BATCH + b"x") in cell[3].take_effects().persist


def test_already_chosen_to_another_ballot_deposes_nobody() -> None:
    cell = Cell(3)
    cell.elect(1)
    ballot, upto = cell[1].ballot, cell[1].chosen_upto + 1
    cell[1].receive(m.AlreadyChosen(2, 1, Ballot(ballot.round - 1, 1), chosen_upto=upto), cell.now_ms)
    assert cell.serves(1)


def test_a_replica_that_forgot_only_a_promise_is_refused() -> None:
    cell = Cell(3)
    cell.tick()
    cell.settle()
    cell[2].receive(m.Prepare(3, 1, Ballot(5, 3)), cell.now_ms)
    cell.perform(2)
    cell.settle()
    cell.crash(2)
    cell.lose_disk(2)
    cell.disks[2].durable.start = 1
    cell.boot(2)
    cell.tick()
    cell.settle()
    assert "went back in time" in cell.stopped[2]


def test_a_refusal_of_an_older_start_stops_nobody() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell.crash(2)
    cell.boot(2)
    cell.tick()
    cell.settle()
    high = m.Regressed(1, 1, cell[1].ballot, refused_start=1, known_start=1, known_ballot=Ballot(99, 2), known_upto=99)
    cell[2].receive(high, cell.now_ms)
    assert cell[2].take_effects().stop is None


# ---- how far ----


def test_the_own_vote_reaches_only_as_far_as_the_sync_that_was_asked_for() -> None:
    cell = Cell(1)
    cell.elect(1)
    cell.sync = False
    replica = cell[1]
    numbers = []
    for payload in (b"a", b"b"):
        replica.propose(payload, cell.now_ms)
        numbers.append(replica.take_effects().persist_number)
    before = replica.chosen_upto
    replica.persisted(numbers[0], cell.now_ms)
    assert replica.chosen_upto == before + 1
    replica.persisted(numbers[1], cell.now_ms)
    assert replica.chosen_upto == before + 2


def test_a_serving_master_that_learns_slots_it_never_proposed_steps_down() -> None:
    cell = Cell(3)
    cell.elect(1)
    slot = cell[1].chosen_upto + 1
    cell[1].receive(m.Learned(2, 1, cell[2].ballot, slot, (BATCH + b"theirs",), slot), cell.now_ms)
    assert cell.role(1) is Role.FOLLOWER


def test_after_a_restart_the_chosen_prefix_ends_before_the_first_hole() -> None:
    cell = Cell(1)
    durable = cell.disks[1].durable
    durable.entries = {1: (Ballot(1, 1), NO_OP), 3: (Ballot(1, 1), BATCH + b"behind")}
    durable.chosen_upto, durable.promised = 1, Ballot(1, 1)
    assert cell.boot(1).chosen_upto == 1


def test_a_lease_never_gets_shorter() -> None:
    lease = MasterLease(drift_ppm=10_000)
    lease.until_ms = 9_999
    members = Membership(1, (1,), lease_ms=LEASE_MS)
    lease.answer(1, lease.begin_round(now_ms=100), members)
    assert lease.until_ms == 9_999


# ---- who, and when ----


def test_a_learner_stands_for_nothing() -> None:
    cell = Cell(3, membership=Membership(1, (1, 2), learners=(3,), lease_ms=LEASE_MS))
    cell.run(3, for_ms=LEASE_MS * 3)
    assert cell.role(3) is Role.FOLLOWER
    cell.wire.clear()
    cell.tick(3, after_ms=500)
    assert not [message for _, _, message in cell.wire if isinstance(message, m.Ask)]


def test_nobody_asks_while_its_own_grant_runs() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell.run(for_ms=300)
    cell[2].state.ask_at_ms = 0
    cell.wire.clear()
    cell.tick(2)
    assert not [message for _, _, message in cell.wire if isinstance(message, m.Ask)]


def test_old_answers_to_the_question_make_no_candidate() -> None:
    cell = Cell(3)
    cell.tick()
    cell.settle()
    cell[1].state.ask_at_ms = 0
    cell.tick(1)
    cell.deliver(lambda *entry: isinstance(entry[2], m.Ask))
    cell.now_ms += 401
    cell.deliver(lambda *entry: isinstance(entry[2], m.Willing))
    assert cell.role(1) is Role.FOLLOWER


def test_a_yes_to_an_earlier_start_makes_no_candidate() -> None:
    cell = Cell(3)
    cell.tick()
    cell.settle()
    cell[1].state.ask_at_ms = 0
    cell.tick(1)
    cell.deliver(lambda *entry: isinstance(entry[2], m.Ask))
    late = [entry for entry in cell.wire if isinstance(entry[2], m.Willing)]
    assert any(message.yes for _, _, message in late if isinstance(message, m.Willing))
    cell.crash(1)
    cell.boot(1)
    cell.tick(1)
    cell.settle()
    cell.now_ms += LEASE_MS
    cell[1].state.ask_at_ms = 0
    cell.tick(1)
    cell.wire = late
    cell.deliver()
    assert cell.role(1) is Role.FOLLOWER, "nobody has said yes to this start"


def test_a_hand_over_waits_a_little_for_what_is_in_flight_and_proposes_nothing_new() -> None:
    cell = Cell(3)
    cell.elect(1)
    slot = cell.propose(1, b"x")
    cell[1].hand_over(cell.now_ms, 2)
    assert not cell[1].can_propose()
    cell.tick(1, after_ms=50)
    assert cell.role(1) is Role.MASTER
    cell.settle()
    assert cell.value(1, slot) == b"x"
    cell.tick(1)
    assert cell.role(1) is Role.FOLLOWER


def test_a_boosting_master_proposes_nothing() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell[1].receive(m.Nack(3, 1, Ballot(99, 3), refused=cell[1].ballot), cell.now_ms)
    assert cell.role(1) is Role.MASTER and not cell[1].can_propose()
    cell.perform(1)
    assert {type(message) for _, _, message in cell.wire} == {m.Prepare}


def test_with_a_full_disk_there_is_no_boost() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell[1].disk_full(cell.now_ms)
    cell[1].receive(m.Nack(3, 1, Ballot(99, 3), refused=cell[1].ballot), cell.now_ms)
    assert cell[1].take_effects().persist == []


def test_one_question_at_a_time_and_to_another_only_after_a_while() -> None:
    cell = Cell(3)
    cell.tick()
    cell.settle()
    learner = cell[3].learner
    cell[3].state.now_ms = cell.now_ms
    for source in (1, 1, 2):
        learner.want(9, source)
    cell.perform(3)
    assert [to for _, to, _ in cell.wire] == [1]
    cell.wire.clear()
    cell[3].state.now_ms = cell.now_ms + 200
    learner.want(9, 2)
    cell.perform(3)
    assert [to for _, to, _ in cell.wire] == [2]
