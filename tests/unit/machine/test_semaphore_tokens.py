"""Each holder of a semaphore has a token of its own, and a later one a larger one."""

from __future__ import annotations

from tests.unit.machine.harness import Cell


def test_permits_granted_in_one_step_have_tokens_of_their_own() -> None:
    cell = Cell()
    holder, waiters = cell.open(), [cell.open() for _ in range(3)]
    cell.acquire(holder, "/a")
    for waiter in waiters:
        assert cell.acquire(waiter, "/a", "semaphore", permits=3) is None
    reply = cell.release(holder, "/a")
    tokens = [int(str(woken.reply["token"])) for woken in cell.woken if isinstance(woken.reply, dict)]
    assert len(set(tokens)) == 3 and tokens == sorted(tokens)
    assert tokens[-1] == reply["revision"] == cell.machine.revision
