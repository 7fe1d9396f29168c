"""Locks: exclusive and shared, with little time, cancelled; whoever is safe uses its token outside."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from random import Random

from coordclient.aio.lock import Lock
from coordclient.aio.terms import Mode
from coordclient.errors import Deadlock, Locked, LockTimeout, NotFound
from tests.histories.hold import Hold
from tests.simulation.client import ClientProcess
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
    outer, inner = (process.client.lock(f"/l/{at}", modes[at]) for at in chance.sample(range(LOCKS), LOCKS))
    async with _recorded(work, process, outer, None):
        await process.loop.rest(chance.expovariate(1) * work.swarm.think_ms / 2_000)
        try:
            async with asyncio.timeout(chance.choice((1, 10))):  # not every deadlock is seen
                async with _recorded(work, process, inner, None):
                    work.entered += 1
                    _guarded(work, outer)
                    _guarded(work, inner)
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
    async with _recorded(work, process, lock, timeout) as hold:
        await _held(work, process, chance, lock, hold)
    if hold.release is not None and chance.random() < 0.1:
        await _check_released(work, process, lock)


@contextlib.asynccontextmanager
async def _recorded(work: Work, process: ClientProcess, lock: Lock, timeout: float | None) -> AsyncIterator[Hold]:
    """The lock is held, and when it was granted and released is written down."""
    hold = work.orders.recorder.hold(lock.path, lock.mode, process.name)
    try:
        async with lock:
            hold.granted, hold.token = work.world.now_us, lock.token
            yield hold
            leaves = work.world.now_us
    except LockTimeout as error:
        if timeout == 0 and hold.granted is None and "granted" not in str(error):
            hold.refused = work.world.now_us
        raise
    if _was_released(process, lock):
        hold.release = leaves, work.world.now_us


async def _held(work: Work, process: ClientProcess, chance: Random, lock: Lock, hold: Hold) -> None:
    work.entered += 1
    if chance.random() < 0.1:
        await _verify(work, process, lock)
    long = not work.stop and chance.random() < work.swarm.long_holds
    for _ in range(chance.randint(5, 50) if long else chance.randint(1, 3)):
        if not lock.safe or (long and work.stop):
            break
        hold.sure = work.world.now_us
        _guarded(work, lock)
        await process.loop.rest(0.2 if long else chance.expovariate(1) * work.swarm.think_ms / 2_000)


async def _verify(work: Work, process: ClientProcess, lock: Lock) -> None:
    """Safe before and after: then the sequencer was valid in between."""
    answer = await process.client.check_sequencer(lock.sequencer)
    if lock.safe and not answer.valid and work.swarm.clocks_kept:
        raise work.world.violation("sequencer", f"{lock.path}: held and safe, but not valid: {answer.reason}")


def _was_released(process: ClientProcess, lock: Lock) -> bool:
    """Was the release answered? One that goes on may not be through yet, and with the session it has no answer."""
    life = process.client._keeper.life
    if life is None or life is not lock._state._life or life.over is not None or life.backlog:
        return False
    return not any(call.lasting for call in life.calls.pending.values())


async def _check_released(work: Work, process: ClientProcess, lock: Lock) -> None:
    """A release was answered: its sequencer is never valid again."""
    if (await process.client.check_sequencer(lock.sequencer)).valid and work.swarm.clocks_kept:
        raise work.world.violation("sequencer", f"{lock.path}: {lock.sequencer} is valid after its release")


async def _delete_locked(process: ClientProcess, chance: Random) -> None:
    """Somebody deletes a lock's file: refused while it is held or waited for."""
    try:
        await process.client.delete(f"/l/{chance.randrange(LOCKS)}")
    except (Locked, NotFound):
        return


def _guarded(work: Work, lock: Lock) -> None:
    """Whoever is safe is the one whose token is the highest, of the exclusive ones."""
    if lock.safe:
        before = work.fences.refused
        work.fences.use(lock.path, lock.token)
        if work.fences.refused > before and work.swarm.clocks_kept:
            highest = work.fences.highest[lock.path]
            raise work.world.violation(
                "fence", f"{lock.path}: a safe holder comes with token {lock.token} after token {highest}"
            )


WORKERS = (
    Worker("locks", 1, _exclusive, of_locks=True),
    Worker("shared locks", 1, _shared, of_locks=True),
    Worker("impatient", 1, _impatient, of_locks=True),
    Worker("nested locks", 1, _nested, of_locks=True),
)
