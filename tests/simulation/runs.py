"""Runs of seeds: alone or in several processes, with the command that replays one."""

from __future__ import annotations

import multiprocessing
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from tests.simulation.cell import Cell
from tests.simulation.changes import ChangingCell, ChangingConsensus
from tests.simulation.consensus import Consensus
from tests.simulation.diverging import DivergingCell
from tests.simulation.report import Report
from tests.simulation.swarm import Swarm
from tests.simulation.world import Trace, Violation


class Harness(Protocol):
    """One run of one seed."""

    swarm: Swarm

    def run(self) -> Report: ...


KINDS: Mapping[str, Callable[[int, Trace | None, Swarm | None], Harness]] = {
    "agreement": Consensus,
    "changes": ChangingConsensus,
    "cell": Cell,
    "changing cell": ChangingCell,
    "diverging cell": DivergingCell,
}
# What one seed of a campaign runs: one kind of each row, those of a row in turn. Whole cells are the dear ones.
TURNS: Sequence[Sequence[str]] = (("agreement",), ("changes",), ("cell", "changing cell", "diverging cell"))
AHEAD = 4  # errands per process that wait, so that none is ever without


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one seed: a report, or the words of the violation."""

    kind: str
    seed: int
    report: Report | None
    checker: str = ""
    text: str = ""
    at_ms: int = 0
    swarm: Swarm | None = None


def replay_command(kind: str, seed: int) -> str:
    """What to type to see the story of a seed."""
    return f"./dev sim --kind '{kind}' --seed {seed} --trace"


def run_seed(kind: str, seed: int, trace: Trace | None = None, swarm: Swarm | None = None) -> Outcome:
    """One seed, of a cell drawn by it or of `swarm`; a violation becomes part of the outcome."""
    try:
        harness = KINDS[kind](seed, trace, swarm)
        return Outcome(kind, seed, harness.run())
    except Violation as violation:
        cause = "".join(traceback.format_exception(violation.__cause__)) if violation.__cause__ else ""
        text = f"{violation}\n{cause}"
        return Outcome(kind, seed, None, violation.checker, text, violation.now_us // 1000, harness.swarm)
    except Exception as error:
        error.add_note(f"in the simulator itself: {replay_command(kind, seed)}")
        raise


def _run_pair(pair: tuple[str, int]) -> Outcome:
    return run_seed(*pair)


def run_all(errands: Iterable[tuple[str, int]], jobs: int) -> Iterator[Outcome]:
    """The outcomes in the order of the errands (kind, seed); with several jobs in as many processes."""
    if jobs <= 1:
        yield from map(_run_pair, errands)
        return
    waiting: deque[Future[Outcome]] = deque()
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        try:
            for errand in errands:
                waiting.append(pool.submit(_run_pair, errand))
                if len(waiting) >= AHEAD * jobs:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
