"""Whole processes: one that is stopped and woken, one that forks, one that just ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from coordclient import Client, Fence, StaleToken
from tests.clients.conftest import WAIT_SECONDS

# What newer Pythons say to every fork of a process with threads; that it is survived is what is tested.
_FORK = "ignore:This process:DeprecationWarning"


@contextmanager
def program(cell, path, how) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "tests.clients.programs.holder",
        ",".join(cell.endpoints),
        path,
        how,
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process) -> str:
    text = process.stdout.readline().strip()
    assert text or process.poll() is None, process.stderr.read()
    return text


@pytest.fixture
def client(cell):
    with Client(cell.endpoints) as made:
        yield made


def test_a_stopped_holder_finds_out_on_waking_before_it_believes_anything(cell, client, path):
    """Another has taken the lock meanwhile, and the fence refuses the first one's token."""
    with program(cell, path, "stopped") as process:
        token = int(line(process).removeprefix("held "))
        process.send_signal(signal.SIGSTOP)
        fence = Fence()
        fence.admit(path, token)
        with client.lock(path, timeout=WAIT_SECONDS) as lock:
            assert lock.token > token
            fence.admit(path, lock.token)
            process.send_signal(signal.SIGCONT)
            assert line(process) == "not safe"
            assert line(process) == "LockLost"
            lock.verify()
        with pytest.raises(StaleToken):
            fence.admit(path, token)
        assert process.wait(WAIT_SECONDS) == 0


def test_a_program_that_ends_without_closing_gives_its_lock_back_at_once(cell, client, path):
    with program(cell, path, "exit") as process:
        assert line(process) == "held"
        assert process.wait(WAIT_SECONDS) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
        with client.lock(path, timeout=10):  # less than lease and lock-delay
            pass


def test_a_child_gets_client_forked_and_the_parent_keeps_everything(cell, path):
    with program(cell, path, "fork") as process:
        output, errors = process.communicate(timeout=WAIT_SECONDS)
        assert output.splitlines() == ["ClientForked"] * 6 + ["held False, safe False", "the parent still holds it"]
        assert errors == ""
        assert process.returncode == 0


def test_a_client_made_before_the_fork_and_used_only_after_it_is_the_childs(cell, path):
    with program(cell, path, "late") as process:
        output, errors = process.communicate(timeout=WAIT_SECONDS)
        assert (output.split("\n")[0], errors) == ("held by the child", "")
