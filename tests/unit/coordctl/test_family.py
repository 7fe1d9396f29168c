"""Who is killed: every descendant, wherever it hides, and nobody else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from coordctl.family import Process, carriers, descendants, look_up, parse_stat, process_table, send_signal

TAIL = "1 7 7 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 4711 0 0"


@pytest.mark.parametrize("name", ["sh", "a b", ") 9 9", "(())", "x) S 1 2 3", ""])
def test_a_hostile_name_does_not_shift_the_fields(name: str) -> None:
    assert parse_stat(f"42 ({name}) Z {TAIL}") == Process(42, 1, 7, 4711, "Z")


def test_descendants_are_found_through_all_generations_but_not_the_roots_or_the_excluded() -> None:
    rows = {pid: Process(pid, parent, pid, 0, "S") for pid, parent in ((1, 0), (2, 1), (3, 2), (4, 3), (5, 1), (6, 5))}
    assert {row.pid for row in descendants(rows, (2,))} == {3, 4}
    assert {row.pid for row in descendants(rows, (1,), without=(5,))} == {2, 3, 4}
    assert descendants(rows, (99,)) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="SKIPPED: needs /proc (Linux)")
def test_a_real_process_is_seen_with_its_environment_and_signalled_only_under_its_own_name() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, env={"MARK": "mine", "PATH": os.environ["PATH"]}) as child:
        row = look_up(child.pid)
        assert row is not None
        assert row.parent == os.getpid()
        assert row.pid in {found.pid for found in descendants(process_table(), (os.getpid(),))}
        assert carriers({row.pid: row}, "MARK", "mine") == [row]
        assert carriers({row.pid: row}, "MARK", "min") == []
        other = Process(row.pid, row.parent, row.group, row.started + 1, row.state)
        assert send_signal(other, signal.SIGKILL) is None
        assert child.poll() is None, "a process that was started at another time is another process"
        assert send_signal(row, signal.SIGKILL) is None
        assert child.wait() == -signal.SIGKILL
    assert send_signal(row, signal.SIGKILL) is None, "who is gone needs no signal"
