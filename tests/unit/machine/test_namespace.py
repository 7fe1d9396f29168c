"""Files and directories: one test per sentence of the promises on names."""

from __future__ import annotations

import pytest

from coordclient.protocol.errors import Refusal
from tests.unit.machine.harness import Cell


@pytest.fixture
def cell() -> Cell:
    return Cell()


def test_a_file_is_written_and_read_whole(cell: Cell) -> None:
    stat = cell.do("put", path="/a", contents=b"one")["stat"]
    assert cell.query("get", path="/a") == {"contents": b"one", "stat": stat}
    assert cell.query("stat", path="/a") == {"stat": stat}
    cell.do("put", path="/a", contents=b"two")
    assert cell.query("get", path="/a")["contents"] == b"two"


def test_a_stat_has_the_fields_of_the_table(cell: Cell) -> None:
    reply = cell.batch(cell.command("put", path="/a", contents=b"abc", principal="alice"))[0].reply
    assert isinstance(reply, dict)
    revision = cell.machine.revision
    assert reply["stat"] == {
        "path": "/a",
        "kind": "file",
        "instance": revision,
        "content_generation": revision,
        "lock_generation": 0,
        "acl_generation": revision,
        "revision": revision,
        "checksum": "d8bb14d833d59559",
        "size": 3,
        "created_ms": cell.wall_ms,
        "modified_ms": cell.wall_ms,
        "owner": "alice",
        "ephemeral": False,
        "children": 0,
    }


def test_generations_and_revision_rise_with_what_they_count(cell: Cell) -> None:
    session = cell.open()
    first = cell.do("put", path="/a", contents=b"one")["stat"]
    token = cell.acquire(session, "/a")["token"]
    locked = cell.query("stat", path="/a")["stat"]
    assert locked == first | {"lock_generation": token}
    second = cell.do("put", path="/a", contents=b"two")["stat"]
    assert second["content_generation"] == second["revision"] == cell.machine.revision > first["revision"]
    assert second["instance"] == first["instance"] and second["acl_generation"] == first["acl_generation"]
    assert second["lock_generation"] == token and second["checksum"] != first["checksum"]
    assert second["created_ms"] == first["created_ms"] and second["modified_ms"] > first["modified_ms"]


def test_no_generation_is_ever_given_twice_for_a_path(cell: Cell) -> None:
    first = cell.do("put", path="/a", contents=b"one")["stat"]
    cell.do("delete", path="/a")
    second = cell.do("put", path="/a", contents=b"one")["stat"]
    assert second["instance"] > first["instance"]
    stale = cell.refused("put", path="/a", contents=b"lost", if_generation=first["content_generation"])
    assert stale.code == "conflict"


def test_if_generation_makes_a_put_or_delete_conditional(cell: Cell) -> None:
    generation = cell.do("put", path="/a")["stat"]["content_generation"]
    refusal = cell.refused("put", path="/a", if_generation=generation + 1)
    assert refusal.code == "conflict" and refusal.details["content_generation"] == generation
    generation = cell.do("put", path="/a", if_generation=generation)["stat"]["content_generation"]
    assert cell.refused("delete", path="/a", if_generation=generation - 1).code == "conflict"
    assert cell.do("delete", path="/a", if_generation=generation) == {"revision": cell.machine.revision}
    assert cell.refused("put", path="/a", if_generation=generation).code == "not_found"


def test_if_absent_only_makes_and_never_writes_over(cell: Cell) -> None:
    cell.do("put", path="/a", contents=b"one", if_absent=True)
    assert cell.refused("put", path="/a", contents=b"two", if_absent=True).code == "exists"
    assert cell.query("get", path="/a")["contents"] == b"one"
    assert cell.refused("put", path="/a", if_absent=True, if_generation=1).code == "bad_request"


def test_parents_are_made_only_when_asked_for(cell: Cell) -> None:
    for operation in ("put", "create", "mkdir"):
        refusal = cell.refused(operation, path=f"/{operation}/x/y")
        assert refusal.code == "not_found" and f"/{operation}" in refusal.message
        cell.do(operation, path=f"/{operation}/x/y", parents=True)
        assert cell.query("stat", path=f"/{operation}/x")["stat"]["kind"] == "directory"
    assert cell.query("stat", path="/mkdir/x/y")["stat"]["kind"] == "directory"
    assert cell.query("stat", path="/put/x/y")["stat"]["kind"] == "file"


def test_nothing_is_made_twice_and_nothing_below_a_file(cell: Cell) -> None:
    cell.do("create", path="/file")
    cell.do("mkdir", path="/dir")
    for path in ("/file", "/dir", "/"):
        assert cell.refused("create", path=path).code == "exists"
        assert cell.refused("mkdir", path=path).code == "exists"
    for operation in ("put", "create", "mkdir"):
        assert cell.refused(operation, path="/file/x", parents=True).code == "not_a_directory"
        assert cell.refused(operation, path="/file/x/y/z", parents=True).code == "not_a_directory"
    assert cell.refused("put", path="/dir").code == "is_a_directory"
    assert cell.refused("put", path="/").code == "is_a_directory"


def test_only_an_empty_directory_is_deleted_and_never_the_root(cell: Cell) -> None:
    cell.do("mkdir", path="/a/b", parents=True)
    assert cell.refused("delete", path="/a").code == "not_empty"
    cell.do("delete", path="/a/b")
    cell.do("delete", path="/a")
    assert cell.refused("delete", path="/").code == "bad_request"
    assert cell.refused("delete", path="/a").code == "not_found"


def test_ls_is_sorted_and_of_one_directory(cell: Cell) -> None:
    for path in ("/d/b", "/d/a", "/d/c/deep", "/e"):
        cell.do("put", path=path, parents=True)
    listing = cell.query("ls", path="/d")
    assert [entry["name"] for entry in listing["entries"]] == ["a", "b", "c"]
    assert listing["revision"] == cell.machine.revision
    assert listing["entries"][2]["stat"] == cell.query("stat", path="/d/c")["stat"]
    assert [entry["name"] for entry in cell.query("ls", path="/")["entries"]] == ["d", "e"]


@pytest.mark.parametrize(
    ("operation", "path", "code"),
    [
        ("get", "/none", "not_found"),
        ("get", "/none/at/all", "not_found"),
        ("get", "/dir", "is_a_directory"),
        ("get", "/dir/file/x", "not_a_directory"),
        ("stat", "/dir/none", "not_found"),
        ("stat", "/dir/file/x/y", "not_a_directory"),
        ("ls", "/dir/file", "not_a_directory"),
        ("ls", "/none", "not_found"),
    ],
)
def test_reads_are_refused_by_name(cell: Cell, operation: str, path: str, code: str) -> None:
    cell.do("put", path="/dir/file", parents=True)
    with pytest.raises(Refusal) as refused:
        cell.query(operation, path=path)
    assert refused.value.code == code and (path in refused.value.message or code == "not_a_directory")


def test_an_ephemeral_file_lives_while_one_session_that_opened_it_lives(cell: Cell) -> None:
    first, second = cell.open(), cell.open()
    assert cell.do("create", first, cell.call(first), path="/e", ephemeral=True)["stat"]["ephemeral"] is True
    cell.do("open", second, cell.call(second), path="/e")
    cell.expire(first)
    assert cell.exists("/e")
    cell.do("close_session", second, cell.call(second))
    assert not cell.exists("/e")


def test_opening_an_ephemeral_file_is_a_change_once_and_of_a_permanent_one_never(cell: Cell) -> None:
    first, second = cell.open(), cell.open()
    cell.do("create", first, cell.call(first), path="/e", ephemeral=True)
    cell.do("put", path="/p")
    revision = cell.machine.revision
    cell.do("open", first, cell.call(first), path="/e")
    cell.do("open", first, cell.call(first), path="/p")
    assert cell.machine.revision == revision
    cell.do("open", second, cell.call(second), path="/e")
    assert cell.machine.revision == revision + 1
    assert cell.refused("open", second, cell.call(second), path="/none").code == "not_found"


def test_an_ephemeral_file_that_is_deleted_leaves_nothing_at_its_sessions(cell: Cell) -> None:
    first, second = cell.open(), cell.open()
    cell.do("create", first, cell.call(first), path="/e", ephemeral=True)
    cell.do("open", second, cell.call(second), path="/e")
    cell.do("delete", path="/e")
    cell.do("put", path="/e", contents=b"permanent now")
    cell.expire(first)
    cell.expire(second)
    assert cell.query("get", path="/e")["contents"] == b"permanent now"


def test_an_ephemeral_file_needs_a_session_and_its_parents_stay(cell: Cell) -> None:
    assert cell.refused("create", path="/e", ephemeral=True).code == "session_required"
    session = cell.open()
    cell.do("create", session, cell.call(session), path="/a/b/e", ephemeral=True, parents=True)
    cell.expire(session)
    assert sorted(cell.machine.state.nodes) == ["/", "/a", "/a/b"]


def test_the_file_of_a_lock_is_a_file_like_any_other_while_it_is_there(cell: Cell) -> None:
    session = cell.open()
    cell.acquire(session, "/a/b")
    assert cell.refused("create", path="/a/b").code == "exists"
    assert cell.refused("mkdir", path="/a").code == "exists"
    assert cell.refused("put", path="/a/b", if_absent=True).code == "exists"
    assert cell.query("get", path="/a/b")["contents"] == b""


def test_nodes_carry_three_acl_names_inherited_from_the_parent_and_an_owner(cell: Cell) -> None:
    cell.machine.state.nodes["/"].acl = cell.twin.state.nodes["/"].acl = ("r", "w", "c")
    cell.batch(cell.command("put", path="/a/b", parents=True, principal="alice"))
    node = cell.machine.state.nodes["/a/b"]
    assert node.acl == ("r", "w", "c") and node.owner == "alice"
    assert cell.twin.state.nodes["/a"].acl == ("r", "w", "c"), "and it is in snapshots"
