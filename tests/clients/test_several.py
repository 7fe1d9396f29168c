"""Semaphores, several locks in one step, a lock that is handed over, and decorated functions; in both flavours."""

from __future__ import annotations

import asyncio
import inspect
import threading

import pytest

import coordclient
from coordclient import (
    BadRequest,
    Client,
    Deadlock,
    LockLost,
    LockTimeout,
    NotWaiting,
    OutcomeUnknown,
    PermitsDiffer,
    aio,
)
from tests.clients.conftest import until
from tests.clients.test_lost import PAUSE_MS, forever
from tests.clients.test_threads import until as wait_until


async def waiters(client, path):
    return [waiter for lock in await client.list_locks(path) for waiter in lock.waiters]


async def use(lock):
    async with lock:
        lock.check()


async def nothing_left(client, path):
    return await client.list_locks(path) == []


async def test_as_many_as_there_are_permits_hold_a_semaphore_each_with_a_token_of_its_own(make_client, path):
    one, two = make_client(), make_client()
    async with one.semaphore(path, 2) as first, two.semaphore(path, 2) as second:
        assert first.token != second.token
        assert (first.mode, first.permits) == ("semaphore", 2)
        assert not await one.semaphore(path, 2).acquire(blocking=False)
        with pytest.raises(PermitsDiffer) as caught:
            await two.semaphore(path, 3).acquire()
        assert caught.value.details == {"permits": 2, "asked": 3}
        (info,) = await one.list_locks(path)
        assert (info.permits, [holder.permits for holder in info.holders]) == (2, [2, 2])
        async with asyncio.TaskGroup() as group:
            group.create_task(use(two.semaphore(path, 2, timeout=60)))
            await until(lambda: waiters(one, path))
            await first.release()


async def test_permits_that_make_no_sense_are_refused_when_the_object_is_made(make_client, path):
    client = make_client()
    for permits in (0, -1, 4_097, True, 1.0):
        with pytest.raises(ValueError, match="permits"):
            client.semaphore(path, permits)
    with pytest.raises(ValueError, match="permits"):
        client.lock(path, "semaphore")


async def test_several_locks_are_taken_in_one_step_whatever_their_order(make_client, path):
    """Each takes both, in opposite orders; one at a time they would wait for each other for ever.

    redisson/redisson#1160: two multi-locks that named the same locks in opposite orders did.
    """
    clients = [make_client() for _ in range(2)]
    inside = 0

    async def work(client, paths):
        nonlocal inside
        for _ in range(10):
            async with client.locks(paths) as both:
                inside += 1
                assert inside == 1
                assert list(both.tokens) == paths == list(both.paths)
                both.check()
                inside -= 1

    async with asyncio.timeout(20):
        await asyncio.gather(work(clients[0], [path + "/a", path + "/b"]), work(clients[1], [path + "/b", path + "/a"]))


async def test_a_set_holds_nothing_until_it_holds_all_and_modes_may_differ(make_client, path):
    client, other = make_client(), make_client()
    async with other.lock(path + "/b"):
        both = client.locks([path + "/a", (path + "/b", "shared"), (path + "/c", "semaphore", 3)], timeout=60)
        task = asyncio.create_task(both.acquire(timeout=60))
        await until(lambda: waiters(other, path))
        assert not both.held
        assert [holder.session for lock in await other.list_locks(path) for holder in lock.holders] == [
            other.session_id
        ]
    assert await task
    async with other.lock(path + "/b", "shared", timeout=0), other.semaphore(path + "/c", 3, timeout=0):
        await both.verify()
        for text in both.sequencers.values():
            assert (await other.check_sequencer(text)).valid
    await both.release()
    await until(lambda: nothing_left(other, path))
    with pytest.raises(RuntimeError, match="not held"):
        await both.release()


async def test_a_long_name_of_a_path_is_kept_in_the_tokens(make_client, path):
    names = [f"/ls/local{path}/a", f"{path}/b"]
    async with make_client().locks(names) as both:
        assert list(both.tokens) == names


@pytest.mark.parametrize(
    ("paths", "error"),
    [([], ValueError), ("/a", TypeError), (["/a", "/a"], ValueError), (["/a", "/ls/local/a"], ValueError),
     ([("/a", "semaphore", 0)], ValueError), ([("/a", "greedy")], ValueError), (["/a"] * 65, ValueError),
     ([7], TypeError)],
)  # fmt: skip
async def test_sets_that_make_no_sense_are_refused_when_they_are_made(make_client, paths, error):
    with pytest.raises(error):
        make_client().locks(paths)


async def test_what_the_cell_refuses_in_a_set_changes_nothing(make_client, path):
    client = make_client()
    with pytest.raises(BadRequest):
        await client.locks([path, "no path"]).acquire()
    assert await nothing_left(client, path)


@pytest.mark.parametrize("timeout", [None, 5])
async def test_a_set_and_a_lock_that_wait_for_each_other_for_ever_are_a_deadlock(make_client, path, timeout):
    """However they got what they hold."""
    client = make_client()

    async def second():
        async with client.lock(path + "/b", timeout=timeout):
            started.set()
            await client.locks([path + "/a", path + "/c"]).acquire()

    started = asyncio.Event()
    async with client.lock(path + "/a", timeout=timeout):
        task = asyncio.create_task(second())
        await started.wait()
        await until(lambda: waiters(client, path))
        with pytest.raises(Deadlock):
            await client.lock(path + "/b").acquire()
        assert not await client.lock(path + "/b").acquire(timeout=0.1)
        task.cancel()
        await asyncio.wait([task])


TURNS = [0, 1, 2, 3, 4, 6, 10, 25]


@pytest.mark.parametrize("turns", TURNS)
@pytest.mark.parametrize("kind", ["set", "semaphore"])
async def test_cancelling_an_acquire_in_any_await_leaves_nothing_behind(make_client, path, kind, turns):
    watcher, client = make_client(), make_client()
    lock = client.locks([path + "/a", path + "/b"]) if kind == "set" else client.semaphore(path + "/a", 1)
    holder = watcher.semaphore(path + "/a", 1) if kind == "semaphore" and turns % 2 else watcher.lock(path + "/other")
    await client.ls("/")
    async with holder:
        task = asyncio.create_task(lock.acquire())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            await lock.release()
        assert not lock.held
    await until(lambda: nothing_left(watcher, path), "everything to be free")


@pytest.mark.parametrize("turns", [1, 2, 3, 5, 10])
async def test_cancelling_the_release_of_a_set_still_frees_all(make_client, path, turns):
    client, other = make_client(), make_client()
    both = client.locks([path + "/a", path + "/b"])
    await both.acquire()
    task = asyncio.create_task(both.release())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert not both.held
    await until(lambda: nothing_left(other, path))


async def test_the_body_under_a_set_is_cancelled_when_it_is_lost(make_client, clocks, path):
    client = make_client(clocks=clocks)
    with pytest.raises(LockLost, match=r"/a, .*/b"):
        async with client.locks([path + "/a", path + "/b"]):
            clocks.pass_ms(PAUSE_MS)
            await forever()
    async with make_client().locks([path + "/b", path + "/a"], timeout=5):
        pass


# --- handed over


async def test_a_lock_is_handed_to_a_waiting_session_past_the_queue(make_client, path):
    holder, queued, chosen = make_client(), make_client(), make_client()
    async with holder.lock(path) as lock:
        first = asyncio.create_task(use(queued.lock(path, timeout=60)))
        await until(lambda: waiters(holder, path))
        mine = chosen.lock(path)
        second = asyncio.create_task(mine.acquire())
        await until(lambda: _count(holder, path, 2))
        await lock.transfer(chosen.session_id)
        assert not lock.held
        with pytest.raises(LockLost, match="released"):
            lock.check()
        assert await second
        assert mine.token > lock.token
        assert not first.done()
        with pytest.raises(RuntimeError, match="not held"):
            await lock.transfer(chosen.session_id)
    await mine.verify()
    await mine.release()
    await first


async def test_who_has_handed_a_lock_on_is_told_of_deadlocks_as_before(make_client, path):
    client, other = make_client(), make_client()
    await other.ls("/")
    lock = client.lock(path)
    await lock.acquire()
    heir = asyncio.create_task(use(other.lock(path, timeout=60)))
    await until(lambda: waiters(client, path))
    await lock.transfer(other.session_id)
    await heir
    async with client.lock(path):
        with pytest.raises(Deadlock):
            async with asyncio.timeout(10):
                await client.lock(path).acquire()


async def _count(client, path, count):
    return len(await waiters(client, path)) == count


async def test_a_transfer_to_nobody_who_waits_keeps_the_lock(make_client, path):
    client, other = make_client(), make_client()
    await other.ls("/")
    async with client.lock(path) as lock:
        with pytest.raises(NotWaiting):
            await lock.transfer(other.session_id)
        assert lock.safe
        await lock.verify()


@pytest.mark.parametrize("how", ["end of the body", "release"])
async def test_a_transfer_that_is_refused_when_its_holder_is_gone_leaves_nothing_held(make_client, path, how):
    client, other = make_client(), make_client()
    await other.ls("/")
    lock = client.lock(path)
    with pytest.raises(LockLost, match="handed over"):
        async with lock:
            task = asyncio.create_task(lock.transfer(other.session_id))
            await asyncio.sleep(0)  # it has begun to ask
            if how == "release":
                await lock.release()
    with pytest.raises(NotWaiting):
        await task
    assert not lock.held
    async with other.lock(path, timeout=5):
        pass


async def test_a_lock_object_that_is_being_handed_over_is_in_use(make_client, path):
    client, other = make_client(), make_client()
    await other.ls("/")
    async with client.lock(path) as lock:
        task = asyncio.create_task(lock.transfer(other.session_id))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="in use"):
            await lock.acquire(timeout=5)
        with pytest.raises(NotWaiting):
            await task
        lock.check()


@pytest.mark.parametrize("turns", TURNS)
async def test_a_cancelled_transfer_leaves_the_lock_with_the_other_or_free_and_is_not_believed(
    make_client, path, turns
):
    client, other = make_client(), make_client()
    lock, mine = client.lock(path), other.lock(path)
    await lock.acquire()
    waiting = asyncio.create_task(mine.acquire(timeout=60))
    await until(lambda: waiters(client, path))
    task = asyncio.create_task(lock.transfer(other.session_id or 0))
    for _ in range(turns):
        await asyncio.sleep(0)
        assert not lock.safe or not task.done()
    task.cancel()
    await asyncio.wait([task])
    if turns == 0:
        await lock.release()  # it was cancelled before its first step: nothing of it has happened
    assert not lock.held
    assert await waiting
    await mine.release()
    await until(lambda: nothing_left(other, path))


async def test_a_transfer_without_an_answer_frees_the_lock_when_the_cell_is_heard_again(make_client, wire, path):
    from tests.clients.conftest import bind

    client, other = bind(make_client([wire.address], request_timeout=2.0)), make_client()
    async with other.lock(path + "/x"):
        lock = client.lock(path)
        await lock.acquire()
        wire.cut()
        with pytest.raises(OutcomeUnknown):
            await lock.transfer(other.session_id)
        assert not lock.held
        wire.mend()
        async with other.lock(path, timeout=10):
            pass


# --- decorated


async def test_a_decorated_function_runs_under_a_lock_of_each_call(make_client, path):
    client, inside = make_client(), 0

    @client.locked(path, timeout=10)
    async def work(number: int, *, more: int = 0) -> int:
        """What it does."""
        nonlocal inside
        inside += 1
        assert inside == 1
        await asyncio.sleep(0)
        inside -= 1
        return number + more

    assert work.__doc__ == "What it does."
    assert inspect.iscoroutinefunction(work)
    assert await asyncio.gather(*(work(number, more=1) for number in range(5))) == [1, 2, 3, 4, 5]
    with pytest.raises(TypeError, match="async def"):
        client.locked(path)(lambda: None)
    with pytest.raises(ValueError, match="timeout"):
        client.locked(path, timeout=-1)


# --- the thread flavour


def test_threads_have_all_of_it_too(cell, path):
    with Client(cell.endpoints) as client, Client(cell.endpoints) as other:
        with client.semaphore(path, 1) as permit, pytest.raises(LockTimeout), other.semaphore(path, 1, timeout=0):
            raise AssertionError("entered unheld")
        assert permit.permits == 1
        with client.locks([path + "/a", path + "/b"]) as both:
            both.check()
            both.verify()
            assert set(both.tokens) == {path + "/a", path + "/b"}
            assert not other.locks([path + "/b", path + "/c"]).acquire(blocking=False)

        @other.locked(path + "/f")
        def work(number):
            assert not client.lock(path + "/f").acquire(blocking=False)
            return number

        assert work(7) == 7
        with pytest.raises(TypeError, match="plain"):
            other.locked(path)(forever)
        with client.lock(path + "/t") as lock:
            mine = other.lock(path + "/t")
            waiting = threading.Thread(target=mine.acquire)
            waiting.start()
            wait_until(lambda: any(found.waiters for found in client.list_locks(path)))
            lock.transfer(other.session_id or 0)
            waiting.join(10)
            assert mine.held
            assert not lock.held
        mine.release()


def test_both_flavours_export_the_same_names():
    of_threads = {name for name in coordclient.__all__ if ".sync" in getattr(coordclient, name).__module__}
    assert {"Client", "Lock", "Watch"} < of_threads == set(aio.__all__)
