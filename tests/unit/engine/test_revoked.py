"""Rule 2 of locks: what ends a hold before its lease could waits for the holder or its lease, then the lock-delay."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.engine.cell import Cell, Client
from tests.unit.engine.test_time import commands, deaf_master_outside_its_lease, waiter_again


def revoked(cell: Cell, lease_ms: int = 4_000, lock_delay_ms: int = 1_000) -> tuple[Client, int, Client, int]:
    """The holder, its hold, which an operator has just revoked, a waiter, and the request of its acquire."""
    holder, waiter = cell.open(lease_ms), cell.open(lease_ms=60_000)
    hold = holder.do("acquire", path="/l", lock_delay_ms=lock_delay_ms)["hold"]
    waiting = waiter.call("acquire", path="/l")
    cell.settle()
    assert not cell.do("unlock", path="/l", reason="needed")["now"]
    return holder, hold, waiter, waiting


def keep_alive(cell: Cell, client: Client, waiting: int, limit_ms: int) -> int:
    """Let time pass, with KeepAlives of the holder, until the waiter is answered; how long that took."""
    begun_ms = cell.now_ms
    while waiting not in cell.answers:
        assert cell.now_ms < begun_ms + limit_ms
        client.keep_alive()
        cell.run(50)
    return cell.now_ms - begun_ms


def test_2_a_revoked_hold_becomes_delayed_one_lease_later_though_its_session_lives_on():
    cell = Cell(3)
    holder, _, _, waiting = revoked(cell)
    took_ms = keep_alive(cell, holder, waiting, 6_000)
    assert 5_000 <= took_ms <= 5_000 + 200
    assert cell.answers[waiting]["token"]


def test_2_a_holder_that_gives_up_shortens_the_wait_to_the_lock_delay():
    cell = Cell()
    holder, hold, _, waiting = revoked(cell)
    cell.run(500)
    assert holder.do("give_up", path="/l", hold=hold)["did"] == "delayed"
    took_ms = keep_alive(cell, holder, waiting, 2_000)
    assert 1_000 <= took_ms <= 1_100
    cell.run(5_000)
    assert "end_revoked" not in [command.operation for command in commands(cell.master())], "that wait is over"


def test_2_the_end_names_the_hold_and_the_epoch():
    cell = Cell()
    holder, hold, _, waiting = revoked(cell)
    keep_alive(cell, holder, waiting, 6_000)
    master = cell.master()
    (end,) = [command for command in commands(master) if command.operation == "end_revoked"]
    epoch = master.engine.replica.epoch
    assert end.arguments == {"path": "/l", "session": holder.session, "hold": hold, "epoch": epoch}


def test_2_a_new_master_begins_the_wait_anew():
    cell = Cell(3)
    holder, _, waiter, waiting = revoked(cell)
    cell.run(3_000)
    cell.master().crash()
    new = cell.master()
    assert cell.answers.pop(waiting, None) is None
    holder.attach()
    again = waiter_again(cell, waiter, new)
    took_ms = keep_alive(cell, holder, again, 6_000)
    assert 5_000 <= took_ms <= 5_000 + 200


def test_2_no_revoked_hold_ends_outside_the_lease_and_with_the_lease_regained_it_begins_anew():
    cell = Cell(3)
    holder, _, _, waiting = revoked(cell)
    cell.run(2_000)
    master = deaf_master_outside_its_lease(cell)
    cell.run(1_000)
    assert waiting not in cell.answers
    cell.heal()
    assert cell.master() is master
    took_ms = keep_alive(cell, holder, waiting, 6_000)
    assert 4_900 <= took_ms <= 5_000 + 200


def test_2_a_stall_of_the_master_is_not_counted():
    cell = Cell()
    holder, _, _, waiting = revoked(cell)
    cell.run(3_900)
    cell.now_ms += 1_000  # nobody steps: the machine stood still
    took_ms = keep_alive(cell, holder, waiting, 2_000)
    assert took_ms >= 100 + 1_000 and cell.answers[waiting]["token"]


def test_2_a_holder_that_falls_silent_loses_it_no_later_than_one_that_answers():
    cell = Cell()
    _, _, _, waiting = revoked(cell)
    begun_ms = cell.now_ms
    cell.until(lambda: waiting in cell.answers)
    assert 5_000 <= cell.now_ms - begun_ms <= 5_000 + 200


def test_2_a_holder_that_releases_has_it_freed_at_once_and_what_was_waited_for_does_nothing():
    cell = Cell()
    holder, hold, _, waiting = revoked(cell)
    holder.do("release", path="/l", hold=hold)
    assert cell.answers[waiting]["token"]
    for _ in range(100):
        holder.keep_alive()
        cell.run(50)
    assert cell.do("locks")["locks"][0]["holders"][0]["delayed"] is False


@pytest.mark.parametrize("lock_delay_ms", [0, 2_000])
def test_4_many_waits_come_in_bounded_pieces(lock_delay_ms: int):
    cell = Cell(decisions_per_step_max=16)
    holder = cell.open(lease_ms=2_000)
    for number in range(40):
        holder.do("acquire", path=f"/l{number}", lock_delay_ms=lock_delay_ms)
    node = cell.master()
    for number in range(40):
        cell.do("unlock", path=f"/l{number}", reason="needed")
    for _ in range(90):
        holder.keep_alive()
        cell.run(50)
    names = [command.operation for command in commands(node)]
    assert names.count("end_revoked") == 40
    assert names.count("end_lock_delay") == (40 if lock_delay_ms else 0)
    assert cell.do("locks")["locks"] == []
    lessor: Any = node.engine._mastership.lessor
    assert not lessor._waits and not lessor._wait_heap and not lessor._waits_in_decision
