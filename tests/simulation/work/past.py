"""The past: what has changed at a place, and what a file was at an earlier revision, as far as the cell keeps it."""

from __future__ import annotations

from random import Random

from coordclient.errors import IsADirectory, NotFound, RevisionGone
from tests.simulation.checkers.tree import is_in
from tests.simulation.client import ClientProcess
from tests.simulation.work.readers import NODES
from tests.simulation.work.work import Work, Worker

TOPS = ("/", "/r", "/d", "/l")


async def _look_back(work: Work, process: ClientProcess, chance: Random) -> None:
    if chance.random() < 0.5:
        await _history(work, process, chance)
    else:
        await _then(work, process, chance)


async def _history(work: Work, process: ClientProcess, chance: Random) -> None:
    subtree = chance.random() < 0.5
    path = chance.choice(TOPS if subtree else NODES)
    since = chance.choice((0, work.tree.revision // 2))
    count = chance.choice((3, 1_000))
    known = work.fresh.told
    found = await process.client.history(path, since=since, count=count, subtree=subtree)
    if known > found.revision and work.swarm.clocks_kept:
        _wrong(work, process, f"the history of {path} is of {found.revision}; {known} was known before")
    scope, after = "subtree" if subtree else "node", max(since, found.complete_after)
    told = [(one.revision, one.path, one.kind, one.instance) for one in found.changes]
    right = [
        (one.revision, one.path, one.kind, one.instance)
        for one in reversed(work.tree.changes)
        if after < one.revision <= found.revision and is_in(scope, path, one.path)
    ]
    kept = [row for row in told if row[0] > after]
    if kept != right[: len(kept)] or found.more != (len(kept) < len(right)) or not (kept or not right):
        _wrong(work, process, f"the history of {path} after {after} up to {found.revision} is {told}; it was {right}")


async def _then(work: Work, process: ClientProcess, chance: Random) -> None:
    path, revision = chance.choice(NODES), chance.randint(1, max(1, work.tree.revision))
    version = work.tree.at(path, revision)
    try:
        contents, stat = await process.client.get(path, revision=revision)
    except RevisionGone:
        if revision >= work.tree.trimmed:
            _wrong(work, process, f"revision {revision} is said to be gone; all after {work.tree.trimmed} are kept")
        return
    except NotFound:
        if version is not None:
            _wrong(work, process, f"there was nothing at {path} at {revision}, it is said; there was {version}")
        return
    except IsADirectory:
        if version is None or version.contents is not None:
            _wrong(work, process, f"{path} was a directory at {revision}, it is said; there was {version}")
        return
    if version is None or (version.contents, version.instance) != (contents, stat.instance):
        _wrong(work, process, f"{path} was {contents!r} at {revision}, it is said; it was {version}")


def _wrong(work: Work, process: ClientProcess, text: str) -> None:
    raise work.world.violation("past", f"{process.name}: {text}")


WORKERS = (Worker("past", 0, _look_back),)
