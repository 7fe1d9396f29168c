"""What a seed draws for its cell. Every seed has its own mix, so that a heavy fault does not hide the light ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from random import Random

from tests.simulation.faults import ALL as FAULTS
from tests.simulation.swarm import Swarm
from tests.simulation.work import ALL as WORKERS

NEWER = ("handles", "shared nodes", "readers", "watches", "transactions", "past")  # workers that came later


def draw(chance: Random, *, safety_events: int = 11_000, plain: bool = False) -> Swarm:
    """The mix of one seed. `plain`: for agreement alone, without clients of the library and without files."""
    drift_ppm = chance.choice((10_000, 100_000)) if plain else 10_000  # the library has a bound of its own
    quick = chance.random() < 0.5
    calm = chance.choice((0.33, 1.0, 2.0, 4.0))
    low_us = chance.choice((50, 200, 1_000, 5_000))
    high_us = low_us * chance.choice((2, 5, 20))
    sync_low_us = chance.choice((100, 500, 2_000))
    sync_high_us = sync_low_us * chance.choice((2, 10, 40))
    # A lease that a few round trips with their syncs do not fill; what is set up otherwise elects for ever.
    lease_ms = max(chance.choice((300, 600, 1_000, 1_500)), 6 * (2 * high_us + sync_high_us) // 1_000)
    faults = {}
    for name in _kinds(chance, plain):
        fault = FAULTS[name]
        faults[name] = int(chance.randint(fault.often_ms, fault.seldom_ms) * calm)
    older = Swarm(
        replicas=chance.choices((1, 2, 3, 4, 5, 6, 7), (8, 3, 57, 4, 23, 1, 4))[0],
        clients=chance.randint(2, 6),
        safety_ms=40_000,
        safety_events=safety_events,
        lease_ms=lease_ms,
        drift_ppm=drift_ppm,
        clock_ppm=drift_ppm // 2 if chance.random() < 0.94 else chance.choice((drift_ppm, 100_000, 400_000)),
        tick_ms=chance.choice((20, 50, 100)),
        latency_us=(low_us, high_us),
        tail_rate=0.0 if quick else chance.choice((0.001, 0.01, 0.05)),
        tail_us=chance.choice((50_000, 500_000, 3_000_000)),
        loss=chance.choice((0.0, 0.0, 0.005, 0.03, 0.1)),
        duplicate=chance.choice((0.0, 0.0, 0.01, 0.05)),
        ordered=chance.random() < 0.5,
        sync_us=(sync_low_us, sync_high_us),
        sync_helper=chance.random() < 0.5,
        sync_early=chance.choice((0.0, 0.5, 1.0)),
        gap_rate=chance.choice((0.0, 0.0, 0.002, 0.01)),
        down_ms=chance.choice(((5, 200), (5, 3_000), (500, 6_000))),
        snapshot_bytes=chance.choice((1_000, 5_000, 50_000)),
        kept_slots=chance.choice((1, 10, 1_000)),
        learn_slots=chance.choice((3, 1_000)),
        message_bytes=chance.choice((200, 100_000)),
        requests_max=chance.choice((8, 24, 16_384, 16_384)),
        session_lease_ms=chance.choice(((1_000,), (1_000, 3_000), (2_000, 6_000), (12_000,))),
        think_ms=chance.choice((50, 150, 400)),
        long_holds=chance.choice((0.0, 0.1, 0.5)),
        workers=_workers(chance),
        faults=faults,
        stuck=chance.choice((0.0, 0.0, 0.1, 0.6)),
        posters=0 if plain else chance.choices((0, 1, 2), (6, 3, 1))[0],
    )
    return older if plain else _with_what_is_new(chance, older)


def _with_what_is_new(chance: Random, older: Swarm) -> Swarm:
    """What came later is drawn last: a seed that has nothing of it is as it was before."""
    newer = chance.choices(NEWER, k=chance.choice((0, 0, 1, 2)))
    caches = chance.choice((0.0, 0.0, 0.5, 1.0))
    drawn = replace(
        older,
        workers=(*older.workers, *newer, *(("readers",) if caches else ())),
        watchers=chance.choices((0, 1, 2), (6, 3, 1))[0],
        caches=caches,
        watch_window=chance.choice((3, 20, 1_024)),
        changes_kept=chance.choice((3, 40, 10_000, 10_000)),
        changes_bytes=chance.choice((2_000, 8 * 1024 * 1024, 8 * 1024 * 1024)),
    )
    about = chance.choices((_nothing_alone, _stale_caches, _changed_meanwhile, _short_histories), (60, 15, 10, 15))[0]
    return about(chance, drawn)


def _nothing_alone(chance: Random, drawn: Swarm) -> Swarm:
    """Most cells are about nothing alone."""
    return drawn


def _stale_caches(chance: Random, drawn: Swarm) -> Swarm:
    """Readers to whom nothing is told while others write and masters go, all at once: by itself that is rare."""
    return replace(
        drawn,
        clients=max(4, drawn.clients),
        caches=1.0,
        workers=(drawn.workers[0], "registers", "readers", "readers", "readers"),
        safety_ms=24_000,
        lease_ms=max(2_000, drawn.lease_ms),  # longer than a hand-over waits for caches
        session_lease_ms=(12_000,),  # who is deaf takes some time to notice
        think_ms=100,
        requests_max=max(24, drawn.requests_max),
        faults={**_some(drawn.faults), "client_deaf": chance.choice((600, 1_200))},
    )


def _changed_meanwhile(chance: Random, drawn: Swarm) -> Swarm:
    """Transactions in a slow cell: they find another state than there was when it was asked whom they concern."""
    return replace(
        drawn,
        clients=max(4, drawn.clients),
        caches=1.0,
        watchers=3,
        workers=(drawn.workers[0], "registers", "readers", "readers", *("transactions",) * 3),
        safety_ms=24_000,
        lease_ms=max(600, drawn.lease_ms),
        latency_us=(1_000, 20_000),
        session_lease_ms=(12_000,),
        think_ms=100,
        requests_max=16_384,
        faults={**_some(drawn.faults), "client_deaf": chance.choice((1_200, 2_500))},
    )


def _short_histories(chance: Random, drawn: Swarm) -> Swarm:
    """Watchers who are slow or begin in the past, of nodes whose changes are hardly kept, at a master who is busy."""
    return replace(
        drawn,
        watchers=max(1, drawn.watchers),
        workers=(*drawn.workers[:2], "registers", "tokens", "watches", "watches"),
        safety_ms=24_000,
        think_ms=chance.choice((100, 200)),
        busy_us=chance.choice((1_000, 10_000)),
        watch_window=chance.choice((3, 20, 20)),
        changes_kept=chance.choice((3, 40)),
        faults={**_some(drawn.faults), "client_break": chance.choice((250, 600))},
    )


def _some(faults: Mapping[str, int]) -> Mapping[str, int]:
    """Two of them: more would leave no time for what the cell is about."""
    return dict(list(faults.items())[:2])


def _workers(chance: Random) -> tuple[str, ...]:
    names = list(WORKERS)
    of_locks = [name for name in names if WORKERS[name].of_locks]
    more = chance.choices(names, [WORKERS[name].weight for name in names], k=chance.randint(1, 3))
    return (chance.choice(of_locks), *more)


def _kinds(chance: Random, plain: bool) -> list[str]:
    """A few kinds only: a seed with all of them does nothing but recover."""
    kinds: list[str] = []
    possible = [fault for fault in FAULTS.values() if not (plain and (fault.on_disks or fault.of_clients))]
    for of_clients, count in ((False, chance.choice((1, 2, 3, 4, 6))), (True, chance.choice((0, 1, 1, 2, 3)))):
        faults = [fault for fault in possible if fault.of_clients == of_clients]
        if faults:
            chosen = set(chance.choices([fault.name for fault in faults], [fault.weight for fault in faults], k=count))
            kinds += [fault.name for fault in faults if fault.name in chosen]
    return kinds
