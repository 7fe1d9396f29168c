"""What a failing check says: where it ends, those to blame and no others, in words."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from tests.histories import explain as explaining
from tests.histories.check import check
from tests.histories.explain import WHOLE_MAX, explain
from tests.histories.models import MODELS
from tests.histories.operation import Operation
from tests.histories.search import Search
from tests.unit.histories.draws import draw
from tests.unit.histories.large import large
from tests.unit.histories.naive import naively_linearizable
from tests.unit.histories.short import get, put

BLAMED = 150


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_those_blamed_cannot_all_be_right_and_any_fewer_could(name: str) -> None:
    model, chance, seen = MODELS[name], Random(f"blame {name}"), 0
    while seen < BLAMED:
        ops = draw(model, chance)
        search = Search(model, ops)
        if search.run():
            continue
        seen += 1
        found = explain(model, ops, search)
        assert not naively_linearizable(model, forget(ops, found.blamed))
        for one in found.blamed:
            fewer = [op for op in found.blamed if op is not one]
            assert naively_linearizable(model, forget(ops, fewer), found.moment)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_those_blamed_at_the_end_of_a_long_history_cannot_all_be_right(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every history counts as a long one here, of which only the end is looked at."""
    monkeypatch.setattr(explaining, "WHOLE_MAX", 2)
    monkeypatch.setattr(explaining, "CUT", 2)
    model, chance, seen = MODELS[name], Random(f"end {name}"), 0
    while seen < BLAMED // 3:
        ops = draw(model, chance)
        search = Search(model, ops)
        if search.run() or search.furthest <= 2:
            continue
        seen += 1
        found = explain(model, ops, search)
        given = [op for op in ops if op.begun <= found.given]
        assert found.begins
        assert not naively_linearizable(model, forget(ops, [*given, *found.blamed]))
        for one in found.blamed:
            fewer = [op for op in found.blamed if op is not one]
            assert naively_linearizable(model, forget(ops, [*given, *fewer]), found.moment)


def forget(ops: list[Operation], but: tuple[Operation, ...] | list[Operation]) -> list[Operation]:
    return [op if op in but else op.unanswered() for op in ops]


def test_the_words_of_a_stale_read() -> None:
    ops = [put(0, 1_000, "a", 5), put(2_000, 2_500, "b", 6), put(2_100, None, "c"), get(3_000, 3_700, "a")]
    assert str(check([replace(op, key="/r") for op in ops])) == (
        """\
register /r: no order of its 4 operations explains more than 2 answers.
The 3 marked * cannot all be right, whatever became of the others:
     process  begun s   answered s  asked  told
  *  p0       0.000000  0.001000    put a  ok generation=5
  *  p2000    0.002000  0.002500    put b  ok generation=6
     p2100    0.002100              put c  ?
  *  p3000    0.003000  0.003700    get    a   <- the last
When only the last answer is left to explain, it is: (a value that nobody has seen) at generation 6.

in 4 operations (3 answered) on 1 objects"""
    )


def test_of_a_long_history_the_end_is_shown_and_what_was_possible_before_it() -> None:
    ops = large("register", 2_000, 4, 0.01)
    place = max(index for index, op in enumerate(ops) if op.name == "get" and op.outcome == "ok")
    old = next(op for op in ops if op.name == "get" and op.outcome == "ok")
    ops[place] = replace(ops[place], result=old.result)
    verdict = check(ops)
    (found,) = verdict.explained
    assert found.answers > WHOLE_MAX
    assert ops[place] in found.blamed and len(found.blamed) <= 3
    assert found.begins and "The table begins after many others, when it was: " in str(verdict)
    assert len(found.table.splitlines()) < 10


def test_only_a_few_objects_are_explained_and_all_are_named() -> None:
    ops = [replace(get(0, 1, "a"), key=f"/{at}") for at in range(5)]
    verdict = check(ops)
    assert len(verdict.explained) == 3 and len(verdict.broken) == 5
    assert "not linearizable either: register /3, register /4" in str(verdict)
