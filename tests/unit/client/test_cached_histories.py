"""Histories of one cache and its master in all orders: nothing that was over is shown; and each rule that is broken on
purpose is found, so that the histories are known to reach what the rule is there for."""

from __future__ import annotations

import pytest

from coordclient import cached as rules
from coordclient.cached import OVER, Cached, Lease
from coordclient.session import DRIFT_PPM, Reading
from tests.unit.client.cache_world import Stale, World

WORLD_DRIFT_PPM = 20 * DRIFT_PPM
SEEDS = 150
SEEDS_PLANTED_MAX = 1_500
STEPS = 400


def keeps_to_the_rules() -> Cached:
    return Cached(10**6, WORLD_DRIFT_PPM)


def test_no_read_from_the_cache_shows_what_was_over_before_it_began():
    hits = 0
    for seed in range(SEEDS):
        world = World(seed, keeps_to_the_rules)
        world.run(STEPS)
        hits += world.hits
    assert hits > 5 * SEEDS, "the histories read from the cache"


class KeepsOldFills(Cached):
    """Breaks rule 4: a fill that is older than the last invalidation of its path is kept."""

    def fill(self, table: str, path: str, value: object, size: int, number: int, generation: int) -> bool:
        self._invalidated.clear()
        self._forgotten = 0
        return super().fill(table, path, value, size, number, generation)


class ForgetsInvalidations(Cached):
    """Breaks rule 4: an invalidation that is forgotten is as good as none."""

    def invalidate(self, paths, number):
        super().invalidate(paths, number)
        self._forgotten = 0


class CountsFromTheAnswer(Cached):
    """Breaks rule 2: the lease counts from when its answer came, not from when it was asked for."""

    now: Reading = (0, 0)

    def granted(self, number, epoch, lease_ms, drop, session):
        if self._sent is not None:
            self._sent = self.now
        super().granted(number, epoch, lease_ms, drop, session)


class LooksOnce(Cached):
    """Breaks rule 2: an entry that was taken out meanwhile is compared with a lease that was given afterwards."""

    def believed(self, kept, now_ns):
        first, second = kept.lease.ends
        return now_ns[0] < first and now_ns[1] < second


class OneLeaseForEver(Cached):
    """Breaks rule 2: an entry that was read before all was dropped is compared with the lease of afterwards."""

    def drop(self) -> None:
        lease = self.lease
        super().drop()
        self.lease = lease
        lease.ends = OVER


class DropsNothing(Cached):
    """Breaks rule 5: "drop all" is not obeyed."""

    def granted(self, number, epoch, lease_ms, drop, session):
        self._epoch = epoch
        super().granted(number, epoch, lease_ms, False, session)


class KeepsWhatWasOnItsWay(Cached):
    """Breaks rule 5: what was asked for before all was dropped is kept."""

    def fill(self, table, path, value, size, number, generation):
        return super().fill(table, path, value, size, number, self.generation)


class GoesOnAfterADrop(Cached):
    """Breaks rule 5: with "drop all" the lease of before goes on for what was read already."""

    def drop(self) -> None:
        ends = self.lease.ends
        before = self.lease
        super().drop()
        before.ends = tuple(end + 10**12 for end in ends)


def found(client, **how: bool) -> bool:
    """Whether any of the histories shows a stale read."""
    for seed in range(SEEDS_PLANTED_MAX):
        world = World(seed, client, **how)
        try:
            if isinstance(world.cached, CountsFromTheAnswer):
                for _ in range(STEPS):
                    world.cached.now = world.reading()
                    world.run(1)
            else:
                world.run(STEPS)
        except Stale:
            return True
    return False


@pytest.mark.parametrize(
    "broken",
    [
        KeepsOldFills,
        CountsFromTheAnswer,
        LooksOnce,
        OneLeaseForEver,
        DropsNothing,
        KeepsWhatWasOnItsWay,
        GoesOnAfterADrop,
    ],
)
def test_each_broken_rule_shows_a_stale_read(broken):
    assert found(lambda: broken(10**6, WORLD_DRIFT_PPM)), broken.__doc__


def test_a_lease_without_the_drift_bound_shows_a_stale_read():
    assert found(lambda: Cached(10**6, 0))


def test_an_acknowledgement_before_the_entry_is_dropped_shows_a_stale_read():
    assert found(keeps_to_the_rules, ack_first=True)


def test_a_master_that_forgets_what_is_held_while_the_lease_runs_shows_a_stale_read():
    assert found(keeps_to_the_rules, drops_early=True)


def test_an_invalidation_that_is_forgotten_shows_a_stale_read(monkeypatch):
    monkeypatch.setattr(rules, "INVALIDATED_MAX", 1)
    world_of = [World(seed, keeps_to_the_rules) for seed in range(SEEDS)]
    for world in world_of:
        world.run(STEPS)
    assert found(lambda: ForgetsInvalidations(10**6, WORLD_DRIFT_PPM))


def test_a_lease_is_an_object_of_its_own_after_every_drop():
    cache = keeps_to_the_rules()
    leases: list[Lease] = []
    for _ in range(3):
        leases.append(cache.lease)
        cache.drop()
    assert len({id(lease) for lease in (*leases, cache.lease)}) == 4
