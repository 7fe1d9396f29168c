"""real daemons under faults: --minutes M | --seconds S [--seed N] [--replicas 3] [--clients 8]"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "clients" / "python")]

from tests.nemesis import run  # noqa: E402


def main() -> None:
    """Run once and exit by what was found."""
    parser = argparse.ArgumentParser(prog="./dev nemesis", description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0, help="how long faults are injected (default 3)")
    parser.add_argument("--seconds", type=float, help="the same in seconds")
    parser.add_argument("--seed", type=int, help="of the schedule; drawn and printed if not given")
    parser.add_argument("--replicas", type=int, default=3, choices=range(1, 8), help="of the cell")
    parser.add_argument("--clients", type=int, default=8, help="client processes at a time")
    parser.add_argument("--directory", type=Path, help="where logs and histories go (default run/nemesis-TIME)")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    directory = options.directory or ROOT / "run" / time.strftime("nemesis-%Y%m%d-%H%M%S", time.gmtime())
    seconds = options.seconds if options.seconds is not None else options.minutes * 60
    print(f"nemesis: {seconds:.0f} s of faults, seed {seed}, {options.replicas} replicas", flush=True)
    sys.exit(run.main(run.Options(directory.resolve(), seconds, seed, options.replicas, options.clients, _say)))


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
