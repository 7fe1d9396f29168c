"""Cache leases across masterships: the bit in the grants, what promises say of it, and the wait of a new master."""

from __future__ import annotations

from coordd.paxos import messages as m
from coordd.paxos.ballot import Ballot
from coordd.paxos.caching import CacheLeases
from coordd.paxos.effects import Durable
from coordd.paxos.lease import ROUNDING_MS, Grants, MasterLease
from coordd.paxos.membership import Membership
from coordd.paxos.proposer import Proposer
from coordd.paxos.replica import Replica
from tests.unit.paxos.cell import LEASE_MS, Cell

MEMBERS = Membership(1, (1, 2, 3), lease_ms=LEASE_MS)


def caching(replica: Replica) -> CacheLeases:
    assert replica.caching is not None
    return replica.caching


def with_caches(cell: Cell, master: int = 1) -> int:
    """`master` reigns, and every grant knows of caches; until when a cache lease given at this moment may run."""
    cell.elect(master)
    caching(cell[master]).want(True)
    cell.run(for_ms=400)
    until_ms = caching(cell[master]).until_ms
    assert until_ms > cell.now_ms
    return until_ms


def hand_over(cell: Cell, master: int, to: int) -> None:
    """All that it takes until the next one reigns, without time passing but the little that a hand-over waits."""
    for other in cell.replicas:
        cell[other].state.ask_at_ms = cell.now_ms + 60_000
    cell[master].hand_over(cell.now_ms, to)
    for _ in range(20):
        if not cell.serves(to):
            cell.tick(after_ms=50)
            cell.settle()
    assert cell.serves(to)


# ---- before the first one is given ----


def test_the_first_cache_lease_is_given_when_a_majority_has_answered_a_heartbeat_that_says_so() -> None:
    lease = MasterLease(drift_ppm=0)
    leases = CacheLeases(lease)
    lease.answer(1, lease.begin_round(0), MEMBERS)
    lease.answer(2, 1, MEMBERS)
    assert lease.until_ms and not leases.until_ms, "nobody wants caches"
    before = lease.begin_round(100)
    leases.want(True)
    lease.answer(1, before, MEMBERS)
    lease.answer(2, before, MEMBERS)
    assert not leases.until_ms, "that heartbeat was begun before"
    number = lease.begin_round(200)
    lease.answer(1, number, MEMBERS)
    assert not leases.until_ms, "one is no majority"
    lease.answer(3, number, MEMBERS)
    assert leases.until_ms == lease.until_ms == 200 + LEASE_MS - ROUNDING_MS


def test_when_caches_are_wanted_again_the_grants_have_to_say_so_again() -> None:
    lease = MasterLease(drift_ppm=0)
    leases = CacheLeases(lease)
    for now_ms, wanted in ((0, True), (100, False), (200, True)):
        leases.want(wanted)
        if now_ms < 200:
            number = lease.begin_round(now_ms)
            lease.answer(1, number, MEMBERS)
            lease.answer(2, number, MEMBERS)
            assert bool(leases.until_ms) is wanted
    assert not leases.until_ms, "the last heartbeat said that there are none"


def test_heartbeats_and_accepts_say_whether_caches_are_wanted_and_the_grants_remember_it() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell.run(for_ms=300)
    assert all(not cell[one].state.grants.cached_until_ms for one in (1, 2, 3))
    caching(cell[1]).want(True)
    cell.propose(1, b"x")
    (accept,) = [message for _, to, message in cell.wire if to == 2 and isinstance(message, m.Accept)]
    assert accept.caches
    cell.settle()
    assert all(cell[one].state.grants.cached_until_ms == cell.now_ms + LEASE_MS for one in (1, 2, 3))
    cell.tick(1, after_ms=300)
    beats = [message for _, __, message in cell.wire if isinstance(message, m.Heartbeat)]
    assert beats and all(beat.caches for beat in beats)


def test_a_grant_without_caches_takes_nothing_back() -> None:
    grants = Grants(boot_until_ms=0)
    grants.grant((1, 1), Ballot(1, 1), 1, LEASE_MS, now_ms=0, caches=True)
    grants.grant((1, 1), Ballot(1, 1), 2, LEASE_MS, now_ms=200, caches=False)
    assert grants.cached_ms(200) == LEASE_MS - 200
    assert grants.cached_ms(LEASE_MS) == 0


# ---- the wait of a new master ----


def test_a_new_master_neither_shows_nor_changes_anything_before_the_cache_leases_of_the_old_one_are_over() -> None:
    cell = Cell(3)
    until_ms = with_caches(cell)
    hand_over(cell, 1, to=2)
    assert cell.now_ms < until_ms
    while not cell[2].may_show(cell.now_ms):
        assert cell[2].lease_valid(cell.now_ms), "KeepAlives are answered meanwhile"
        assert not cell[2].can_propose()
        cell.run(for_ms=50)
    assert until_ms <= cell.now_ms <= until_ms + LEASE_MS
    assert cell[2].can_propose()


def test_the_same_start_of_a_replica_that_is_master_again_waits_too() -> None:
    cell = Cell(3)
    until_ms = with_caches(cell)
    for other in (2, 3):
        cell[other].state.ask_at_ms = cell.now_ms + 60_000
    cell[1]._step_down()
    cell[1].state.ask_at_ms = cell.now_ms
    cell.run(for_ms=100, step_ms=10)
    assert cell.serves(1) and cell.now_ms < until_ms
    assert not cell[1].may_show(until_ms - 1)
    assert cell[1].may_show(until_ms + LEASE_MS)


def test_after_a_crash_of_the_master_there_is_nothing_left_to_wait_for() -> None:
    cell = Cell(3)
    with_caches(cell)
    cell.crash(1)
    while not cell.serves(2):
        cell[3].state.ask_at_ms = cell.now_ms + 60_000
        cell.run(for_ms=50)
    assert cell[2].may_show(cell.now_ms)


def test_without_caches_a_hand_over_is_as_quick_as_ever() -> None:
    cell = Cell(3)
    cell.elect(1)
    cell.run(for_ms=400)
    before_ms = cell.now_ms
    hand_over(cell, 1, to=2)
    assert cell[2].may_show(cell.now_ms) and cell[2].can_propose()
    assert cell.now_ms - before_ms <= 200


def test_the_third_master_waits_for_the_cache_leases_of_the_first() -> None:
    cell = Cell(3)
    until_ms = with_caches(cell)
    hand_over(cell, 1, to=2)
    assert not cell[2].may_show(cell.now_ms)
    hand_over(cell, 2, to=3)
    assert cell.now_ms < until_ms and not cell[3].may_show(until_ms - 1)


def test_a_master_that_has_ended_all_cache_leases_says_so_when_it_hands_over() -> None:
    cell = Cell(3)
    with_caches(cell)
    cell[1].hand_over(cell.now_ms, to=2)
    cell.tick(after_ms=50)
    assert cell.serves(1) and cell[1].leaving, "it waits a little for that"
    caching(cell[1]).want(False)
    hand_over(cell, 1, to=2)
    assert cell[2].may_show(cell.now_ms)


def test_a_hand_over_waits_for_the_end_of_cache_leases_only_a_little() -> None:
    cell = Cell(3)
    with_caches(cell)
    cell[1].hand_over(cell.now_ms, to=2)
    cell.run(for_ms=350)
    assert cell.serves(1)
    cell.run(for_ms=100)
    assert not cell.serves(1)


def test_a_boost_does_not_wait_for_the_cache_leases_of_its_own_mastership() -> None:
    cell = Cell(3)
    with_caches(cell)
    high = Ballot(cell[1].ballot.round + 5, 3)
    cell[3].state.promise(high)
    cell.run(for_ms=700)
    assert cell.serves(1) and cell[1].ballot > high
    assert cell[1].may_show(cell.now_ms) and cell[1].can_propose()


# ---- what promises say ----


def prepared(cell: Cell, replica: int, ballot: Ballot) -> m.Promise:
    """The answer of `replica` to a Prepare of replica 3 at this moment."""
    cell.wire.clear()
    cell[replica].receive(m.Prepare(3, 1, ballot), cell.now_ms)
    cell.perform(replica)
    (promise,) = [message for _, _, message in cell.wire if isinstance(message, m.Promise)]
    return promise


def test_a_promise_says_how_long_the_last_grant_with_caches_still_runs() -> None:
    cell = Cell(3)
    with_caches(cell)
    grants = cell[2].state.grants
    assert grants.void((1, 1), cell[1].ballot, grants.number, cell.now_ms, caches=True)
    cell.now_ms += 100
    left_ms = grants.cached_until_ms - cell.now_ms
    assert left_ms > 0
    assert prepared(cell, 2, Ballot(99, 3)).cached_ms == left_ms
    cell.now_ms += LEASE_MS
    assert prepared(cell, 2, Ballot(99, 3)).cached_ms == 0


def test_an_acceptor_that_was_restarted_says_a_whole_lease_when_it_repeats_a_promise() -> None:
    cell = Cell(3)
    with_caches(cell)
    grants = cell[2].state.grants
    assert grants.void((1, 1), cell[1].ballot, grants.number, cell.now_ms, caches=True)
    assert prepared(cell, 2, Ballot(99, 3)).cached_ms > 0
    cell.crash(2)
    cell.boot(2)
    cell.tick(2)
    cell[2].receive(m.Hello(3, 1, Ballot(1, 1), log_upto=1, asks=False, remembers=0), cell.now_ms)
    assert prepared(cell, 2, Ballot(99, 3)).cached_ms == LEASE_MS


def test_the_longest_of_the_promises_counts_in_whichever_part_it_came_and_never_more_than_a_lease() -> None:
    for told_ms, waited_ms in ((700, 700), (10**15, LEASE_MS)):
        replica = Replica(Cell(3)[1].state.settings, Durable(1, MEMBERS), 0)
        replica.election.prepare()
        head = (2, 1, replica.election.ballot)
        for part, cached_ms in ((0, told_ms), (1, 300)):
            said = m.Promise(*head, chosen_upto=0, part=part, parts=2, entries=(), cached_ms=cached_ms)
            replica.election.on_promise(said)
        assert replica.election.cached_until_ms == waited_ms + ROUNDING_MS
        replica.election.prepare()
        assert replica.election.cached_until_ms == 0, "another ballot, other promises"


def test_one_acceptor_that_knows_of_caches_is_enough_be_it_the_new_master_itself_or_another() -> None:
    for heir in (2, 3):
        cell = Cell(3)
        cell.elect(1)
        cell[3].state.ask_at_ms = cell.now_ms + 60_000
        caching(cell[1]).want(True)
        cell.run(1, 2, for_ms=LEASE_MS + 300)
        until_ms = caching(cell[1]).until_ms
        assert until_ms and not cell[3].state.grants.cached_until_ms, "two of three are a majority"
        cell[1].hand_over(cell.now_ms, to=heir)
        while cell.serves(1):
            cell.tick(1, after_ms=50)
            cell.settle(1, 2)
        cell.crash(1)
        cell[5 - heir].state.ask_at_ms = cell.now_ms + 60_000
        cell[heir].state.ask_at_ms = cell.now_ms
        cell.run(for_ms=100, step_ms=10)
        assert cell.serves(heir) and cell.now_ms < until_ms
        assert not cell[heir].may_show(until_ms - 1)


def test_who_does_not_serve_yet_cannot_say_that_there_are_no_cache_leases() -> None:
    cell = Cell(3)
    cell.elect(1)
    state = cell[1].state
    Proposer(state, Ballot(9, 1)).hand_over(to=2)
    said = [message for _, message in state.effects.send_now if isinstance(message, m.HandOver)]
    assert said and all(message.caches for message in said)
