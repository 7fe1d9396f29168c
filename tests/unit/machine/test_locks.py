"""Locks: one test per sentence of the promises."""

from __future__ import annotations

import pytest

from coordclient.protocol.errors import Refusal
from tests.unit.machine.harness import Cell


@pytest.fixture
def cell() -> Cell:
    return Cell()


def test_an_exclusive_lock_has_one_holder_and_others_wait_in_order(cell: Cell) -> None:
    first, second, third = cell.open(), cell.open(), cell.open()
    grant = cell.acquire(first, "/a")
    assert grant["token"] == cell.machine.revision
    assert cell.acquire(second, "/a") is None
    assert cell.acquire(third, "/a") is None
    assert cell.queue("/a") == [(second, 1), (third, 1)]
    cell.release(first, "/a", 1)
    assert cell.woke() == [(second, 1, cell.machine.revision)]
    cell.release(second, "/a", 1)
    assert cell.woke() == [(third, 1, cell.machine.revision)]


def test_shared_holders_share_and_carry_the_token_of_the_period(cell: Cell) -> None:
    first, second = cell.open(), cell.open()
    token = cell.acquire(first, "/a", "shared")["token"]
    assert cell.acquire(second, "/a", "shared")["token"] == token
    cell.release(first, "/a", 1)
    third = cell.open()
    assert cell.acquire(third, "/a", "shared")["token"] == token
    cell.release(second, "/a", 1)
    cell.release(third, "/a", 1)
    assert cell.acquire(third, "/a", "shared")["token"] > token


def test_a_shared_request_behind_a_waiting_exclusive_one_waits(cell: Cell) -> None:
    reader, writer, late = cell.open(), cell.open(), cell.open()
    cell.acquire(reader, "/a", "shared")
    assert cell.acquire(writer, "/a") is None
    assert cell.acquire(late, "/a", "shared") is None
    cell.release(reader, "/a", 1)
    assert cell.holders("/a") == [(writer, 1)]
    cell.release(writer, "/a", 1)
    assert cell.holders("/a") == [(late, 1)]


def test_all_shared_requests_at_the_head_are_granted_in_one_step(cell: Cell) -> None:
    holder = cell.open()
    cell.acquire(holder, "/a")
    waiters = [cell.open() for _ in range(4)]
    for waiter in waiters[:3]:
        assert cell.acquire(waiter, "/a", "shared") is None
    assert cell.acquire(waiters[3], "/a") is None
    cell.release(holder, "/a", 1)
    assert cell.holders("/a") == [(waiter, 1) for waiter in waiters[:3]]
    assert len({token for _, _, token in cell.woke()}) == 1
    assert cell.queue("/a") == [(waiters[3], 1)]


def test_two_lock_objects_of_one_session_exclude_each_other(cell: Cell) -> None:
    session = cell.open()
    cell.acquire(session, "/a")
    assert cell.acquire(session, "/a") is None
    cell.release(session, "/a", 1)
    assert cell.holders("/a") == [(session, 2)]


def test_without_wait_the_refusal_names_the_holder(cell: Cell) -> None:
    first, second = cell.open(host="alpha"), cell.open()
    token = cell.acquire(first, "/a")["token"]
    refusal = cell.refused("acquire", second, cell.call(second), path="/a", wait=False)
    assert refusal.code == "not_acquired"
    holder = refusal.details["holder"]
    assert isinstance(holder, dict)
    assert (holder["session"], holder["hold"], holder["token"]) == (first, 1, token)
    assert holder["client"] == {"host": "alpha"}
    assert cell.queue("/a") == []


def test_before_there_is_a_key_nothing_is_granted() -> None:
    cell = Cell(ready=False)
    session = cell.open()
    assert cell.refused("acquire", session, cell.call(session), path="/a").code == "unavailable"
    cell.begin_epoch(1)
    cell.master("set_sequencer_key", key=bytes(32), epoch=1)
    # "unavailable" ran nothing, so the same call may come again and run
    assert cell.do("acquire", session, 1, path="/a")["hold"] == 1


def test_an_expired_holder_blocks_until_its_lock_delay_ends(cell: Cell) -> None:
    first, second = cell.open(), cell.open()
    token = cell.acquire(first, "/a", lock_delay_ms=5_000)["token"]
    assert cell.acquire(second, "/a") is None
    assert cell.expire(first) == {"expired": True}
    assert cell.woke() == []
    assert list(cell.machine.delayed_holds()) == [("/a", first, 1, 5_000)]
    assert cell.end_lock_delay("/a", first, 1) == {"ended": True}
    [(session, call, later)] = cell.woke()
    assert (session, call) == (second, 1)
    assert isinstance(later, int) and later > token


def test_closing_frees_at_once(cell: Cell) -> None:
    first, second = cell.open(), cell.open()
    cell.acquire(first, "/a", lock_delay_ms=60_000)
    cell.acquire(second, "/a")
    cell.do("close_session", first, cell.call(first))
    assert cell.holders("/a") == [(second, 1)]
    reply = cell.apply("release", first, 9, path="/a", hold=1).reply
    assert isinstance(reply, Refusal) and reply.code == "session_expired"
