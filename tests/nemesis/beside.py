"""The short set of every `./dev test`, in a process of its own.

It mostly waits, as the tests of processes do: so it begins with the first of them, and the test that judges it comes
last. Where that is run alone, it begins it.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 180
# The machine may be slow: what comes after the faults waits for things that happen, with deadlines of its own.
SECONDS_MAX = 900
END_SECONDS_MAX = 30


class ShortSet:
    """One run; `judge` waits for its end."""

    def __init__(self) -> None:
        self.seed = time.time_ns() % 10**6
        self._directory = ROOT / "run" / f"nemesis-test-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{self.seed}"
        self._said = self._directory.with_suffix(".txt")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin, if it has not begun yet; returns at once."""
        if self._process is not None:
            return
        self._said.parent.mkdir(exist_ok=True)
        command = [sys.executable, "tools/nemesis.py", "--seconds", f"{SECONDS}", "--seed", f"{self.seed}"]
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [*command, "--directory", str(self._directory)], cwd=ROOT, stdout=said, stderr=subprocess.STDOUT
            )

    def judge(self) -> tuple[int, str]:
        """Its exit status and all that it said; whoever is content says so by `forget`."""
        self.start()
        assert self._process is not None
        status = self._process.wait(SECONDS_MAX)
        return status, self._said.read_text()

    def forget(self) -> None:
        """Remove what it left: it was in order."""
        shutil.rmtree(self._directory)
        self._said.unlink()

    def stop(self) -> None:
        """The tests are over, by whatever reason: it ends, and with it its replicas and clients."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(END_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


SHORT_SET = pytest.StashKey[ShortSet]()
