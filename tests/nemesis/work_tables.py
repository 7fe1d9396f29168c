"""Transactions: a few files that are read and changed together, with guards on what was seen before."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from coordclient import CoordError, File, aio
from coordclient.errors import Exists, NotFound
from tests.nemesis.history import OK, now_ns
from tests.nemesis.work import PERIOD_NS, Bench, over

TABLES, KEYS = 3, ("a", "b", "c")
READS = ("get", "look")
Step = tuple[str, str, str | None]


class Seen(NamedTuple):
    """A file as it was; `value` None: there was none."""

    value: str | None
    generation: int


async def transact(bench: Bench, who: str) -> None:
    """A look at all files of a table and a transaction that goes by it; or looks at one file, by plain reads."""
    chance, done = bench.chance, 0
    while True:
        table = f"/reg/{now_ns() // PERIOD_NS}/t{chance.randrange(TABLES)}"
        if chance.random() < 0.3:
            key = chance.choice(KEYS)
            await look_at_one(bench, who, table, key)
            for _ in range(bench.again):
                await bench.pause(0, 0.02)
                await look_at_one(bench, who, table, key)
        else:
            seen = await look(bench, who, table)
            if seen is not None:
                done += 1
                await _change(bench, who, table, seen, f"{who}-{done}")
        await bench.pause()


def _begin_look(bench: Bench, who: str, table: str, keys: Sequence[str]) -> int:
    then = [("look", key, None) for key in keys]
    return bench.history.begin(who, "look", table=table, guards=(), then=then, otherwise=())


async def look_at_one(bench: Bench, who: str, table: str, key: str) -> None:
    """A plain read; from the cache, where the client has one."""
    number = _begin_look(bench, who, table, [key])
    try:
        value = (await bench.client.get(f"{table}/{key}")).contents.decode()
    except NotFound:
        bench.history.end(who, number, OK, succeeded=True, seen=[None])
    except (CoordError, asyncio.CancelledError) as error:
        over(bench, who, number, error)
    else:
        bench.history.end(who, number, OK, succeeded=True, seen=[value])


async def look(bench: Bench, who: str, table: str) -> Mapping[str, Seen] | None:
    """All files of a table at one moment; None when there was no answer."""
    number = _begin_look(bench, who, table, KEYS)
    try:
        found = await bench.client.get_many([f"{table}/{key}" for key in KEYS])
        seen = {key: _seen(found[f"{table}/{key}"]) for key in KEYS}
    except (CoordError, asyncio.CancelledError) as error:
        over(bench, who, number, error)
        return None
    bench.history.end(who, number, OK, succeeded=True, seen=[seen[key].value for key in KEYS])
    return seen


def _seen(found: File | CoordError) -> Seen:
    if isinstance(found, NotFound):
        return Seen(None, 0)
    if isinstance(found, CoordError):
        raise found
    return Seen(found.contents.decode(), found.stat.content_generation)


async def _change(bench: Bench, who: str, table: str, seen: Mapping[str, Seen], value: str) -> None:
    """One transaction. Each guard says that a file is as it was seen: no value is written twice."""
    chance = bench.chance
    guarded = [key for key in KEYS if chance.random() < 0.5]
    then = _steps(bench, f"{value}-then")
    otherwise = _steps(bench, f"{value}-else") if guarded and chance.random() < 0.5 else ()
    txn = bench.client.txn()
    for key in guarded:
        if seen[key].value is None:
            txn.if_exists(f"{table}/{key}", False)
        else:
            txn.if_generation(f"{table}/{key}", seen[key].generation)
    _add(txn, table, then)
    if otherwise:
        _add(txn.otherwise(), table, otherwise)
    guards = [(key, seen[key].value) for key in guarded]
    number = bench.history.begin(who, "txn", table=table, guards=guards, then=then, otherwise=otherwise)
    try:
        result = await txn.commit()
    except (NotFound, Exists) as error:
        bench.history.end(who, number, error.code, step=error.details["step"])
    except (CoordError, asyncio.CancelledError) as error:
        over(bench, who, number, error)
    else:
        read = [one.contents.decode() for one in result.results if isinstance(one, File)]
        changes = any(what not in READS for what, _, _ in (then if result.succeeded else otherwise))
        revision = {"revision": result.revision} if changes else {}
        bench.history.end(who, number, OK, succeeded=result.succeeded, seen=read, **revision)


def _steps(bench: Bench, value: str) -> tuple[Step, ...]:
    """Each file is changed once at most, and read before or after that."""
    chance = bench.chance
    steps: list[Step] = []
    for key in chance.sample(KEYS, chance.choice((1, 2, 2, 3))):
        what = chance.choices(("get", "put", "make", "delete"), (15, 65, 10, 10))[0]
        steps.append((what, key, f"{value}-{key}" if what in ("put", "make") else None))
        if what != "delete" and chance.random() < 0.2:
            steps.append(("get", key, None))
    return tuple(steps)


def _add(txn: aio.Txn, table: str, steps: Sequence[Step]) -> None:
    for what, key, value in steps:
        path = f"{table}/{key}"
        if what == "get":
            txn.get(path)
        elif what == "delete":
            txn.delete(path)
        else:
            make = txn.put if what == "put" else txn.create
            make(path, (value or "").encode(), parents=True)
