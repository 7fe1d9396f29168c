"""Readers: the same few nodes again and again, contents, stats, listings and what is not there; through a cache, where
the client has one."""

from __future__ import annotations

from random import Random

from coordclient.errors import CoordError, NotFound
from coordclient.values import Stat
from tests.simulation.checkers.fresh import Look, Seen
from tests.simulation.client import ClientProcess
from tests.simulation.work.work import Work, Worker, without_answer

FILES = ("/r/0", "/r/1", "/r/2")
TABLE = ("/p/0", "/p/1", "/p/2")  # what transactions change, whose order is looked for as that of one table
NODES = (*FILES, "/c/0", "/d/0/n0", "/d/0/n1", "/p/0", "/h/0", "/l/0", "/l", "/e", "/o/d0", "/d/0", "/r")
DIRECTORIES = ("/r", "/d/0", "/d/1", "/d", "/c", "/e", "/l", "/o", "/p", "/")


async def _read(work: Work, process: ClientProcess, chance: Random) -> None:
    """A few nodes for a while, quickly; or one file alone, so that nothing else is waited for in between; or, where
    transactions make and remove files, the top, whose listing tells how many there are."""
    hot, tabled = chance.random() < 0.6, "transactions" in work.swarm.workers
    files = chance.sample(TABLE if tabled and chance.random() < 0.6 else FILES, 1 if hot else 2)
    nodes, directories = chance.sample(NODES, 2), chance.sample(DIRECTORIES, 2)
    alone = "get" if hot else ""
    if tabled and chance.random() < 0.5:
        alone, directories = "ls", ["/"]
    pause = chance.choice({"get": (0.02, 0.05), "ls": (0.004, 0.02)}.get(alone, (0.0, 0.002, 0.02, 0.05)))
    for _ in range(chance.randint(3, 100 if alone == "ls" else 60 if alone else 30)):
        if process.closing or work.stop:
            return
        what = alone or chance.choices(("get", "stat", "ls"), (60, 20, 20))[0]
        path = chance.choice({"get": files, "stat": nodes, "ls": directories}[what])
        known = work.fresh.told
        seen = await (_get(work, process, path) if what == "get" and path in FILES else _look(process, what, path))
        if work.swarm.clocks_kept:
            work.fresh.read(process.name, what, path, seen, known)
        await process.loop.rest(pause)
    await process.loop.rest(chance.random())


async def _get(work: Work, process: ClientProcess, path: str) -> Seen:
    question = work.orders.recorder.begin("register", path, "get", process.name)
    try:
        contents, stat = await process.client.get(path)
    except NotFound:
        question.answered("missing")
        return None
    except CoordError as error:
        raise without_answer(question, error) from None
    question.answered(value=contents.decode(), generation=stat.content_generation)
    return look_of(stat)._replace(contents=contents)


async def _look(process: ClientProcess, what: str, path: str) -> Seen:
    client = process.client
    try:
        if what == "get":
            contents, stat = await client.get(path)
            return look_of(stat)._replace(contents=contents)
        if what == "stat":
            return look_of(await client.stat(path))
        return tuple((entry.name, look_of(entry.stat)) for entry in await client.ls(path))
    except NotFound:
        return None


def look_of(stat: Stat) -> Look:
    """What a stat says of the tree."""
    return Look(stat.kind, stat.instance, stat.content_generation, stat.children)


WORKERS = (Worker("readers", 0, _read),)
