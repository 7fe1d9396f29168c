"""deterministic simulation of whole cells: --seeds N [--minutes M] [--jobs 2] | --seed S --trace | --planted"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

from tests.simulation import cases  # noqa: E402
from tests.simulation.minimise import minimised  # noqa: E402
from tests.simulation.runs import KINDS, TURNS, Outcome, replay_command, run_all, run_seed  # noqa: E402
from tests.simulation.summary import Summary  # noqa: E402
from tests.simulation.swarm import Swarm  # noqa: E402
from tests.simulation.world import Trace  # noqa: E402

Turns = Sequence[Sequence[str]]
KEPT_MAX = 3  # failures that are made small in one campaign
BAR = 30


def main() -> None:
    """Run seeds, or replay one, or hunt the planted bugs."""
    parser = argparse.ArgumentParser(prog="./dev sim", description=__doc__)
    parser.add_argument(
        "--kind", choices=KINDS, help="only this harness (default: both of the core, and one of whole cells in turn)"
    )
    parser.add_argument("--seeds", type=int, help="how many (default 200; --planted: 2000 at most)")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes (default: the cores)")
    parser.add_argument("--minutes", type=float, help="go on for so long instead of counting seeds")
    parser.add_argument("--seed", type=int, help="run this one only")
    parser.add_argument("--case", type=Path, metavar="FILE", help="run a case that was kept, see tests/regressions")
    parser.add_argument("--trace", action="store_true", help="with --seed or --case: tell the whole story")
    parser.add_argument("--planted", nargs="*", metavar="BUG", help="hunt all planted bugs, or these, in --seeds each")
    options = parser.parse_args()
    if options.planted is not None:
        sys.exit(hunt_planted(options.planted, options.seeds or 2_000, options.start, options.jobs))
    if options.case is not None:
        case = cases.read(options.case)
        sys.exit(replay(case.kind, case.seed, case.swarm, trace=options.trace))
    if options.seed is not None:
        kinds = [options.kind] if options.kind else list(KINDS)
        sys.exit(max(replay(kind, options.seed, None, trace=options.trace) for kind in kinds))
    turns = ((options.kind,),) if options.kind else TURNS
    sys.exit(campaign(turns, options.start, options.seeds or 200, options.minutes, options.jobs))


def replay(kind: str, seed: int, swarm: Swarm | None, *, trace: bool) -> int:
    """One seed, as a story where that was asked for."""
    story = Trace(keep=trace)
    outcome = run_seed(kind, seed, story, swarm)
    for line in story.lines or ():
        print(line)
    print(outcome.text or outcome.report)
    return int(outcome.report is None)


class Progress:
    """How far it is, of the seeds or of the time: a bar on a terminal, else a line for every tenth."""

    def __init__(self, errands: int, minutes: float | None) -> None:
        self._errands, self._seconds = errands, minutes and minutes * 60
        self._begun = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._tenths = 0

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._begun

    def over(self) -> bool:
        """Whether the time is up."""
        return self._seconds is not None and self.seconds >= self._seconds

    def show(self, summary: Summary) -> None:
        """One run more."""
        passed = self.seconds
        share = min(1.0, passed / self._seconds if self._seconds else summary.runs / self._errands)
        left = passed / share - passed if share else 0.0
        words = f"{summary.runs} runs, {summary.failed} failed, {left / 60:.0f} minutes to go"
        if self._terminal:
            bar = f"[{'#' * int(share * BAR):<{BAR}}]"
            print(f"\r{bar} {words} ", end="", file=sys.stderr, flush=True)
        elif self._tenths < int(share * 10):
            self._tenths = int(share * 10)
            print(words, file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Make room for a line of its own."""
        if self._terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def campaign(turns: Turns, start: int, count: int, minutes: float | None, jobs: int) -> int:
    """Many seeds, and what they did. The first failures are made small and kept."""
    summary, failures = Summary(), []
    progress = Progress(count * len(turns), minutes)
    for outcome in run_all(_errands(turns, start, None if minutes else count, progress), jobs):
        summary.add(outcome)
        if outcome.report is None:
            failures.append(outcome)
            progress.clear()
            print(f"{outcome.text.rstrip()}\n  {replay_command(outcome.kind, outcome.seed)}", flush=True)
        progress.show(summary)
    progress.clear()
    for line in summary.lines(progress.seconds):
        print(line, flush=True)
    for outcome in _of_different_kinds(failures)[:KEPT_MAX]:
        case = minimised(outcome)
        path = os.path.relpath(case.keep())
        print(f"kept in a small form: {path}\n  {case.found}\n  ./dev sim --case {path} --trace")
    return int(summary.failed > 0)


def _errands(turns: Turns, start: int, count: int | None, progress: Progress) -> Iterator[tuple[str, int]]:
    """Each seed with the kinds whose turn it is; `count` None: until the time is up."""
    for seed in itertools.count(start):
        for kinds in turns:
            if progress.over() or seed - start == count:
                return
            yield kinds[seed % len(kinds)], seed


def _of_different_kinds(failures: list[Outcome]) -> list[Outcome]:
    """The first of each checker."""
    return list({outcome.checker: outcome for outcome in reversed(failures)}.values())[::-1]


def hunt_planted(names: list[str], seeds_max: int, start: int, jobs: int) -> int:
    """The table of planted bugs: how many seeds each took, and which checker noticed."""
    from tests.simulation.planted.hunt import BUGS, hunt_all

    unknown = [name for name in names if name not in BUGS]
    if unknown:
        print(f"no planted bug is called {unknown[0]!r}; there are: {', '.join(BUGS)}")
        return 2
    found = 0
    names = names or list(BUGS)
    print(f"{'area':<10} {'bug':<48} {'seeds':>5}  checker", flush=True)
    for one in hunt_all(names, seeds_max, start, jobs):
        found += bool(one.checker)
        print(f"{BUGS[one.bug].area:<10} {one.bug:<48} {one.seeds:>5}  {one.checker or 'NOT FOUND'}", flush=True)
    print(f"found {found}/{len(names)}")
    return int(found < len(names))


if __name__ == "__main__":
    main()
