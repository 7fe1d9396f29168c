"""What the cell tells of locks and sessions, and changes that are made only under a lock."""

from __future__ import annotations

import asyncio

import pytest

from coordclient import Client, GuardFailed, NotFound
from tests.clients.conftest import until


async def test_why_tells_who_holds_since_when_how_long_still_and_how_the_last_ones_lost_it(make_client, path):
    holder, other = make_client(name="worker", session_lease=4), make_client()
    async with other.lock(path):
        pass
    async with holder.lock(path, lock_delay=3) as lock:
        why = await other.why(path)
        assert (why.path, why.exists) == (path, True)
        assert why.lock is not None
        (row,) = why.lock.holders
        assert (row.session, row.token, row.client["name"]) == (holder.session_id, lock.token, "worker")
        assert (row.lock_delay_ms, row.revoked, row.delayed, row.delay_left_ms) == (3_000, None, False, None)
        assert row.heard_ms_ago is not None
        assert row.left_ms is not None
        assert 0 <= row.heard_ms_ago <= 4_000
        assert 0 < row.left_ms <= 4_000
        assert row.crash_wait_ms == 4_400 + 3_000
        (loss,) = why.losses
        assert (loss.session, loss.cause) == (other.session_id, "released")
    empty = await other.why(path + "/never")
    assert (empty.exists, empty.lock, empty.losses) == (False, None, ())


async def test_session_info_tells_all_that_a_session_has(make_client, path):
    client, other = make_client(name="worker"), make_client()
    await client.create(path + "/here", ephemeral=True, parents=True)
    async with client.lock(path + "/held", "shared", lock_delay=2) as lock:
        async with other.lock(path + "/wanted"):
            waiting = asyncio.create_task(client.lock(path + "/wanted").acquire(timeout=60))
            await until(lambda: _waits(other, path))
            details = await other.session_info(client.session_id or 0)
            waiting.cancel()
        (hold,) = details.holds
        assert (hold.path, hold.mode, hold.token, hold.lock_delay_ms) == (path + "/held", "shared", lock.token, 2_000)
        assert [(wait.path, wait.place) for wait in details.waiting] == [(path + "/wanted", 1)]
        assert details.ephemeral_paths == (path + "/here",)
        assert (details.info.session, details.info.holds, details.info.incarnation) == (client.session_id, 1, 1)
    assert (await client.session_info()).info.client["name"] == "worker", "without a number: one's own"
    with pytest.raises(NotFound):
        await client.session_info(2**52)


async def _waits(client, path):
    return any(lock.waiters for lock in await client.list_locks(path))


async def test_a_change_with_a_sequencer_is_made_only_while_that_lock_is_held(make_client, path):
    client = make_client()
    await client.mkdir(path, parents=True)
    async with client.lock(path + "/lock") as lock:
        guard = lock.sequencer
        await client.put(path + "/f", b"1", if_sequencer=guard)
        await client.create(path + "/g", if_sequencer=guard)
        await client.mkdir(path + "/d", if_sequencer=guard)
        await client.delete(path + "/g", if_sequencer=guard)
    for change in (
        lambda: client.put(path + "/f", b"2", if_sequencer=guard),
        lambda: client.create(path + "/h", if_sequencer=guard),
        lambda: client.mkdir(path + "/e", if_sequencer=guard),
        lambda: client.delete(path + "/f", if_sequencer=guard),
        lambda: client.put(path + "/f", b"2", if_sequencer="nonsense"),
    ):
        with pytest.raises(GuardFailed) as caught:
            await change()
        assert caught.value.details["reason"]
    assert [entry.name for entry in await client.ls(path)] == ["d", "f"]
    assert (await client.get(path + "/f")).contents == b"1"


async def test_a_stale_check_of_a_sequencer_says_as_of_when(make_client, path):
    client = make_client()
    async with client.lock(path) as lock:
        check = await client.check_sequencer(lock.sequencer, stale=True)
        assert (check.valid, check.stale) == (True, True)
        assert check.revision >= lock.token
        assert not (await client.check_sequencer(lock.sequencer)).stale


def test_threads_ask_the_same(cell, path):
    with Client(cell.endpoints) as client, client.lock(path) as lock:
        why = client.why(path)
        assert why.lock is not None
        assert why.lock.token == lock.token
        assert [hold.path for hold in client.session_info().holds] == [path]
        assert client.check_sequencer(lock.sequencer, stale=True).valid
        client.put(path, b"1", if_sequencer=lock.sequencer)
        with pytest.raises(GuardFailed):
            client.create(path + "x", if_sequencer="nonsense")
