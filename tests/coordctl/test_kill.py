"""Nothing of a command outlives its lock: whichever of cell, keeper and front goes away, or is stopped."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from coordclient import Client
from coordd.testing.cells import RunningCell
from tests.coordctl.runs import DELAY, KILL_AFTER, LEASE, OPTIONS, STUBBORN, Coordctl, Family, Holding

GENTLE = "exec sleep 65"


# Time enough for whoever is asked to end, on a busy machine too.
PATIENT = ("--lease", "12", "--lock-delay", "20", "--kill-after", "15")


def hold(ctl: Coordctl, family: Family, path: str, script: str = STUBBORN, options: Sequence[str] = OPTIONS) -> Holding:
    return ctl.holding(path, *options, script=script, family=family)


def own_words(words: str) -> str:
    """What coordctl itself said, without what a shell says of its killed children."""
    return "".join(line for line in words.splitlines(keepends=True) if line.startswith("coordctl: "))


@pytest.mark.parametrize("script", [STUBBORN, GENTLE])
def test_all_are_gone_by_the_deadline_when_the_cell_does_not_answer(
    ctl: Coordctl, cell: RunningCell, family: Family, script: str
) -> None:
    held = hold(ctl, family, f"/outage-{len(script)}", script)
    cell.kill(1, signal.SIGSTOP)
    begun = time.monotonic()
    try:
        assert family.gone_within(LEASE + DELAY), "the deadline is at most lease + lock-delay away"
        code, words = held.end()
    finally:
        cell.kill(1, signal.SIGCONT)
    assert code == 76
    reason = "the cell could not be reached in time to renew it"
    assert own_words(words) == f"coordctl: lock lost: /outage-{len(script)}: {reason}\n"
    assert time.monotonic() - begun < LEASE + DELAY + 6


def test_an_outage_shorter_than_the_lock_delay_is_survived(ctl: Coordctl, cell: RunningCell, family: Family) -> None:
    held = ctl.holding("/ridden-out", "--lease", "1", "--lock-delay", "20", family=family)
    cell.kill(1, signal.SIGSTOP)
    try:
        assert not family.gone_within(2.0), "twice the lease"
    finally:
        cell.kill(1, signal.SIGCONT)
    (row,) = ctl.json("locks", "/ridden-out")
    assert row["token"] == held.token
    held.process.communicate("", timeout=30)
    assert held.process.returncode == 0


def test_76_wins_over_what_the_killed_command_returned(ctl: Coordctl, family: Family) -> None:
    held = hold(ctl, family, "/wins", "trap 'exit 0' TERM; while :; do sleep 0.05; done")
    os.kill(held.keeper, signal.SIGKILL)
    code, words = held.end()
    assert code == 76
    assert own_words(words) == "coordctl: lock lost: /wins: the process that keeps the lock is gone\n"
    assert family.gone_within(0)


def test_when_the_keeper_is_killed_the_front_kills(ctl: Coordctl, family: Family) -> None:
    held = hold(ctl, family, "/keeper-killed")
    os.kill(held.keeper, signal.SIGKILL)
    assert family.gone_within(KILL_AFTER + 2)
    assert held.end()[0] == 76


def test_every_descendant_is_asked_to_end_before_it_is_killed(ctl: Coordctl, family: Family, tmp_path: Path) -> None:
    ends = tmp_path / "ends"
    child = f'trap "echo done >{ends}; exit" TERM; echo >{ends}.ready; while :; do sleep 0.05; done'
    script = f"setsid sh -c '{child}' & until [ -e {ends}.ready ]; do sleep 0.02; done; echo RUNS; wait; sleep 60"
    held = hold(ctl, family, "/asked", script, PATIENT)
    assert held.process.stdout is not None
    assert held.process.stdout.readline() == "RUNS\n"
    os.kill(held.keeper, signal.SIGKILL)
    assert held.end()[0] == 76
    assert ends.read_text() == "done\n"


def test_when_the_keeper_is_stopped_the_front_kills_before_anybody_else_has_the_lock(
    ctl: Coordctl, family: Family
) -> None:
    held = hold(ctl, family, "/keeper-stopped")
    keeper = held.keeper
    os.kill(keeper, signal.SIGSTOP)
    try:
        successor = ctl.holding("/keeper-stopped", "-w", "20")
        assert family.gone_within(0), "a successor has the lock while the command runs"
        assert successor.token > held.token
        assert held.end()[0] == 76
    finally:
        os.kill(keeper, signal.SIGKILL)


def test_when_the_front_is_killed_the_keeper_kills_and_frees_the_lock(ctl: Coordctl, family: Family) -> None:
    held = hold(ctl, family, "/front-killed")
    held.process.kill()
    successor = ctl.holding("/front-killed", "-w", "20")
    assert family.gone_within(0), "a successor has the lock while the command runs"
    assert successor.token > held.token


@pytest.mark.slow
def test_when_the_front_is_stopped_the_keeper_kills_and_frees_the_lock(ctl: Coordctl, family: Family) -> None:
    held = hold(ctl, family, "/front-stopped")
    held.process.send_signal(signal.SIGSTOP)
    successor = ctl.holding("/front-stopped", "-w", "20")
    assert successor.token > held.token
    held.process.send_signal(signal.SIGCONT)
    code, words = held.end()
    assert family.gone_within(0)
    assert code == 76
    reason = "the front was stopped, so the keeper ended the command"
    assert own_words(words) == f"coordctl: lock lost: /front-stopped: {reason}\n"


@pytest.mark.parametrize("stopped", ["front", "keeper"])
def test_a_revoked_lock_is_not_had_by_another_while_the_command_runs_though_one_of_the_two_is_stopped(
    ctl: Coordctl, cell: RunningCell, family: Family, stopped: str
) -> None:
    path = f"/revoked-{stopped}"
    held = hold(ctl, family, path)
    with Client(cell.endpoints) as operator:
        operator.list_locks("/")
        pid = held.process.pid if stopped == "front" else held.keeper
        os.kill(pid, signal.SIGSTOP)
        try:
            assert operator.unlock(path, reason="a test").holds
            with operator.lock(path, timeout=20):
                assert family.gone_within(0), "a successor has the lock while the command runs"
        finally:
            os.kill(pid, signal.SIGCONT if stopped == "front" else signal.SIGKILL)
    assert held.end()[0] == 76
