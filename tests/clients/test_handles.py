"""Handles: bound to the very node that was opened; ephemeral nodes with several owners; nothing is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from coordclient import (
    BadPath,
    Client,
    IsADirectory,
    NotADirectory,
    NotFound,
    OutcomeUnknown,
    StaleHandle,
)
from coordclient.calls import Call
from tests.clients.conftest import bind, until


async def gone(client, path) -> bool:
    try:
        await client.stat(path)
    except NotFound:
        return True
    return False


def pending(client) -> Mapping[int, Call]:
    return client._keeper.life.calls.pending


async def test_a_handle_reads_and_writes_the_node_that_it_opened(make_client, path):
    client = make_client()
    async with await client.open(path, create="file", parents=True) as handle:
        assert (handle.path, handle.kind) == (path, "file")
        stat = await handle.write(b"one")
        assert stat.instance == handle.instance
        assert await handle.read() == (b"one", stat)
        assert (await handle.stat()) == stat
        await handle.delete(if_generation=stat.content_generation)
    assert await gone(client, path)


async def test_another_node_of_the_same_name_is_never_taken_for_it(make_client, path):
    client, other = make_client(), make_client()
    handle = await client.open(path, create="file", parents=True)
    await other.delete(path)
    for call in (handle.read, handle.stat, handle.ls, handle.delete, handle.lock().acquire):
        with pytest.raises(StaleHandle):
            await call()
    fresh = await other.create(path, b"another")
    assert fresh.instance > handle.instance
    for call in (handle.read, handle.stat, handle.delete, handle.lock().acquire, lambda: handle.write(b"mine")):
        with pytest.raises(StaleHandle):
            await call()
    assert (await other.get(path)).contents == b"another"


async def test_open_finds_or_makes_and_says_what_is_there(make_client, path):
    client = make_client()
    with pytest.raises(NotFound):
        await client.open(path)
    with pytest.raises(NotFound):
        await client.open(path + "/deep/er", create="file")
    directory = await client.open(path, create="directory", parents=True)
    assert (await client.open(path, create="directory")).instance == directory.instance
    assert (await client.open(path)).kind == "directory"
    with pytest.raises(IsADirectory):
        await client.open(path, create="file")
    await client.put(path + "/f", b"")
    with pytest.raises(NotADirectory):
        await client.open(path + "/f", create="directory")
    for wrong in ({"create": "pipe"}, {"ephemeral": True}):
        with pytest.raises(ValueError, match="create"):
            await client.open(path, **wrong)


async def test_an_ephemeral_node_goes_with_its_last_owner(make_client, path):
    one, two, other = make_client(), make_client(), make_client()
    first = await one.open(path, create="file", ephemeral=True, parents=True)
    again = await one.open(path)
    second = await two.open(path)
    await first.close()
    await first.close()
    assert not await gone(other, path)
    await again.close()
    assert not await gone(other, path), "another session has it open"
    await second.close()
    assert await gone(other, path)


async def test_a_stale_handle_keeps_no_later_node_alive(make_client, path):
    client, other = make_client(), make_client()
    stale = await client.open(path, create="file", ephemeral=True, parents=True)
    await other.delete(path)
    with pytest.raises(StaleHandle):
        await stale.read()
    again = await client.open(path, create="file", ephemeral=True)
    await again.close()
    assert await gone(other, path)
    await stale.close()


async def test_an_ephemeral_directory_goes_when_it_is_closed_and_empty(make_client, path):
    client, other = make_client(), make_client()
    directory = await client.open(path + "/d", create="directory", ephemeral=True, parents=True)
    await other.put(path + "/d/child", b"")
    await directory.close()
    assert not await gone(other, path + "/d")
    await other.delete(path + "/d/child")
    assert await gone(other, path + "/d")


async def test_what_create_made_is_not_closed_by_a_handle(make_client, path):
    client = make_client()
    await client.create(path, b"", ephemeral=True, parents=True)
    async with await client.open(path):
        pass
    assert not await gone(client, path)
    await client.mkdir(path + "-d", ephemeral=True)
    async with await client.open(path + "-d"):
        pass
    assert not await gone(client, path + "-d")


async def test_relative_opens_are_below_that_very_directory(make_client, path):
    client = make_client()
    directory = await client.open(path, create="directory", parents=True)
    await client.put(path + "/a", b"1")
    child = await directory.open("a")
    assert (child.path, (await child.read()).contents) == (path + "/a", b"1")
    with pytest.raises(BadPath):
        await directory.open("/a")
    with pytest.raises(TypeError):
        await directory.open(7)
    await client.delete(path + "/a")
    await client.delete(path)
    await client.put(path + "/a", b"2", parents=True)
    with pytest.raises(StaleHandle):
        await directory.open("a")
    assert (await (await (await client.open("/")).open(path[1:] + "/a")).read()).contents == b"2"


async def test_a_closed_or_poisoned_handle_does_nothing_and_poison_closes_nothing(make_client, path):
    client = make_client()
    handle = await client.open(path, create="file", ephemeral=True, parents=True)
    handle.poison()
    with pytest.raises(StaleHandle, match="poisoned"):
        await handle.read()
    with pytest.raises(StaleHandle, match="poisoned"):
        handle.lock()
    assert not await gone(client, path)
    await handle.close()
    with pytest.raises(StaleHandle, match="closed"):
        await handle.stat()
    with pytest.raises(StaleHandle, match="closed"):
        await handle.open("a")
    assert await gone(client, path)


async def test_poison_ends_what_others_have_under_way(make_client, path, wire):
    client = bind(make_client(wire.address, request_timeout=20.0))
    handle = await client.open(path, create="file", parents=True)
    wire.cut()
    reading, writing = asyncio.create_task(handle.read()), asyncio.create_task(handle.write(b"x"))
    await until(lambda: len(handle._running) == 2)
    await asyncio.sleep(0)
    handle.poison()
    with pytest.raises(StaleHandle):
        await reading
    with pytest.raises(OutcomeUnknown):
        await writing
    wire.mend()


async def test_an_open_that_fails_or_is_cancelled_leaves_nothing_open(make_client, path, wire):
    client, owner, other = bind(make_client(wire.address)), make_client(), make_client()
    await owner.create(path, b"", ephemeral=True, parents=True)
    with pytest.raises(NotADirectory):
        await client.open(path, create="directory")
    await until(lambda: not pending(client), "its close to be answered")
    wire.cut()
    tasks = [asyncio.create_task(client.open(path)) for _ in range(3)]
    await until(lambda: len(pending(client)) == 3)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    wire.mend()
    await until(lambda: not pending(client), "the calls to be answered")
    await owner.close()
    assert await gone(other, path)


async def test_what_a_cancelled_open_makes_goes_again(make_client, path, wire, monkeypatch):
    client, other = bind(make_client(wire.address)), make_client()
    await client.ls("/")
    begin = client._keeper.begin

    async def cut_before_it_is_made(life, operation, *rest):
        if operation == "create":
            wire.cut()
        return await begin(life, operation, *rest)

    monkeypatch.setattr(client._keeper, "begin", cut_before_it_is_made)
    opening = client.open(path, create="file", ephemeral=True, parents=True)
    task = asyncio.create_task(opening)
    await until(lambda: "create" in [call.operation for call in pending(client).values()])
    task.cancel()
    await asyncio.wait([task])
    wire.mend()
    await until(lambda: not pending(client), "the calls to be answered")
    assert [change.kind for change in (await other.history(path)).changes] == ["deleted", "created"]


async def test_the_lock_of_a_handle_is_that_of_the_node(make_client, path):
    client, other = make_client(), make_client()
    handle = await client.open(path, create="file", parents=True)
    async with handle.lock(timeout=5) as lock:
        lock.check()
        assert (await other.list_locks(path))[0].holders[0].session == client.session_id


def test_threads_have_the_same(cell, path):
    with Client(cell.endpoints) as client:
        with client.open(path, create="directory", ephemeral=True, parents=True) as directory:
            me = directory.open("me", create="file", ephemeral=True)
            me.write(b"7")
            assert [entry.name for entry in directory.ls()] == ["me"]
            assert me.read().contents == b"7"
            with me.lock(timeout=5) as lock:
                lock.check()
            me.poison()
            with pytest.raises(StaleHandle):
                me.read()
            me.close()
            assert directory.ls() == []
            assert directory.stat().ephemeral
        with pytest.raises(NotFound):
            client.stat(path)
