"""all checks, then all tests, in three lanes at once; arguments go to pytest, and paths of tests replace "all tests"

One lane needs a core and no clock (unit to simulation), the others mostly wait for real processes. Each ends with
pytest's own closing line. Exits as pytest does, and 5 if no test was run at all.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from tools.check import static_failures

ROOT = Path(__file__).resolve().parent.parent
LANES = (("unit", "scenarios", "simulation"), ("clients", "process"), ("coordctl",))
PYTEST = [sys.executable, "-m", "pytest"]
NO_TESTS = 5
POLL_SECONDS = 0.2
CHUNK_BYTES = 65_536


def main() -> None:
    """Check; then become pytest, or run all lanes."""
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
    """All at once: the first is seen as it goes, then what each of the others has said. Returns the exit status."""
    with ExitStack() as stack:
        said = [stack.enter_context(tempfile.TemporaryFile()) for _ in lanes[1:]]
        first = subprocess.Popen([*PYTEST, *arguments, *lanes[0]])
        others = [
            subprocess.Popen(
                [*PYTEST, "-o", f"cache_dir=.pytest_cache/lane-{number}", *arguments, *lane],
                stdout=says,
                stderr=subprocess.STDOUT,
            )
            for number, (lane, says) in enumerate(zip(lanes[1:], said, strict=True), 2)
        ]
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _: _pass_on((first, *others), number))
        first.wait()
        for process, words in zip(others, said, strict=True):
            _follow(process, words)
        return worst(first.returncode, *(process.returncode for process in others))


def _follow(process: subprocess.Popen[bytes], said: IO[bytes]) -> None:
    """Show what it says, until it has ended. It writes to the same open file, so reading has a place of its own."""
    shown = 0
    ended = False
    while not ended:
        ended = process.poll() is not None
        while words := os.pread(said.fileno(), CHUNK_BYTES, shown):
            sys.stdout.buffer.write(words)
            shown += len(words)
        sys.stdout.flush()
        if not ended:
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
