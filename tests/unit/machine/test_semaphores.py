"""Semaphores: at most N holders, N fixed by the first of the period, in the order of asking."""

from __future__ import annotations

from typing import Any

import pytest

from coordd.machine.limits import Limits
from tests.unit.machine.harness import Cell


@pytest.fixture
def cell() -> Cell:
    return Cell()


def take(cell: Cell, session: int, permits: int, **given: object) -> object:
    return cell.acquire(session, "/s", "semaphore", permits=permits, **given)


def test_never_more_holders_than_permits_and_the_next_in_the_order_of_asking(cell: Cell) -> None:
    sessions = [cell.open() for _ in range(5)]
    assert [take(cell, session, 2) is not None for session in sessions] == [True, True, False, False, False]
    assert cell.lock_at("/s")["permits"] == 2
    cell.release(sessions[1], "/s")
    assert cell.holders("/s") == [(sessions[0], 1), (sessions[2], 1)]
    cell.release(sessions[0], "/s")
    cell.release(sessions[2], "/s")
    assert cell.holders("/s") == [(sessions[3], 1), (sessions[4], 1)] and cell.queue("/s") == []


def test_each_hold_has_the_token_of_its_own_grant_and_later_ones_are_larger(cell: Cell) -> None:
    first, second, third = cell.open(), cell.open(), cell.open()
    tokens = [cell.acquire(one, "/s", "semaphore", permits=2)["token"] for one in (first, second)]
    assert tokens == [cell.machine.revision - 1, cell.machine.revision]
    assert cell.lock_at("/s")["token"] == tokens[0], "that of the period"
    assert [holder["token"] for holder in cell.lock_at("/s")["holders"]] == tokens
    cell.acquire(third, "/s")
    cell.release(first, "/s")
    assert cell.lock_at("/s")["token"] == tokens[0]
    cell.release(second, "/s")
    assert cell.lock_at("/s")["token"] == cell.machine.revision > tokens[1]


def test_permits_granted_in_one_step_have_tokens_of_their_own(cell: Cell) -> None:
    holder, waiters = cell.open(), [cell.open() for _ in range(3)]
    cell.acquire(holder, "/s")
    for waiter in waiters:
        assert take(cell, waiter, 3) is None
    reply = cell.release(holder, "/s")
    tokens = [int(str(woken.reply["token"])) for woken in cell.woken if isinstance(woken.reply, dict)]
    assert len(set(tokens)) == 3 and tokens == sorted(tokens)
    assert tokens[-1] == reply["revision"] == cell.machine.revision


def test_a_sequencer_of_a_semaphore_is_good_for_its_own_hold_alone(cell: Cell) -> None:
    first, second = cell.open(), cell.open()
    grants = [cell.acquire(one, "/s", "semaphore", permits=2) for one in (first, second)]
    cell.release(first, "/s")
    checked = [cell.query("check_sequencer", sequencer=grant["sequencer"])["valid"] for grant in grants]
    assert checked == [False, True]


def test_another_number_of_permits_is_refused_while_the_semaphore_is_held(cell: Cell) -> None:
    first, second = cell.open(), cell.open()
    take(cell, first, 2)
    for wait in (True, False):
        given: dict[str, Any] = {"path": "/s", "mode": "semaphore", "permits": 3, "wait": wait}
        refusal = cell.refused("acquire", second, cell.call(second), **given)
        assert refusal.code == "permits_differ" and refusal.details == {"permits": 2, "asked": 3}
    cell.release(first, "/s")
    assert take(cell, second, 3) is not None, "the next period may have another number"


def test_a_waiter_that_turns_out_to_differ_is_told_when_its_turn_comes(cell: Cell) -> None:
    holder, *others = (cell.open() for _ in range(4))
    cell.acquire(holder, "/s")
    for session, permits in zip(others, (2, 3, 2), strict=True):
        assert take(cell, session, permits) is None
    cell.release(holder, "/s")
    token = cell.machine.revision
    assert cell.woke() == [(others[0], 1, token - 1), (others[1], 1, "permits_differ"), (others[2], 1, token)]
    again = cell.refused("acquire", others[1], 1, path="/s", mode="semaphore", permits=3)
    assert again.code == "permits_differ", "a retry is told the same"


def test_no_other_mode_joins_and_a_delayed_hold_keeps_its_permit(cell: Cell) -> None:
    first, second, third, fourth = (cell.open() for _ in range(4))
    take(cell, first, 2)
    take(cell, second, 2)
    cell.expire(first)
    assert take(cell, third, 2) is None
    assert cell.acquire(fourth, "/s", "shared") is None
    cell.end_lock_delay("/s", first, 1)
    assert cell.holders("/s") == [(second, 1), (third, 1)] and cell.queue("/s") == [(fourth, 1)]


def test_who_does_not_want_to_wait_is_told_when_no_permit_is_free(cell: Cell) -> None:
    first, second = cell.open(), cell.open()
    take(cell, first, 1)
    given: dict[str, Any] = {"path": "/s", "mode": "semaphore", "permits": 1, "wait": False}
    assert cell.refused("acquire", second, cell.call(second), **given).code == "not_acquired"


@pytest.mark.parametrize(("mode", "permits"), [("semaphore", 0), ("exclusive", 1), ("shared", 3)])
def test_a_semaphore_has_permits_and_nothing_else_has(cell: Cell, mode: str, permits: int) -> None:
    session = cell.open()
    refusal = cell.refused("acquire", session, 1, path="/s", mode=mode, permits=permits)
    assert refusal.code == "bad_request" and "permits" in refusal.message
    assert not cell.exists("/s")


def test_more_permits_than_a_node_may_have_holders_wait_all_the_same() -> None:
    cell = Cell(Limits(holders_per_node=2))
    sessions = [cell.open() for _ in range(3)]
    assert [take(cell, session, 5) is not None for session in sessions] == [True, True, False]
