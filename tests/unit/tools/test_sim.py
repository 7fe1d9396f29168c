"""How far a campaign is, also where no terminal shows a bar: in a log a line for every tenth."""

from __future__ import annotations

from tests.simulation.runs import Outcome
from tests.simulation.summary import Summary
from tools.sim import Progress


def test_without_a_terminal_every_tenth_of_the_runs_is_one_line(capsys):
    progress, summary = Progress(25, None), Summary()
    for seed in range(25):
        summary.add(Outcome("cell", seed, None))
        progress.show(summary)
    lines = capsys.readouterr().err.splitlines()
    assert [int(line.split()[0]) for line in lines] == [3, 5, 8, 10, 13, 15, 18, 20, 23, 25]
    assert lines[-1] == "25 runs, 25 failed, 0 minutes to go"
