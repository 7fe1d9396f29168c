"""One watch of each process over all registers and tables, through whatever is done to the process and the cell.

What it is told is written down in few letters, a few times a second: the contents as `shown` has them. A process that
is killed takes its last lines with it; it was told of what is written down, and that is judged.

| note | says |
|---|---|
| watching | registered; everything after `revision` is told |
| events | `batches` of one revision each, "REVISION PATH BEFORE AFTER PATH BEFORE AFTER ..."; told up to `upto` |
| resync | what there was at `revision`: `entries` "PATH GENERATION CONTENTS PATH GENERATION CONTENTS ..." |
| behind | it was not told of what was written at its end, more than once |
"""

from __future__ import annotations

import asyncio
import contextlib

from coordclient import CoordError, Event, Resync
from coordclient.changes import Node
from tests.nemesis.history import DIRECTORY, NOTHING, OK, UNTOLD, now_ns
from tests.nemesis.work import Bench, over, shown, write

WATCHED = "/reg"
NOTED_EVERY_NS = 10**9 // 4
SINCE_THE_BEGINNING = 0.3
NAP_AFTER_S, NAP_S = (15.0, 60.0), (4.0, 15.0)
LAST_WRITES_MAX, LAST_WRITE_SECONDS = 5, 5.0  # the outcome of one may be unknown


async def watch(bench: Bench, who: str, closing: asyncio.Event) -> None:
    """Until it is told of the file that `end_watch` writes, and so of everything before that.

    Some ask for everything since the beginning, of which the cell knows no more than what is left, some time later.
    """
    since = 1 if bench.chance.random() < SINCE_THE_BEGINNING else None
    while True:
        number = bench.history.begin(who, "watch", path=WATCHED, since=since)
        try:
            await _follow(bench, who, number, since, closing)
        except (CoordError, asyncio.CancelledError) as error:
            over(bench, who, number, error)
        else:
            bench.history.end(who, number, OK)
            return
        await bench.pause()


async def end_watch(bench: Bench, watching: asyncio.Task[None], closing: asyncio.Event) -> None:
    """When nothing else is done here any more, and nothing is hurt."""
    closing.set()
    who = f"{bench.name}.end"
    for number in range(1, LAST_WRITES_MAX + 1):
        await write(bench, who, "put", _last(bench), f"{who}-{number}")
        done, _ = await asyncio.wait([watching], timeout=LAST_WRITE_SECONDS)
        if done:
            await watching
            return
    bench.history.note(who, "behind", writes=LAST_WRITES_MAX)
    watching.cancel()


def _last(bench: Bench) -> str:
    return f"{WATCHED}/end/{bench.name}"


async def _follow(bench: Bench, who: str, number: int, since: int | None, closing: asyncio.Event) -> None:
    history, chance, last = bench.history, bench.chance, _last(bench)
    nap_ns = now_ns() + round(1e9 * chance.uniform(*NAP_AFTER_S))
    noted_ns = now_ns()
    lines: list[str] = []
    async with bench.client.watch(WATCHED, scope="subtree", since=since, values="both") as watch:
        history.note(who, "watching", n=number, revision=since or watch.revision)
        if closing.is_set():  # the last file may be there already
            return
        async for batch in watch.batches():
            resync = isinstance(batch, Resync)
            ends = any(node.path == last for node in (batch.entries if isinstance(batch, Resync) else batch))
            if not isinstance(batch, Resync):
                lines.append(_line(batch))
            if lines and (resync or ends or now_ns() > noted_ns + NOTED_EVERY_NS):
                upto = lines[-1].partition(" ")[0] if resync else watch.revision
                history.note(who, "events", n=number, upto=int(upto or 0), batches=lines)
                lines, noted_ns = [], now_ns()
            if isinstance(batch, Resync):
                entries = " ".join(_entry(node) for node in batch.entries)
                history.note(who, "resync", n=number, revision=batch.revision, entries=entries)
            if ends:
                return
            if now_ns() > nap_ns:  # so slow a watcher that the cell may forget what it has not seen
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(closing.wait(), chance.uniform(*NAP_S))
                nap_ns = now_ns() + round(1e9 * chance.uniform(*NAP_AFTER_S))


def _line(batch: tuple[Event, ...]) -> str:
    words = [f"{batch[0].revision}"]
    for event in batch:
        words += [event.path, _side(event, event.before, "created"), _side(event, event.after, "deleted")]
    return " ".join(words)


def _side(event: Event, contents: bytes | None, absent: str) -> str:
    """What there was on one side of the change, by what the event says in words and by its contents."""
    if contents is not None:
        return shown(contents)
    if event.kind == absent:
        return NOTHING
    return DIRECTORY if event.directory else UNTOLD


def _entry(node: Node) -> str:
    stat = node.stat
    if stat.kind == "directory":
        return f"{node.path} {stat.instance} {DIRECTORY}"
    return f"{node.path} {stat.content_generation} {UNTOLD if node.contents is None else shown(node.contents)}"
