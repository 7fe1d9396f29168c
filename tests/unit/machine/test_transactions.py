"""Transactions: guards, then and else, one revision, all or nothing; and the dry run."""

from __future__ import annotations

from typing import Any

import pytest

from coordclient.protocol.errors import Refusal
from coordd.machine import transactions
from coordd.machine.commands import encode_batch, encode_command
from coordd.machine.limits import Limits
from tests.unit.machine.harness import Cell

Step = dict[str, Any]


@pytest.fixture
def cell() -> Cell:
    return Cell()


def put(path: str, contents: bytes = b"", **given: Any) -> Step:
    return {"do": "put", "path": path, "contents": contents, **given}


def step(do: str, path: str, **given: Any) -> Step:
    return {"do": do, "path": path, **given}


def txn(cell: Cell, then: list[Step], otherwise: list[Step] | None = None, guards: list[Step] | None = None) -> Any:
    """The reply, after the dry run has told what it would do."""
    given: dict[str, Any] = {"guards": guards or [], "then": then, "else": otherwise or []}
    plan = cell.query("plan_txn", **given)
    before = cell.machine.revision
    reply = cell.do("txn", **given)
    assert (plan["revision"], plan["refused"]) == (before, None)
    assert (plan["succeeded"], plan["guards"]) == (reply["succeeded"], reply["guards"])
    assert plan["changes"] == [change.path for change in cell.machine.changes_since(before)]
    return reply


def refused(cell: Cell, then: list[Step], session: int = 0) -> Refusal:
    """The refusal, which the dry run gives too."""
    plan = cell.query("plan_txn", session, then=then)
    refusal = cell.refused("txn", session, cell.call(session) if session else 0, then=then)
    assert plan["refused"] == refusal.to_wire() and plan["changes"] == []
    return refusal


# ---- steps ----


def test_all_steps_are_one_revision_and_their_answers_are_told(cell: Cell) -> None:
    cell.do("put", path="/old")
    before = cell.machine.revision
    reply = txn(cell, [put("/a", b"x"), step("mkdir", "/d"), step("create", "/d/e"), step("delete", "/old")])
    assert (reply["succeeded"], reply["revision"]) == (True, before + 1)
    assert cell.machine.revision == before + 1
    assert {change.revision for change in cell.machine.changes_since(before)} == {before + 1}
    assert {change.operation for change in cell.machine.changes_since(before)} == {"txn"}
    made = [result["stat"] for result in reply["results"][:3]]
    assert [stat["path"] for stat in made] == ["/a", "/d", "/d/e"]
    assert {stat["instance"] for stat in made} == {before + 1}
    assert reply["results"][3] == {"revision": before + 1}


def test_reads_see_the_state_at_their_point(cell: Cell) -> None:
    cell.do("put", path="/d/a", contents=b"old", parents=True)
    cell.do("put", path="/d/z")
    before = cell.machine.revision
    steps = [
        step("get", "/d/a"),
        step("ls", "/d"),
        put("/d/a", b"new"),
        step("get", "/d/a"),
        put("/d/b", b"made"),
        step("delete", "/d/z"),
        step("ls", "/d"),
        step("stat", "/d"),
    ]
    results = txn(cell, steps)["results"]
    assert [results[0]["contents"], results[3]["contents"]] == [b"old", b"new"]
    assert [entry["name"] for entry in results[1]["entries"]] == ["a", "z"] and results[1]["revision"] == before
    assert [entry["name"] for entry in results[6]["entries"]] == ["a", "b"] and results[6]["revision"] == before + 1
    assert results[6]["entries"][0]["stat"] == results[3]["stat"] == cell.query("stat", path="/d/a")["stat"]
    assert results[7]["stat"]["children"] == 2


def test_a_transaction_that_only_reads_raises_no_revision(cell: Cell) -> None:
    cell.do("put", path="/a", contents=b"x")
    before = cell.machine.revision
    reply = txn(cell, [step("get", "/a"), step("stat", "/a")])
    assert reply["revision"] == cell.machine.revision == before and reply["results"][0]["contents"] == b"x"
    assert txn(cell, [])["results"] == [] and cell.machine.revision == before


def test_a_later_step_builds_on_an_earlier_one(cell: Cell) -> None:
    steps = [step("mkdir", "/d"), put("/d/x/y", b"1", parents=True), step("stat", "/d/x")]
    assert txn(cell, steps)["results"][2]["stat"]["children"] == 1
    steps = [step("delete", "/d/x/y"), step("delete", "/d/x"), step("delete", "/d")]
    txn(cell, steps)
    assert list(cell.machine.state.nodes) == ["/"]


def test_ephemerals_in_a_transaction_belong_to_its_session(cell: Cell) -> None:
    session = cell.open()
    then = [step("mkdir", "/d", ephemeral=True), step("create", "/d/e", ephemeral=True), put("/p")]
    cell.do("txn", session, cell.call(session), then=then)
    assert sorted(cell.machine.sessions[session].ephemerals) == ["/d", "/d/e"]
    cell.do("txn", session, cell.call(session), then=[step("delete", "/d/e"), put("/q")])
    assert sorted(cell.machine.sessions[session].ephemerals) == ["/d"]
    cell.expire(session)
    assert sorted(cell.machine.state.nodes) == ["/", "/p", "/q"]


def test_a_file_of_a_lock_that_is_written_in_a_transaction_stays(cell: Cell) -> None:
    session = cell.open()
    cell.acquire(session, "/d/l")
    txn(cell, [put("/d/l", b"x"), put("/d/m")])
    cell.release(session, "/d/l")
    assert sorted(cell.machine.state.nodes) == ["/", "/d", "/d/l", "/d/m"]


# ---- all or nothing ----


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (step("delete", "/none"), "not_found"),
        (step("get", "/none"), "not_found"),
        (step("ls", "/a"), "not_a_directory"),
        (step("delete", "/held"), "locked"),
        (step("create", "/full"), "exists"),
        (put("/none/x"), "not_found"),
        (put("/a", if_generation=1), "conflict"),
        (put("/a", if_absent=True), "exists"),
        (step("stat", "/a", if_instance=1), "stale_handle"),
        (step("delete", "/"), "bad_request"),
        (step("create", "/e", ephemeral=True), "session_required"),
    ],
)
def test_one_step_that_cannot_be_done_refuses_all_and_says_which(cell: Cell, bad: Step, code: str) -> None:
    session = cell.open()
    for path in ("/a", "/full", "/held", "/z"):
        cell.do("put", path=path)
    cell.acquire(session, "/held")
    order = list(cell.machine.state.nodes)
    refusal = refused(cell, [put("/a1"), step("delete", "/z"), bad, put("/b")])
    assert (refusal.code, refusal.details["branch"], refusal.details["step"]) == (code, "then", 2)
    assert refusal.message.startswith(f"step 2 ({bad['do']} {bad['path']}): ")
    assert sorted(cell.machine.state.nodes) == sorted(order) and cell.exists("/z")
    alone = refused(cell, [bad])
    assert (alone.code, alone.details["branch"], alone.details["step"]) == (code, "then", 0)
    given: dict[str, Any] = {"guards": [{"path": "/a", "exists": False}], "then": [bad], "else": [put("/b"), bad]}
    other = cell.refused("txn", **given)
    assert (other.code, other.details["branch"], other.details["step"]) == (code, "else", 1)
    planned = cell.query("plan_txn", **given)["refused"]
    assert (planned["branch"], planned["step"]) == ("else", 1)


@pytest.mark.parametrize(
    "steps",
    [
        [put("/a"), put("/a")],
        [put("/new"), put("/new")],
        [put("/new"), step("delete", "/new")],
        [step("delete", "/a"), step("create", "/a")],
        [step("delete", "/tmp/x"), put("/tmp/y", parents=True)],  # /tmp went with /tmp/x
    ],
)
def test_no_node_is_changed_twice(cell: Cell, steps: list[Step]) -> None:
    session = cell.open()
    cell.do("put", path="/a")
    cell.do("mkdir", session, cell.call(session), path="/tmp", ephemeral=True)
    cell.do("put", path="/tmp/x")
    cell.do("close", session, cell.call(session), path="/tmp", instance=cell.machine.revision - 1)
    refusal = refused(cell, steps)
    assert (refusal.code, refusal.details) == (
        "bad_request",
        {"branch": "then", "step": 1},
    ) and "changed twice" in refusal.message


def test_at_most_128_steps_in_both_branches(cell: Cell) -> None:
    many = [put(f"/n{number}") for number in range(128)]
    assert len(txn(cell, many)["results"]) == 128
    given: dict[str, Any] = {"then": many, "else": [put("/x")]}
    refusal = cell.refused("txn", **given)
    assert refusal.code == "bad_request" and "129" in refusal.message and "128" in refusal.message
    with pytest.raises(Refusal, match="128"):
        cell.query("plan_txn", **given)


def test_an_answer_that_fits_no_frame_refuses_all() -> None:
    cell = Cell(Limits(answer_bytes=2_000))
    cell.do("put", path="/large", contents=bytes(1_000))
    refusal = cell.refused("txn", then=[put("/a"), step("get", "/large"), step("get", "/large")])
    assert (refusal.code, refusal.details["step"]) == ("too_large", 2)
    assert not cell.exists("/a")


def test_what_a_listing_shows_of_an_earlier_step_counts_when_it_is_tried() -> None:
    cell = Cell(Limits(answer_bytes=3_000))
    cell.do("put", path="/d/a", parents=True)
    listing = step("ls", "/d", contents=True)
    refusal = cell.refused("txn", then=[put("/d/a", bytes(1_000)), listing, listing])
    assert (refusal.code, refusal.details["step"]) == ("too_large", 2)
    cell.do("txn", then=[put("/d/a", bytes(10)), listing, listing])


def test_limits_count_what_earlier_steps_made() -> None:
    cell = Cell(Limits(nodes=4, children_per_directory=2, total_bytes=60, ephemerals_per_session=1))
    session = cell.open()
    assert refused(cell, [put("/a"), put("/b"), put("/c")]).details["limit"] == "children_per_directory"
    assert refused(cell, [step("mkdir", "/a"), put("/a/x"), put("/b"), put("/a/y")]).details["limit"] == "nodes"
    assert refused(cell, [put("/a", bytes(30)), put("/b", bytes(30))]).details["limit"] == "total_bytes"
    two = [step("create", "/a", ephemeral=True), step("create", "/b", ephemeral=True)]
    assert refused(cell, two, session).details["limit"] == "ephemerals_per_session"
    cell.do("put", path="/z", contents=bytes(50))
    txn(cell, [step("delete", "/z"), put("/a", bytes(50)), put("/b")])


def test_a_transaction_is_remembered_by_its_call_like_any_command(cell: Cell) -> None:
    session = cell.open()
    cell.do("put", path="/a", contents=b"x" * 100)
    then = [put("/n"), step("get", "/a"), step("ls", "/"), step("delete", "/n2")]
    cell.do("put", path="/n2")
    first = cell.do("txn", session, 1, then=then)
    assert cell.do("txn", session, 1, then=then) == first and cell.machine.recall(session, 1) == first
    remembered = cell.machine.sessions[session].reply_bytes
    assert remembered == cell.twin.sessions[session].reply_bytes > 100 + 384 * 4


def test_what_was_tried_and_is_refused_when_it_is_done_stops_the_replica(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "attempt", lambda *given: None)
    with pytest.raises(AssertionError, match="was tried"):
        cell.machine.apply_batch(*batch_of(cell, [put("/a"), step("delete", "/none")]))


def batch_of(cell: Cell, then: list[Step]) -> tuple[int, bytes]:
    return cell.machine.applied_upto + 1, encode_batch(1, [encode_command(cell.command("txn", then=then))])


# ---- guards ----


def holds(cell: Cell, guard: Step) -> bool:
    """Whether the guard holds, by the dry run and by what a transaction does."""
    reply = txn(cell, [], guards=[guard])
    assert reply["guards"] == [reply["succeeded"]]
    succeeded = reply["succeeded"]
    assert isinstance(succeeded, bool)
    return succeeded


def test_guards_choose_the_branch_and_each_is_told(cell: Cell) -> None:
    cell.do("put", path="/a")
    guards = [{"path": "/a", "exists": True}, {"path": "/b", "exists": True}]
    reply = txn(cell, [put("/then")], [put("/else")], guards)
    assert (reply["succeeded"], reply["guards"]) == (False, [True, False])
    assert cell.exists("/else") and not cell.exists("/then")
    assert txn(cell, [put("/then")], [put("/x")], guards[:1])["succeeded"] is True and cell.exists("/then")


def test_guards_of_existence_contents_and_locks(cell: Cell) -> None:
    session = cell.open()
    stat = cell.do("put", path="/a", contents=b"x")["stat"]
    cell.do("mkdir", path="/d")
    hold = cell.acquire(session, "/a")
    for guard, wanted in (
        ({"path": "/a", "exists": True}, True),
        ({"path": "/a", "exists": False}, False),
        ({"path": "/none", "exists": False}, True),
        ({"path": "/a", "checksum": stat["checksum"]}, True),
        ({"path": "/a", "checksum": "0" * 16}, False),
        ({"path": "/d", "checksum": cell.query("stat", path="/d")["stat"]["checksum"]}, False),
        ({"path": "/none", "checksum": "0" * 16}, False),
        ({"path": "/a", "held": True}, True),
        ({"path": "/d", "held": True}, False),
        ({"path": "/none", "held": False}, True),
        ({"sequencer": hold["sequencer"]}, True),
        ({"sequencer": "coord1:none"}, False),
    ):
        assert holds(cell, guard) is wanted, guard
    cell.release(session, "/a")
    assert not holds(cell, {"sequencer": hold["sequencer"]}) and holds(cell, {"path": "/a", "held": False})


def test_a_lock_that_is_only_waited_for_is_not_held_and_a_delayed_one_is(cell: Cell) -> None:
    first, second = cell.open(), cell.open()
    cell.acquire(first, "/a")
    cell.acquire_all(second, "/a", "/b")
    assert not holds(cell, {"path": "/b", "held": True})
    cell.expire(first)
    assert holds(cell, {"path": "/a", "held": True})


@pytest.mark.parametrize("name", ["instance", "content_generation", "lock_generation", "acl_generation", "revision"])
def test_guards_compare_numbers_of_a_node_and_are_false_without_one(cell: Cell, name: str) -> None:
    session = cell.open()
    cell.do("put", path="/a")
    cell.acquire(session, "/a")
    cell.do("put", path="/a")
    number = cell.query("stat", path="/a")["stat"][name]
    true_of = {"==": {0}, "!=": {-1, 1}, "<": {1}, "<=": {0, 1}, ">": {-1}, ">=": {-1, 0}}
    for how, wanted in true_of.items():
        assert {more for more in (-1, 0, 1) if holds(cell, {"path": "/a", name: number + more, "is": how})} == wanted
        assert not holds(cell, {"path": "/none", name: number, "is": how})
    assert holds(cell, {"path": "/a", name: number})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"guards": {}}, "list of guards"),
        ({"guards": [7]}, r"guards\[0\] must be a map"),
        ({"guards": [{"path": "/a"}]}, "one of exists"),
        ({"guards": [{"path": "/a", "exists": True, "held": True}]}, "one of exists"),
        ({"guards": [{"path": "/a", "size": 1}]}, "one of exists"),
        ({"guards": [{"exists": True}]}, "path"),
        ({"guards": [{"path": "/a", "exists": 1}]}, "boolean"),
        ({"guards": [{"path": "/a", "revision": True}]}, "integer"),
        ({"guards": [{"path": "/a", "revision": 1, "is": "="}]}, "must be one of =="),
        ({"guards": [{"path": "/a", "revision": 1, "is": []}]}, "must be one of =="),
        ({"guards": [{"path": "/a", "exists": True, "is": "=="}]}, "of a number"),
        ({"guards": [{"path": "/a", "checksum": "abc"}]}, "bytes"),
        ({"guards": [{"path": "/a", "checksum": "G" * 16}]}, "hex"),
        ({"guards": [{"sequencer": "x", "path": "/a"}]}, "sequencer alone"),
        ({"guards": [{"path": "/a", "exists": True}] * 129}, "129"),
        ({"then": [put("/a")] * 129}, "129"),
        ({"then": [7]}, r"then\[0\] must be a map"),
        ({"else": [{"do": "acquire", "path": "/a"}]}, r"else\[0\]: do must be one of"),
        ({"then": [{"path": "/a"}]}, "do must be one of"),
        ({"then": [{"do": ["put"]}]}, "do must be one of"),
        ({"then": [{"do": "put"}]}, r"then\[0\] put: argument path is missing"),
        ({"then": [put("/a", if_sequencer="x")]}, "no argument is called 'if_sequencer'"),
        ({"then": [step("get", "/a", revision=1)]}, "no argument is called 'revision'"),
        ({"then": [step("stat", "a")]}, "path"),
    ],
)
def test_what_is_no_transaction_is_refused_by_its_place(cell: Cell, given: Any, words: str) -> None:
    with pytest.raises(Refusal, match=words) as raised:
        cell.command("txn", **given)
    assert raised.value.code in ("bad_request", "bad_path")


def test_a_trial_has_the_nodes_that_the_state_has_afterwards(cell: Cell) -> None:
    for path in ("/d/a", "/d/b", "/e"):
        cell.do("put", path=path, parents=True)
    steps = [put("/d/c"), step("delete", "/d/a"), put("/e", b"new"), step("ls", "/d")]
    arguments: Any = cell.command("txn", then=steps).arguments
    shadow = transactions.attempt(cell.machine.state, None, "p", "then", arguments["then"])
    found = {path: len(node.contents) for path, node in shadow.nodes.items()}
    txn(cell, steps)
    assert found == {path: len(node.contents) for path, node in cell.machine.state.nodes.items()}
