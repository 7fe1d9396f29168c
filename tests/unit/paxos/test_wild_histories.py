"""Random histories over bare replicas (`wild_cell`); a failing seed is named. COORD_WILD=first:count runs others."""

from __future__ import annotations

import os
from random import Random

import pytest

from coordd.paxos import acceptor, learner, log, proposer, state
from tests.unit.paxos.wild_cell import WildCell, draw_bounds

FIRST, COUNT = map(int, os.environ.get("COORD_WILD", "0:20").split(":"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT))
def test_no_promise_is_broken_in_a_wild_history(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in draw_bounds(Random(seed)).items():
        for module in (acceptor, learner, log, proposer, state):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)
    cell = WildCell(seed)
    cell.run(12_000_000)
    cell.come_to_rest()
    assert cell.acknowledged > 0
