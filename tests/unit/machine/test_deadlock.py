"""Cycles of waiting actors: reported to the youngest when they are real, never invented."""

from __future__ import annotations

from typing import Any

import pytest

from coordclient.protocol.errors import Refusal
from coordd.machine.limits import Limits
from coordd.machine.machine import Machine
from tests.unit.machine.harness import Cell, lock_map


@pytest.fixture
def cell() -> Cell:
    return Cell()


def ask(cell: Cell, session: int, path: str, actor: str, mode: str = "exclusive", **given: Any) -> object:
    """ "held", "waits" or the refusal."""
    reply = cell.apply("acquire", session, cell.call(session), path=path, mode=mode, actor=actor, **given).reply
    return reply if isinstance(reply, Refusal) else "waits" if reply is None else "held"


def assert_cycle(reply: object, *entries: tuple[int, str, str]) -> None:
    assert isinstance(reply, Refusal) and reply.code == "deadlock", reply
    cycle = reply.details["cycle"]
    assert isinstance(cycle, list)
    assert [(entry["session"], entry["actor"], entry["path"]) for entry in cycle] == list(entries)


def test_an_actor_that_waits_for_what_it_holds_itself_is_told_at_once(cell: Cell) -> None:
    session = cell.open()
    assert ask(cell, session, "/a", "t1") == "held"
    told = ask(cell, session, "/a", "t1")
    assert_cycle(told, (session, "t1", "/a"))
    assert isinstance(told, Refusal) and told.message == "waiting for /a would never end: who asks for it holds it"
    assert cell.queue("/a") == []


def test_a_shared_holder_that_wants_more_waits_for_itself(cell: Cell) -> None:
    session, other = cell.open(), cell.open()
    ask(cell, session, "/a", "t1", "shared")
    ask(cell, other, "/a", "t1", "shared")
    assert_cycle(ask(cell, session, "/a", "t1"), (session, "t1", "/a"))
    assert ask(cell, session, "/a", "t1", "shared") == "held", "but it may share with itself"


@pytest.mark.parametrize(
    ("actor", "wait", "code"), [("", True, None), ("t2", True, None), ("t1", False, "not_acquired")]
)
def test_no_actor_another_actor_or_no_wait_is_no_deadlock(cell: Cell, actor: str, wait: bool, code: str | None) -> None:
    session = cell.open()
    ask(cell, session, "/a", "t1")
    reply = ask(cell, session, "/a", actor, wait=wait)
    assert reply == "waits" if code is None else isinstance(reply, Refusal) and reply.code == code


@pytest.mark.parametrize("queued", [False, True])
@pytest.mark.parametrize("several", [False, True])
def test_who_was_granted_what_he_waited_for_with_a_limit_holds_it_as_anybody_does(
    cell: Cell, queued: bool, several: bool
) -> None:
    session, other = cell.open(), cell.open()
    if queued:
        ask(cell, other, "/a", "t9")
    if several:
        cell.acquire_all(session, "/a", "/b", actor="t1", limited=True)
    else:
        ask(cell, session, "/a", "t1", limited=True)
    assert cell.queue("/a") == ([(session, 1)] if queued else [])
    if queued:
        cell.release(other, "/a")
    cell.machine = Machine.restore(cell.machine.snapshot(), cell.machine.state.limits)
    assert cell.holders("/a") == [(session, 1)]
    assert_cycle(ask(cell, session, "/a", "t1"), (session, "t1", "/a"))
    ask(cell, other, "/c", "t2", limited=True)
    assert ask(cell, other, "/a", "t2") == "waits"
    assert_cycle(ask(cell, session, "/c", "t1"), (session, "t1", "/c"), (other, "t2", "/a"))


def test_who_waits_with_a_limit_is_no_part_of_a_cycle(cell: Cell) -> None:
    first, second, third = cell.open(), cell.open(), cell.open()
    for session, path in ((first, "/a"), (second, "/b"), (third, "/c")):
        ask(cell, session, path, "t1")
    assert ask(cell, first, "/b", "t1", limited=True) == "waits"
    cell.machine = Machine.restore(cell.machine.snapshot(), cell.machine.state.limits)
    assert ask(cell, second, "/a", "t1") == "waits", "the first may give up"
    assert ask(cell, third, "/b", "t1") == "waits", "nor is there an edge to him in the queue of /b"
    assert ask(cell, first, "/c", "t1") == "waits", "this actor waits in two calls"
    assert ask(cell, second, "/b", "t1", limited=True) == "waits", "not even for what he holds himself"


def test_the_same_name_in_another_session_is_another_actor(cell: Cell) -> None:
    first, second = cell.open(), cell.open()
    ask(cell, first, "/a", "main")
    assert ask(cell, second, "/a", "main") == "waits"


def test_the_youngest_of_a_cycle_is_told_with_the_cycle(cell: Cell) -> None:
    first, second, third = cell.open(), cell.open(), cell.open()
    for session, path in ((first, "/a"), (second, "/b"), (third, "/c")):
        ask(cell, session, path, "main")
    assert ask(cell, first, "/b", "main") == "waits"
    assert ask(cell, second, "/c", "main") == "waits"
    assert_cycle(ask(cell, third, "/a", "main"), (third, "main", "/a"), (first, "main", "/b"), (second, "main", "/c"))
    assert cell.queue("/a") == []
    told = ask(cell, third, "/a", "main")
    assert isinstance(told, Refusal)
    assert f"a cycle of 3 each waits for the next: main of session {third} for /a, main of session" in told.message
    cell.release(third, "/c")
    assert cell.holders("/c") == [(second, 2)], "the others go on"


def test_two_tasks_of_one_session_can_deadlock(cell: Cell) -> None:
    session = cell.open()
    ask(cell, session, "/a", "t1")
    ask(cell, session, "/b", "t2")
    assert ask(cell, session, "/b", "t1") == "waits"
    assert_cycle(ask(cell, session, "/a", "t2"), (session, "t2", "/a"), (session, "t1", "/b"))


def test_an_edge_leads_to_everyone_ahead_in_the_queue(cell: Cell) -> None:
    reader, writer, holder = cell.open(), cell.open(), cell.open()
    ask(cell, holder, "/m", "main")
    ask(cell, reader, "/a", "main", "shared")
    assert ask(cell, writer, "/a", "main") == "waits"
    assert ask(cell, reader, "/m", "main") == "waits"
    # the holder of /m would wait behind the writer, who waits for the reader, who waits for /m
    assert_cycle(
        ask(cell, holder, "/a", "main", "shared"),
        (holder, "main", "/a"),
        (writer, "main", "/a"),
        (reader, "main", "/m"),
    )


def test_shared_co_holders_make_no_edge_for_a_shared_request(cell: Cell) -> None:
    first, second, silent = cell.open(), cell.open(), cell.open()
    ask(cell, second, "/b", "main")
    ask(cell, first, "/a", "main", "shared")
    assert ask(cell, silent, "/a", "") == "waits"  # without an actor: it may give up by itself
    assert ask(cell, first, "/b", "main") == "waits"
    assert ask(cell, second, "/a", "main", "shared") == "waits"


def test_a_delayed_hold_makes_no_edge(cell: Cell) -> None:
    gone, other = cell.open(), cell.open()
    ask(cell, gone, "/a", "main")
    ask(cell, other, "/b", "main")
    cell.expire(gone)
    assert ask(cell, other, "/a", "main") == "waits"


def test_a_waiter_that_may_give_up_makes_no_edge(cell: Cell) -> None:
    first, second = cell.open(), cell.open()
    ask(cell, first, "/a", "main")
    ask(cell, second, "/b", "main")
    assert ask(cell, first, "/b", "") == "waits"
    assert ask(cell, second, "/a", "main") == "waits"


def test_a_holder_without_an_actor_makes_no_edge(cell: Cell) -> None:
    first, second = cell.open(), cell.open()
    ask(cell, first, "/a", "main")
    ask(cell, second, "/b", "")
    assert ask(cell, second, "/a", "") == "waits"
    assert ask(cell, first, "/b", "main") == "waits"


def test_those_behind_in_the_queue_make_no_edge(cell: Cell) -> None:
    reader, silent, late, last = cell.open(), cell.open(), cell.open(), cell.open()
    ask(cell, reader, "/a", "main", "shared")
    ask(cell, late, "/m", "main")
    assert ask(cell, silent, "/a", "") == "waits"
    assert ask(cell, late, "/a", "main", "shared") == "waits"
    assert ask(cell, last, "/a", "main") == "waits"
    # if the silent one gives up, `late` is granted beside the reader, so the reader does not wait for itself
    assert ask(cell, reader, "/m", "main") == "waits"


def test_sharing_with_oneself_behind_somebody_who_may_give_up_is_no_deadlock(cell: Cell) -> None:
    reader, silent = cell.open(), cell.open()
    ask(cell, reader, "/a", "main", "shared")
    assert ask(cell, silent, "/a", "") == "waits"
    assert ask(cell, reader, "/a", "main", "shared") == "waits"


def test_a_lock_passed_on_to_somebody_else_makes_no_edge_to_the_one_who_released(cell: Cell) -> None:
    first, second, third = cell.open(), cell.open(), cell.open()
    ask(cell, first, "/a", "main")
    ask(cell, second, "/b", "main")
    assert ask(cell, third, "/a", "main") == "waits"
    cell.release(first, "/a")
    assert ask(cell, second, "/a", "main") == "waits"
    assert ask(cell, first, "/b", "main") == "waits"


@pytest.mark.parametrize("order", ["bc", "cb"])
def test_an_actor_that_waits_at_two_places_makes_no_edge(cell: Cell, order: str) -> None:
    first, second, third = cell.open(), cell.open(), cell.open()
    ask(cell, first, "/a", "pool")
    ask(cell, second, "/b", "main")
    ask(cell, third, "/c", "main")
    for name in order:
        assert ask(cell, first, f"/{name}", "pool") == "waits"
    assert ask(cell, second, "/a", "main") == "waits", "another task of that name may release /a"


def test_an_actor_that_waits_elsewhere_already_is_told_of_no_cycle(cell: Cell) -> None:
    pool, second, third = cell.open(), cell.open(), cell.open()
    ask(cell, third, "/x", "")
    ask(cell, pool, "/a", "pool")
    ask(cell, second, "/b", "main")
    assert ask(cell, pool, "/x", "pool") == "waits"
    assert ask(cell, second, "/a", "main") == "waits"
    assert ask(cell, pool, "/b", "pool") == "waits", "another task of that name may release /a"


def test_a_long_queue_and_many_ways_to_the_same_actor_hide_no_cycle(cell: Cell) -> None:
    holder, tasks, youngest = cell.open(), cell.open(), cell.open()
    ask(cell, holder, "/a", "main", "shared")
    for name in ("one", "other"):
        ask(cell, tasks, "/a", name, "shared")
    for number in range(100):
        ask(cell, tasks, f"/own/{number}", f"t{number}")
        assert ask(cell, tasks, "/a", f"t{number}") == "waits"
    ask(cell, youngest, "/m", "main")
    assert_cycle(ask(cell, tasks, "/own/7", "other"), (tasks, "other", "/own/7"), (tasks, "t7", "/a"))
    assert ask(cell, holder, "/m", "main") == "waits"
    assert_cycle(ask(cell, youngest, "/a", "main"), (youngest, "main", "/a"), (holder, "main", "/m"))


def test_a_search_ends_where_it_has_been(cell: Cell) -> None:
    one, two, end, start = cell.open(), cell.open(), cell.open(), cell.open()
    ask(cell, end, "/p", "main", "shared")
    ask(cell, start, "/s", "main")
    for session in (one, two):
        ask(cell, session, "/a", "main", "shared")
        assert ask(cell, session, "/p", "main") == "waits"
    assert ask(cell, start, "/a", "main") == "waits"


def test_every_place_that_is_looked_at_is_a_step_so_a_long_queue_of_nobody_costs_no_more_than_others() -> None:
    for length, expected in ((6, "deadlock"), (60, "waits")):
        cell = Cell(Limits(deadlock_steps=50))
        first, second, nobody = cell.open(), cell.open(), cell.open()
        ask(cell, first, "/a", "t")
        ask(cell, second, "/b", "t")
        for _ in range(length):
            assert ask(cell, nobody, "/b", "") == "waits"
        assert ask(cell, second, "/a", "t") == "waits"
        reply = ask(cell, first, "/b", "t")
        assert (reply.code if isinstance(reply, Refusal) else reply) == expected


def test_beyond_the_limit_of_steps_a_cycle_goes_unseen_and_the_acquire_waits() -> None:
    cell = Cell(Limits(deadlock_steps=1))
    first, second = cell.open(), cell.open()
    ask(cell, first, "/a", "main")
    ask(cell, second, "/b", "main")
    assert ask(cell, first, "/b", "main") == "waits"
    assert ask(cell, second, "/a", "main") == "waits"


# ---- several locks, semaphores, revoked holds ----


def ask_all(cell: Cell, session: int, actor: str, *locks: Any) -> object:
    """ "held", "waits" or the refusal."""
    wanted = [lock_map(lock) for lock in locks]
    reply = cell.apply("acquire_all", session, cell.call(session), locks=wanted, actor=actor).reply
    return reply if isinstance(reply, Refusal) else "waits" if reply is None else "held"


def test_who_waits_for_several_waits_for_the_holders_of_all(cell: Cell) -> None:
    first, second, third = cell.open(), cell.open(), cell.open()
    ask(cell, first, "/a", "t")
    ask(cell, second, "/b", "t")
    assert ask_all(cell, first, "t", "/c", "/b") == "waits"
    assert_cycle(ask(cell, second, "/a", "t"), (second, "t", "/a"), (first, "t", "/b"))
    ask(cell, third, "/d", "t")
    assert_cycle(ask_all(cell, second, "t", "/e", "/a"), (second, "t", "/a"), (first, "t", "/b"))
    assert not cell.exists("/e"), "a refusal leaves nothing"


def test_who_is_behind_a_request_for_several_waits_for_whatever_that_waits_for(cell: Cell) -> None:
    first, several = cell.open(), cell.open()
    ask(cell, first, "/a", "t")
    assert ask_all(cell, several, "t", "/free", "/a") == "waits"
    assert_cycle(ask(cell, first, "/free", "t"), (first, "t", "/free"), (several, "t", "/a"))
    assert_cycle(ask(cell, first, "/free", "t", "shared"), (first, "t", "/free"), (several, "t", "/a"))
    assert ask(cell, first, "/free", "") == "waits"


def test_a_request_for_several_behind_others_of_its_kind_is_followed_through_all_of_them(cell: Cell) -> None:
    sessions = [cell.open() for _ in range(3)]
    ask(cell, sessions[0], "/a", "t")
    assert ask_all(cell, sessions[1], "t", "/a", "/b") == "waits"
    assert ask_all(cell, sessions[2], "t", "/b", "/c") == "waits"
    cycle = [(sessions[0], "t", "/c"), (sessions[2], "t", "/b"), (sessions[1], "t", "/a")]
    assert_cycle(ask(cell, sessions[0], "/c", "t"), *cycle)


def test_an_actor_that_asks_for_what_it_holds_among_several_is_told_at_once(cell: Cell) -> None:
    session = cell.open()
    ask_all(cell, session, "t", "/a", "/b")
    assert_cycle(ask_all(cell, session, "t", "/c", "/b"), (session, "t", "/b"))


def test_any_of_several_holders_of_a_semaphore_may_leave_so_there_is_no_edge(cell: Cell) -> None:
    first, second = cell.open(), cell.open()
    for session in (first, second):
        ask(cell, session, "/s", "t", "semaphore", permits=2)
    ask(cell, first, "/a", "t")
    assert ask(cell, second, "/a", "t") == "waits"
    assert ask(cell, first, "/s", "t", "semaphore", permits=2) == "waits", "the second might, for all that is known"


def test_the_only_holder_of_a_semaphore_and_all_holders_for_another_mode_are_edges(cell: Cell) -> None:
    first, second = cell.open(), cell.open()
    ask(cell, first, "/one", "t", "semaphore", permits=1)
    assert_cycle(ask(cell, first, "/one", "t", "semaphore", permits=1), (first, "t", "/one"))
    for session in (first, second):
        ask(cell, session, "/s", "t", "semaphore", permits=2)
    assert ask(cell, second, "/one", "t", "shared") == "waits"
    assert_cycle(ask(cell, first, "/s", "t"), (first, "t", "/s"))


def test_a_request_of_another_mode_than_a_semaphores_waits_for_all_who_hold_it(cell: Cell) -> None:
    first, second = cell.open(), cell.open()
    for session in (first, second):
        ask(cell, session, "/s", "t", "semaphore", permits=2)
    ask(cell, first, "/a", "t", "shared")
    assert ask(cell, second, "/a", "t", "semaphore", permits=2) == "waits"
    assert_cycle(ask(cell, first, "/s", "t", "shared"), (first, "t", "/s"))
    third = cell.open()
    ask(cell, third, "/b", "t")
    assert ask(cell, first, "/b", "t") == "waits"
    cycle = [(third, "t", "/s"), (first, "t", "/b")]
    assert_cycle(ask(cell, third, "/s", "t", "shared"), *cycle)
    cycle = [(third, "t", "/a"), (first, "t", "/b")]
    assert_cycle(ask(cell, third, "/a", "t", "semaphore", permits=2), *cycle)


def test_behind_an_exclusive_request_a_semaphore_waits_for_all_holders(cell: Cell) -> None:
    holder, writer, asker = cell.open(), cell.open(), cell.open()
    ask(cell, holder, "/s", "t", "semaphore", permits=2)
    ask(cell, asker, "/a", "t")
    assert ask(cell, holder, "/a", "t") == "waits"
    assert ask(cell, writer, "/s", "t") == "waits"
    cycle = [(asker, "t", "/s"), (writer, "t", "/s"), (holder, "t", "/a")]
    assert_cycle(ask(cell, asker, "/s", "t", "semaphore", permits=2), *cycle)


def test_a_request_for_another_number_of_permits_is_refused_in_its_turn_so_it_waits_for_no_holder(cell: Cell) -> None:
    before, holder, between, differs = (cell.open() for _ in range(4))
    ask(cell, before, "/s", "")
    ask(cell, differs, "/a", "t")
    assert ask(cell, holder, "/s", "t", "semaphore", permits=1) == "waits"
    assert ask(cell, between, "/s", "") == "waits", "and may give up"
    may_give_up = cell.calls[between]
    assert ask(cell, differs, "/s", "t", "semaphore", permits=3) == "waits"
    cell.release(before, "/s")
    assert ask(cell, holder, "/a", "t") == "waits", "the one who holds /a may go on without this holder"
    cell.woke()
    cell.do("cancel", between, cell.call(between), target=may_give_up)
    assert (differs, cell.calls[differs], "permits_differ") in cell.woke(), "and does"


def test_a_revoked_hold_ends_by_itself_so_there_is_no_edge(cell: Cell) -> None:
    first, second = cell.open(), cell.open()
    ask(cell, first, "/a", "t")
    ask(cell, second, "/b", "t")
    assert ask(cell, first, "/b", "t") == "waits"
    cell.unlock("/a")
    assert ask(cell, second, "/a", "t") == "waits"
