"""Heirs: a process that resumes the session of another one adopts all that it held, uses it, and gives it back."""

from __future__ import annotations

from random import Random

from coordclient.errors import LockLost, NotFound
from coordclient.holds import Hold as Inherited
from tests.histories.hold import Hold
from tests.simulation.client import ClientProcess
from tests.simulation.work.holding import AnyLock, fence, was_released
from tests.simulation.work.several import PATHS
from tests.simulation.work.work import HEIR, Work, Worker


async def _adopt(work: Work, process: ClientProcess, chance: Random) -> None:
    await adopt_all(work, process)
    await process.loop.rest(chance.random())


async def adopt_all(work: Work, process: ClientProcess) -> None:
    """One after the other."""
    while inherited := _inherited(process):
        try:
            await _one(work, process, inherited[0])
        except NotFound:  # somebody else of this process has adopted it, or it is revoked
            await process.loop.rest(0.05)
        except LockLost:
            work.lost += 1


def _inherited(process: ClientProcess) -> list[Inherited]:
    life = process.client._keeper.life
    return [] if life is None or process.closing else list(life.holds.inherited.values())


async def _one(work: Work, process: ClientProcess, inherited: Inherited) -> None:
    paths = [part.path for part in inherited.parts]
    wanted: str | list[str] = paths if len(paths) > 1 else paths[0]
    lock: AnyLock = await process.client.adopt(wanted, stop_margin=0.05)
    hold = record_of(work, process, inherited)
    async with lock:
        hold.sure = work.world.now_us
        work.adopted += 1
        fence(work, lock)
        await process.loop.rest(0.1)
        if lock.safe:
            hold.sure = work.world.now_us
        leaves = work.world.now_us
    if was_released(process, lock):
        hold.release = leaves, work.world.now_us


def record_of(work: Work, process: ClientProcess, inherited: Inherited) -> Hold:
    """The history of that hold; a new one, where the process before never heard of its grant."""
    key = inherited.session.id, inherited.number
    known = work.records.get(key)
    if known is not None:
        return known
    first = inherited.parts[0]
    parts = [(part.path, part.mode, part.permits) for part in inherited.parts] if first.path in PATHS else []
    hold = work.orders.recorder.hold("" if parts else first.path, first.mode, process.name, parts)
    hold.asked, hold.granted, hold.permits = work.story.grants[key], work.world.now_us, first.permits
    hold.token, hold.tokens = first.token, {part.path: part.token for part in inherited.parts}
    work.records[key] = hold
    return hold


WORKERS = (Worker(HEIR, 0, _adopt),)
