"""Locks that are handed from one session to another, past the queue."""

from __future__ import annotations

from random import Random

from coordclient.aio.lock import Lock
from coordclient.aio.terms import Mode
from coordclient.errors import NotWaiting
from tests.histories.hold import Hold
from tests.simulation.client import ClientProcess
from tests.simulation.work.holding import fence, recorded
from tests.simulation.work.work import Work, Worker

PATH = "/x/0"


async def _hand_over(work: Work, process: ClientProcess, chance: Random) -> None:
    mode: Mode = "exclusive" if chance.random() < 0.8 else "shared"
    lock = process.client.lock(
        PATH, mode, lock_delay=chance.choice((0.0, 0.5, 2.0)), stop_margin=chance.choice((0.05, 0.3))
    )
    async with recorded(work, process, lock, None, mode=mode) as hold:
        work.entered += 1
        for _ in range(chance.randint(1, 4)):
            if not lock.safe or work.stop:
                return
            hold.sure = work.world.now_us
            fence(work, lock)
            if await _handed_over(work, chance, lock, hold):
                return
            await process.loop.rest(chance.expovariate(1) * work.swarm.think_ms / 2_000)


async def _handed_over(work: Work, chance: Random, lock: Lock, hold: Hold) -> bool:
    """To somebody who waits, if anybody does."""
    info = await lock.info()
    waiting = sorted({waiter.session for waiter in info.waiters}) if info is not None else []
    if not waiting or not lock.safe:
        return False
    asked = work.world.now_us
    try:
        await lock.transfer(chance.choice(waiting))
    except NotWaiting:
        return False
    hold.release = asked, work.world.now_us
    work.handed_over += 1
    return True


WORKERS = (Worker("transfers", 1, _hand_over, of_locks=True),)
