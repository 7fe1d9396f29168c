"""A failing run made small: fewer kinds of faults, fewer clients and replicas, shorter, calmer.

Whatever is taken away moves the chance of all that is left, so a smaller run is tried with a few other seeds too.
What counts as the same failure is that the same checker speaks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace

from tests.simulation.cases import CALM, Case
from tests.simulation.runs import Outcome, run_seed
from tests.simulation.swarm import Swarm

RUNS_MAX = 300
SEEDS_TRIED = 4
SHORTEST_MS = 500
SHAPE = (
    "replicas",
    "clients",
    "posters",
    "watchers",
    "safety_ms",
    "safety_events",
    "workers",
    "faults",
)  # made small in ways of their own


class Minimiser:
    """One search; see the module docstring. `runs` counts."""

    def __init__(self, case: Case, runs_max: int = RUNS_MAX) -> None:
        self.best = case
        self.runs = 0
        self._runs_max = runs_max
        self._at_ms = 0

    def search(self) -> Case:
        """The smallest that was found; the case itself where it does not fail."""
        if not self._fails(self.best.swarm):
            return self.best
        while self._one_step_smaller():
            pass
        return self.best

    def _one_step_smaller(self) -> bool:
        return any(self._fails(smaller) for smaller in self._smaller(self.best.swarm))

    def _fails(self, swarm: Swarm) -> bool:
        """Whether the same checker speaks, in this seed or another; then that is the best so far."""
        case = self.best
        for seed in dict.fromkeys((case.seed, *range(SEEDS_TRIED))):
            if self.runs >= self._runs_max:
                return False
            self.runs += 1
            outcome = run_seed(case.kind, seed, swarm=swarm)
            if outcome.report is None and outcome.checker == case.checker:
                self.best = replace(case, seed=seed, swarm=swarm, found=first_line(outcome))
                self._at_ms = outcome.at_ms
                return True
        return False

    def _smaller(self, swarm: Swarm) -> Iterator[Swarm]:
        """Smaller runs, the boldest first."""
        kinds = list(swarm.faults)
        half = len(kinds) // 2
        groups = [kinds, kinds[:half], kinds[half:]] if half else []
        for gone in [*groups, *([kind] for kind in kinds)]:
            if gone:
                yield replace(swarm, faults={kind: swarm.faults[kind] for kind in kinds if kind not in gone})
        for clients in (1, swarm.clients // 2, swarm.clients - 1):
            if 0 < clients < swarm.clients:
                yield replace(swarm, clients=clients)
        for posters in range(swarm.posters):
            yield replace(swarm, posters=posters)
        for watchers in range(swarm.watchers):
            yield replace(swarm, watchers=watchers)
        for replicas in (1, 3):
            if replicas < swarm.replicas:
                yield replace(swarm, replicas=replicas)
        for index in range(len(swarm.workers)):
            if len(swarm.workers) > 1:
                yield replace(swarm, workers=swarm.workers[:index] + swarm.workers[index + 1 :])
        yield from self._shorter(swarm)
        for field in fields(Swarm):
            calm = getattr(CALM, field.name)
            if field.name not in SHAPE and getattr(swarm, field.name) != calm:
                yield replace(swarm, **{field.name: calm})

    def _shorter(self, swarm: Swarm) -> Iterator[Swarm]:
        for safety_ms in (self._at_ms // 2, self._at_ms + 1, swarm.safety_ms // 2):
            if SHORTEST_MS <= safety_ms < swarm.safety_ms:
                yield replace(swarm, safety_ms=safety_ms, safety_events=CALM.safety_events)


def first_line(outcome: Outcome) -> str:
    """What a violation says, without what follows."""
    return outcome.text.splitlines()[0]


def minimised(outcome: Outcome, runs_max: int = RUNS_MAX) -> Case:
    """The smallest run that was found to fail as `outcome` does."""
    assert outcome.report is None and outcome.swarm is not None
    case = Case(outcome.kind, outcome.seed, outcome.swarm, outcome.checker, first_line(outcome))
    return Minimiser(case, runs_max).search()
