"""A failure is made small by itself, is kept as a file, and the file shows the same failure again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.simulation import cases
from tests.simulation.cases import CALM, Case
from tests.simulation.draw import draw
from tests.simulation.minimise import minimised
from tests.simulation.planted.hunt import BUGS
from tests.simulation.runs import Outcome, run_seed
from tests.simulation.world import World

BUG = "answers before its fsync"


def _failing(kind: str) -> Outcome:
    return next(outcome for seed in range(40) if (outcome := run_seed(kind, seed)).report is None)


@pytest.mark.slow
def test_a_failure_is_made_small_and_kept_and_shown_again(tmp_path: Path) -> None:
    bug = BUGS[BUG]
    with bug.planted():
        outcome = _failing(bug.kind)
        assert outcome.swarm is not None
        small = minimised(outcome, runs_max=120)
    swarm = small.swarm
    assert small.checker == outcome.checker
    assert len(swarm.faults) < len(outcome.swarm.faults)
    assert swarm.clients == 1
    assert swarm.safety_ms < 5_000 < outcome.swarm.safety_ms
    assert len(cases.differences(swarm)) < len(cases.differences(outcome.swarm)) // 2

    path = replace(small, bug=BUG).keep(tmp_path)
    assert len(path.read_text().splitlines()) < 25
    kept = cases.read(path)
    assert kept == replace(small, bug=BUG)
    with bug.planted():
        assert run_seed(kept.kind, kept.seed, swarm=kept.swarm).checker == small.checker
    assert run_seed(kept.kind, kept.seed, swarm=kept.swarm).report is not None


def test_what_does_not_fail_is_left_as_it_is() -> None:
    harmless = Outcome("agreement", 3, None, "promises", "[promises] seed 3 at 0.1 s: never", 100, CALM)
    assert minimised(harmless) == Case("agreement", 3, CALM, "promises", "[promises] seed 3 at 0.1 s: never")


def test_every_drawn_cell_can_be_kept_and_read(tmp_path: Path) -> None:
    for seed in range(200):
        case = Case("cell", seed, draw(World(seed).chance("swarm")), "some checker", 'a "text" with \\ in it')
        assert cases.read(case.keep(tmp_path)) == case


def test_a_file_of_what_no_cell_has_is_refused(tmp_path: Path) -> None:
    path = Case("cell", 1, CALM).keep(tmp_path)
    path.write_text(path.read_text() + "wings = 2\n")
    with pytest.raises(AssertionError, match="wings"):
        cases.read(path)
