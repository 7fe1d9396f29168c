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
NODES = (*FILES, "/c/0", "/d/0/n0", "/d/0/n1", "/p/0", "/h/0", "/l/0", "/l", "/e", "/o/d0", "/d/0", "/r")
DIRECTORIES = ("/r", "/d/0", "/d/1", "/d", "/c", "/e", "/l", "/o")


async def _read(work: Work, process: ClientProcess, chance: Random) -> None:
    """A few nodes for a while, quickly; or one file alone, so that nothing else is waited for in between."""
    hot = chance.random() < 0.4
    files = chance.sample(FILES, 1 if hot else 2)
    nodes, directories = chance.sample(NODES, 2), chance.sample(DIRECTORIES, 2)
    pause = chance.choice((0.0, 0.002, 0.02, 0.05))
    for _ in range(chance.randint(3, 60 if hot else 30)):
        if process.closing or work.stop:
            return
        what = "get" if hot else chance.choices(("get", "stat", "ls"), (60, 20, 20))[0]
        path = chance.choice({"get": files, "stat": nodes, "ls": directories}[what])
        known = work.fresh.told
        seen = await (_get(work, process, path) if what == "get" else _look(process, what, path))
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
        if what == "stat":
            return look_of(await client.stat(path))
        return tuple((entry.name, look_of(entry.stat)) for entry in await client.ls(path))
    except NotFound:
        return None


def look_of(stat: Stat) -> Look:
    """What a stat says of the tree."""
    return Look(stat.kind, stat.instance, stat.content_generation, stat.children)


WORKERS = (Worker("readers", 0, _read),)
