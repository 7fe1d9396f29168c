"""Watches through both flavours on a real cell: nothing missed, nothing doubled, whatever happens to cell and line."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from coordclient import BadPath, BadRequest, Client, ClientClosed, ClientForked, Event, Resync, aio
from coordd.testing import TestCell
from tests.clients.conftest import until

WRITES = 60


@pytest.fixture
def own() -> Iterator[TestCell]:
    with TestCell() as cell:
        yield cell


@pytest.fixture
async def writer(own) -> AsyncIterator[aio.Client]:
    async with aio.Client(own.endpoints) as client:
        await client.mkdir("/w")
        yield client


@pytest.fixture
async def reader(own, writer) -> AsyncIterator[aio.Client]:
    async with aio.Client(own.endpoints) as client:
        yield client


def of(events: list[Any]) -> list[tuple[int, str, str]]:
    return [(event.revision, event.kind, event.path) for event in events]


async def next_of(watch: aio.Watch, count: int) -> list[Any]:
    async with asyncio.timeout(20):
        return [await anext(watch) for _ in range(count)]


async def write(client: aio.Client, path: str, count: int) -> list[int]:
    """Writes one after another, retried until each is known to be done; the revisions."""
    return [(await client.put(path, str(number).encode())).revision for number in range(count)]


async def test_what_happens_after_the_registration_is_told_with_its_cause(reader, writer):
    async with reader.watch("/w/a") as watch:
        assert watch.live
        begun = watch.revision
        made = await writer.put("/w/a", b"1")
        await writer.put("/w/other", b"")
        written = await writer.put("/w/a", b"2")
        removed = await writer.delete("/w/a")
        events = await next_of(watch, 3)
    assert begun is not None and begun < made.revision
    assert of(events) == [
        (made.revision, "created", "/w/a"),
        (written.revision, "changed", "/w/a"),
        (removed, "deleted", "/w/a"),
    ]
    values = [(event.before, event.after, event.size) for event in events]
    assert values == [(None, b"1", 1), (None, b"2", 1), (None, None, 0)]
    assert {(event.session, event.directory) for event in events} == {(writer.session_id, False)}
    assert [event.operation for event in events] == ["put", "put", "delete"]
    assert (watch.revision or 0) >= removed and not watch.live


async def test_children_and_subtrees_and_values(reader, writer):
    async with (
        reader.watch("/w", scope="children", values="none") as children,
        reader.watch("/w", scope="subtree", values="both") as subtree,
    ):
        await writer.mkdir("/w/d")
        await writer.put("/w/d/x", b"1")
        await writer.put("/w/d/x", b"2")
        await writer.put("/w/y", b"3")
        below = await next_of(subtree, 4)
        direct = await next_of(children, 2)
    assert [(event.path, event.before, event.after) for event in below] == [
        ("/w/d", None, None),
        ("/w/d/x", None, b"1"),
        ("/w/d/x", b"1", b"2"),
        ("/w/y", None, b"3"),
    ]
    assert [(event.path, event.directory, event.after) for event in direct] == [
        ("/w/d", True, None),
        ("/w/y", False, None),
    ]


async def test_it_goes_on_from_a_revision_that_was_read(reader, writer):
    first = await writer.put("/w/a", b"1")
    revisions = await write(writer, "/w/a", 10)
    watch = reader.watch("/w/a", since=first.revision)
    assert [event.revision for event in await next_of(watch, 10)] == revisions
    again = reader.watch("/w/a", since=revisions[4])
    assert [event.revision for event in await next_of(again, 5)] == revisions[5:]
    assert (watch.revision or 0) >= revisions[-1]
    await watch.close()


@pytest.mark.parametrize("fault", ["fail_over", "cut_link", "expire_session"])
async def test_over_any_fault_nothing_is_missed_and_nothing_is_doubled(own, reader, writer, fault):
    told: list[bool] = []
    watch = reader.watch("/w/a", on_live=told.append)
    async with watch:
        writing = asyncio.create_task(write(writer, "/w/a", WRITES))
        seen = await next_of(watch, 10)
        session = reader.session_id
        if fault == "fail_over":
            await asyncio.to_thread(own.fail_over)
        elif fault == "expire_session":
            own.expire_session(reader)
        else:
            own.cut_link(reader)
            await until(lambda: not watch.live)
            own.mend_link(reader)
        seen += await next_of(watch, WRITES - 10)
        revisions = await writing
        assert [event.revision for event in seen] == revisions
        assert [event.after for event in seen] == [str(number).encode() for number in range(WRITES)]
        assert (watch.revision or 0) >= revisions[-1]
        assert (reader.session_id != session) == (fault == "expire_session")
        await until(lambda: watch.live)
        assert told[:3] == [True, False, True]


async def test_many_fail_overs_and_many_watches(own, reader, writer):
    watches = [reader.watch("/w", scope="subtree") for _ in range(20)]
    for watch in watches:
        await watch.__aenter__()
    writing = asyncio.create_task(write(writer, "/w/a", WRITES))
    reading = [asyncio.create_task(next_of(watch, WRITES)) for watch in watches]
    for _ in range(4):
        await asyncio.to_thread(own.fail_over)
        await asyncio.wait([writing], timeout=0.05)
    revisions = await writing
    for seen in await asyncio.gather(*reading):
        assert [event.revision for event in seen] == revisions


async def test_a_watch_that_nobody_reads_costs_a_bounded_queue_and_gets_all_or_a_resync(reader, writer):
    async with reader.watch("/w/a") as watch:
        big = bytes(100_000)
        last = 0
        for _ in range(150):
            last = (await writer.put("/w/a", big)).revision
        watching = watch._watcher.watching
        assert watching._bytes <= 512 * 1024
        seen: list[Event | Resync] = []
        while (watch.revision or 0) < last:
            seen += await next_of(watch, 1)
        revisions = [item.revision for item in seen]
        assert revisions == sorted(revisions)
        resyncs = [item for item in seen if isinstance(item, Resync)]
        assert resyncs, "15 MB of changes are more than the cell keeps"
        assert [(node.path, node.contents) for node in resyncs[-1].entries] == [("/w/a", big)]


async def test_a_revision_of_another_cell_gets_the_state_that_is_there(reader, writer):
    await writer.put("/w/a", b"1")
    async with reader.watch("/w", scope="subtree", since=10**9) as watch:
        (resync,) = await next_of(watch, 1)
        assert isinstance(resync, Resync)
        assert [(node.path, node.contents) for node in resync.entries] == [("/w", None), ("/w/a", b"1")]
        assert watch.revision == resync.revision
        stat = await writer.put("/w/a", b"2")
        assert (await next_of(watch, 1))[0].revision == stat.revision


async def test_marks_of_progress_move_the_revision_without_events(reader, writer):
    async with reader.watch("/w/quiet") as watch:
        last = (await write(writer, "/w/a", 3))[-1]
        await until(lambda: (watch.revision or 0) >= last, "a mark of progress")


async def test_whole_revisions_in_batches(reader, writer):
    async with reader.watch("/w", scope="subtree") as watch:
        stat = await writer.put("/w/d/e/f", b"", parents=True)
        async for batch in watch.batches():
            assert not isinstance(batch, Resync)
            assert of(list(batch)) == [(stat.revision, "created", path) for path in ("/w/d", "/w/d/e", "/w/d/e/f")]
            break


async def test_closed_or_forgotten_it_leaves_nothing_in_the_cell(own, reader, writer):
    for _ in range(3):
        async with reader.watch("/w/a") as watch:
            await writer.put("/w/a", b"")
            async for _event in watch:
                break
    async for _event in (forgotten := reader.watch("/w/a", since=0)):
        break
    del forgotten, watch
    gc.collect()
    await reader.ls("/")
    assert not reader._watches._open
    assert not reader._keeper.channel._streams


async def test_what_there_is_not_is_refused(reader):
    for wrong in ({"scope": "tree"}, {"since": -1}, {"values": "old"}):
        with pytest.raises(BadRequest):
            reader.watch("/w", **wrong)
    with pytest.raises(BadPath):
        async with reader.watch("no slash"):
            pass
    with pytest.raises(BadPath):
        await anext(reader.watch("/a//b"))


async def test_it_ends_with_its_client(reader):
    watch = reader.watch("/w/a")
    task = asyncio.ensure_future(anext(watch))
    await until(lambda: watch.live)
    await reader.close()
    with pytest.raises(ClientClosed):
        await task
    with pytest.raises(ClientClosed):
        await anext(watch)


# --- threads


def test_threads_iterate_and_are_ended_by_a_close(own):
    with Client(own.endpoints) as client, Client(own.endpoints) as other:
        seen: list[Any] = []
        with client.watch("/a") as watch:
            reader = threading.Thread(target=lambda: seen.extend(watch))
            reader.start()
            revisions = [other.put("/a", str(number).encode()).revision for number in range(20)]
            own.fail_over()
            revisions += [other.put("/a", str(number).encode()).revision for number in range(20)]
            last = client.watch("/a", since=revisions[-2])
            assert next(last).revision == revisions[-1]
            while len(seen) < 40:
                client.ls("/")
        reader.join(10)
        assert not reader.is_alive()
        assert [event.revision for event in seen] == revisions
        assert last.next(timeout=0.01) is None
        last.close()
        assert list(last) == []
        with pytest.raises(ClientClosed):
            last.next()


def test_threads_batches_and_marks(own):
    told: list[bool] = []
    with Client(own.endpoints) as client:
        with client.watch("/", scope="subtree", on_live=told.append) as watch:
            stat = client.put("/d/e", b"", parents=True)
            batch = next(watch.batches())
            assert not isinstance(batch, Resync)
            assert [event.revision for event in batch] == [stat.revision] * 2
            assert watch.live
        assert (watch.revision or 0) >= stat.revision
        watch = client.watch("/a")
    with pytest.raises(ClientClosed):
        next(watch)
    assert told[:1] == [True]


def test_a_watch_of_the_parent_is_refused_in_a_child(own, monkeypatch):
    with Client(own.endpoints) as client:
        watch = client.watch("/a", since=0)
        client.put("/a", b"")
        assert next(watch).revision
        with monkeypatch.context() as patch:
            patch.setattr("coordclient.aio.guard.os.getpid", lambda: 1)
            for look in (lambda: next(watch), watch.next, watch.close, lambda: next(watch.batches())):
                with pytest.raises(ClientForked):
                    look()
        assert watch.next(timeout=0.01) is None
