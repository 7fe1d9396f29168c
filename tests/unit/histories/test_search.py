"""The search says what the definition says, on thousands of small random histories of every model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from random import Random

import pytest

from tests.histories.models import MODELS
from tests.histories.operation import Operation
from tests.histories.search import Search
from tests.unit.histories.draws import draw
from tests.unit.histories.naive import naively_linearizable

HISTORIES = 30 * int(os.environ.get("COORD_FUZZ", "100"))


def told(ops: Sequence[Operation]) -> str:
    return "\n" + "\n".join(map(str, ops))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_the_search_says_what_the_definition_says(name: str) -> None:
    model, chance, broken = MODELS[name], Random(f"small {name}"), 0
    for _ in range(HISTORIES):
        ops = draw(model, chance)
        right = naively_linearizable(model, ops)
        assert Search(model, ops).run() == right, f"the definition says {right}: {told(ops)}"
        broken += not right
    assert HISTORIES // 10 < broken < HISTORIES * 9 // 10, (
        f"{broken} of {HISTORIES} had no order: a test of little worth"
    )
