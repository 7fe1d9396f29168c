"""What happens on a wire that is cut, mended and reset, in real time and with short leases."""

from __future__ import annotations

import asyncio

import pytest

from coordclient import LockLost, SessionExpired
from coordclient.clock import now
from tests.clients.conftest import bind, until


async def test_a_holder_that_is_cut_off_stops_before_the_cell_grants_the_lock_to_another(make_client, wire, path):
    states: list[str] = []
    client, other = bind(make_client([wire.address], session_lease=1, on_state=states.append)), make_client()
    order: list[str] = []

    async def take():
        async with other.lock(path) as lock:
            order.append("granted to another")
            return lock.token

    with pytest.raises(LockLost):
        async with client.lock(path, lock_delay=2, stop_margin=1.0) as lock:
            token = lock.token
            taken = asyncio.create_task(take())
            await until(lambda: _waits(other, path))
            wire.cut()
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                order.append("stopped")
                left = lock._state.granted().left_ms(client._keeper.clocks())
    assert await taken > token
    assert order == ["stopped", "granted to another"]
    assert 0 < left <= 1_000, "told at the deadline less the margin, not later and not much earlier"
    assert states == ["active", "jeopardy"]
    wire.mend()
    with pytest.raises(SessionExpired):
        await until(lambda: _session_gone(client), "the answer that the session is over")


async def _waits(client, path):
    return any(lock.waiters for lock in await client.list_locks(path))


async def _session_gone(client):
    if client.state == "expired":
        raise SessionExpired("as it must be")
    return False


async def test_a_session_survives_a_cut_that_is_shorter_than_its_lease(make_client, wire, path):
    states: list[str] = []
    client = bind(make_client([wire.address], session_lease=4, on_state=states.append))
    async with client.lock(path) as lock:
        before = lock.deadline
        wire.cut()
        call = asyncio.create_task(client.put(path + "x", b"late"))
        await until(lambda: client._keeper._link.channel is None, "the silence to be noticed")
        wire.mend()
        await call
        await until(lambda: lock.deadline > before + 0.5, "a renewal")
        assert lock.deadline > now()
        await lock.verify()
    assert "expired" not in states


async def test_resets_under_load_lose_no_call_and_double_none(make_client, wire, path):
    client = bind(make_client([wire.address]))
    await client.mkdir(path, parents=True)
    done = 0

    async def write(worker):
        nonlocal done
        for number in range(30):
            # Exists would mean that a retry was taken for another call.
            await client.create(f"{path}/{worker}-{number}")
            done += 1

    async def reset():
        for goal in range(20, 300, 40):
            await until(lambda goal=goal: done >= goal)  # type: ignore[misc]
            wire.drop()

    await asyncio.gather(reset(), *(write(worker) for worker in range(10)))
    assert len(await client.ls(path)) == 300


async def test_resets_while_acquiring_and_releasing_leave_nothing_behind(make_client, wire, path):
    client, other = bind(make_client([wire.address])), make_client()
    cycles, inside = 0, 0

    async def work():
        nonlocal cycles, inside
        for _ in range(15):
            async with client.lock(path):
                inside += 1
                assert inside == 1
                await asyncio.sleep(0)
                inside -= 1
                cycles += 1

    async def reset():
        for goal in range(10, 60, 10):
            await until(lambda goal=goal: cycles >= goal)  # type: ignore[misc]
            wire.drop()

    await asyncio.gather(reset(), *(work() for _ in range(4)))
    assert await other.list_locks(path) == []


async def test_what_was_cancelled_while_cut_off_is_withdrawn_when_the_session_comes_back(make_client, wire, path):
    client, other = bind(make_client([wire.address])), make_client()
    async with other.lock(path):
        waiting = asyncio.create_task(client.lock(path).acquire())
        await until(lambda: _waits(other, path))
        wire.cut()
        waiting.cancel()
        await asyncio.wait([waiting])
        wire.drop()
        wire.mend()
        await until(lambda: _waits_not(other, path), "the waiter to be withdrawn")


async def _waits_not(client, path):
    return not await _waits(client, path)
