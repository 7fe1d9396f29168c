"""Handles on files that others remove and make again under the same name; ephemeral nodes that several keep alive."""

from __future__ import annotations

from random import Random

from coordclient.aio.handle import Handle
from coordclient.errors import (
    Conflict,
    CoordError,
    Exists,
    IsADirectory,
    NotADirectory,
    NotFound,
    StaleHandle,
)
from coordclient.values import Stat
from tests.simulation.client import ClientProcess
from tests.simulation.work.work import Work, Worker, without_answer

FILES, SHARED = 2, 2


async def _handle(work: Work, process: ClientProcess, chance: Random) -> None:
    """One file is opened and used for a while; or it is removed, whoever has it open."""
    path = f"/h/{chance.randrange(FILES)}"
    if chance.random() < 0.35:
        await _remove(work, process, path)
        return
    await _make(work, process, path)
    try:
        async with await process.client.open(path) as handle:
            for _ in range(chance.randint(1, 6)):
                if process.closing or work.stop:
                    return
                await _use(work, process, chance, handle)
                await process.loop.rest(chance.expovariate(1) * 0.1)
    except StaleHandle as error:
        _check_stale(work, path, error)
    except NotFound:
        return  # somebody has removed it before it was opened


async def _make(work: Work, process: ClientProcess, path: str) -> None:
    value = work.new_name()
    question = work.orders.recorder.begin("register", path, "put", process.name, value=value, if_absent=True)
    try:
        stat = await process.client.create(path, value.encode(), parents=True)
        question.answered(generation=stat.content_generation)
    except Exists:
        question.answered("exists")
    except CoordError as error:
        raise without_answer(question, error) from None


async def _remove(work: Work, process: ClientProcess, path: str) -> None:
    question = work.orders.recorder.begin("register", path, "delete", process.name)
    try:
        question.answered(revision=await process.client.delete(path))
    except NotFound:
        question.answered("missing")
    except CoordError as error:
        raise without_answer(question, error) from None


async def _use(work: Work, process: ClientProcess, chance: Random, handle: Handle) -> None:
    """Read, or write, by the handle: only ever that very file."""
    reads = chance.random() < 0.7
    value = "" if reads else work.new_name()
    name, arguments = ("get", {}) if reads else ("put", {"value": value})
    question = work.orders.recorder.begin("register", handle.path, name, process.name, **arguments)
    try:
        if reads:
            contents, stat = await handle.read()
            question.answered(value=contents.decode(), generation=stat.content_generation)
        else:
            stat = await handle.write(value.encode())
            question.answered(generation=stat.content_generation)
    except CoordError as error:
        raise without_answer(question, error) from None
    _check_same(work, handle, stat)


def _check_same(work: Work, handle: Handle, stat: Stat) -> None:
    version = work.tree.at(handle.path, stat.content_generation)
    if stat.instance != handle.instance or version is None or version.instance != handle.instance:
        text = f"{handle.path}: the handle is of instance {handle.instance}, and was told of {stat}; there is {version}"
        raise work.world.violation("handles", text)


def _check_stale(work: Work, path: str, error: StaleHandle) -> None:
    """Somebody must have removed the file."""
    if not any(change.path == path and change.kind == "deleted" for change in work.tree.changes):
        raise work.world.violation("handles", f"{path} was never removed, and {error!r}")


async def _share(work: Work, process: ClientProcess, chance: Random) -> None:
    """An ephemeral node is made or joined, kept for a while, and let go."""
    kind, path = chance.choice((("file", "/o/f"), ("directory", "/o/d")))
    path = f"{path}{chance.randrange(SHARED)}"
    if kind == "directory" and chance.random() < 0.3:
        await _remove_child(process, path)
        return
    try:
        if kind == "file":
            handle = await process.client.open(path, create="file", ephemeral=True, parents=True)
        else:
            handle = await process.client.open(path, create="directory", ephemeral=True, parents=True)
        async with handle:
            if kind == "directory" and chance.random() < 0.5:
                await _below(process, chance, handle)
            await process.loop.rest(chance.expovariate(1) * 0.5)
    except (StaleHandle, Conflict, NotADirectory, IsADirectory):
        return  # an operator removed it, or others made and removed it all the time


async def _below(process: ClientProcess, chance: Random, handle: Handle) -> None:
    """A permanent file in an ephemeral directory keeps that, until it is removed."""
    path = f"{handle.path}/x"
    try:
        await process.client.create(path)
    except Exists:
        pass  # another one has
    except NotFound:
        return
    await process.loop.rest(chance.random())
    if chance.random() < 0.5:  # else it may outlive all who have the directory open
        await _remove_child(process, handle.path)


async def _remove_child(process: ClientProcess, directory: str) -> None:
    try:
        await process.client.delete(f"{directory}/x")
    except NotFound:
        return  # or the directory with it


WORKERS = (Worker("handles", 0, _handle), Worker("shared nodes", 0, _share))
