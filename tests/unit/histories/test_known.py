"""Histories that are known to be good or bad: the verdict, and who is to blame."""

from __future__ import annotations

import pytest

from tests.histories.check import check
from tests.histories.models import MODELS
from tests.unit.histories import known, tables
from tests.unit.histories.naive import naively_linearizable

BAD = {**known.BAD, **tables.BAD}
GOOD = {**known.GOOD, **tables.GOOD}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_history_is_found_good(name: str) -> None:
    verdict = check(GOOD[name])
    assert verdict.ok and str(verdict).startswith("linearizable"), str(verdict)
    assert not GOOD[name] or naively_linearizable(MODELS[GOOD[name][0].model], GOOD[name])


@pytest.mark.parametrize("name", BAD)
def test_a_bad_history_is_found_bad_and_the_right_ones_are_blamed(name: str) -> None:
    ops, blamed = BAD[name]
    verdict = check(ops)
    assert not verdict.ok and len(verdict.broken) == 1
    assert not naively_linearizable(MODELS[ops[0].model], ops)
    found = sorted(ops.index(op) for op in verdict.explained[0].blamed)
    assert tuple(found) == blamed, f"{tuple(found)} {verdict}"


def test_every_operation_of_every_model_is_in_some_bad_history() -> None:
    seen = {(op.model, op.name) for ops, _ in BAD.values() for op in ops}
    assert {model for model, _ in seen} == set(MODELS)
    assert len(BAD) >= 20
