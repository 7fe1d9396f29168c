"""Reads from the consistent cache of a real cell: never stale, for every way in which something can change."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import warnings

import pytest

from coordclient import Client, ClientForked, NotFound, aio
from coordclient.values import File
from tests.clients.conftest import WAIT_SECONDS, bind, until


def look(client: aio.Client, path: str) -> File | None:
    """What the cache would show now, without asking."""
    assert client._cache is not None
    found: File | None = client._cache.look("get", path)
    return found


async def held(client: aio.Client, path: str) -> None:
    """Read until the answer comes from the cache."""

    async def hit() -> bool:
        before = client.cache_info().hits
        await client.get(path)
        return client.cache_info().hits > before

    await until(hit, f"{path} to be held")


async def test_a_hit_asks_nobody_and_what_another_writes_is_seen_at_once(make_client, path):
    writer, reader = make_client(), make_client(cache=True)
    await writer.put(path, b"0", parents=True)
    await held(reader, path)
    for number in range(1, 50):
        await writer.put(path, b"%d" % number)
        assert (await reader.get(path)).contents == b"%d" % number
        before = reader.cache_info()
        assert (await reader.get(path)).contents == b"%d" % number
        after = reader.cache_info()
        assert (after.hits - before.hits, after.misses - before.misses) == (1, 0)
    assert reader.cache_info().invalidations >= 49
    assert (await reader.get(path)).stat.lock_generation is None


async def test_everything_that_is_held_of_a_path_is_dropped_by_whatever_changes_it(make_client, path):
    writer, reader = make_client(), make_client(cache=True)
    await writer.mkdir(path, parents=True)
    name = f"{path}/file"

    async def seen() -> tuple[bytes | None, int | None, list[tuple[str, int]], int]:
        """Twice, the second time from the cache, and both times the same."""
        found = []
        for _ in range(2):
            try:
                contents, generation = (await reader.get(name)).contents, (await reader.stat(name)).content_generation
            except NotFound:
                contents, generation = None, None
            listing = [(entry.name, entry.stat.revision) for entry in await reader.ls(path)]
            found.append((contents, generation, listing, (await reader.stat(path)).children))
        assert found[0] == found[1]
        return found[0]

    assert await seen() == (None, None, [], 0)
    stat = await writer.create(name, b"1")
    assert await seen() == (b"1", stat.content_generation, [("file", stat.revision)], 1)
    stat = await writer.put(name, b"2")
    assert await seen() == (b"2", stat.content_generation, [("file", stat.revision)], 1)
    await writer.delete(name)
    assert await seen() == (None, None, [], 0)
    async with writer.lock(name):
        assert (await seen())[0] == b"", "a lock has made it"
    assert await seen() == (None, None, [], 0), "and removed it again"
    other = make_client()
    await other.create(name, b"3", ephemeral=True)
    assert (await seen())[0] == b"3"
    await other.close()
    assert await seen() == (None, None, [], 0), "its session has ended"
    await reader.put(name, b"4")
    assert (await seen())[0] == b"4", "the reader's own write"


async def test_a_lock_on_a_file_that_is_there_costs_no_invalidation(make_client, path):
    writer, reader = make_client(), make_client(cache=True)
    await writer.put(path, b"1", parents=True)
    await held(reader, path)
    before = reader.cache_info().invalidations
    async with writer.lock(path):
        await reader.get(path)
    assert reader.cache_info().invalidations == before


async def test_a_reader_that_hears_nothing_holds_a_write_up_for_one_lease_at_most(make_client, wire, path):
    writer, reader = make_client(), bind(make_client(wire.address, cache=True))
    await writer.put(path, b"1", parents=True)
    await held(reader, path)
    wire.cut()
    begun = time.monotonic()
    writing = asyncio.create_task(writer.put(path, b"2"))
    shown = 0
    while not writing.done():
        shown += look(reader, path) is not None
        await asyncio.sleep(0.01)
    assert look(reader, path) is None
    assert time.monotonic() - begun < 3.0
    assert shown, "until then the reader was right"
    wire.mend()
    assert (await reader.get(path)).contents == b"2"


async def test_what_is_held_is_not_believed_after_a_pause_of_the_process(make_client, clocks, path):
    writer, reader = make_client(), make_client(cache=True, clocks=clocks)
    await writer.put(path, b"1", parents=True)
    await held(reader, path)
    assert look(reader, path) is not None
    clocks.pass_ms(2_000)
    assert look(reader, path) is None
    before = reader.cache_info().misses
    await reader.get(path)
    assert reader.cache_info().misses == before, "one small question, and what is held is good again"


async def test_a_new_channel_begins_with_nothing(make_client, wire, path):
    writer, reader = make_client(), bind(make_client(wire.address, cache=True))
    await writer.put(path, b"1", parents=True)
    await held(reader, path)
    wire.drop()
    await until(lambda: reader.cache_info().entries == 0, "the loss of the channel")
    await writer.put(path, b"2")
    assert (await reader.get(path)).contents == b"2"
    await held(reader, path)


async def test_what_is_not_read_goes_when_the_bytes_are_used_up(make_client, path):
    writer, reader = make_client(), make_client(cache=True, cache_bytes=20_000)
    for number in range(20):
        await writer.put(f"{path}/{number}", b"x" * 1_000, parents=True)
    await held(reader, f"{path}/0")
    for number in range(20):
        await reader.get(f"{path}/{number}")
        await reader.get(f"{path}/0")
    info = reader.cache_info()
    assert 0 < info.bytes <= 20_000
    assert info.entries < 20
    assert look(reader, f"{path}/0") is not None, "what is read stays"


async def test_without_a_cache_nothing_is_held(make_client, path):
    client = make_client()
    await client.put(path, b"1", parents=True)
    await client.get(path)
    assert client.cache_info() == (0, 0, 0, 0, 0)
    assert isinstance((await client.stat(path)).lock_generation, int)


def test_threads_that_read_while_another_client_writes_see_nothing_old(cell, path):
    with Client(cell.endpoints) as writer, Client(cell.endpoints, cache=True) as reader:
        writer.put(path, b"0", parents=True)
        written, stop, wrong = [0], threading.Event(), []

        def read() -> None:
            least = 0
            while not stop.is_set():
                least = max(least, written[0])
                found = int(reader.get(path).contents)
                if found < least:
                    wrong.append((found, least))
                least = found

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        end = time.monotonic() + WAIT_SECONDS
        number = 0
        while number < 30 and time.monotonic() < end:
            number += 1
            writer.put(path, b"%d" % number)
            written[0] = number
        stop.set()
        for thread in threads:
            thread.join()
        assert not wrong
        assert reader.cache_info().hits > number, "they read from the cache"


def test_a_child_gets_nothing_from_its_parents_cache(cell, path):
    with Client(cell.endpoints, cache=True) as client:
        client.put(path, b"1", parents=True)
        for _ in range(3):
            client.get(path)
        assert client.cache_info().hits
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons, of every process with threads
            child = os.fork()
        if not child:
            try:
                client.get(path)
            except ClientForked:
                os._exit(0)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert client.get(path).contents == b"1"


async def test_reads_stay_right_over_the_loss_of_the_master(cell3, path):
    async with (
        aio.Client(cell3.endpoints, request_timeout=40) as writer,
        aio.Client(cell3.endpoints, request_timeout=40, cache=True) as reader,
    ):
        await writer.put(path, b"0", parents=True)
        await held(reader, path)
        master = await asyncio.to_thread(cell3.master)
        number = 0
        for killed in (False, True):
            if killed:
                await asyncio.to_thread(cell3.kill, master)
            for _ in range(5):
                number += 1
                await writer.put(path, b"%d" % number)
                assert (await reader.get(path)).contents == b"%d" % number
        await held(reader, path)


@pytest.mark.parametrize("cache_bytes", [-1, 0])
def test_a_size_that_is_none_is_refused(cache_bytes):
    with pytest.raises(ValueError, match="cache_bytes"):
        Client(cache=True, cache_bytes=cache_bytes)
