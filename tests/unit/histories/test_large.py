"""20,000 operations on one object are checked in well under a minute, in bounded memory; 4,000 transactions."""

from __future__ import annotations

import sys
import time
from dataclasses import replace

import pytest

from tests.histories.check import check
from tests.histories.models import MODELS
from tests.histories.operation import Operation
from tests.histories.search import Search, UndecidedError
from tests.unit.histories.large import large

OPERATIONS, TRANSACTIONS = 20_000, 4_000
SECONDS_MAX = 60


@pytest.mark.slow
@pytest.mark.parametrize("numbers", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_twenty_thousand_operations_in_under_a_minute(name: str, numbers: bool) -> None:
    count = TRANSACTIONS if name == "table" else OPERATIONS
    ops = large(name, count, 8, 0.01, numbers=numbers)
    begun = time.process_time()
    verdict = check(ops)
    seconds = time.process_time() - begun
    sys.stdout.write(f"{name}, {'with' if numbers else 'without'} numbers: {verdict}, {seconds:.1f} s\n")
    assert verdict.ok, str(verdict)
    assert len(ops) >= count
    assert seconds < SECONDS_MAX


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_one_wrong_answer_among_thousands_is_found_and_blamed(name: str) -> None:
    ops = large(name, 2_000, 6, 0.01)
    at, wrong = _wrong_answer(ops)
    ops[at] = wrong
    verdict = check(ops)
    (found,) = verdict.explained
    assert wrong in found.blamed and len(found.blamed) <= 3, str(verdict)


def _wrong_answer(ops: list[Operation]) -> tuple[int, Operation]:
    """Late in the history somebody is told what had been right early."""
    names = ("acquire", "get", "list", "txn")
    told = [at for at, op in enumerate(ops) if op.name in names and op.outcome == "ok" and op.result]
    early, late = told[len(told) // 10], told[-len(told) // 10]
    if ops[late].name == "txn":  # the same question
        reads = [at for at in told if len(ops[at].arguments["then"]) == 3 and not ops[at].arguments["guards"]]
        asked = [at for at in reads if ops[at].arguments["then"] == ops[reads[-1]].arguments["then"]]
        early, late = asked[len(asked) // 10], asked[-len(asked) // 10]
    return late, replace(ops[late], result=ops[early].result)


def test_a_search_that_grows_too_large_ends_and_is_no_success() -> None:
    ops = large("counter", 200, 30, 0.3)
    with pytest.raises(UndecidedError, match="more than 20 configurations"):
        Search(MODELS["counter"], ops, configurations_max=20).run()
    verdict = check(ops, configurations_max=20)
    assert not verdict.ok and not verdict.broken and "undecided" in str(verdict)
