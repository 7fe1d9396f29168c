"""The schedule comes from the seed alone, and gives every kind its turn."""

from __future__ import annotations

from itertools import islice

import pytest

from tests.nemesis.schedule import BY_NAME, CELL, CLIENT, KINDS, SHIM, SMALL_DISK, plan, possible

ALL = {SHIM, SMALL_DISK}


@pytest.mark.parametrize("track", [CELL, CLIENT])
def test_the_same_seed_gives_the_same_faults_at_the_same_moments(track: str) -> None:
    once, again, other = (list(islice(plan(seed, KINDS, track), 200)) for seed in (7, 7, 8))
    assert once == again
    assert once != other


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("track", [CELL, CLIENT])
def test_every_kind_comes_once_before_any_comes_twice(track: str, seed: int) -> None:
    own = {kind.name for kind in KINDS if kind.track == track}
    first = [faults[0].kind for faults in islice(plan(seed, KINDS, track), len(own))]
    assert sorted(first) == sorted(own)


def test_every_fault_lasts_as_long_as_its_kind_may() -> None:
    for faults in islice(plan(1, KINDS, CELL), 300):
        for fault in faults:
            kind = BY_NAME[fault.kind]
            assert kind.low_s <= fault.length_s <= kind.high_s and fault.wait_s > 0


def test_what_the_machine_does_not_allow_is_named_and_not_planned() -> None:
    can, cannot = possible(3, {SHIM})
    assert [kind.name for kind in cannot] == ["full disk"]
    planned = {fault.kind for faults in islice(plan(1, can, CELL), 200) for fault in faults}
    assert "full disk" not in planned and "failing sync" in planned
    assert possible(3, ALL) == (list(KINDS), [])


def test_a_cell_of_one_gets_no_faults_between_replicas() -> None:
    can, cannot = possible(1, ALL)
    assert cannot == []
    assert {"partial partition", "kill follower", "client: master hidden"}.isdisjoint(kind.name for kind in can)
    assert {"kill master", "failing sync"} <= {kind.name for kind in can}
