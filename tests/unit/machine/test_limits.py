"""Every bound is refused by name exactly one beyond its edge, and there is room again afterwards."""

from __future__ import annotations

import pytest

from coordclient.protocol.errors import Refusal
from coordd.machine.commands import Command
from coordd.machine.limits import LIMITS, Limits
from tests.unit.machine.harness import Cell


def assert_limit(reply: object, name: str) -> None:
    assert isinstance(reply, Refusal) and reply.code == "limit", reply
    assert reply.details["limit"] == name and name.replace("_", " ") in reply.message
    assert str(reply.details["bound"]) in reply.message


def test_the_limits_are_those_of_this_machine_version() -> None:
    # Another number here is another behaviour of the same log: then MACHINE_VERSION rises with it.
    numbers = (10_000, 2_048, 1_024, 1_024, 524_288, 4_096, 4_096, 200_000, 20_000, 2**28, 458_752, 10_000)
    assert Limits(*numbers, 256, 8, 4_096, 100_000, 10_000, 8 * 2**20) == LIMITS


def test_sessions() -> None:
    cell = Cell(Limits(sessions=2))
    first, _ = cell.open(), cell.open()
    arguments = {"lease_ms": 12_000, "client": {}, "secret": "0" * 32}
    assert_limit(cell.batch(Command("open_session", 0, 0, 0, "anonymous", arguments))[0].reply, "sessions")
    cell.expire(first)
    cell.open()


def test_holds_of_a_session_those_waited_for_included() -> None:
    cell = Cell(Limits(holds_per_session=2))
    session, other = cell.open(), cell.open()
    cell.acquire(other, "/a")
    cell.acquire(session, "/a")
    cell.acquire(session, "/b")
    assert_limit(cell.refused("acquire", session, cell.call(session), path="/c"), "holds_per_session")
    cell.release(other, "/a")
    assert_limit(cell.refused("acquire", session, cell.call(session), path="/c"), "holds_per_session")
    cell.release(session, "/a")
    cell.acquire(session, "/c")


def test_waiters_of_a_session() -> None:
    cell = Cell(Limits(waiters_per_session=1))
    session, other = cell.open(), cell.open()
    for path in ("/a", "/b"):
        cell.acquire(other, path)
    cell.acquire(session, "/a")
    assert_limit(cell.refused("acquire", session, cell.call(session), path="/b"), "waiters_per_session")
    cell.release(other, "/a")
    assert cell.acquire(session, "/b") is None


def test_waiters_of_a_node() -> None:
    cell = Cell(Limits(waiters_per_node=1))
    first, second, third = cell.open(), cell.open(), cell.open()
    cell.acquire(first, "/a")
    cell.acquire(second, "/a")
    assert_limit(cell.refused("acquire", third, cell.call(third), path="/a"), "waiters_per_node")
    cell.release(first, "/a")
    assert cell.acquire(third, "/a") is None


def test_holders_of_a_node_beyond_which_shared_requests_wait() -> None:
    cell = Cell(Limits(holders_per_node=2))
    readers = [cell.open() for _ in range(4)]
    for reader in readers[:2]:
        assert cell.acquire(reader, "/a", "shared") is not None
    for reader in readers[2:]:
        assert cell.acquire(reader, "/a", "shared") is None
    cell.release(readers[0], "/a")
    assert cell.holders("/a") == [(readers[1], 1), (readers[2], 1)]
    cell.release(readers[1], "/a")
    assert cell.holders("/a") == [(readers[2], 1), (readers[3], 1)]


def test_ephemerals_of_a_session() -> None:
    cell = Cell(Limits(ephemerals_per_session=1))
    first, second = cell.open(), cell.open()
    cell.do("create", first, 1, path="/a", ephemeral=True)
    assert_limit(cell.refused("create", first, 2, path="/b", ephemeral=True), "ephemerals_per_session")
    cell.do("create", second, 1, path="/c", ephemeral=True)
    assert_limit(cell.refused("open", second, 2, path="/a"), "ephemerals_per_session")
    cell.do("delete", path="/a")
    cell.do("create", first, 3, path="/b", ephemeral=True)


@pytest.mark.parametrize("operation", ["put", "create", "mkdir", "acquire"])
def test_nodes_made_by_any_operation_with_their_parents(operation: str) -> None:
    cell = Cell(Limits(nodes=4))
    session = cell.open()
    given = {} if operation == "acquire" else {"parents": True}
    assert_limit(cell.refused(operation, session, 1, path="/a/b/c/d", **given), "nodes")
    assert list(cell.machine.state.nodes) == ["/"], "nothing half made"
    cell.do(operation, session, 2, path="/a/b/c", **given)
    assert_limit(cell.refused(operation, session, 3, path="/e", **given), "nodes")


@pytest.mark.parametrize("operation", ["put", "create", "mkdir", "acquire"])
def test_children_of_a_directory(operation: str) -> None:
    cell = Cell(Limits(children_per_directory=2))
    session = cell.open()
    for number in (1, 2):
        cell.do(operation, session, number, path=f"/n{number}")
    assert_limit(cell.refused(operation, session, 3, path="/n3"), "children_per_directory")
    if operation in ("put", "acquire"):
        assert cell.apply(operation, session, 4, path="/n1").reply is None or operation == "put"


def test_total_bytes_of_contents_and_paths() -> None:
    cell = Cell(Limits(total_bytes=100))
    cell.do("put", path="/a", contents=b"x" * 97)
    assert cell.machine.state.bytes == 100
    assert_limit(cell.refused("put", path="/a", contents=b"x" * 98), "total_bytes")
    assert_limit(cell.refused("mkdir", path="/b"), "total_bytes")
    cell.do("put", path="/a", contents=b"x" * 95)
    cell.do("mkdir", path="/b")
    cell.do("delete", path="/a")
    assert cell.machine.state.bytes == 3
    assert_limit(cell.refused("create", path="/c/d", contents=b"x" * 92, parents=True), "total_bytes")
    cell.do("create", path="/c/d", contents=b"x" * 91, parents=True)


def test_answers_too_large_for_a_frame_are_refused() -> None:
    cell = Cell(Limits(answer_bytes=900))
    sessions = [cell.open() for _ in range(3)]
    for number, session in enumerate(sessions):
        cell.do("put", path=f"/n{number}")
        cell.acquire(session, f"/l{number}", actor="a" * 100)
        cell.acquire(session, "/l0", actor="b" * 100)
    with pytest.raises(Refusal, match="/l0") as refused:
        cell.query("why", path="/l0")
    assert refused.value.code == "too_large"
    with pytest.raises(Refusal, match="the first lock below / after nothing") as refused:
        cell.query("locks", path="/")
    assert refused.value.code == "too_large"
    assert cell.query("locks", path="/l1")["locks"] and cell.query("locks", after="/l0")["locks"]
