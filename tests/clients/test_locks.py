"""1-promises "Locks", as tasks see them, against a real cell."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from coordclient import LockLost, LockTimeout
from tests.clients.conftest import until


async def waiters(client, path):
    return [waiter for lock in await client.list_locks(path) for waiter in lock.waiters]


async def holders(client, path):
    return [holder for lock in await client.list_locks(path) for holder in lock.holders]


async def test_with_enters_only_with_the_lock_and_one_at_a_time(make_client, path):
    inside = 0

    async def work(client):
        nonlocal inside
        async with client.lock(path) as lock:
            inside += 1
            assert inside == 1
            assert lock.held
            assert lock.safe
            tokens.append(lock.token)
            await asyncio.sleep(0)
            inside -= 1
        assert not lock.held
        assert not lock.safe

    tokens: list[int] = []
    clients = [make_client() for _ in range(3)]
    await asyncio.gather(*(work(client) for client in clients for _ in range(5)))
    assert tokens == sorted(set(tokens)), "a later grant has a larger token"


async def test_two_lock_objects_of_one_session_exclude_each_other(make_client, path):
    client = make_client()
    async with client.lock(path):
        with pytest.raises(LockTimeout):
            async with client.lock(path, timeout=0):
                raise AssertionError("entered unheld")


async def test_shared_holders_are_many_and_carry_one_token(make_client, path):
    first, second = make_client(), make_client()
    async with first.lock(path, "shared") as one, second.lock(path, "shared", timeout=5) as two:
        assert one.token == two.token
        assert not await first.lock(path).acquire(blocking=False)


async def test_the_queue_is_first_in_first_out(make_client, path):
    client, order = make_client(), []

    async def work(number):
        async with client.lock(path):
            order.append(number)

    async with client.lock(path):
        tasks = []
        for number in range(5):
            tasks.append(asyncio.create_task(work(number)))
            await until(partial(_counted, client, path, number + 1), "a waiter more")
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3, 4]


async def _counted(client, path, count):
    return len(await waiters(client, path)) == count


async def test_timeout_0_tries_once_and_leaves_nothing_behind(make_client, path):
    client = make_client()
    async with client.lock(path):
        with pytest.raises(LockTimeout) as caught:
            async with make_client().lock(path, timeout=0):
                raise AssertionError("entered unheld")
        assert isinstance(caught.value, TimeoutError)
        assert await waiters(client, path) == []
    assert await client.list_locks(path) == []


async def test_a_timeout_withdraws_the_waiter(make_client, path):
    client, other = make_client(), make_client()
    async with client.lock(path):
        with pytest.raises(LockTimeout):
            async with other.lock(path, timeout=0.05):
                raise AssertionError("entered unheld")
        await until(lambda: _counted(client, path, 0), "the waiter to go")
    async with make_client().lock(path, timeout=5):
        pass


async def test_acquire_and_release_as_threading_has_them(make_client, path):
    client = make_client()
    lock, other = client.lock(path), client.lock(path)
    assert await lock.acquire()
    assert await other.acquire(blocking=False) is False
    assert await other.acquire(timeout=0.02) is False
    assert await lock.acquire(blocking=False) is False, "this very object is in use"
    with pytest.raises(RuntimeError, match="in use"):
        await lock.acquire()
    await lock.release()
    with pytest.raises(RuntimeError, match="not held"):
        await lock.release()
    assert await other.acquire(timeout=5) is True
    await other.release()
    for wrong in ({"blocking": False, "timeout": 1}, {"timeout": -2}):
        with pytest.raises(ValueError, match="time"):
            await lock.acquire(**wrong)


async def test_before_the_first_grant_nothing_is_held(make_client, path):
    lock = make_client().lock(path)
    assert (lock.held, lock.safe, lock.remaining, lock.deadline) == (False, False, 0.0, 0.0)
    for look in (lambda: lock.token, lambda: lock.sequencer, lock.check):
        with pytest.raises(LockLost, match="never acquired"):
            look()


async def test_a_lock_that_cannot_be_safe_is_refused_when_it_is_made(make_client, path):
    client = make_client(session_lease=1)
    with pytest.raises(ValueError, match="stop_margin"):
        client.lock(path, lock_delay=0)
    with pytest.raises(ValueError, match="lock_delay"):
        client.lock(path, lock_delay=61)
    with pytest.raises(ValueError, match="mode"):
        client.lock(path, "greedy")
    with pytest.raises(ValueError, match="timeout"):
        client.lock(path, timeout=-1)  # as threading has it for "for ever"; here that is None
    with pytest.raises(TypeError, match="path"):
        client.lock(7)
    for name in ("timeout", "lock_delay", "stop_margin"):
        with pytest.raises(TypeError, match=f"{name} must be a number of seconds, not str"):
            client.lock(path, **{name: "5"})


async def test_sequencer_verify_and_info_ask_the_cell(make_client, path):
    client, other = make_client(name="worker"), make_client()
    async with client.lock(path) as lock:
        await lock.verify()
        assert (await other.check_sequencer(lock.sequencer)).valid
        info = await lock.info()
        assert info is not None
        assert (info.path, info.mode, info.token) == (path, "exclusive", lock.token)
        assert info.holders[0].client["name"] == "worker"
        assert 0 < lock.remaining < 17
    check = await other.check_sequencer(lock.sequencer)
    assert not check.valid
    assert check.reason
    assert await lock.info() is None


async def test_a_long_name_of_the_path_works_for_info_too(make_client, path):
    async with make_client().lock(f"/ls/local{path}") as lock:
        info = await lock.info()
        assert info is not None
        assert info.path == path


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 4, 5, 6, 8, 10, 15, 25, 50, 100])
@pytest.mark.parametrize("busy", [False, True])
async def test_cancelling_an_acquire_in_any_await_leaves_nothing_behind(make_client, path, turns, busy):
    """Before the session is open, while it is opened, in the queue, at the very moment of the grant."""
    watcher, client = make_client(), make_client()
    if turns > 3:
        await client.ls("/")
    holder = watcher.lock(path)
    if busy:
        await holder.acquire()
    lock = client.lock(path)
    task = asyncio.create_task(lock.acquire())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        assert task.result() is True
        await lock.release()
    if busy:
        await until(lambda: _counted(watcher, path, 0), "the waiter to go")
        await holder.release()
    assert not lock.held
    async with watcher.lock(path, timeout=10):
        pass
    await until(lambda: _free(watcher, path), "the lock to be free")


async def _free(client, path):
    return await client.list_locks(path) == []


async def test_an_acquire_that_is_thrown_away_while_it_waits_leaves_nothing_behind(make_client, path):
    """A coroutine that is closed, as one is that nobody keeps."""
    watcher, client = make_client(), make_client()
    await client.ls("/")
    async with watcher.lock(path):
        waiting = client.lock(path).acquire()
        waiting.send(None)
        await until(lambda: _counted(watcher, path, 1), "the waiter")
        waiting.close()
        await until(lambda: _counted(watcher, path, 0), "the waiter to go")


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 10, 30])
async def test_cancelling_a_release_in_any_await_still_frees_the_lock(make_client, path, turns):
    """redis/redis-py#3847: a cancelled release forgot its token, and nobody could ever have the lock again."""
    watcher, client = make_client(), make_client()
    lock = client.lock(path)
    await lock.acquire()
    task = asyncio.create_task(lock.release())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert not lock.held or turns == 0
    if turns == 0:
        await lock.release()  # it was cancelled before its first step: nothing of it has happened
    async with watcher.lock(path, timeout=10):
        pass


async def test_closing_the_client_frees_its_locks_and_ends_its_waiters(make_client, path):
    client, other = make_client(), make_client()
    held = client.lock(path)
    await held.acquire()
    waiting = asyncio.create_task(client.lock(path).acquire())
    await until(lambda: _counted(other, path, 1))
    await client.close()
    await asyncio.wait([waiting])
    assert type(waiting.exception()).__name__ == "ClientClosed"
    async with other.lock(path, timeout=10):  # less than lease and lock-delay
        assert not held.held
