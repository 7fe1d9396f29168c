"""Changes: one for each node made, written or removed, by whatever command, kept within bounds, and what reads them."""

from __future__ import annotations

from typing import Any

import pytest

from coordclient.protocol.errors import Refusal
from coordd.machine.changes import CHANGE_BYTES
from coordd.machine.commands import Command
from coordd.machine.limits import Limits
from coordd.machine.machine import Change, Machine
from coordd.machine.state import checksum_of
from tests.unit.machine.harness import Cell


@pytest.fixture
def cell() -> Cell:
    return Cell()


def news(cell: Cell, since: int) -> list[tuple[str, str]]:
    """(kind, path) of what changed since."""
    return [(change.kind, change.path) for change in cell.machine.changes_since(since)]


def causes(cell: Cell, since: int) -> set[tuple[int, str, str]]:
    return {(change.session, change.principal, change.operation) for change in cell.machine.changes_since(since)}


# ---- what is a change ----


def test_a_file_that_is_made_written_and_removed_is_three_changes_with_what_was_and_is(cell: Cell) -> None:
    session = cell.open()
    before = cell.machine.revision
    steps: list[tuple[str, dict[str, Any]]] = [("put", {"contents": b"one"}), ("put", {"contents": b"three"})]
    for operation, given in (*steps, ("delete", {})):
        cell.batch(cell.command(operation, session, cell.call(session), principal="alice", path="/a", **given))
    made, wrote, gone = cell.machine.changes_since(before)
    wall = cell.wall_ms
    first, by = before + 1, (session, "alice")
    assert made == Change(first, "/a", "created", False, first, None, b"one", *by, wall - 2, "put")
    assert wrote == Change(first + 1, "/a", "changed", False, first, b"one", b"three", *by, wall - 1, "put")
    assert gone == Change(first + 2, "/a", "deleted", False, first, b"three", None, *by, wall, "delete")


def test_directories_made_on_the_way_are_changes_of_the_same_revision_in_their_order(cell: Cell) -> None:
    before = cell.machine.revision
    cell.do("create", path="/a/b/c", contents=b"x", parents=True)
    cell.do("mkdir", path="/a/d")
    found = cell.machine.changes_since(before)
    assert [(change.path, change.directory, change.revision - before) for change in found] == [
        ("/a", True, 1),
        ("/a/b", True, 1),
        ("/a/b/c", False, 1),
        ("/a/d", True, 2),
    ]
    assert [(change.before, change.after) for change in found] == [(None, None)] * 2 + [(None, b"x"), (None, None)]


def test_what_changes_no_node_is_no_change(cell: Cell) -> None:
    first, second = cell.open(), cell.open()
    cell.do("put", path="/a")
    cell.do("create", first, cell.call(first), path="/e", ephemeral=True)
    before = cell.machine.revision
    cell.acquire(first, "/a")
    cell.acquire(second, "/a")
    cell.do("open", second, cell.call(second), path="/e")
    cell.release(first, "/a")
    cell.refused("delete", path="/a")
    cell.refused("create", path="/a")
    assert cell.machine.revision > before and cell.machine.changes_since(before) == ()


def test_a_lock_on_a_missing_path_makes_and_removes_nodes_with_those_above(cell: Cell) -> None:
    session = cell.open()
    before = cell.machine.revision
    cell.acquire(session, "/a/b")
    assert news(cell, before) == [("created", "/a"), ("created", "/a/b")]
    assert causes(cell, before) == {(session, "anonymous", "acquire")}
    before = cell.machine.revision
    cell.release(session, "/a/b")
    assert news(cell, before) == [("deleted", "/a/b"), ("deleted", "/a")]
    assert causes(cell, before) == {(session, "anonymous", "release")}


def test_several_locks_make_several_nodes_and_a_refused_acquire_all_none(cell: Cell) -> None:
    session = cell.open()
    before = cell.machine.revision
    cell.acquire_all(session, "/z", "/a/b", "/a")
    assert sorted(news(cell, before)) == [("created", "/a"), ("created", "/a/b"), ("created", "/z")]
    before = cell.machine.revision
    size = cell.machine.state.changes_bytes
    cell.do("put", path="/file")
    cell.refused("acquire_all", session, cell.call(session), locks=[{"path": "/y"}, {"path": "/file/x"}])
    assert news(cell, before) == [("created", "/file")]
    assert cell.machine.state.changes_bytes == size + CHANGE_BYTES + len("/file")


def goes(cell: Cell, how: str) -> tuple[int, str, str]:
    """The last reason of the temporary node /l, held by a session with a lock-delay, goes; who did it."""
    session = cell.open()
    hold: Any = cell.acquire(session, "/l", lock_delay_ms=0 if how in ("give_up", "end_revoked", "expire") else 5)
    at = {"path": "/l", "hold": hold["hold"]}
    if how == "expire":
        cell.expire(session)
        return session, "anonymous", "expire_session"
    if how == "end_lock_delay":
        cell.expire(session)
        cell.end_lock_delay("/l", session, hold["hold"])
        return session, "anonymous", "end_lock_delay"
    if how == "unlock":
        cell.unlock("/l", now=True)
        return 0, "operator", "unlock"
    if how == "give_up":
        cell.unlock("/l")
        cell.do("give_up", session, cell.call(session), **at)
        return session, "anonymous", "give_up"
    if how == "end_revoked":
        cell.unlock("/l")
        cell.end_revoked("/l", session, hold["hold"])
        return session, "anonymous", "end_revoked"
    given: dict[str, Any] = {"cancel": {"target": hold["hold"]}, "close_session": {}}[how]
    cell.do(how, session, cell.call(session), **given)
    return session, "anonymous", how


@pytest.mark.parametrize(
    "how", ["cancel", "close_session", "expire", "end_lock_delay", "unlock", "give_up", "end_revoked"]
)
def test_the_node_of_a_lock_goes_with_a_change_however_the_lock_became_free(cell: Cell, how: str) -> None:
    before = cell.machine.revision
    cause = goes(cell, how)
    assert news(cell, before) == [("created", "/l"), ("deleted", "/l")] and not cell.exists("/l")
    last = cell.machine.changes_since(before)[-1]
    assert (last.session, last.principal, last.operation) == cause


@pytest.mark.parametrize("how", ["kill_session", "leave_session", "resume_session"])
def test_the_node_that_a_withdrawn_request_made_goes_with_a_change(cell: Cell, how: str) -> None:
    holder, session = cell.open(), cell.open()
    cell.acquire(holder, "/held")
    cell.acquire_all(session, "/held", "/free")  # waits, and so made /free
    before = cell.machine.revision
    if how == "kill_session":
        cell.admin(how, session=session, reason="r")
        cause = (0, "operator", how)
    elif how == "resume_session":
        cell.resume(session, "n" * 32)
        cause = (session, "operator", how)
    else:
        cell.do(how, session, cell.call(session))
        cause = (session, "anonymous", how)
    assert news(cell, before) == [("deleted", "/free")] and causes(cell, before) == {cause}


@pytest.mark.parametrize("expired", [True, False])
def test_ephemerals_that_go_with_their_session_are_changes_due_to_it(cell: Cell, expired: bool) -> None:
    session = cell.open()
    for name in ("b", "a"):
        cell.do("create", session, cell.call(session), path=f"/{name}", contents=b"x", ephemeral=True)
    before = cell.machine.revision
    if expired:
        cell.expire(session)
    else:
        cell.do("close_session", session, cell.call(session))
    assert news(cell, before) == [("deleted", "/a"), ("deleted", "/b")]
    assert {change.before for change in cell.machine.changes_since(before)} == {b"x"}
    assert causes(cell, before) == {(session, "anonymous", "expire_session" if expired else "close_session")}


def test_a_transfer_keeps_the_node_and_is_no_change(cell: Cell) -> None:
    first, second = cell.open(), cell.open()
    hold = cell.acquire(first, "/l")["hold"]
    cell.acquire(second, "/l")
    before = cell.machine.revision
    cell.do("transfer", first, cell.call(first), path="/l", hold=hold, to=second)
    assert cell.machine.revision > before and cell.machine.changes_since(before) == ()


# ---- bounds ----


def test_too_many_changes_push_out_the_oldest() -> None:
    cell = Cell(Limits(changes=3))
    start = cell.machine.revision
    for number in range(5):
        cell.do("put", path=f"/n{number}")
    assert cell.machine.changes_after == start + 2
    assert news(cell, start + 2) == [("created", "/n2"), ("created", "/n3"), ("created", "/n4")]
    with pytest.raises(AssertionError, match="no more"):
        cell.machine.changes_since(start + 1)


def test_a_revision_is_pushed_out_whole() -> None:
    cell = Cell(Limits(changes=4))
    start = cell.machine.revision
    cell.do("put", path="/a/b/c", parents=True)
    cell.do("put", path="/x")
    assert cell.machine.changes_after == 0
    cell.do("put", path="/y")
    assert cell.machine.changes_after == start + 1 and news(cell, start + 1) == [("created", "/x"), ("created", "/y")]


def test_a_revision_that_is_too_large_alone_pushes_out_itself() -> None:
    cell = Cell(Limits(changes=2))
    cell.do("put", path="/a/b/c", parents=True)
    assert cell.machine.changes_after == cell.machine.revision
    assert cell.machine.changes_since(cell.machine.revision) == ()


def test_the_bytes_of_changes_count_paths_and_contents_before_and_after() -> None:
    size = 3 * CHANGE_BYTES + 3 * len("/a") + 10 + (10 + 20) + 20
    for bound, kept in ((size, 3), (size - 1, 2)):
        cell = Cell(Limits(changes_bytes=bound))
        start = cell.machine.revision
        cell.do("put", path="/a", contents=bytes(10))
        cell.do("put", path="/a", contents=bytes(20))
        cell.do("delete", path="/a")
        assert len(cell.machine.changes_since(start + 3 - kept)) == kept
        assert cell.machine.changes_after == (0 if kept == 3 else start + 1)


def test_a_batch_that_is_refused_in_part_trims_once_at_its_end() -> None:
    cell = Cell(Limits(changes=1))
    cell.batch(cell.command("put", path="/a"), cell.command("create", path="/a"), cell.command("put", path="/b"))
    assert cell.machine.changes_after == cell.machine.revision - 1
    assert news(cell, cell.machine.changes_after) == [("created", "/b")]


# ---- history ----


def rows(cell: Cell, **given: Any) -> list[tuple[int, str, str]]:
    return [(row["revision"], row["kind"], row["path"]) for row in cell.query("history", **given)["changes"]]


def test_history_tells_the_changes_of_a_node_newest_first(cell: Cell) -> None:
    session = cell.open()
    start = cell.machine.revision
    cell.do("put", session, cell.call(session), path="/a", contents=b"abc")
    cell.do("put", path="/b")
    cell.do("delete", path="/a")
    found = cell.query("history", path="/a")
    assert (found["revision"], found["complete_after"], found["more"]) == (start + 3, 0, False)
    gone, made = found["changes"]
    assert gone == {
        "revision": start + 3,
        "path": "/a",
        "kind": "deleted",
        "directory": False,
        "instance": start + 1,
        "size": 0,
        "checksum": None,
        "session": 0,
        "principal": "anonymous",
        "at_ms": cell.wall_ms,
        "operation": "delete",
    }
    assert (made["kind"], made["size"], made["checksum"], made["session"]) == (
        "created",
        3,
        "d8bb14d833d59559",
        session,
    )


def test_history_of_a_subtree_between_two_revisions(cell: Cell) -> None:
    start = cell.machine.revision
    for path in ("/a", "/ab", "/a/x", "/a/y"):
        cell.do("mkdir", path=path)
    assert rows(cell, path="/a") == [(start + 1, "created", "/a")]
    assert [path for _, _, path in rows(cell, path="/a", subtree=True)] == ["/a/y", "/a/x", "/a"]
    assert [path for _, _, path in rows(cell, path="/", subtree=True, since=start + 1)] == ["/a/y", "/a/x", "/ab"]
    assert [path for _, _, path in rows(cell, path="/a", subtree=True, upto=start + 3)] == ["/a/x", "/a"]
    assert rows(cell, path="/", subtree=True, since=2**40) == []


def test_history_in_pieces_leaves_revisions_whole(cell: Cell) -> None:
    start = cell.machine.revision
    cell.do("put", path="/a/b/c", parents=True)
    cell.do("put", path="/z")
    piece = cell.query("history", path="/", subtree=True, count=3)
    assert [row["path"] for row in piece["changes"]] == ["/z"] and piece["more"] is True
    rest = cell.query("history", path="/", subtree=True, count=3, upto=start + 1)
    assert [row["path"] for row in rest["changes"]] == ["/a/b/c", "/a/b", "/a"] and rest["more"] is False
    whole = cell.query("history", path="/", subtree=True, count=1, upto=start + 1)
    assert whole == rest, "what was left of it could not be asked for"


def test_an_answer_of_history_fits_a_frame() -> None:
    cell = Cell(Limits(answer_bytes=800))
    for number in range(5):
        cell.do("put", path=f"/n{number}")
    piece = cell.query("history", path="/", subtree=True)
    assert [row["path"] for row in piece["changes"]] == ["/n4", "/n3"] and piece["more"] is True
    cell.do("put", path="/a/b/c", parents=True)
    alone = cell.query("history", path="/", subtree=True)
    assert [row["path"] for row in alone["changes"]] == ["/a/b/c", "/a/b"] and alone["more"] is True


# ---- get of an earlier revision ----


def test_get_tells_a_file_as_it_was_at_each_revision_that_is_kept(cell: Cell) -> None:
    start = cell.machine.revision
    cell.do("put", path="/a", contents=b"one")
    cell.do("put", path="/other")
    cell.do("put", path="/a", contents=b"two")
    cell.do("delete", path="/a")
    cell.do("put", path="/a", contents=b"three")
    instances = {start + 1: start + 1, start + 2: start + 1, start + 3: start + 1, start + 5: start + 5}
    writes = (start + 1, start + 3, start + 5)
    contents = {start + 1: b"one", start + 2: b"one", start + 3: b"two", start + 5: b"three"}
    for revision, wanted in contents.items():
        found = cell.query("get", path="/a", revision=revision)
        stat = found["stat"]
        assert (found["contents"], stat["instance"]) == (wanted, instances[revision]), revision
        assert stat["revision"] == stat["content_generation"] == max(at for at in writes if at <= revision)
        assert (stat["kind"], stat["size"], stat["path"]) == ("file", len(wanted), "/a")
    assert stat == cell.query("stat", path="/a")["stat"]
    for revision in (start, start + 4):
        assert refusal(cell, path="/a", revision=revision).code == "not_found"


def refusal(cell: Cell, **given: Any) -> Refusal:
    with pytest.raises(Refusal) as refused:
        cell.query("get", **given)
    return refused.value


def test_get_of_a_revision_refuses_what_was_a_directory_then(cell: Cell) -> None:
    cell.do("mkdir", path="/d")
    made = cell.machine.revision
    assert refusal(cell, path="/d", revision=made).code == "is_a_directory"
    cell.do("delete", path="/d")
    assert refusal(cell, path="/d", revision=made).code == "is_a_directory"
    assert refusal(cell, path="/d", revision=made - 1).code == "not_found"
    assert refusal(cell, path="/never", revision=made).code == "not_found"


def test_get_of_a_revision_beyond_either_end_is_refused_by_name() -> None:
    cell = Cell(Limits(changes=2))
    for number in range(4):
        cell.do("put", path="/a", contents=bytes(number))
    now = cell.machine.revision
    gone, ahead = refusal(cell, path="/a", revision=now - 3), refusal(cell, path="/a", revision=now + 1)
    assert (gone.code, gone.details) == ("revision_gone", {"oldest": now - 2})
    assert (ahead.code, ahead.details) == ("revision_ahead", {"revision": now})
    oldest = cell.query("get", path="/a", revision=now - 2)
    assert oldest["contents"] == b"\0" and oldest["stat"]["checksum"] == checksum_of(b"\0")
    assert oldest["stat"]["instance"] == now - 3 and oldest["stat"]["revision"] == 0, "who wrote it is not kept"
    assert cell.query("get", path="/a", revision=now)["contents"] == bytes(3)


# ---- over snapshots ----


def test_changes_come_with_snapshots(cell: Cell) -> None:
    for number in range(3):
        cell.do("put", path="/a", contents=bytes(number))
    cell.master("set_sequencer_key", key=bytes(32), epoch=1)
    other = Machine.restore(cell.machine.snapshot())
    assert other.changes_since(0) == cell.machine.changes_since(0) != ()
    assert (other.changes_after, other.state.changes_bytes) == (0, cell.machine.state.changes_bytes)


def test_a_command_of_the_master_that_comes_too_late_changes_nothing(cell: Cell) -> None:
    before = cell.machine.revision
    cell.batch(Command("expire_session", 0, 0, 0, "", {"session": 99, "incarnation": 1, "epoch": 1}))
    assert cell.machine.changes_since(before) == ()
