"""Runs of seeds: by kind, alone or in several processes, with the command that replays one."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from tests.simulation.cell import Cell
from tests.simulation.changes import ChangingCell, ChangingConsensus
from tests.simulation.consensus import Consensus
from tests.simulation.diverging import DivergingCell
from tests.simulation.report import Report
from tests.simulation.world import Trace, Violation


class Harness(Protocol):
    """One run of one seed."""

    def run(self) -> Report: ...


KINDS: Mapping[str, Callable[[int, Trace | None], Harness]] = {
    "agreement": Consensus,
    "changes": ChangingConsensus,
    "cell": Cell,
    "changing cell": ChangingCell,
    "diverging cell": DivergingCell,
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one seed: a report, or the words of the violation."""

    kind: str
    seed: int
    report: Report | None
    checker: str = ""
    text: str = ""


def replay_command(kind: str, seed: int) -> str:
    """What to type to see the story of a seed."""
    return f"./dev sim --kind {kind} --seed {seed} --trace"


def run_seed(kind: str, seed: int, trace: Trace | None = None) -> Outcome:
    """One seed; a violation becomes part of the outcome."""
    try:
        return Outcome(kind, seed, KINDS[kind](seed, trace).run())
    except Violation as violation:
        cause = "".join(traceback.format_exception(violation.__cause__)) if violation.__cause__ else ""
        return Outcome(kind, seed, None, violation.checker, f"{violation}\n{cause}")
    except Exception as error:
        error.add_note(f"in the simulator itself: {replay_command(kind, seed)}")
        raise


def _run_pair(pair: tuple[str, int]) -> Outcome:
    return run_seed(*pair)


def run_seeds(kind: str, seeds: Iterator[int], jobs: int) -> Iterator[Outcome]:
    """The outcomes in the order of the seeds; with several jobs in as many processes."""
    if jobs <= 1:
        for seed in seeds:
            yield run_seed(kind, seed)
        return
    with ProcessPoolExecutor(jobs) as pool:
        waiting = []
        for seed in seeds:
            waiting.append(pool.submit(_run_pair, (kind, seed)))
            if len(waiting) >= 4 * jobs:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()
