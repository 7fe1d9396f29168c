"""What cancels a body: the loss of a lock, the user, a time-out, a task group, or several of them at one moment."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from coordclient import LockLost
from tests.clients.conftest import until
from tests.clients.test_lost import PAUSE_MS, forever, this_task


@pytest.fixture
async def in_a_task(make_client, clocks, path):
    """Runs `body(client, path)` as a task of its own; returns it when the body waits for ever."""
    client = make_client(clocks=clocks)

    async def start(body):
        inside = asyncio.Event()

        async def run():
            await body(client, path, inside)

        task = asyncio.create_task(run())
        entered = asyncio.create_task(inside.wait())
        await asyncio.wait([task, entered], return_when=asyncio.FIRST_COMPLETED)
        entered.cancel()
        assert inside.is_set()
        return task

    return start


async def nested(client, path, inside):
    async with client.lock(path + "/outer"), client.lock(path + "/inner"):
        inside.set()
        await forever()


async def grouped(client, path, inside):
    async with client.lock(path + "/outer"), asyncio.TaskGroup() as group:
        group.create_task(forever())
        group.create_task(nested(client, path + "/child", inside))


async def settle(task):
    await asyncio.wait([task], timeout=10)
    assert task.done()
    return task


def lock_losses(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in lock_losses(inner)]
    return [error]


@pytest.mark.parametrize("body", [nested, grouped])
async def test_a_loss_comes_out_as_lock_lost_and_as_nothing_else(in_a_task, clocks, body):
    task = await in_a_task(body)
    clocks.pass_ms(PAUSE_MS)
    await settle(task)
    assert not task.cancelled()
    leaves = lock_losses(task.exception())
    assert leaves
    assert {type(leaf) for leaf in leaves} == {LockLost}


@pytest.mark.parametrize("body", [nested, grouped])
@pytest.mark.parametrize("order", ["loss first", "user first"])
async def test_a_cancellation_by_the_user_at_the_moment_of_the_loss_stays_one(
    in_a_task, clocks, make_client, body, order
):
    task = await in_a_task(body)
    if order == "user first":
        task.cancel("by the user")
    clocks.pass_ms(PAUSE_MS)
    if order == "loss first":
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(lambda: task.cancel("by the user"))
    await settle(task)
    assert task.cancelled() or order == "loss first"
    if not task.cancelled():  # the loss had ended the body before the user came
        assert {type(leaf) for leaf in lock_losses(task.exception())} == {LockLost}


async def test_user_and_loss_in_one_turn_of_the_loop_end_in_a_cancellation(in_a_task):
    """Both requests are made before the body runs again: the count of cancellations tells them apart."""
    locks = []

    async def body(client, path, inside):
        async with client.lock(path) as lock:
            locks.append(lock)
            inside.set()
            await forever()

    task = await in_a_task(body)
    lock = locks[0]
    lock._state.keeper.life.holds.lost(lock._state.hold, "for the test")
    lock._state.given_up(lock._state.hold)
    task.cancel()
    await settle(task)
    assert task.cancelled()


async def test_a_time_out_around_the_lock_stays_a_time_out_when_the_lock_is_lost_too(make_client, clocks, path):
    client = make_client(clocks=clocks)
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(None) as limit, client.lock(path):
            limit.reschedule(asyncio.get_running_loop().time())  # due at once
            clocks.pass_ms(PAUSE_MS)
            with contextlib.suppress(LockLost):
                await forever()
    assert not isinstance(caught.value, LockLost)
    assert this_task().cancelling() == 0


async def test_a_time_out_inside_the_lock_does_not_hide_the_loss(make_client, clocks, path):
    client = make_client(clocks=clocks)
    with pytest.raises(LockLost):
        async with client.lock(path), asyncio.timeout(60):
            clocks.pass_ms(PAUSE_MS)
            await forever()
    assert this_task().cancelling() == 0


async def test_whoever_catches_lock_lost_can_go_on_at_once(make_client, clocks, path):
    client = make_client(clocks=clocks)
    for _ in range(3):
        try:
            async with client.lock(path + "/a", timeout=10), client.lock(path + "/b", timeout=10):
                clocks.pass_ms(PAUSE_MS)
                await forever()
        except LockLost:
            await asyncio.sleep(0)
            assert this_task().cancelling() == 0
            await client.ls("/")
    async with client.lock(path + "/a", timeout=10):
        pass


async def test_a_loss_while_the_body_waits_for_another_lock_withdraws_that_waiter(make_client, clocks, path):
    client, other = make_client(clocks=clocks), make_client()
    async with other.lock(path + "/wanted"):
        with pytest.raises(LockLost, match="/held"):
            async with client.lock(path + "/held"):
                waiting = asyncio.create_task(until(lambda: _waits(other, path), "the waiter"))
                waiting.add_done_callback(lambda _: clocks.pass_ms(PAUSE_MS))
                async with client.lock(path + "/wanted"):
                    raise AssertionError("entered unheld")
        await until(lambda: _waits_not(other, path), "the waiter to be withdrawn")


async def test_a_loss_of_the_inner_lock_alone_leaves_the_outer_one_held_until_its_body_ends(make_client, path):
    client = make_client()
    with pytest.raises(LockLost, match="/inner"):
        async with client.lock(path + "/outer") as outer:
            try:
                async with client.lock(path + "/inner") as inner:
                    inner._state.keeper.life.holds.lost(inner._state.hold, "for the test")
                    inner._state.given_up(inner._state.hold)
                    await forever()
            except LockLost:
                outer.check()
                await outer.verify()
                assert not await client.lock(path + "/outer").acquire(blocking=False)
                raise
    assert not outer.held


async def _waits(client, path):
    return any(lock.waiters for lock in await client.list_locks(path))


async def _waits_not(client, path):
    return not await _waits(client, path)
