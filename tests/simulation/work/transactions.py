"""Transactions on a few files that are read and changed together, for the search for an order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import NamedTuple

from coordclient.aio.txn import Txn
from coordclient.errors import CoordError, Exists, NotFound
from coordclient.values import File
from tests.simulation.client import ClientProcess
from tests.simulation.work.work import Work, Worker, without_answer

OBJECT = "/p"
KEYS = ("0", "1", "2")
Step = tuple[str, str, str | None]


class Seen(NamedTuple):
    """A file as it was; `value` None: there was none."""

    value: str | None
    generation: int
    checksum: str


async def _transact(work: Work, process: ClientProcess, chance: Random) -> None:
    """A look at all of them, and a transaction that goes by what was seen, or does not."""
    seen = await _look(work, process)
    if chance.random() < 0.4:
        return
    await process.loop.rest(chance.random() ** 2 * 0.2)
    guarded = [key for key in KEYS if chance.random() < 0.5]
    guards = tuple((key, seen[key].value) for key in guarded)
    then, otherwise = _steps(work, chance), _steps(work, chance) if guards and chance.random() < 0.5 else ()
    txn = process.client.txn()
    for key in guarded:
        _guard(txn, chance, key, seen[key])
    _add(txn, then)
    if otherwise:
        txn.otherwise()
        _add(txn, otherwise)
    if chance.random() < 0.1:
        await txn.plan()
    await _commit(work, process, txn, guards, then, otherwise)


async def _look(work: Work, process: ClientProcess) -> Mapping[str, Seen]:
    """All of them at one moment."""
    steps = tuple(("look", key, None) for key in KEYS)
    question = work.orders.recorder.begin("table", OBJECT, "txn", process.name, guards=(), then=steps, **{"else": ()})
    try:
        found = await process.client.get_many([_path(key) for key in KEYS])
    except CoordError as error:
        raise without_answer(question, error) from None
    seen = {key: _seen(found[_path(key)]) for key in KEYS}
    question.answered(succeeded=True, seen=[seen[key].value for key in KEYS])
    return seen


def _seen(found: File | CoordError) -> Seen:
    if isinstance(found, File):
        return Seen(found.contents.decode(), found.stat.content_generation, found.stat.checksum)
    if isinstance(found, NotFound):
        return Seen(None, 0, "")
    raise found


def _steps(work: Work, chance: Random) -> tuple[Step, ...]:
    """Each file is changed once at most, and read before or after that."""
    steps: list[Step] = []
    for key in chance.sample(KEYS, chance.randint(1, 3)):
        what = chance.choices(("get", "put", "make", "delete"), (30, 50, 10, 10))[0]
        steps.append((what, key, work.new_name() if what in ("put", "make") else None))
        if what != "delete" and chance.random() < 0.2:
            steps.append(("get", key, None))
    return tuple(steps)


def _guard(txn: Txn, chance: Random, key: str, seen: Seen) -> None:
    """One of the ways to say that it is as it was seen: no value is written twice."""
    if seen.value is None:
        txn.if_exists(_path(key), False)
    elif chance.random() < 0.5:
        txn.if_checksum(_path(key), seen.checksum)
    else:
        txn.if_generation(_path(key), seen.generation)


def _add(txn: Txn, steps: Sequence[Step]) -> None:
    for what, key, value in steps:
        if what == "get":
            txn.get(_path(key))
        elif what == "delete":
            txn.delete(_path(key))
        else:
            assert value is not None
            make = txn.put if what == "put" else txn.create
            make(_path(key), value.encode(), parents=True)


async def _commit(
    work: Work,
    process: ClientProcess,
    txn: Txn,
    guards: Sequence[tuple[str, str | None]],
    then: Sequence[Step],
    otherwise: Sequence[Step],
) -> None:
    question = work.orders.recorder.begin(
        "table", OBJECT, "txn", process.name, guards=guards, then=then, **{"else": otherwise}
    )
    try:
        result = await txn.commit()
    except (NotFound, Exists) as error:
        question.answered("refused", step=error.details["step"])
        return
    except CoordError as error:
        raise without_answer(question, error) from None
    steps = then if result.succeeded else otherwise
    seen = [one.contents.decode() for one in result.results if isinstance(one, File)]
    changes = any(what != "get" for what, _, _ in steps)
    told: dict[str, object] = {"succeeded": result.succeeded, "seen": seen}
    if changes:
        told["revision"] = result.revision
    question.answered("ok", **told)


def _path(key: str) -> str:
    return f"{OBJECT}/{key}"


WORKERS = (Worker("transactions", 0, _transact),)
