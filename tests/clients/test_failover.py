"""Fail-over of a real cell of three: the session, its locks, its place in the queue and its calls survive kill -9."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress

import pytest

from coordclient import CoordError, Unavailable
from tests.clients.conftest import until

PATIENCE = 40.0  # how soon somebody reigns again is not the matter here


async def thread(function, *arguments):
    """The cell's handle is synchronous."""
    return await asyncio.to_thread(function, *arguments)


async def test_kill_9_of_the_master_costs_no_lock_no_place_and_no_call(cell3, make_client):
    """The holder keeps lock and token, the waiters their order, and each create takes effect once."""
    client, other = (make_client(cell3.endpoints, request_timeout=PATIENCE) for _ in range(2))
    order: list[int] = []

    async def wait(number):
        async with other.lock("/held") as lock:
            order.append(number)
            return lock.token

    async def write(number):
        # Were a retry another call, it would meet its own file: Exists.
        await client.create(f"/files/{number}", str(number).encode())

    await client.mkdir("/files")
    async with client.lock("/held") as lock:
        token = lock.token
        waiting = []
        for number in range(3):
            waiting.append(asyncio.create_task(wait(number)))
            await until(lambda count=number + 1: _waiters(client, count))  # type: ignore[misc]
        writes = [asyncio.create_task(write(number)) for number in range(40)]
        await until(lambda: writes[0].done())
        cell3.kill(cell3.master())
        writes += [asyncio.create_task(write(number)) for number in range(40, 200)]
        await asyncio.gather(*writes)
        assert len(await client.ls("/files")) == 200
        lock.check()
        await lock.verify()
        assert lock.token == token
    tokens = await asyncio.gather(*waiting)
    assert order == [0, 1, 2]
    assert token < tokens[0] < tokens[1] < tokens[2]


async def _waiters(client, count):
    return sum(len(lock.waiters) for lock in await client.list_locks("/held")) == count


async def test_kill_9_of_all_costs_no_session_however_often_the_client_was_refused_meanwhile(cell3, make_client):
    """The new master gives a whole fresh lease: whoever was refused by all must find it before that is over."""
    client = make_client(cell3.endpoints, session_lease=3, request_timeout=PATIENCE)
    await client.create("/alive", ephemeral=True)
    session = client.session_id
    for replica in cell3.addresses:
        cell3.kill(replica)
    put = asyncio.create_task(client.put("/a", b"1"))
    failures = client._endpoints._failures
    await until(lambda: len(failures) == 3 and all(in_a_row >= 3 for _, in_a_row in failures.values()))
    for replica in cell3.addresses:
        cell3.start(replica)
    await put
    assert client.session_id == session
    await client.stat("/alive")


async def test_a_silent_master_is_left_for_the_next(cell3, make_client):
    """SIGSTOP: no connection breaks, only the silence tells."""
    client = make_client(cell3.endpoints, request_timeout=PATIENCE)
    await client.put("/a", b"1")
    master = cell3.master()
    cell3.kill(master, signal.SIGSTOP)
    await client.put("/a", b"2")
    cell3.kill(master, signal.SIGCONT)
    assert (await client.get("/a")).contents == b"2"
    await until(lambda: thread(_agree, cell3), "the old master to follow")
    await client.put("/a", b"3")


def _agree(cell3):
    masters = {status.get("master") for replica in cell3.addresses if (status := cell3.status(replica)) is not None}
    return len(masters) == 1 and None not in masters


async def test_one_endpoint_is_enough_the_rest_is_learned_from_the_cell(cell3, make_client):
    follower = next(replica for replica in cell3.addresses if replica != cell3.master())
    client = make_client([cell3.addresses[follower]], request_timeout=PATIENCE)
    await client.put("/a", b"1")
    await until(lambda: set(client._endpoints.known) == set(cell3.endpoints), "the members to be learned")
    assert set(await client.cell_status()) == set(cell3.endpoints)
    cell3.kill(follower)
    cell3.kill(cell3.master(), signal.SIGSTOP)
    cell3.start(follower)
    await client.put("/a", b"2")


async def test_without_a_quorum_calls_end_in_time_and_say_whether_anything_was_done(cell3, make_client):
    client = make_client(cell3.endpoints, request_timeout=1.0)
    lock = client.lock("/held", lock_delay=60)
    while not lock.held:
        with suppress(Unavailable):  # a second may be short on a busy machine
            await lock.acquire()
    master = cell3.master()
    for replica in cell3.addresses:
        if replica != master:
            cell3.kill(replica)
    for call in (lambda: client.put("/a", b"1"), lock.release, lambda: client.get("/a")):
        with pytest.raises(CoordError) as caught:
            await call()
        assert caught.value.code in ("unavailable", "outcome_unknown")
    status = await client.cell_status()
    assert sum(isinstance(answer, Unavailable) for answer in status.values()) == 2
    for replica in cell3.addresses:
        if replica != master:
            cell3.start(replica)
    # The release was asked for once, and is retried until it is answered.
    other = make_client(cell3.endpoints, request_timeout=PATIENCE)
    async with other.lock("/held", timeout=PATIENCE):
        pass
