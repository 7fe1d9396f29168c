"""What a command may change of what is cached: never too little (the harness checks it in every test), and exact for
what is frequent."""

from __future__ import annotations

from typing import Any

import pytest

from coordd.machine.commands import Command
from coordd.machine.touches import Key
from tests.unit.machine.harness import Cell, cacheable, differences


@pytest.fixture
def cell() -> Cell:
    return Cell()


def node(*paths: str) -> set[Key]:
    return {("node", path) for path in paths}


def children(*paths: str) -> set[Key]:
    return {("children", path) for path in paths}


def touched(cell: Cell, operation: str, own: int = 0, **given: Any) -> set[Key]:
    """What the command is said to touch, after it was applied and has touched just that."""
    call = cell.call(own) if own else 0
    if operation in ("expire_session", "end_lock_delay", "end_revoked"):
        command = Command(operation, 0, 0, 0, "", given | {"epoch": cell.machine.epoch})
    else:
        command = cell.command(operation, own, call, **given)
    keys = set(cell.touched(command))
    before = cacheable(cell.machine)
    cell.batch(command)
    after = cacheable(cell.machine)
    made_or_gone = {key for key in keys if key[0] == "children" and not (key in before and key in after)}
    assert keys - made_or_gone == differences(before, after), "exact"
    return keys


def test_a_file_that_is_made_touches_itself_what_is_made_above_and_the_listing_of_each_directory(cell: Cell) -> None:
    assert touched(cell, "put", path="/a") == node("/a") | children("/")
    assert touched(cell, "put", path="/a", contents=b"x") == node("/a")
    keys = touched(cell, "put", path="/d/e/f", parents=True)
    assert keys == node("/d", "/d/e", "/d/e/f") | children("/", "/d", "/d/e")
    assert touched(cell, "mkdir", path="/d/g") == node("/d/g") | children("/d")
    assert touched(cell, "create", path="/d/g/h", contents=b"x") == node("/d/g/h") | children("/d/g")
    assert touched(cell, "delete", path="/d/g/h") == node("/d/g/h") | children("/d/g")


def test_what_would_be_refused_touches_nothing(cell: Cell) -> None:
    session = cell.open()
    cell.do("put", path="/a")
    sequencer = cell.acquire(session, "/l")["sequencer"]
    cell.release(session, "/l")
    for operation, given in (
        ("put", {"path": "/a", "if_absent": True}),
        ("put", {"path": "/a", "if_generation": 1}),
        ("put", {"path": "/a", "if_instance": 1}),
        ("put", {"path": "/a", "if_sequencer": sequencer}),
        ("put", {"path": "/none/x"}),
        ("create", {"path": "/a"}),
        ("mkdir", {"path": "/a"}),
        ("create", {"path": "/e", "ephemeral": True}),
        ("delete", {"path": "/none"}),
        ("delete", {"path": "/"}),
        ("txn", {"then": [{"do": "put", "path": "/b"}, {"do": "delete", "path": "/none"}]}),
    ):
        assert touched(cell, operation, **given) == set(), operation


def test_a_transaction_touches_what_its_present_branch_does(cell: Cell) -> None:
    cell.do("put", path="/a")
    then = [{"do": "put", "path": "/a", "contents": b"x"}, {"do": "mkdir", "path": "/d"}]
    guards = [{"path": "/b", "exists": False}]
    given: dict[str, Any] = {"guards": guards, "then": then, "else": [{"do": "delete", "path": "/a"}]}
    assert touched(cell, "txn", **given) == node("/a", "/d") | children("/")
    cell.do("put", path="/b")
    assert touched(cell, "txn", **given) == node("/a") | children("/")
    steps = [{"do": "put", "path": "/x"}] * 65
    command = Command("txn", 0, 0, 0, "", {"guards": [], "then": steps, "else": steps})
    assert cell.touched(command) == frozenset(), "too many steps"


def test_a_lock_touches_only_the_nodes_that_it_makes_or_removes(cell: Cell) -> None:
    first, second = cell.open(), cell.open()
    cell.do("put", path="/file")
    assert touched(cell, "acquire", first, path="/file") == set()
    assert touched(cell, "acquire", second, path="/file") == set()
    assert touched(cell, "release", first, path="/file", hold=1) == set()
    assert touched(cell, "acquire", first, path="/d/l") == node("/d", "/d/l") | children("/", "/d")
    assert touched(cell, "acquire", second, path="/d/l") == set()
    hold = cell.calls[first]
    assert touched(cell, "release", first, path="/other", hold=hold) == set()
    assert touched(cell, "release", first, hold=hold) == set(), "the other one has it now"
    assert touched(cell, "cancel", second, target=2) == node("/d", "/d/l") | children("/", "/d")
    assert touched(cell, "cancel", second, target=99) == touched(cell, "release", second, hold=99) == set()


def test_a_directory_made_for_several_locks_goes_with_the_last(cell: Cell) -> None:
    session = cell.open()
    locks = [{"path": "/d/a"}, {"path": "/d/b"}]
    keys = touched(cell, "acquire_all", session, locks=locks)
    assert keys == node("/d", "/d/a", "/d/b") | children("/", "/d")
    assert touched(cell, "release", session, path="/d/a", hold=1) == node("/d/a") | children("/d")
    assert touched(cell, "release", session, hold=1) == node("/d", "/d/b") | children("/", "/d")


def test_a_session_that_ends_touches_what_goes_with_it_and_not_what_its_lock_delays_keep(cell: Cell) -> None:
    first, second = cell.open(), cell.open()
    for path in ("/own", "/shared"):
        cell.do("create", first, cell.call(first), path=path, ephemeral=True)
    cell.do("mkdir", first, cell.call(first), path="/dir", ephemeral=True)
    cell.do("put", path="/dir/x")
    cell.do("open", second, cell.call(second), path="/shared")
    cell.acquire(first, "/delayed", lock_delay_ms=5)
    hold = cell.calls[first]
    cell.acquire(first, "/free", lock_delay_ms=0)
    cell.acquire(second, "/own")
    gone = touched(cell, "expire_session", session=first, incarnation=1)
    assert gone == node("/free") | children("/"), "/own is held by another, /dir is not empty"
    assert touched(cell, "end_lock_delay", path="/delayed", session=first, hold=hold) == node("/delayed") | children(
        "/"
    )
    assert touched(cell, "delete", path="/dir/x") == node("/dir", "/dir/x") | children("/", "/dir")
    assert touched(cell, "close_session", second) == node("/own", "/shared") | children("/")
    assert touched(cell, "expire_session", session=99, incarnation=1) == set()


def test_close_touches_what_nobody_else_has_open(cell: Cell) -> None:
    first, second = cell.open(), cell.open()
    instance = cell.do("create", first, cell.call(first), path="/e", ephemeral=True)["stat"]["instance"]
    assert touched(cell, "open", second, path="/e") == set()
    assert touched(cell, "close", first, path="/e", instance=instance) == set()
    assert touched(cell, "close", second, path="/e", instance=instance + 1) == set()
    assert touched(cell, "close", second, path="/e", instance=instance) == node("/e") | children("/")


@pytest.mark.parametrize("delay", [0, 5])
def test_holds_that_are_taken_touch_their_node_when_no_lock_delay_begins(cell: Cell, delay: int) -> None:
    session = cell.open()
    for path in ("/a", "/b"):
        cell.acquire(session, path, lock_delay_ms=delay)
        assert touched(cell, "unlock", path=path, reason="r") == set()
    gone = node("/a") | children("/") if not delay else set()
    assert touched(cell, "give_up", session, path="/a", hold=1) == gone
    gone = node("/b") | children("/") if not delay else set()
    assert touched(cell, "end_revoked", path="/b", session=session, hold=2) == gone
    cell.acquire(session, "/c", lock_delay_ms=delay)
    assert touched(cell, "unlock", path="/c", reason="r", now=True) == node("/c") | children("/")
    assert touched(cell, "give_up", session, path="/none", hold=1) == set()
    assert touched(cell, "unlock", path="/none", now=True, reason="r") == set()


def test_a_killed_left_or_resumed_session_touches_what_only_its_requests_kept(cell: Cell) -> None:
    holder = cell.open()
    cell.acquire(holder, "/held")
    for operation in ("kill_session", "leave_session", "resume_session"):
        session = cell.open()
        cell.acquire_all(session, "/held", "/free")
        if operation == "leave_session":
            keys = touched(cell, operation, session)
        elif operation == "kill_session":
            assert cell.touched(Command(operation, 0, 0, 0, "", {"session": 99, "reason": "r"})) == frozenset()
            keys = set(cell.touched(Command(operation, 0, 0, 0, "", {"session": session, "reason": "r"})))
            cell.admin(operation, session=session, reason="r")
            assert touched(cell, "acknowledge_kill", session) == set()
        else:
            keys = set(cell.touched(Command(operation, 0, 0, 0, "", {"session": session})))
            cell.resume(session, "n" * 32)
        assert keys == node("/free") | children("/") and not cell.exists("/free")


def test_whoever_is_refused_when_its_turn_comes_touches_what_it_kept_elsewhere(cell: Cell) -> None:
    # The release lets the second in, whose number of permits shuts the third out: it leaves /x, which only it kept.
    first, second, third = cell.open(), cell.open(), cell.open()
    cell.do("put", path="/s")
    cell.acquire(first, "/s")
    cell.acquire(second, "/s", "semaphore", permits=2)
    cell.acquire_all(third, ("/s", 3), "/x")
    assert touched(cell, "release", first, path="/s", hold=1) == node("/x") | children("/")
    assert not cell.exists("/x")


def test_whoever_is_granted_lets_the_next_of_its_other_queues_come_to_their_turn(cell: Cell) -> None:
    # /s is held with 2 permits, /y free; the fourth waits for both, and for /w, behind the third in /y alone. The
    # release of /x grants the third its two locks: now it is the fourth's turn everywhere, its number of permits is
    # another one, and it leaves /w, which only it kept.
    first, second, third, fourth = cell.open(), cell.open(), cell.open(), cell.open()
    for path in ("/x", "/s"):
        cell.acquire(first, path)
    cell.acquire(second, "/s", "semaphore", permits=2)
    cell.acquire_all(third, "/x", ("/y", "shared"))
    cell.acquire_all(fourth, ("/y", "shared"), ("/s", 3), "/w")
    cell.release(first, "/s")
    assert touched(cell, "release", first, path="/x", hold=1) == node("/w") | children("/")
    assert not cell.exists("/w")


def test_an_exclusive_request_that_leaves_lets_those_behind_come_to_their_turn(cell: Cell) -> None:
    # Behind it in /s stands one who cannot have /q, and alone keeps /w. First its session ends. Then it is refused
    # itself, for what it asks of /r.
    first, second, third = cell.open(), cell.open(), cell.open()
    cell.acquire(first, "/s")
    for path in ("/q", "/r"):
        cell.acquire(first, path)
        cell.acquire(first, path, "semaphore", permits=2)
    cell.acquire(second, "/s")
    cell.acquire_all(third, ("/s", "shared"), ("/q", 3), "/w")
    cell.release(first, "/q")
    cell.release(first, "/s")
    assert touched(cell, "close_session", second) == node("/s", "/w") | children("/")

    fourth = cell.open()
    cell.acquire(first, "/s")
    cell.acquire_all(fourth, "/s", ("/r", 3))
    cell.acquire(first, "/q2")
    cell.acquire(first, "/q2", "semaphore", permits=2)
    cell.acquire_all(third, ("/s", "shared"), ("/q2", 3), "/w")
    for path in ("/q2", "/r"):
        cell.release(first, path)
    hold = next(call for owner, call in cell.holders("/s") if owner == first)
    assert touched(cell, "release", first, path="/s", hold=hold) == node("/s", "/w") | children("/")


def test_what_leaves_a_queue_costs_as_much_as_may_move_there(cell: Cell) -> None:
    class Queue(dict[Any, Any]):
        looked_at = 0

        def values(self) -> Any:
            for waiter in super().values():
                Queue.looked_at += 1
                yield waiter

    holder, waiting = cell.open(), cell.open()
    cell.acquire(holder, "/t")
    for _ in range(50):
        cell.acquire(waiting, "/t")
    lock = cell.machine.state.locks["/t"]
    lock.waiters = Queue(lock.waiters)
    command = cell.command("release", holder, 9, path="/t", hold=1)
    assert not cell.machine.touches(command.operation, holder, command.arguments, "") and Queue.looked_at == 1


def test_a_transfer_touches_what_those_kept_who_are_refused_then(cell: Cell) -> None:
    # When the second is out of the queue, the third comes first, whose number of permits is another one.
    before, first, second, third = cell.open(), cell.open(), cell.open(), cell.open()
    cell.acquire(before, "/s")
    for session in (first, second):
        cell.acquire(session, "/s", "semaphore", permits=1)
    cell.acquire_all(third, ("/s", 2), "/x")
    cell.release(before, "/s")
    assert touched(cell, "transfer", first, path="/s", hold=99, to=second) == set()
    assert touched(cell, "transfer", first, path="/s", hold=1, to=second) == node("/x") | children("/")
    assert not cell.exists("/x")


def test_a_command_of_a_session_that_is_gone_touches_nothing(cell: Cell) -> None:
    cell.acquire(cell.open(), "/a")
    cell.unlock("/a")
    for operation, given in (
        ("release", {"hold": 1}),
        ("cancel", {"target": 1}),
        ("transfer", {"path": "/a", "hold": 1, "to": 1}),
        ("give_up", {"path": "/a", "hold": 1}),
        ("close", {"path": "/a", "instance": 1}),
        ("close_session", {}),
        ("leave_session", {}),
        ("acknowledge_kill", {}),
    ):
        assert cell.touched(cell.command(operation, 99, 1, **given)) == frozenset(), operation
