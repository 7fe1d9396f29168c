"""Several locks at once: all in one step or none, in the order of asking in every queue, and holding nothing before."""

from __future__ import annotations

from typing import Any

import pytest

from coordclient.protocol.errors import Refusal
from coordd.machine.limits import Limits
from tests.unit.machine.harness import Cell, lock_map


@pytest.fixture
def cell() -> Cell:
    return Cell()


def refused(cell: Cell, session: int, *locks: Any, **given: Any) -> Refusal:
    call = cell.call(session)
    return cell.refused("acquire_all", session, call, locks=[lock_map(lock) for lock in locks], **given)


def test_free_locks_are_granted_in_one_revision_in_the_order_asked(cell: Cell) -> None:
    session = cell.open()
    before = cell.machine.revision
    grant = cell.acquire_all(session, "/b", ("/a", "shared"), ("/s", 3))
    assert cell.machine.revision == before + 1 and grant["hold"] == 1
    rows = [(part["path"], part["mode"], part["permits"], part["token"]) for part in grant["locks"]]
    token = before + 1
    assert rows == [("/b", "exclusive", 0, token), ("/a", "shared", 0, token), ("/s", "semaphore", 3, token)]
    assert all(cell.query("check_sequencer", sequencer=part["sequencer"])["valid"] for part in grant["locks"])
    assert cell.do("acquire_all", session, 1, locks=[{"path": "/b"}]) == grant, "a retry is told the same"


def test_it_waits_for_all_and_holds_none_until_it_has_all(cell: Cell) -> None:
    first, second, several = cell.open(), cell.open(), cell.open()
    cell.acquire(first, "/a")
    cell.acquire(second, "/b")
    assert cell.acquire_all(several, "/a", "/b", "/c") is None
    assert [row["several"] for row in cell.lock_at("/c")["waiters"]] == [True]
    assert cell.holders("/c") == [] and cell.lock_at("/c")["mode"] == "" and cell.lock_at("/c")["token"] == 0
    cell.release(first, "/a")
    assert cell.holders("/a") == [] and cell.woke() == []
    assert cell.apply("acquire_all", several, 1, locks=[{"path": "/a"}]).reply is None, "a retry waits on"
    cell.release(second, "/b")
    token = cell.machine.revision
    assert cell.woke() == [(several, 1, [token] * 3)]
    assert [cell.holders(path) for path in ("/a", "/b", "/c")] == [[(several, 1)]] * 3


def test_whoever_is_behind_it_waits_also_where_the_lock_is_free(cell: Cell) -> None:
    holder, several, late, later = (cell.open() for _ in range(4))
    cell.acquire(holder, "/a")
    cell.acquire_all(several, "/a", "/free")
    assert cell.acquire(late, "/free", "shared") is None
    refusal = cell.refused("acquire", later, cell.call(later), path="/free", wait=False)
    assert (refusal.code, refusal.details["holder"]) == ("not_acquired", None)
    assert cell.refused("delete", path="/free").code == "locked"
    cell.release(holder, "/a")
    assert cell.holders("/free") == [(several, 1)]
    cell.do("release", several, cell.call(several), hold=1)
    assert cell.holders("/free") == [(late, 1)]


def test_the_order_of_asking_is_the_same_in_every_queue(cell: Cell) -> None:
    holder, *sessions = (cell.open() for _ in range(4))
    cell.acquire(holder, "/b")
    cell.acquire_all(sessions[0], "/a", "/b")
    cell.acquire_all(sessions[1], "/b", "/c")
    cell.acquire_all(sessions[2], "/c", "/a")
    for one in sessions:
        assert cell.woke() == []
        cell.do("release", holder, cell.call(holder), hold=1)
        assert [(session, call) for session, call, _ in cell.woke()] == [(one, 1)]
        holder = one
    cell.do("release", holder, cell.call(holder), hold=1)
    assert cell.query("locks")["locks"] == []


def test_one_release_lets_a_whole_chain_go_on_in_the_same_step(cell: Cell) -> None:
    holder, first, second, third = (cell.open() for _ in range(4))
    cell.acquire(holder, "/0")
    cell.acquire_all(first, ("/0", "shared"), ("/1", "shared"))
    cell.acquire_all(second, ("/1", "shared"), ("/2", "shared"))
    cell.acquire(third, "/2", "shared")
    cell.release(holder, "/0")
    assert [session for session, _, _ in cell.woke()] == [first, second, third]


def test_a_part_can_be_released_alone_and_the_rest_by_the_call(cell: Cell) -> None:
    session, waiter = cell.open(), cell.open()
    cell.acquire_all(session, "/a", "/b", "/c")
    cell.acquire(waiter, "/a")
    cell.do("release", session, cell.call(session), path="/a", hold=1)
    assert cell.holders("/a") == [(waiter, 1)]
    left = cell.do("acquire_all", session, 1, locks=[{"path": "/a"}])
    assert [part["path"] for part in left["locks"]] == ["/b", "/c"], "a retry is told what is still held"
    assert cell.refused("release", session, cell.call(session), path="/a", hold=1).code == "not_held"
    cell.do("release", session, cell.call(session), hold=1)
    assert cell.holders("/b") == cell.holders("/c") == []
    assert cell.refused("acquire_all", session, 1, locks=[{"path": "/a"}]).code == "not_held"


def test_all_its_locks_are_freed_before_anybody_is_granted_one(cell: Cell) -> None:
    session, several = cell.open(), cell.open()
    cell.acquire_all(session, "/a", "/b")
    cell.acquire_all(several, "/b", "/a")
    cell.do("release", session, cell.call(session), hold=1)
    assert cell.woke() == [(several, 1, [cell.machine.revision] * 2)]


@pytest.mark.parametrize("way", ["cancel", "close", "expire", "leave", "kill"])
def test_whoever_leaves_leaves_all_its_queues_and_lets_others_go_on(cell: Cell, way: str) -> None:
    holder, several, behind = cell.open(), cell.open(), cell.open()
    cell.acquire(holder, "/a")
    cell.acquire_all(several, "/a", "/b", "/c")
    cell.acquire(behind, "/b")
    if way == "cancel":
        assert cell.do("cancel", several, cell.call(several), target=1) == {"did": "withdrew"}
    elif way == "close":
        cell.do("close_session", several, cell.call(several))
    elif way == "expire":
        cell.expire(several)
    elif way == "leave":
        cell.do("leave_session", several, cell.call(several))
    else:
        cell.admin("kill_session", session=several, reason="it hangs")
    assert cell.holders("/b") == [(behind, 1)] and cell.queue("/a") == []
    assert not cell.exists("/c"), "a file made for the wait goes with it"
    codes = {"cancel": "cancelled", "leave": "cancelled", "kill": "session_killed"}
    told = [code for session, _, code in cell.woke() if session == several]
    assert told == [codes.get(way, "session_expired")]


def test_a_cancel_after_the_grant_gives_all_back(cell: Cell) -> None:
    session = cell.open()
    cell.acquire_all(session, "/a", "/b")
    assert cell.do("cancel", session, cell.call(session), target=1) == {"did": "released"}
    assert cell.query("locks")["locks"] == []
    assert cell.refused("acquire_all", session, 1, locks=[{"path": "/a"}]).code == "cancelled"


def test_an_expiry_delays_every_part(cell: Cell) -> None:
    session, several = cell.open(), cell.open()
    cell.acquire_all(session, "/a", "/b", lock_delay_ms=1_000)
    cell.acquire_all(several, "/b", "/a")
    cell.expire(session)
    assert cell.end_lock_delay("/a", session, 1) == {"ended": True}
    assert cell.holders("/a") == [] and cell.woke() == []
    assert cell.end_lock_delay("/b", session, 1) == {"ended": True}
    assert [who for who, _, _ in cell.woke()] == [several]


def test_who_does_not_want_to_wait_holds_nothing_and_made_nothing(cell: Cell) -> None:
    holder, session = cell.open(), cell.open()
    cell.acquire(holder, "/b")
    refusal = refused(cell, session, "/made/a", "/b", wait=False)
    assert refusal.code == "not_acquired" and "/b" in refusal.message
    assert not cell.exists("/made")


def test_a_semaphore_of_other_permits_is_refused_at_once_or_when_the_turn_comes(cell: Cell) -> None:
    first, second, several = cell.open(), cell.open(), cell.open()
    cell.acquire(first, "/s")
    cell.acquire(second, "/s", "semaphore", permits=2)
    assert cell.acquire_all(several, "/a", ("/s", 3)) is None
    cell.release(first, "/s")
    assert cell.woke()[1:] == [(several, 1, "permits_differ")] and not cell.exists("/a")
    assert refused(cell, several, "/a", ("/s", 3)).code == "permits_differ"


def test_missing_files_are_made_for_it_also_one_below_another(cell: Cell) -> None:
    session = cell.open()
    cell.acquire_all(session, "/a", "/a/b/c", "/a/b")
    assert [row["path"] for row in cell.query("locks")["locks"]] == ["/a", "/a/b", "/a/b/c"]
    cell.do("release", session, cell.call(session), hold=1)
    assert not cell.exists("/a")


def test_what_cannot_be_made_is_refused_and_leaves_nothing_half_made() -> None:
    cell = Cell(Limits(nodes=4))
    session, other = cell.open(), cell.open()
    assert refused(cell, session, "/a", "/b", "/c", "/d").details["limit"] == "nodes"
    assert list(cell.machine.state.nodes) == ["/"]
    cell.do("put", path="/file")
    cell.acquire(other, "/file")
    assert refused(cell, session, "/z", "/file/below").code == "not_a_directory"
    assert sorted(cell.machine.state.nodes) == ["/", "/file"]


def test_every_part_counts_against_the_holds_of_a_session() -> None:
    cell = Cell(Limits(holds_per_session=3))
    session, other = cell.open(), cell.open()
    assert refused(cell, session, "/a", "/b", "/c", "/d").details["limit"] == "holds_per_session"
    cell.acquire_all(session, "/a", "/b")
    cell.acquire(other, "/x")
    assert refused(cell, session, "/x", "/y").details["limit"] == "holds_per_session"
    assert cell.acquire_all(session, "/x") is None
    assert cell.refused("acquire", session, cell.call(session), path="/c").details["limit"] == "holds_per_session"
    cell.do("release", session, cell.call(session), path="/a", hold=2)
    assert cell.acquire(session, "/c") is not None


def test_the_waiters_of_a_node_are_limited_for_it_too() -> None:
    cell = Cell(Limits(waiters_per_node=1))
    first, second, third = cell.open(), cell.open(), cell.open()
    cell.acquire(first, "/a")
    cell.acquire(second, "/a")
    assert refused(cell, third, "/free", "/a").details["limit"] == "waiters_per_node"
    assert not cell.exists("/free")


def test_a_lock_that_went_with_one_part_is_not_taken_away_twice(cell: Cell) -> None:
    first, second, several = cell.open(), cell.open(), cell.open()
    cell.acquire_all(first, "/s", "/a")
    cell.acquire(second, "/s", "semaphore", permits=2)
    cell.acquire_all(several, ("/s", 3), "/a")
    cell.do("release", first, cell.call(first), hold=1)
    assert [(who, told) for who, _, told in cell.woke()][1:] == [(several, "permits_differ")]
    assert not cell.exists("/a")
