"""The short set of `./dev nemesis`: real daemons and clients under every kind of fault for about a minute."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.nemesis import dialers

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 70
# The machine may be slow: what comes after the faults waits for things that happen, with deadlines of its own.
SECONDS_MAX = 800


@pytest.mark.slow
@pytest.mark.timeout(SECONDS_MAX + 10)
@pytest.mark.skipif(not dialers.available(), reason="needs Linux (/proc/net/tcp)")
def test_no_promise_is_broken_under_faults(capsys: pytest.CaptureFixture[str]) -> None:
    seed = time.time_ns() % 10**6
    directory = ROOT / "run" / f"nemesis-test-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{seed}"
    command = [sys.executable, "tools/nemesis.py", "--seconds", f"{SECONDS}", "--seed", f"{seed}"]
    done = subprocess.run(
        [*command, "--directory", str(directory)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=SECONDS_MAX,
    )
    closing = done.stdout.splitlines()[-1]
    assert done.returncode == 0 and closing.startswith("nemesis: "), f"seed {seed}\n{done.stdout}"
    with capsys.disabled():
        sys.stdout.write(f"\n{closing} (seed {seed}) ")
    shutil.rmtree(directory)
