"""Watches by the library: of anywhere, from now or from some revision, taken one by one or by whole revisions."""

from __future__ import annotations

from random import Random

from coordclient.aio.watch import Watch
from coordclient.changes import Event, Resync
from tests.simulation.checkers.tree import Version
from tests.simulation.checkers.watching import Following, Told
from tests.simulation.client import ClientProcess
from tests.simulation.work.watchers import VALUES, draw_place, draw_since, is_behind
from tests.simulation.work.work import Work, Worker


async def _watch(work: Work, process: ClientProcess, chance: Random) -> None:
    """One watch, for a while; at the end of the run until it has been told of everything."""
    scope, path = draw_place(work, chance)
    values = chance.choice(VALUES)
    since, whole = draw_since(work, chance), chance.random() < 0.5
    pause = chance.choice((0.0, 0.02, 0.3, 1.5))
    following = work.watching.follow(process.name, path, scope, values, since)
    ends_us = work.world.now_us + int(chance.expovariate(1) * 6_000_000)
    async with process.client.watch(path, scope=scope, since=since, values=values) as watch:
        assert watch.revision is not None
        if since is None or since <= work.tree.revision:  # else a resync is all that can come
            following.begins(watch.revision, clocks_kept=work.swarm.clocks_kept)
        batches = watch.batches()
        while not process.closing:
            upto = work.tree.revision
            if work.stop and not is_behind(following, upto):
                return
            if not work.stop and work.world.now_us > ends_us:
                if chance.random() < 0.3:
                    return
                ends_us += 3_000_000
            if whole and watch._watcher.watching.filled:
                await _take_batch(following, await anext(batches))
            else:
                _take(following, await watch.next(timeout=0.5), watch)
            if pause and not work.stop:
                await process.loop.rest(pause)


def _take(following: Following, item: Event | Resync | None, watch: Watch) -> None:
    if isinstance(item, Resync):
        _resync(following, item)
    elif item is not None:
        following.event(told_of(item))
    if watch.revision is not None and following.revision is not None:
        following.upto(watch.revision)


async def _take_batch(following: Following, batch: tuple[Event, ...] | Resync) -> None:
    if isinstance(batch, Resync):
        _resync(following, batch)
        return
    revisions = {event.revision for event in batch}
    assert len(revisions) == 1, batch
    for event in batch:
        following.event(told_of(event))
    following.upto(batch[0].revision)


def _resync(following: Following, item: Resync) -> None:
    entries = {
        node.path: Version(
            node.stat.instance,
            node.stat.content_generation,
            None if node.stat.kind == "directory" else (node.contents or b""),
        )
        for node in item.entries
    }
    following.resync(item.revision, entries)


def told_of(event: Event) -> Told:
    """In the words of the checker."""
    return Told(
        event.revision,
        event.path,
        event.kind,
        event.directory,
        event.instance,
        event.before,
        event.after,
        event.session,
        event.operation,
    )


WORKERS = (Worker("watches", 0, _watch),)
