"""What every worker does with a lock: the history of its hold, the fence outside, and what the cell says of it.

A worker may be the heir of a process that held the lock before: `Work.records` has the history of each hold.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from random import Random

from coordclient.aio.lock import Lock, LockSet
from coordclient.errors import CoordError, GuardFailed, LockTimeout, PermitsDiffer
from coordclient.holds import HoldState
from tests.histories.hold import Hold
from tests.simulation.client import ClientProcess
from tests.simulation.work.work import Work

AnyLock = Lock | LockSet
Parts = Sequence[tuple[str, str, int]]  # path, mode, permits


@contextlib.asynccontextmanager
async def recorded(
    work: Work,
    process: ClientProcess,
    lock: AnyLock,
    timeout: float | None,
    *,
    mode: str = "",
    permits: int = 0,
    parts: Parts = (),
) -> AsyncIterator[Hold]:
    """The lock is held, and when it was granted and released is written down.

    With `parts` as one of several that are taken at once, where nobody says that he was refused.
    """
    path = "" if isinstance(lock, LockSet) else lock.path
    hold = work.orders.recorder.hold(path, mode, process.name, parts)
    hold.permits = permits
    try:
        async with lock:
            _granted(work, lock, hold)
            yield hold
            leaves = work.world.now_us
    except LockTimeout as error:
        if timeout == 0 and hold.granted is None and not parts and "granted" not in str(error):
            hold.refused = work.world.now_us
        raise
    except PermitsDiffer:
        if not parts:
            hold.differs = work.world.now_us
        raise
    if hold.release is None and was_released(process, lock):
        hold.release = leaves, work.world.now_us


def _granted(work: Work, lock: AnyLock, hold: Hold) -> None:
    hold.granted = work.world.now_us
    if isinstance(lock, LockSet):
        hold.tokens = dict(lock.tokens)
    else:
        hold.token = lock.token
        hold.tokens = {lock.path: lock.token}
    held = lock._state.hold
    assert held is not None
    work.records[held.session.id, held.number] = hold


def was_released(process: ClientProcess, lock: AnyLock) -> bool:
    """Was the release answered? One that goes on may not be through yet, and with the session it has no answer."""
    life, held = process.client._keeper.life, lock._state.hold
    if held is None or held.state is not HoldState.RELEASED:
        return False
    if life is None or life is not lock._state._life or life.over is not None or life.backlog:
        return False
    return not any(call.lasting for call in life.calls.pending.values())


def excused(work: Work, lock: AnyLock) -> bool:
    """May two believe in it? Only when an operator has broken it at once, or where clocks do not keep the bound."""
    held = lock._state.hold
    assert held is not None
    parts = [(part.path, held.session.id, held.number) for part in held.parts]
    return not work.swarm.clocks_kept or any(part in work.story.smashed for part in parts)


async def use(work: Work, process: ClientProcess, chance: Random, lock: AnyLock, hold: Hold) -> None:
    """Hold it for a while, and look again and again."""
    work.entered += 1
    if chance.random() < 0.1:
        await verify(work, process, lock)
    if chance.random() < 0.15:
        await write_guarded(work, process, lock)
    long = not work.stop and chance.random() < work.swarm.long_holds
    for _ in range(chance.randint(5, 50) if long else chance.randint(1, 3)):
        if not lock.safe or (long and work.stop):
            break
        hold.sure = work.world.now_us
        fence(work, lock)
        await process.loop.rest(0.2 if long else chance.expovariate(1) * work.swarm.think_ms / 2_000)
    if chance.random() < 0.2:
        process.loop.run_soon(_late(work, process, sequencers(lock)[0]))


async def _late(work: Work, process: ClientProcess, sequencer: str) -> None:
    """A guarded write that leaves right behind the release, and overtakes it or not."""
    with contextlib.suppress(CoordError):
        await process.client.put(f"/g/{process.seat.name}", b"late", if_sequencer=sequencer, parents=True)


def sequencers(lock: AnyLock) -> list[str]:
    """Of all paths."""
    return list(lock.sequencers.values()) if isinstance(lock, LockSet) else [lock.sequencer]


async def verify(work: Work, process: ClientProcess, lock: AnyLock) -> None:
    """Safe before and after: then the sequencer was valid in between."""
    for sequencer in sequencers(lock):
        answer = await process.client.check_sequencer(sequencer)
        if lock.safe and not answer.valid and not excused(work, lock):
            raise work.world.violation("sequencer", f"{sequencer}: held and safe, but not valid: {answer.reason}")


async def check_released(work: Work, process: ClientProcess, lock: AnyLock) -> None:
    """A release was answered: its sequencer is never valid again, and guards nothing any more."""
    for sequencer in sequencers(lock):
        if (await process.client.check_sequencer(sequencer)).valid and work.swarm.clocks_kept:
            raise work.world.violation("sequencer", f"{sequencer} is valid after its release")
    with contextlib.suppress(GuardFailed):
        await process.client.put(f"/g/{work.new_name()}", b"late", if_sequencer=sequencers(lock)[0], parents=True)
        raise work.world.violation("guard", f"{sequencers(lock)[0]} guards a write after its release")


async def write_guarded(work: Work, process: ClientProcess, lock: AnyLock) -> None:
    """A write that is to be done only while this lock is held; safe before and after, it is done."""
    (sequencer, *_) = sequencers(lock)
    try:
        await process.client.put(f"/g/{process.seat.name}", b"guarded", if_sequencer=sequencer, parents=True)
    except GuardFailed as error:
        if lock.safe and not excused(work, lock):
            raise work.world.violation("guard", f"{sequencer}: held and safe, but {error}") from None


def fence(work: Work, lock: AnyLock) -> None:
    """Whoever is safe is the one whose token is the highest, of the exclusive ones."""
    if isinstance(lock, LockSet) or lock.mode == "semaphore" or not lock.safe:
        return
    before = work.fences.refused
    work.fences.use(lock.path, lock.token)
    if work.fences.refused > before and not excused(work, lock):
        highest = work.fences.highest[lock.path]
        raise work.world.violation(
            "fence", f"{lock.path}: a safe holder comes with token {lock.token} after token {highest}"
        )
