"""Registers: a few small files, read and written in every way, for the search for an order."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from coordclient.errors import Conflict, CoordError, Exists, NotFound
from tests.simulation.client import ClientProcess
from tests.simulation.work.work import Work, Worker, without_answer

REGISTERS = 3
REFUSALS: Mapping[type[CoordError], str] = {Conflict: "conflict", Exists: "exists", NotFound: "missing"}


async def _register(work: Work, process: ClientProcess, chance: Random) -> None:
    key = f"/r/{chance.randrange(REGISTERS)}"
    kind = chance.choices(("put", "get", "swap", "add", "delete"), (25, 40, 20, 10, 5))[0]
    if kind == "get":
        await _get(work, process, key)
    elif kind == "delete":
        await _delete(work, process, key)
    elif kind == "put":
        await _put(work, process, key)
    elif kind == "add":
        await _put(work, process, key, if_absent=True)
    elif generation := await _get(work, process, key):
        await _put(work, process, key, if_generation=generation)


async def _get(work: Work, process: ClientProcess, key: str) -> int:
    """The generation of what was seen, 0 where there was nothing."""
    question = work.orders.recorder.begin("register", key, "get", process.name)
    try:
        file = await process.client.get(key)
    except NotFound:
        question.answered("missing")
        return 0
    except CoordError as error:
        raise without_answer(question, error) from None
    generation = file.stat.content_generation
    question.answered(value=file.contents.decode(), generation=generation)
    return generation


async def _put(
    work: Work, process: ClientProcess, key: str, *, if_absent: bool = False, if_generation: int | None = None
) -> None:
    value = work.new_name()
    condition = {"if_absent": if_absent} if if_generation is None else {"if_generation": if_generation}
    question = work.orders.recorder.begin("register", key, "put", process.name, value=value, **condition)
    try:
        stat = await process.client.put(
            key, value.encode(), if_absent=if_absent, if_generation=if_generation, parents=if_generation is None
        )
        question.answered(generation=stat.content_generation)
    except (Conflict, Exists, NotFound) as error:
        question.answered(REFUSALS[type(error)])
    except CoordError as error:
        raise without_answer(question, error) from None


async def _delete(work: Work, process: ClientProcess, key: str) -> None:
    question = work.orders.recorder.begin("register", key, "delete", process.name)
    try:
        question.answered(revision=await process.client.delete(key))
    except NotFound:
        question.answered("missing")
    except CoordError as error:
        raise without_answer(question, error) from None


WORKERS = (Worker("registers", 2, _register),)
