"""coordctl as a user runs it: a program of its own, against a real cell."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).resolve().parents[2]
WAIT_SECONDS = 30.0
COORDCTL = (sys.executable, "-m", "coordctl")
# A lock that is given up soon, and a command that does not listen to TERM, with a child in a process session of its own
# and an orphan.
LEASE, DELAY, KILL_AFTER = 1.5, 1.5, 1.0
OPTIONS = ("--lease", str(LEASE), "--lock-delay", str(DELAY), "--kill-after", str(KILL_AFTER))
STUBBORN = "trap '' TERM; setsid sleep 61 & (setsid sh -c 'sleep 62; true' &) ; sleep 63; sleep 64"


class Reachable(Protocol):
    """What a coordctl must know of a cell."""

    @property
    def endpoints(self) -> Sequence[str]: ...


def environment(cell: Reachable) -> dict[str, str]:
    """What every coordctl of these tests has."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("COORD_")}
    path = os.pathsep.join((str(ROOT), str(ROOT / "clients" / "python")))
    return {**clean, "PYTHONPATH": path, "COORD_ENDPOINTS": ",".join(cell.endpoints), "PYTHONWARNINGS": "error"}


class Family:
    """Knows whether any process of a command still runs: all of them have a fifo open for writing, coordctl has not."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "family"
        os.mkfifo(self.path)
        self._reader = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)

    def gone_within(self, seconds: float) -> bool:
        """True when the last process of the family has ended."""
        ready, _, _ = select.select([self._reader], [], [], seconds)
        return bool(ready) and os.read(self._reader, 1) == b""

    def close(self) -> None:
        os.close(self._reader)


class Coordctl:
    """Runs coordctl against one cell."""

    def __init__(self, cell: Reachable) -> None:
        self.cell = cell
        self._started: list[subprocess.Popen[str]] = []

    def run(self, *arguments: str, stdin: str | bytes = b"", **more: str) -> subprocess.CompletedProcess[bytes]:
        """To its end."""
        data = stdin.encode() if isinstance(stdin, str) else stdin
        return subprocess.run(
            [*COORDCTL, *arguments],
            input=data,
            capture_output=True,
            env={**environment(self.cell), **more},
            timeout=WAIT_SECONDS,
            check=False,
        )

    def json(self, *arguments: str) -> Any:
        """What it prints with -o json."""
        done = self.run(*arguments, "-o", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def start(self, *arguments: str, preexec: Callable[[], object] | None = None) -> subprocess.Popen[str]:
        """In the background; killed at the end of the test if it still runs."""
        process = subprocess.Popen(
            [*COORDCTL, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(self.cell),
            preexec_fn=preexec,  # noqa: PLW1509
        )
        self._started.append(process)
        return process

    def holding(self, path: str, *options: str, script: str = "", family: Family | None = None) -> Holding:
        """A `lock` whose command runs now: a shell that says READY and then does `script` (default: reads stdin)."""
        joined = f"exec 9>'{family.path}'; " if family is not None else ""
        command = ("sh", "-c", f"{joined}echo READY $COORD_LOCK_TOKEN; {script or 'exec cat'}")
        process = self.start("lock", path, *options, "--", *command)
        assert process.stdout is not None
        line = process.stdout.readline().split()
        assert line[:1] == ["READY"], (line, process.communicate(timeout=WAIT_SECONDS))
        return Holding(process, int(line[1]))

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.communicate(timeout=WAIT_SECONDS)


@dataclass
class Holding:
    """A running `lock`; `process` is its front."""

    process: subprocess.Popen[str]
    token: int

    @property
    def keeper(self) -> int:
        """The pid of the keeper: the child of the front that runs coordctl."""
        found = [pid for pid in children(self.process.pid) if b"coordctl" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert len(found) == 1, found
        return found[0]

    def end(self) -> tuple[int, str]:
        """Exit code and words, when it has ended."""
        _, words = self.process.communicate(timeout=WAIT_SECONDS)
        return self.process.returncode, words


def children(pid: int) -> Sequence[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def eventually(condition: Callable[[], object], what: str) -> None:
    """Waits for something that happens in another process."""
    until = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < until, f"waited {WAIT_SECONDS} s for {what}"
        select.select([], [], [], 0.02)
