"""A few planted bugs in every test run: a simulation that does not find them is worth nothing. All: --planted."""

from __future__ import annotations

import pytest

from tests.simulation.planted.hunt import BUGS, hunt
from tests.simulation.runs import run_seed

QUICK = (
    "chosen_upto believed across ballots",
    "lease counted from receipt at the master",
    "answers before its fsync",
    "replies not remembered",
    "half the lock-delay",
    "second change before the first has settled",
    "removed replica sent away at once",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_a_planted_bug_is_found(name: str) -> None:
    found = hunt(name, 40)
    assert found.checker, f"{name} was not found in {found.seeds} seeds"


def test_a_patch_leaves_no_trace() -> None:
    before = {name: [vars(owner).get(attribute) for owner, attribute, _ in bug.patches] for name, bug in BUGS.items()}
    for bug in BUGS.values():
        with bug.planted():
            pass
    after = {name: [vars(owner).get(attribute) for owner, attribute, _ in bug.patches] for name, bug in BUGS.items()}
    assert before == after
    assert run_seed("agreement", 3).report is not None
