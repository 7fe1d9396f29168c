"""The seeds of every `./dev test`. A failing one is named together with the command that tells its story.

About three minutes of one core: the process tests go on beside them.
"""

from __future__ import annotations

import pytest

from tests.simulation.runs import replay_command, run_seed

SEEDS = {"agreement": 50, "changes": 50, "cell": 100, "changing cell": 40, "diverging cell": 20}
CHUNK = 10
QUIET_SEEDS = 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "first"), [(kind, first) for kind, count in SEEDS.items() for first in range(0, count, CHUNK)]
)
def test_no_promise_is_broken(kind: str, first: int) -> None:
    failed = [outcome for seed in range(first, first + CHUNK) if (outcome := run_seed(kind, seed)).report is None]
    assert not failed, "\n".join(f"{outcome.text}{replay_command(kind, outcome.seed)}" for outcome in failed)


@pytest.mark.slow
def test_a_quiet_run_proves_nothing() -> None:
    reports = [run_seed(kind, seed).report for kind in SEEDS for seed in range(QUIET_SEEDS)]
    assert all(report is not None for report in reports)
    assert sum(report.acknowledged for report in reports if report) > 50 * len(reports)
    assert sum(report.faults.total() for report in reports if report) > 5 * len(reports)
