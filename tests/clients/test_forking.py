"""Preforking servers, multiprocessing, threads and loops in any mix: each process has a client of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.clients.conftest import WAIT_SECONDS


def run(cell, path, how) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    # What newer Pythons say to every fork of a process with threads; that it is survived is what is tested.
    warnings = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"]
    command = [sys.executable, *warnings, "-m", "tests.clients.programs.forking", ",".join(cell.endpoints), path, how]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=WAIT_SECONDS + 20, check=False
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout.splitlines()


def tokens(lines: list[str]) -> list[int]:
    return [int(line.removeprefix("token ")) for line in lines if line.startswith("token ")]


def test_workers_forked_by_a_master_that_has_used_its_client_have_sessions_of_their_own(cell, path):
    """python-zk/kazoo#519: a client made before the fork hung for ever in the children that used it."""
    lines = run(cell, path, "prefork")
    assert lines.count("ClientForked") == lines.count("exit 0") == 3
    assert len(set(tokens(lines))) == 2 + 1 + 1, "two loops, and two threads in one process"
    assert lines[-1] == "the master still holds its lock"


def test_multiprocessing_by_fork_and_by_spawn_with_threads_and_with_loops(cell, path):
    lines = run(cell, path, "pool")
    assert lines.count("exit 0") == 4
    assert tokens(lines) == sorted(set(tokens(lines)))
    assert len(tokens(lines)) == 6
    assert lines[-1] == "the master still holds its lock"


def test_a_fork_inside_a_running_loop_gives_the_child_nothing_of_the_parents(cell, path):
    lines = run(cell, path, "loop")
    assert lines[0] == "held False, safe False"
    assert lines.count("ClientForked") == 4, "and closing it in the child does nothing"
    assert len(tokens(lines)) == 1
    assert lines[-1] == "the parent still holds it"


@pytest.mark.slow
def test_forks_while_other_threads_use_the_client_harm_neither_side(cell, path):
    lines = run(cell, path, "busy")
    assert lines.count("exit 0") == 3
    assert len(set(tokens(lines))) == 6
    assert lines[-1] == "0 errors in the parent"
