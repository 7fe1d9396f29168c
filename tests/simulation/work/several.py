"""Several locks at once, and single ones on the same paths, so that they meet in the queues."""

from __future__ import annotations

import asyncio
from random import Random

from coordclient.aio.terms import Mode, Wanted
from coordclient.errors import Deadlock, PermitsDiffer
from tests.simulation.client import ClientProcess
from tests.simulation.work.holding import AnyLock, check_released, recorded, use
from tests.simulation.work.work import Work, Worker

PATHS = ("/m/0", "/m/1", "/m/2")
PERMITS = 2


async def _several(work: Work, process: ClientProcess, chance: Random) -> None:
    """Two or three of them, or one; sometimes with little time, or cancelled."""
    wanted = sorted(chance.sample(PATHS, chance.choice((1, 1, 2, 2, 3))))
    modes = chance.choices(("exclusive", "shared", "semaphore"), (7, 2, 1), k=len(wanted))
    parts = [(path, mode, PERMITS if mode == "semaphore" else 0) for path, mode in zip(wanted, modes, strict=True)]
    timeout = chance.choice((None, None, None, 0, 0.5))
    lock = _lock_of(process, chance, parts, timeout)
    try:
        async with asyncio.timeout(chance.random() * 2 if chance.random() < 0.1 else None):
            async with recorded(work, process, lock, timeout, parts=parts) as hold:
                await use(work, process, chance, lock, hold)
    except TimeoutError:
        work.timeouts += 1
        return
    except (Deadlock, PermitsDiffer):
        return
    if hold.release is not None and chance.random() < 0.1:
        await check_released(work, process, lock)


def _lock_of(
    process: ClientProcess, chance: Random, parts: list[tuple[str, str, int]], timeout: float | None
) -> AnyLock:
    lock_delay, stop_margin = chance.choice((0.0, 0.5, 2.0)), chance.choice((0.05, 0.3))
    client = process.client
    if len(parts) > 1 or chance.random() < 0.2:
        wanted: list[Wanted] = [_wanted(*part) for part in parts]
        return client.locks(wanted, timeout=timeout, lock_delay=lock_delay, stop_margin=stop_margin)
    ((path, mode, permits),) = parts
    if permits:
        return client.semaphore(path, permits, timeout=timeout, lock_delay=lock_delay, stop_margin=stop_margin)
    one: Mode = "shared" if mode == "shared" else "exclusive"
    return client.lock(path, one, timeout=timeout, lock_delay=lock_delay, stop_margin=stop_margin)


def _wanted(path: str, mode: str, permits: int) -> Wanted:
    if permits:
        return path, "semaphore", permits
    return path, "shared" if mode == "shared" else "exclusive"


WORKERS = (Worker("several locks", 2, _several, of_locks=True),)
