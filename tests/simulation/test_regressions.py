"""The cases in tests/regressions, each a failure made small: see `cases`. They run in every test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulation import cases
from tests.simulation.planted.hunt import BUGS
from tests.simulation.runs import run_seed

FILES = sorted(cases.DIRECTORY.glob("*.toml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_fails_no_more(path: Path) -> None:
    case = cases.read(path)
    outcome = run_seed(case.kind, case.seed, swarm=case.swarm)
    assert outcome.report is not None, f"{outcome.text}./dev sim --case {path} --trace"


@pytest.mark.parametrize("path", [path for path in FILES if cases.read(path).bug], ids=lambda path: path.stem)
def test_the_bug_shows_again_when_it_is_planted(path: Path) -> None:
    case = cases.read(path)
    with BUGS[case.bug].planted():
        seeds = range(case.seed, case.seed + case.seeds)
        found = (run_seed(case.kind, seed, swarm=case.swarm).checker for seed in seeds)
        assert case.checker in found, f"{case.bug} was not found in {case.seeds} seeds"
