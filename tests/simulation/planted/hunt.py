"""The hunt for planted bugs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.planted import (
    Bug,
    Found,
    caches,
    calls,
    consensus,
    digests,
    heirs,
    lease,
    locks,
    membership,
    nodes,
    posts,
    sessions,
    several,
    storage,
    taking,
    watches,
)
from tests.simulation.runs import run_seed

AREAS = (
    consensus,
    lease,
    storage,
    sessions,
    posts,
    calls,
    locks,
    several,
    taking,
    heirs,
    nodes,
    watches,
    caches,
    membership,
    digests,
)
BUGS: Mapping[str, Bug] = {bug.name: bug for area in AREAS for bug in area.BUGS}


def hunt(name: str, seeds_max: int, start: int = 0) -> Found:
    """Run seeds with the bug planted until a checker notices."""
    bug = BUGS[name]
    with bug.planted():
        for count, seed in enumerate(range(start, start + seeds_max), 1):
            outcome = run_seed(bug.kind, seed)
            if outcome.report is None:
                return Found(name, count, outcome.checker, outcome.text.splitlines()[0])
    return Found(name, seeds_max, "", "")


def _hunt(arguments: tuple[str, int, int]) -> Found:
    return hunt(*arguments)


def hunt_all(names: list[str], seeds_max: int, start: int, jobs: int) -> Iterator[Found]:
    """One hunt after another, or several at a time."""
    errands = [(name, seeds_max, start) for name in names]
    if jobs <= 1:
        yield from map(_hunt, errands)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(_hunt, errands)
