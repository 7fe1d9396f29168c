"""Locks: exclusive and shared, with little time, cancelled; whoever is safe uses its token outside."""

from __future__ import annotations

import asyncio
from random import Random

from coordclient.aio.terms import Mode
from coordclient.errors import Deadlock, Locked, NotFound
from tests.simulation.client import ClientProcess
from tests.simulation.work.holding import check_released, fence, recorded, use
from tests.simulation.work.work import Work, Worker

LOCKS = 2


async def _exclusive(work: Work, process: ClientProcess, chance: Random) -> None:
    await _under(work, process, chance, "exclusive", timeout=None)


async def _shared(work: Work, process: ClientProcess, chance: Random) -> None:
    await _under(work, process, chance, "shared" if chance.random() < 0.7 else "exclusive", timeout=None)


async def _impatient(work: Work, process: ClientProcess, chance: Random) -> None:
    """Asks for locks with little time, or is cancelled while it waits."""
    if chance.random() < 0.15:
        await _delete_locked(process, chance)
        return
    if chance.random() < 0.5:
        await _under(work, process, chance, "exclusive", timeout=chance.choice((0, 0.05, 0.5)))
        return
    try:
        async with asyncio.timeout(chance.random() ** 2 * 0.5):
            await _under(work, process, chance, "exclusive", timeout=None)
    except TimeoutError:
        work.timeouts += 1


async def _nested(work: Work, process: ClientProcess, chance: Random) -> None:
    """Two locks, one inside the other, in any order: who would wait for himself is told, and leaves."""
    modes: list[Mode] = [chance.choice(("exclusive", "shared")) for _ in range(LOCKS)]
    outer, inner = (
        process.client.lock(f"/l/{at}", modes[at], timeout=chance.choice((None, None, 4.0)))
        for at in chance.sample(range(LOCKS), LOCKS)
    )
    async with recorded(work, process, outer, None, mode=outer.mode):
        await process.loop.rest(chance.expovariate(1) * work.swarm.think_ms / 2_000)
        try:
            async with asyncio.timeout(chance.choice((1, 10))):  # not every deadlock is seen
                async with recorded(work, process, inner, None, mode=inner.mode):
                    work.entered += 1
                    fence(work, outer)
                    fence(work, inner)
        except TimeoutError:
            work.timeouts += 1
        except Deadlock:
            work.deadlocks += 1


async def _under(work: Work, process: ClientProcess, chance: Random, mode: Mode, timeout: float | None) -> None:
    path = f"/l/{chance.randrange(LOCKS)}"
    lock = process.client.lock(
        path,
        mode,
        timeout=timeout,
        lock_delay=chance.choice((0.0, 0.5, 2.0)),
        stop_margin=chance.choice((0.05, 0.3)),
    )
    async with recorded(work, process, lock, timeout, mode=mode) as hold:
        await use(work, process, chance, lock, hold)
    if hold.release is not None and chance.random() < 0.1:
        await check_released(work, process, lock)


async def _delete_locked(process: ClientProcess, chance: Random) -> None:
    """Somebody deletes a lock's file: refused while it is held or waited for."""
    try:
        await process.client.delete(f"/l/{chance.randrange(LOCKS)}")
    except (Locked, NotFound):
        return


WORKERS = (
    Worker("locks", 1, _exclusive, of_locks=True),
    Worker("shared locks", 1, _shared, of_locks=True),
    Worker("impatient", 1, _impatient, of_locks=True),
    Worker("nested locks", 1, _nested, of_locks=True),
)
