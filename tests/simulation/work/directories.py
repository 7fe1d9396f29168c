"""Directories: names that everybody makes, removes, lists and looks for, for the search for an order."""

from __future__ import annotations

from random import Random

from coordclient.errors import CoordError, Exists, NotFound
from tests.simulation.client import ClientProcess
from tests.simulation.work.work import Work, Worker, without_answer

DIRECTORIES, NAMES = 2, 4


async def _arrange(work: Work, process: ClientProcess, chance: Random) -> None:
    directory, name = f"/d/{chance.randrange(DIRECTORIES)}", f"n{chance.randrange(NAMES)}"
    kind = chance.choices(("create", "delete", "list", "has"), (30, 25, 30, 15))[0]
    if kind == "create":
        await _create(work, process, directory, name, as_directory=chance.random() < 0.5)
    elif kind == "delete":
        await _delete(work, process, directory, name)
    elif kind == "list":
        await _list(work, process, directory)
    else:
        await _has(work, process, directory, name)


async def _create(work: Work, process: ClientProcess, directory: str, name: str, *, as_directory: bool) -> None:
    question = work.orders.recorder.begin("directory", directory, "create", process.name, name=name)
    make = process.client.mkdir if as_directory else process.client.create
    try:
        stat = await make(f"{directory}/{name}", parents=True)
        question.answered(revision=stat.revision)
    except Exists:
        question.answered("exists")
    except CoordError as error:
        raise without_answer(question, error) from None


async def _delete(work: Work, process: ClientProcess, directory: str, name: str) -> None:
    question = work.orders.recorder.begin("directory", directory, "delete", process.name, name=name)
    try:
        question.answered(revision=await process.client.delete(f"{directory}/{name}"))
    except NotFound:
        question.answered("missing")
    except CoordError as error:
        raise without_answer(question, error) from None


async def _list(work: Work, process: ClientProcess, directory: str) -> None:
    question = work.orders.recorder.begin("directory", directory, "list", process.name)
    try:
        names = sorted(entry.name for entry in await process.client.ls(directory))
    except NotFound:
        names = []  # nobody has made a name in it yet
    except CoordError as error:
        raise without_answer(question, error) from None
    question.answered(names=names)


async def _has(work: Work, process: ClientProcess, directory: str, name: str) -> None:
    question = work.orders.recorder.begin("directory", directory, "has", process.name, name=name)
    there = True
    try:
        await process.client.stat(f"{directory}/{name}")
    except NotFound:
        there = False
    except CoordError as error:
        raise without_answer(question, error) from None
    question.answered(there=there)


WORKERS = (Worker("directories", 1, _arrange),)
