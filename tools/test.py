"""all checks, then all tests, in two lanes side by side; arguments go to pytest, and paths of tests replace "all tests"

One lane needs a core and no clock (unit to simulation), the other mostly waits for real processes (clients, process).
Each ends with pytest's own closing line. Exits as pytest does, and 5 if no test was run at all.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tools.check import static_failures

ROOT = Path(__file__).resolve().parent.parent
LANES = (("unit", "scenarios", "simulation"), ("clients", "process"))
PYTEST = [sys.executable, "-m", "pytest"]
NO_TESTS = 5
POLL_SECONDS = 0.2


def main() -> None:
    """Check; then become pytest, or run both lanes."""
    begun = time.monotonic()
    arguments = sys.argv[1:]
    failed = static_failures()
    if failed:
        sys.exit(f"test: no test was run, the check comes first and failed: {', '.join(failed)}")
    os.chdir(ROOT)
    if any(argument.startswith("tests") for argument in arguments):
        os.execv(sys.executable, [*PYTEST, *arguments])
    status = run_lanes([[f"tests/{rung}" for rung in lane] for lane in LANES], arguments)
    print(f"test: {time.monotonic() - begun:.0f} s in all", flush=True)
    sys.exit(status)


def run_lanes(lanes: Sequence[Sequence[str]], arguments: Sequence[str]) -> int:
    """Both at once: the first is seen as it goes, then what the second has said and says. Returns the exit status."""
    with tempfile.NamedTemporaryFile() as says, Path(says.name).open("rb") as said:
        beside = ["-o", "cache_dir=.pytest_cache/beside"]
        second = subprocess.Popen([*PYTEST, *beside, *arguments, *lanes[1]], stdout=says, stderr=subprocess.STDOUT)
        first = subprocess.Popen([*PYTEST, *arguments, *lanes[0]])
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _: _pass_on((first, second), number))
        status = first.wait()
        while True:
            ended = second.poll() is not None
            shutil.copyfileobj(said, sys.stdout.buffer)
            sys.stdout.flush()
            if ended:
                return worst(status, second.returncode)
            time.sleep(POLL_SECONDS)


def worst(*statuses: int) -> int:
    """One status for several runs of pytest: a failure before "no tests", which is one only if it is true of all."""
    failures = [status for status in statuses if status not in (0, NO_TESTS)]
    if failures:
        return failures[0] if failures[0] > 0 else 128 - failures[0]
    return NO_TESTS if all(status == NO_TESTS for status in statuses) else 0


def _pass_on(processes: Sequence[subprocess.Popen[bytes]], number: int) -> None:
    """A terminal has sent Ctrl-C to all of its job by itself; once more does no harm to who is ending."""
    for process in processes:
        if process.poll() is None:
            process.send_signal(number)


if __name__ == "__main__":
    main()
