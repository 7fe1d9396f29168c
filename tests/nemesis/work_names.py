"""Directories that everybody uses, and questions about whatever can be asked about."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from coordclient import CoordError
from coordclient.errors import NotFound
from tests.nemesis.history import OK, now_ns
from tests.nemesis.work import PERIOD_NS, Bench, over

DIRECTORIES, NAMES = 3, 4


async def arrange(bench: Bench, who: str) -> None:
    """Names come and go in a few directories: as files, as directories, and with the directory itself when it is not
    there yet; listed and looked at meanwhile."""
    while True:
        directory = f"/dir/{now_ns() // PERIOD_NS}/{bench.chance.randrange(DIRECTORIES)}"
        name = f"n{bench.chance.randrange(NAMES)}"
        dice = bench.chance.random()
        if dice < 0.3:
            await _add(bench, who, directory, name)
        elif dice < 0.55:
            await _remove(bench, who, directory, name)
        elif dice < 0.85:
            await _list(bench, who, directory)
            for _ in range(bench.again):
                await bench.pause(0, 0.02)
                await _list(bench, who, directory)
        else:
            await _has(bench, who, directory, name)
        await bench.pause()


async def _add(bench: Bench, who: str, directory: str, name: str) -> None:
    number = bench.history.begin(who, "name", key=directory, name=name)
    path = f"{directory}/{name}"
    try:
        if bench.chance.random() < 0.5:
            stat = await bench.client.mkdir(path, parents=True)
        else:
            stat = await bench.client.create(path, parents=True)
    except (CoordError, asyncio.CancelledError) as error:
        over(bench, who, number, error)
    else:
        bench.history.end(who, number, OK, revision=stat.revision)


async def _remove(bench: Bench, who: str, directory: str, name: str) -> None:
    number = bench.history.begin(who, "unname", key=directory, name=name)
    try:
        revision = await bench.client.delete(f"{directory}/{name}")
    except (CoordError, asyncio.CancelledError) as error:
        over(bench, who, number, error)
    else:
        bench.history.end(who, number, OK, revision=revision)


async def _list(bench: Bench, who: str, directory: str) -> None:
    number = bench.history.begin(who, "list", key=directory)
    try:
        names = [entry.name for entry in await bench.client.ls(directory)]
    except NotFound:
        names = []
    except (CoordError, asyncio.CancelledError) as error:
        over(bench, who, number, error)
        return
    bench.history.end(who, number, OK, names=names)


async def _has(bench: Bench, who: str, directory: str, name: str) -> None:
    number = bench.history.begin(who, "has", key=directory, name=name)
    try:
        await bench.client.stat(f"{directory}/{name}")
        there = True
    except NotFound:
        there = False
    except (CoordError, asyncio.CancelledError) as error:
        over(bench, who, number, error)
        return
    bench.history.end(who, number, OK, there=there)


async def ask(bench: Bench, who: str) -> None:
    """Whatever else the library can be asked: who takes part, who is the master, whose sessions and locks there are."""
    questions: dict[str, Callable[[], Awaitable[object]]] = {
        "status": bench.client.status,
        "cell_status": bench.client.cell_status,
        "members": bench.client.members,
        "locks": bench.client.list_locks,
    }
    while True:
        what = bench.chance.choice((*questions, "sessions"))
        session = bench.client.session_id
        number = bench.history.begin(who, "ask", what=what)
        try:
            if what == "sessions":
                listed = [info.session for info in await bench.client.sessions()]
                # Whoever has this session before and after, had it in between.
                missing = session is not None and session == bench.client.session_id and session not in listed
                bench.history.end(who, number, OK, missing=missing)
            else:
                await questions[what]()
                bench.history.end(who, number, OK)
        except (CoordError, asyncio.CancelledError) as error:
            over(bench, who, number, error)
        await bench.pause(0.3, 1.0)
