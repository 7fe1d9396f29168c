"""./dev demo and ./dev bench as they are typed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.coordctl.runs import children, eventually

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "clients" / "python")))}


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_the_demo_shows_what_it_says_and_exits_0() -> None:
    with start("tools.demo") as demo:
        out, words = demo.communicate(timeout=120)
    assert demo.returncode == 0, out + words
    assert out.count("  ok  ") == 7
    assert "FAILED" not in out
    assert "./dev up" in out


def test_a_demo_that_is_interrupted_leaves_no_process_behind() -> None:
    with start("tools.demo") as demo:
        eventually(lambda: len(children(demo.pid)) >= 4, "replicas and workers")
        processes = children(demo.pid)
        demo.send_signal(signal.SIGINT)
        demo.communicate(timeout=60)
    assert demo.returncode == 130
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes), "the end of all processes")


def test_the_bench_prints_a_table_and_the_same_as_json(tmp_path: Path) -> None:
    options = ("--form", "tasks", "-n", "4", "--seconds", "0.3", "--data", str(tmp_path))
    with start("tools.bench", "W1", "W4", "W6", *options, "--json", str(tmp_path / "results")) as bench:
        out, words = bench.communicate(timeout=120)
    assert bench.returncode == 0, words
    names = [result["name"] for result in json.loads((tmp_path / "results").read_text())["results"]]
    assert names == ["W1 lock cycles, tasks", "W4 reads, tasks", "W6 write to the last watcher, tasks"]
    assert all(name in out for name in (*names, "ops/s", "p99 ms", "server us/op", "fdatasync"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results"], "the data of the cell is removed"
