"""Files with names of their own, made once; ephemeral files."""

from __future__ import annotations

from random import Random

from coordclient.errors import Exists, NotFound
from tests.simulation.client import ClientProcess
from tests.simulation.work.work import Work, Worker


async def _token(work: Work, process: ClientProcess, chance: Random) -> None:
    path, contents = f"/t/{work.new_name()}", process.name.encode()
    try:
        await process.client.create(path, contents, parents=True)
    except Exists:
        work.acknowledged.existed(path)
    work.acknowledged.made(path, contents)


async def _ephemeral(work: Work, process: ClientProcess, chance: Random) -> None:
    """Its file, or one more opener of somebody else's (the library has no name for that yet)."""
    if work.ephemerals and chance.random() < 0.4:
        try:
            await process.client._keeper.call("open", {"path": chance.choice(work.ephemerals)})
        except NotFound:
            return
        return
    path = f"/e/{work.new_name()}"
    await process.client.create(path, ephemeral=True, parents=True)
    work.ephemerals = [*work.ephemerals[-5:], path]
    await process.loop.rest(chance.random())
    if chance.random() < 0.5:
        try:
            await process.client.delete(path)
        except NotFound:
            return  # its session had ended


WORKERS = (Worker("tokens", 1, _token), Worker("ephemerals", 1, _ephemeral))
