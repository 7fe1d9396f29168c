"""Whatever the steps of a transaction are: as one by one, or nothing at all."""

from __future__ import annotations

from typing import Any

from hypothesis import given as examples
from hypothesis import strategies as st

from coordclient.protocol.errors import Refusal
from coordd.machine import transactions
from coordd.machine.commands import Command
from coordd.machine.limits import Limits
from coordd.machine.state import State
from tests.unit.machine.harness import Cell
from tests.unit.machine.test_transactions import Step, put, step

PATHS = ("/a", "/b", "/d", "/d/x", "/d/y", "/held", "/n/m")
steps_of = st.lists(
    st.builds(
        lambda do, path, flag: {
            "put": put(path, b"xyz", parents=flag),
            "create": step("create", path, ephemeral=flag),
            "mkdir": step("mkdir", path, ephemeral=flag),
        }.get(do, step(do, path)),
        st.sampled_from(("put", "create", "mkdir", "delete", "get", "stat", "ls")),
        st.sampled_from(PATHS),
        st.booleans(),
    ),
    min_size=1,
    max_size=6,
)


def story() -> tuple[Cell, int]:
    cell = Cell(Limits(nodes=9, ephemerals_per_session=2))
    session = cell.open()
    for path in ("/a", "/d/x", "/held"):
        cell.do("put", path=path, parents=True)
    cell.acquire(session, "/held")
    cell.do("create", session, cell.call(session), path="/d/y", ephemeral=True)
    for _ in range(3):
        cell.machine.skip(cell.machine.applied_upto + 1, bytes(200))
        cell.twin.skip(cell.twin.applied_upto + 1, bytes(200))
    return cell, session


def everything(state: State) -> object:
    """All that could have changed, and every order."""
    return (
        [
            (path, id(node), node.revision, list(node.children or ()), node.openers)
            for path, node in state.nodes.items()
        ],
        [(number, list(one.ephemerals), one.replies) for number, one in state.sessions.items()],
        (list(state.locks), list(state.changes), state.changes_bytes, state.changes_after),
        (state.revision, state.bytes),
    )


@examples(steps=steps_of)
def test_a_transaction_does_its_steps_as_they_come_or_leaves_every_byte_and_order(steps: list[Step]) -> None:
    cell, session = story()
    state = cell.machine.state
    before, bytes_before = everything(state), cell.machine.snapshot()
    plan = cell.query("plan_txn", session, then=steps)
    assert (everything(state), cell.machine.snapshot()) == (before, bytes_before), "the dry run is dry"
    arguments = cell.command("txn", then=steps).arguments
    try:
        reply = transactions.txn(state, state.sessions[session], 0, "p", arguments, [])
    except Refusal as refusal:
        assert (everything(state), cell.machine.snapshot()) == (before, bytes_before)
        assert plan["refused"] == refusal.to_wire()
        return
    assert plan["refused"] is None
    assert plan["changes"] == [change.path for change in state.changes if change.revision > plan["revision"]]
    one_by_one(steps, reply)


def one_by_one(steps: list[Step], reply: Any) -> None:
    """The same steps as commands of their own give the same tree and answers, but for the revisions."""
    cell, session = story()
    for given, result in zip(steps, reply["results"], strict=True):
        arguments = {name: value for name, value in given.items() if name != "do"}
        if given["do"] in ("get", "stat", "ls"):
            assert names(cell.query(given["do"], **arguments)) == names(result)
        else:
            cell.do(given["do"], session, cell.call(session), **arguments)
    other, same = story()
    other.batch(Command("txn", same, other.call(same), 0, "p", cell.command("txn", then=steps).arguments))
    assert tree(cell) == tree(other)


def names(answer: Any) -> object:
    entries = answer.get("entries")
    if entries is not None:
        return [entry["name"] for entry in entries]
    return answer.get("contents"), answer["stat"]["path"], answer["stat"]["children"]


def tree(cell: Cell) -> object:
    nodes = cell.machine.state.nodes
    return sorted((path, node.contents, node.children is None, node.openers is None) for path, node in nodes.items())
