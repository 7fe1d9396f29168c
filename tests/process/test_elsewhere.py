"""What went wrong elsewhere with commands that run under a lock; see docs/proof.md for the whole list."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordclient import Client
from coordd.testing import TestCell
from tests.coordctl.runs import Coordctl, Family

LEASE, DELAY, KILL_AFTER = 1.0, 1.0, 0.3
OPTIONS = ("--lease", str(LEASE), "--lock-delay", str(DELAY), "--kill-after", str(KILL_AFTER))
STUBBORN = "trap '' TERM; sleep 61 & wait; sleep 62"


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Family]:
    family = Family(tmp_path)
    yield family
    family.close()


class Way:
    """The one way into the cell that a coordctl has."""

    def __init__(self, cell: TestCell) -> None:
        self.endpoints = cell.endpoints


@pytest.fixture
def way(coord_cell: TestCell) -> Way:
    return Way(coord_cell)


@pytest.fixture
def ctl(way: Way) -> Iterator[Coordctl]:
    ctl = Coordctl(way)
    yield ctl
    ctl.close()


def test_an_isolated_holders_child_was_killed_only_after_the_next_had_the_lock(
    coord_cell: TestCell, coord_client: Client, way: Way, ctl: Coordctl, family: Family
) -> None:
    """hashicorp/consul#9788: the child of a holder that was cut off was killed 20 s after the next one had begun."""
    held = ctl.holding("/app", *OPTIONS, script=STUBBORN, family=family)
    coord_cell.cut_link(way.endpoints)
    begun = time.monotonic()
    with coord_client.lock("/app", timeout=20) as lock:
        assert family.gone_within(0), "the next holder has begun while the child runs"
        assert lock.token > held.token
    assert time.monotonic() - begun < LEASE * 1.1 + DELAY + 3.0
    assert held.end()[0] == 76


def test_the_shell_was_killed_and_the_real_child_left_running(
    coord_cell: TestCell, coord_client: Client, ctl: Coordctl, family: Family
) -> None:
    """hashicorp/consul#2022: when the lock was lost /bin/sh got the signal, and what it had started ran on."""
    real = "trap '' TERM; echo RUNS; while :; do sleep 0.05; done"
    held = ctl.holding("/replicate", *OPTIONS, script=f'sh -c "{real}" & wait', family=family)
    assert held.process.stdout is not None
    assert held.process.stdout.readline() == "RUNS\n"
    coord_client.unlock("/replicate", reason="a test")
    with coord_client.lock("/replicate", timeout=20):
        assert family.gone_within(0), "the next holder has begun while the real child runs"
    assert held.end()[0] == 76
