"""Semaphores: a few permits, now and then somebody who thinks of another number, or wants the path for himself."""

from __future__ import annotations

from random import Random

from coordclient.errors import PermitsDiffer
from tests.simulation.client import ClientProcess
from tests.simulation.work.holding import check_released, recorded, use
from tests.simulation.work.work import Work, Worker

SEMAPHORES = 2
PERMITS = 2


async def _semaphore(work: Work, process: ClientProcess, chance: Random) -> None:
    path = f"/s/{chance.randrange(SEMAPHORES)}"
    timeout = chance.choice((None, None, None, 0, 0.5))
    lock_delay, stop_margin = chance.choice((0.0, 0.5, 2.0)), chance.choice((0.05, 0.3))
    if chance.random() < 0.1:
        lock = process.client.lock(path, timeout=timeout, lock_delay=lock_delay, stop_margin=stop_margin)
        mode, permits = "exclusive", 0
    else:
        mode, permits = "semaphore", PERMITS + (chance.random() < 0.1)
        lock = process.client.semaphore(
            path, permits=permits, timeout=timeout, lock_delay=lock_delay, stop_margin=stop_margin
        )
    try:
        async with recorded(work, process, lock, timeout, mode=mode, permits=permits) as hold:
            await use(work, process, chance, lock, hold)
    except PermitsDiffer:
        return
    if hold.release is not None and chance.random() < 0.1:
        await check_released(work, process, lock)


WORKERS = (Worker("semaphores", 2, _semaphore, of_locks=True),)
