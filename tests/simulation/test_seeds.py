"""The seeds of every `./dev test`. A failing one is named together with the command that tells its story.

About two minutes of one core: the process tests go on beside them.
"""

from __future__ import annotations

import pytest

from tests.simulation.runs import replay_command, run_seed

SEEDS = {"agreement": 40, "changes": 40, "cell": 80, "changing cell": 20, "diverging cell": 20}
CHUNK = 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "first"), [(kind, first) for kind, count in SEEDS.items() for first in range(0, count, CHUNK)]
)
def test_no_promise_is_broken(kind: str, first: int) -> None:
    outcomes = [run_seed(kind, seed) for seed in range(first, first + CHUNK)]
    reports = [outcome.report for outcome in outcomes if outcome.report is not None]
    failed = [outcome for outcome in outcomes if outcome.report is None]
    assert not failed, "\n".join(f"{outcome.text}{replay_command(kind, outcome.seed)}" for outcome in failed)
    assert sum(report.acknowledged for report in reports) > 50 * CHUNK, "a quiet run proves nothing"
    assert sum(report.faults.total() for report in reports) > 2 * CHUNK
