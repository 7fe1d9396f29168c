"""deterministic simulation of whole cells: --seeds N [--jobs 2] [--minutes M] | --seed S --trace | --planted"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

from tests.simulation.runs import KINDS, Outcome, replay_command, run_seed, run_seeds  # noqa: E402
from tests.simulation.world import Trace  # noqa: E402


def main() -> None:
    """Run seeds, or replay one, or hunt the planted bugs."""
    parser = argparse.ArgumentParser(prog="./dev sim", description=__doc__)
    parser.add_argument("--kind", choices=KINDS, help="only this harness (default: each in turn)")
    parser.add_argument("--seeds", type=int, help="how many seeds (default 200; --planted: 2000 at most)")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--minutes", type=float, help="go on for so long instead of counting seeds")
    parser.add_argument("--seed", type=int, help="run this one only")
    parser.add_argument("--trace", action="store_true", help="with --seed: tell the whole story")
    parser.add_argument("--planted", nargs="*", metavar="BUG", help="hunt all planted bugs, or these, in --seeds each")
    options = parser.parse_args()
    if options.planted is not None:
        sys.exit(hunt_planted(options.planted, options.seeds or 2_000, options.start, options.jobs))
    options.seeds = options.seeds or 200
    kinds = [options.kind] if options.kind else list(KINDS)
    if options.seed is not None:
        sys.exit(max(replay(kind, options.seed, trace=options.trace) for kind in kinds))
    seeds_of = {kind: _seeds(options.start, options.seeds, options.minutes, len(kinds)) for kind in kinds}
    sys.exit(max(campaign(kind, seeds_of[kind], options.jobs) for kind in kinds))


def _seeds(start: int, count: int, minutes: float | None, shares: int) -> Iterator[int]:
    if minutes is None:
        yield from range(start, start + count)
        return
    until: float | None = None
    for seed in itertools.count(start):
        until = until or time.monotonic() + minutes * 60 / shares
        if time.monotonic() > until:
            return
        yield seed


def replay(kind: str, seed: int, *, trace: bool) -> int:
    """One seed, as a story where that was asked for."""
    story = Trace(keep=trace)
    outcome = run_seed(kind, seed, story)
    for line in story.lines or ():
        print(line)
    print(outcome.text or outcome.report)
    return int(outcome.report is None)


def campaign(kind: str, seeds: Iterator[int], jobs: int) -> int:
    """Many seeds, and what they did."""
    begun, done, failed = time.monotonic(), 0, 0
    faults: Counter[str] = Counter()
    events = acknowledged = reigns = 0
    for outcome in run_seeds(kind, seeds, jobs):
        done += 1
        if outcome.report is None:
            failed += 1
            _tell_failure(outcome)
            continue
        faults += outcome.report.faults
        events += outcome.report.events
        acknowledged += outcome.report.acknowledged
        reigns += outcome.report.reigns
        if sys.stderr.isatty():
            print(f"\r{kind}: {done} seeds, {failed} failed", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    seconds = time.monotonic() - begun
    print(
        f"{kind}: {done} seeds ({done / max(seconds, 1e-9) * 60:.0f} a minute), {events:,} events, {reigns:,} reigns, "
        f"{acknowledged:,} answers checked, {faults.total():,} faults: "
        + ", ".join(f"{name} {count:,}" for name, count in sorted(faults.items()))
    )
    print(f"{kind}: {failed} of {done} seeds failed" if failed else f"{kind}: no promise was broken")
    return int(failed > 0)


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


def _tell_failure(outcome: Outcome) -> None:
    print(f"{outcome.text.rstrip()}\n  {replay_command(outcome.kind, outcome.seed)}", flush=True)


if __name__ == "__main__":
    main()
