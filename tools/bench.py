"""speed of a three-replica cell with fsync on (--profile: why; --beside: that of etcd and ZooKeeper in the same run)"""

from __future__ import annotations

import argparse
import asyncio
import pstats
import sys
import tempfile
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import cached_reads, fan_out, others, report, workloads
from benchmarks.measure import Result
from benchmarks.workloads import Bench
from coordd.testing.cells import RunningCell, start_cell

ROOT = Path(__file__).resolve().parent.parent
WORK = ("W1", "W3", "W4", "W6", "W7", "W9", "W10", "W11")
AIMS = {("W1", "tasks", 64): "10,000 ops/s", ("W1", "sessions", 64): "5,000 ops/s", ("W3", "tasks", 64): "12,000 ops/s"}
NUMBERS = {"tasks": (1, 16, 64, 256), "sessions": (1, 64)}
LOOPS = {"W1": workloads.lock_cycles, "W3": workloads.writes, "W4": workloads.reads}
CACHING_READERS = (1, 100, 1_000)
WATCHERS = (1_000,)
BESIDE = {"W4": (1, 64), "W6": WATCHERS}
FAILOVER_ROUNDS = 3
PROFILE_LINES = 35
MASTER_TRIES = 12


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """On uvloop where it is installed, as applications do."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


def measure(bench: Bench, chosen: list[str], forms: list[str], numbers: list[int] | None, rounds: int) -> list[Result]:
    """Everything chosen, one after the other."""
    results: list[Result] = []
    keep = partial(_keep, results)
    if "W9" in chosen:
        keep(run(workloads.idle(bench)))
    for name, loop in LOOPS.items():
        for form in forms if name in chosen else []:
            for number in numbers or NUMBERS[form]:
                keep([run(loop(bench, form, number, AIMS.get((name, form, number), "")))])
    for form in forms if "W6" in chosen else []:
        for number in numbers or WATCHERS:
            keep([run(fan_out.watchers(bench, form, number))])
    if "W10" in chosen:
        keep(cached_reads.reads_in_a_thread(bench))
        keep(run(cached_reads.reads_in_a_task(bench)))
    for number in (numbers or CACHING_READERS) if "W11" in chosen else ():
        keep(run(cached_reads.write_of_what_is_cached(bench, number)))
    if "W7" in chosen:
        keep([run(workloads.failover(bench, rounds, "3,000 ms"))])
    return results


def measure_beside(options: argparse.Namespace, chosen: list[str], forms: list[str]) -> list[Result]:
    """The same work with the other systems, one after the other, while no cell of ours runs."""
    results: list[Result] = []
    for system in others.SYSTEMS:
        if not system.found():
            _keep(results, [others.skipped(system, [name for name in BESIDE if name in chosen])])
            continue
        with (
            tempfile.TemporaryDirectory(dir=options.data, prefix="bench-") as directory,
            others.running(system, Path(directory)) as cell,
        ):
            results += measure_alike(cell, system.warm_up_seconds, options, chosen, forms)
    return results


def measure_alike(
    cell: others.Cell, warm_up_seconds: float, options: argparse.Namespace, chosen: list[str], forms: list[str]
) -> list[Result]:
    """What can be compared, with a client of the same kind for every system."""
    results: list[Result] = []
    run(others.warm_up(cell, warm_up_seconds))
    for name in [name for name in BESIDE if name in chosen]:
        for form in forms:
            for number in options.n or BESIDE[name]:
                if name == "W4":
                    _keep(results, run(others.reads(cell, form, number, options.seconds)))
                else:
                    _keep(results, run(others.watchers(cell, form, number)))
    return results


def _keep(results: list[Result], found: list[Result]) -> None:
    """Each line is shown when it is there."""
    results.extend(found)
    for result in found:
        shown = result.remark if result.ops_s is None else f"{result.ops_s:,.0f} ops/s"
        number = "" if result.workers is None else f", N = {result.workers}"
        print(f"  {result.name}{number}: {shown}", file=sys.stderr, flush=True)


def profiled_master(cell: RunningCell, directory: Path) -> tuple[int, Path]:
    """Restart one replica under cProfile and make it the master: (replica, file that is written when it ends)."""
    chosen = next(replica for replica in cell.addresses if replica != cell.master())
    output = directory / "master.prof"
    cell.kill(chosen)
    cell.start(chosen, ("-m", "cProfile", "-o", str(output)))
    cell.wait_ready()
    for _ in range(MASTER_TRIES):
        master = cell.master()
        if master == chosen:
            return chosen, output
        cell.restart(master)
    raise SystemExit(f"bench: replica {chosen} did not become the master in {MASTER_TRIES} elections; try again")


def print_profile(output: Path) -> None:
    """What the master spent its time on."""
    print(f"\nthe master under cProfile (its figures above include that cost); all of it: {output}")
    pstats.Stats(str(output)).strip_dirs().sort_stats("tottime").print_stats(PROFILE_LINES)


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    parser.add_argument("work", nargs="*", metavar="WORK", help=f"of {' '.join(WORK)} (default: all)")
    parser.add_argument("--form", choices=["tasks", "sessions"], action="append", help="default: both")
    parser.add_argument("-n", type=int, action="append", help="number of workers; may be given several times")
    parser.add_argument("--seconds", type=float, default=3.0, help="counted per measurement (default: 3)")
    parser.add_argument("--rounds", type=int, default=FAILOVER_ROUNDS, help="of W7")
    parser.add_argument("--data", type=Path, default=ROOT / "run", help="where the replicas' data goes (default: run/)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the results once more, for programs")
    parser.add_argument(
        "--profile", action="store_true", help="run the master under cProfile and print it (not with W7)"
    )
    parser.add_argument(
        "--beside", action="store_true", help="W4 and W6 of etcd and ZooKeeper too, where they are found"
    )
    options = parser.parse_args(arguments)
    unknown = [name for name in options.work if name not in WORK]
    if unknown:
        parser.error(f"no work is called {', '.join(unknown)}; there are {' '.join(WORK)}")
    if options.beside and options.work and not set(options.work) & set(BESIDE):
        parser.error(f"--beside is for {' and '.join(BESIDE)}")
    return options


def main() -> int:
    options = parse(sys.argv[1:])
    chosen = options.work or [name for name in WORK if not (options.profile and name == "W7")]
    forms = options.form or ["tasks", "sessions"]
    options.data.mkdir(parents=True, exist_ok=True)
    found = report.circumstances(options.data)
    print(report.heading(found), flush=True)
    with (
        tempfile.TemporaryDirectory(dir=options.data, prefix="bench-") as directory,
        start_cell(3, Path(directory), cell="bench") as cell,
    ):
        profile = profiled_master(cell, options.data) if options.profile else None
        results = measure(Bench(cell, options.seconds), chosen, forms, options.n, options.rounds)
        if options.beside:
            results += measure_alike(others.ours(cell), 0.0, options, chosen, forms)
    if options.beside:
        results += measure_beside(options, chosen, forms)
    print(report.table(results))
    if options.json is not None:
        options.json.write_text(report.as_json(found, results) + "\n")
    if profile is not None:
        print_profile(profile[1])
    return 0


if __name__ == "__main__":
    sys.exit(main())
