"""Ephemeral directories, `close`, and handles: operations bound to the instance of a node."""

from __future__ import annotations

from typing import Any

import pytest

from coordclient.protocol.errors import Refusal
from coordd.machine.limits import Limits
from tests.unit.machine.harness import Cell


@pytest.fixture
def cell() -> Cell:
    return Cell()


def make(cell: Cell, session: int, operation: str, path: str, **given: Any) -> int:
    """The instance of a new ephemeral node."""
    stat = cell.do(operation, session, cell.call(session), path=path, ephemeral=True, **given)["stat"]
    assert stat["ephemeral"] is True
    instance = stat["instance"]
    assert isinstance(instance, int)
    return instance


def close(cell: Cell, session: int, path: str, instance: int) -> object:
    return cell.do("close", session, cell.call(session), path=path, instance=instance)["did"]


# ---- ephemeral directories ----


def test_an_ephemeral_directory_goes_with_the_last_session_that_has_it_open(cell: Cell) -> None:
    first, second = cell.open(), cell.open()
    make(cell, first, "mkdir", "/d")
    cell.do("open", second, cell.call(second), path="/d")
    cell.expire(first)
    assert cell.exists("/d")
    cell.do("close_session", second, cell.call(second))
    assert not cell.exists("/d")


def test_an_ephemeral_directory_that_is_not_empty_goes_with_its_last_child(cell: Cell) -> None:
    session = cell.open()
    make(cell, session, "mkdir", "/d")
    cell.do("put", path="/d/x")
    cell.do("put", path="/d/y")
    cell.expire(session)
    cell.do("delete", path="/d/x")
    assert cell.exists("/d") and cell.query("stat", path="/d")["stat"]["ephemeral"]
    cell.do("delete", path="/d/y")
    assert not cell.exists("/d")


def test_ephemeral_directories_in_each_other_go_from_the_inside_with_one_session(cell: Cell) -> None:
    session = cell.open()
    for path in ("/d", "/d/e"):
        make(cell, session, "mkdir", path)
    make(cell, session, "create", "/d/e/f")
    before = cell.machine.revision
    cell.expire(session)
    assert [change.path for change in cell.machine.changes_since(before)] == ["/d/e/f", "/d/e", "/d"]
    assert list(cell.machine.state.nodes) == ["/"]


def test_an_ephemeral_directory_that_is_opened_again_while_it_has_children_stays(cell: Cell) -> None:
    first, second = cell.open(), cell.open()
    make(cell, first, "mkdir", "/d")
    cell.do("put", path="/d/x")
    cell.expire(first)
    cell.do("open", second, cell.call(second), path="/d")
    cell.do("delete", path="/d/x")
    assert cell.exists("/d")


def test_the_lock_below_an_ephemeral_directory_keeps_it_until_it_is_free(cell: Cell) -> None:
    first, second = cell.open(), cell.open()
    make(cell, first, "mkdir", "/d")
    cell.acquire(second, "/d/lock")
    cell.acquire(second, "/d")
    cell.expire(first)
    cell.release(second, "/d/lock")
    assert cell.exists("/d"), "it is held itself"
    cell.release(second, "/d")
    assert not cell.exists("/d")


def test_an_ephemeral_directory_needs_a_session_and_counts_as_any_ephemeral() -> None:
    cell = Cell(Limits(ephemerals_per_session=1))
    assert cell.refused("mkdir", path="/d", ephemeral=True).code == "session_required"
    session = cell.open()
    make(cell, session, "mkdir", "/d")
    assert cell.refused("mkdir", session, cell.call(session), path="/e", ephemeral=True).code == "limit"
    assert cell.refused("mkdir", session, cell.call(session), path="/d", ephemeral=True).code == "exists"


# ---- close ----


def test_close_takes_one_session_off_and_the_node_goes_with_the_last(cell: Cell) -> None:
    first, second = cell.open(), cell.open()
    instance = make(cell, first, "create", "/e")
    cell.do("open", second, cell.call(second), path="/e")
    assert close(cell, first, "/e", instance) == "closed" and cell.exists("/e")
    cell.expire(first)
    assert close(cell, second, "/e", instance) == "removed" and not cell.exists("/e")
    assert cell.machine.sessions[second].ephemerals == {}


def test_close_of_what_this_session_has_not_open_changes_nothing(cell: Cell) -> None:
    first, second = cell.open(), cell.open()
    instance = make(cell, first, "create", "/e")
    cell.do("put", path="/permanent")
    permanent = cell.query("stat", path="/permanent")["stat"]["instance"]
    before = cell.machine.revision
    assert close(cell, second, "/e", instance) == "nothing"
    assert close(cell, first, "/e", instance + 1) == "nothing"
    assert close(cell, first, "/none", instance) == "nothing"
    assert close(cell, first, "/permanent", permanent) == "nothing"
    assert cell.machine.revision == before and cell.exists("/e")


def test_close_of_an_ephemeral_that_is_held_or_not_empty_leaves_it_for_later(cell: Cell) -> None:
    session, other = cell.open(), cell.open()
    held, full = make(cell, session, "create", "/e"), make(cell, session, "mkdir", "/d")
    cell.acquire(other, "/e")
    cell.do("put", path="/d/x")
    assert close(cell, session, "/e", held) == close(cell, session, "/d", full) == "closed"
    cell.release(other, "/e")
    cell.do("delete", path="/d/x")
    assert list(cell.machine.state.nodes) == ["/"]


def test_a_process_that_said_goodbye_may_still_close(cell: Cell) -> None:
    session = cell.open()
    instance = make(cell, session, "create", "/e")
    cell.do("leave_session", session, cell.call(session))
    assert close(cell, session, "/e", instance) == "removed"


# ---- if_instance ----

WAYS: list[tuple[str, dict[str, Any]]] = [
    ("put", {"contents": b"x"}),
    ("delete", {}),
    ("acquire", {}),
    ("get", {}),
    ("stat", {}),
    ("ls", {}),
]


def attempt(cell: Cell, session: int, operation: str, **given: Any) -> object:
    """The answer to a read or a command."""
    if operation in ("get", "stat", "ls"):
        try:
            return cell.query(operation, **given)
        except Refusal as refusal:
            return refusal
    return cell.apply(operation, session, cell.call(session), **given).reply


@pytest.mark.parametrize(("operation", "given"), WAYS)
def test_a_handle_never_reaches_the_node_that_was_made_anew(cell: Cell, operation: str, given: dict[str, Any]) -> None:
    session = cell.open()
    making = "mkdir" if operation == "ls" else "create"
    instance = cell.do(making, path="/a")["stat"]["instance"]
    cell.do("delete", path="/a")
    gone = attempt(cell, session, operation, path="/a", if_instance=instance, **given)
    another = cell.do(making, path="/a")["stat"]["instance"]
    stale = attempt(cell, session, operation, path="/a", if_instance=instance, **given)
    assert isinstance(gone, Refusal) and (gone.code, gone.details) == ("stale_handle", {"instance": None})
    assert isinstance(stale, Refusal) and (stale.code, stale.details) == ("stale_handle", {"instance": another})
    assert cell.machine.revision == another, "nothing was changed"
    assert isinstance(attempt(cell, session, operation, path="/a", if_instance=another, **given), dict)


def test_a_handle_keeps_its_instance_over_writes_and_locks(cell: Cell) -> None:
    session = cell.open()
    instance = cell.do("put", path="/a", contents=b"1")["stat"]["instance"]
    cell.do("put", path="/a", contents=b"2", if_instance=instance)
    cell.do("acquire", session, cell.call(session), path="/a", if_instance=instance)
    assert cell.query("get", path="/a", if_instance=instance)["contents"] == b"2"


def test_a_handle_reads_earlier_revisions_of_its_own_node_only(cell: Cell) -> None:
    first = cell.do("put", path="/a", contents=b"1")["stat"]["instance"]
    cell.do("delete", path="/a")
    second = cell.do("put", path="/a", contents=b"2")["stat"]["instance"]
    assert cell.query("get", path="/a", revision=first, if_instance=first)["contents"] == b"1"
    refused = attempt(cell, 0, "get", path="/a", revision=first, if_instance=second)
    assert isinstance(refused, Refusal) and (refused.code, refused.details) == ("stale_handle", {"instance": first})
