"""A client belongs to the loop that used it first: in another one it says so at once, and never waits for ever."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
import uvloop

from coordclient import ClientClosed, aio

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


@pytest.fixture
def cell(coord_cell):
    """A fresh one in this process for each test: what is tried here is the client's doing."""
    return coord_cell


def run(make_loop, coroutine):
    """One loop, from its beginning to its end."""
    with asyncio.Runner(loop_factory=make_loop) as runner:
        return runner.run(asyncio.wait_for(coroutine, 10))


async def hold(client, path):
    async with client.lock(path, timeout=5) as lock:
        return lock.token


@pytest.mark.parametrize("make_loop", LOOPS)
def test_in_another_loop_a_client_says_so_at_once(cell, path, make_loop):
    client = aio.Client(cell.endpoints)

    async def elsewhere():
        for use in (client.ls, client.lock(path).acquire, lambda: hold(client, path), client.status, client.close):
            with pytest.raises(RuntimeError, match="another event loop"):
                await use()

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(client.ls("/"))
        run(make_loop, elsewhere())
        runner.run(hold(client, path))
        runner.run(client.close())
    with pytest.raises(ClientClosed):
        run(make_loop, client.ls("/"))


def test_in_the_loop_after_its_own_too_instead_of_waiting_for_ever(cell, path):
    """A script that calls `asyncio.run` twice with one client."""
    script = """
import asyncio, sys
from coordclient import aio
client = aio.Client(sys.argv[1])
asyncio.run(client.ls("/"))
try:
    asyncio.run(asyncio.wait_for(client.lock(sys.argv[2]).acquire(), 10))
except RuntimeError as error:
    print(error)
"""
    command = [sys.executable, "-c", script, cell.endpoints[0], path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "another event loop" in done.stdout, done.stderr


@pytest.mark.parametrize("make_loop", LOOPS)
def test_each_loop_with_a_client_of_its_own_takes_the_lock_in_turn(cell, path, make_loop):
    async def own():
        async with aio.Client(cell.endpoints) as client:
            return await hold(client, path)

    tokens = [run(make_loop, own()) for _ in range(3)]
    assert tokens == sorted(set(tokens))
