"""A transaction is put together as the protocol spells it, and its answer is read step by step."""

from __future__ import annotations

import pytest

from coordclient import BadPath, Conflict, InternalError, TooLarge
from coordclient.aio.steps import Steps, plan_of
from coordclient.protocol.operations import CONTENTS_BYTES_MAX
from coordclient.values import Entry, File, Stat, stat_of
from tests.unit.client.test_watching import STAT


def test_guards_and_steps_as_they_are_sent():
    steps = (
        Steps()
        .if_exists("/a")
        .if_exists("/b", False)
        .if_generation("/a", 7)
        .if_instance("/a", 1, "!=")
        .if_lock_generation("/a", 2, "<")
        .if_acl_generation("/a", 3, "<=")
        .if_revision("/a", 4, ">")
        .if_checksum("/a", "0" * 16)
        .if_held("/a", False)
        .if_sequencer("text")
        .guard({"path": "/c", "exists": True})
        .put("/a", b"1", if_generation=7, parents=True)
        .create("/b", ephemeral=True)
        .mkdir("/d")
        .otherwise()
        .delete("/a", if_generation=0)
        .get("/a")
        .stat("/a")
        .ls("/")
        .step({"do": "stat", "path": "/z"})
    )
    assert steps.arguments() == {
        "guards": [
            {"path": "/a", "exists": True},
            {"path": "/b", "exists": False},
            {"path": "/a", "content_generation": 7},
            {"path": "/a", "instance": 1, "is": "!="},
            {"path": "/a", "lock_generation": 2, "is": "<"},
            {"path": "/a", "acl_generation": 3, "is": "<="},
            {"path": "/a", "revision": 4, "is": ">"},
            {"path": "/a", "checksum": "0" * 16},
            {"path": "/a", "held": False},
            {"sequencer": "text"},
            {"path": "/c", "exists": True},
        ],
        "then": [
            {"do": "put", "path": "/a", "contents": b"1", "if_generation": 7, "parents": True},
            {"do": "create", "path": "/b", "contents": b"", "ephemeral": True},
            {"do": "mkdir", "path": "/d"},
        ],
        "else": [
            {"do": "delete", "path": "/a", "if_generation": 0},
            {"do": "get", "path": "/a"},
            {"do": "stat", "path": "/a"},
            {"do": "ls", "path": "/"},
            {"do": "stat", "path": "/z"},
        ],
    }


def test_each_result_is_what_its_step_gives():
    steps = Steps().put("/a", b"").delete("/b").get("/a").ls("/").create("/e", ephemeral=True)
    steps.otherwise().stat("/a")
    answers = [
        {"stat": STAT},
        {"revision": 9},
        {"contents": b"x", "stat": STAT},
        {"revision": 9, "entries": [{"name": "a", "stat": STAT}]},
        {"stat": STAT},
    ]
    result = steps.result_of({"succeeded": True, "revision": 9, "results": answers, "guards": []})
    assert [type(one) for one in result.results] == [Stat, int, File, list, Stat]
    assert result.results[3] == [Entry("a", stat_of(STAT), None)]
    assert steps.ephemerals(result) == [result.results[4]]
    other = steps.result_of({"succeeded": False, "revision": 9, "results": [{"stat": STAT}], "guards": [False]})
    assert (other.succeeded, len(other.results), other.guards) == (False, 1, (False,))
    assert steps.ephemerals(other) == []


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"succeeded": True, "revision": 9, "results": []},
        {"succeeded": True, "revision": 9, "results": [{}]},
        {"succeeded": True, "revision": None, "results": [{"stat": STAT}]},
    ],
)
def test_an_answer_that_does_not_fit_the_steps_is_named(answer):
    with pytest.raises(InternalError):
        Steps().put("/a", b"").result_of(answer)


def test_what_cannot_be_sent_is_refused_where_it_is_written():
    for error, call in (
        (BadPath, lambda: Steps().get("/" + "x" * 2_000)),
        (TypeError, lambda: Steps().put("/a", "text")),  # type: ignore[arg-type]
        (TooLarge, lambda: Steps().put("/a", bytes(CONTENTS_BYTES_MAX + 1))),
        (ValueError, lambda: Steps().otherwise().otherwise()),
    ):
        with pytest.raises(error):
            call()


def test_a_plan_says_what_would_be_refused_and_where():
    refused = {"code": "conflict", "message": "another generation", "step": 3}
    answer = {"revision": 9, "succeeded": True, "guards": [True], "changes": ["/a"], "refused": refused}
    plan = plan_of(answer)
    assert (plan.guards, plan.changes) == ((True,), ("/a",))
    assert isinstance(plan.refused, Conflict) and plan.refused.details == {"step": 3}
    assert plan_of({**answer, "refused": None}).refused is None
    with pytest.raises(InternalError):
        plan_of({})
