"""How each kind of fault is done, and undone. One function per kind, under the name that the schedule knows.

A function returns whom it hit; nobody, if it could not be done as things stood (then it does not count). Whatever
happens meanwhile, it leaves the world as it found it: links mended, processes running, orders to the shim withdrawn.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections.abc import Awaitable, Callable, Sequence

from coordd.exits import Exit
from tests.nemesis.faults_clients import CLIENT_FAULTS
from tests.nemesis.faults_members import MEMBER_FAULTS
from tests.nemesis.faults_network import NETWORK_FAULTS
from tests.nemesis.schedule import BY_NAME, KINDS, Fault
from tests.nemesis.support import any_of, paused, until
from tests.nemesis.world import World

Hit = Sequence[str]
SYNC_FAILURE_SECONDS_MAX = 20.0
LEFT_BEHIND_SECONDS_MAX = 15.0
BLOB_BYTES = 200 * 1024
BLOBS_MAX = 80
ROLLING_READY_SECONDS_MAX = 60.0
UP_SECONDS_MAX = 4.0


async def inflict(world: World, fault: Fault) -> Hit:
    """Do it, for as long as it is to last; whom it hit."""
    return await FAULTS[fault.kind](world, fault)


# ---- the replicas' processes ----


async def kill_master(world: World, fault: Fault) -> Hit:
    return await _killed(world, fault, [await world.master()])


async def kill_follower(world: World, fault: Fault) -> Hit:
    return await _killed(world, fault, [await world.follower(fault.chance)])


async def kill_all(world: World, fault: Fault) -> Hit:
    return await _killed(world, fault, world.replicas)


async def _killed(world: World, fault: Fault, replicas: Sequence[int]) -> Hit:
    alive = [replica for replica in replicas if replica not in world.down]
    await asyncio.gather(*(world.kill(replica) for replica in alive))
    await asyncio.sleep(fault.length_s)
    for replica in alive:
        await world.restart(replica)
    return [f"r{replica}" for replica in alive]


async def kill_while_it_recovers(world: World, fault: Fault) -> Hit:
    """Again and again, a little later after each start."""
    replica = any_of(world.replicas, fault)
    if replica in world.down:
        return []
    chance = random.Random(fault.chance)
    for _ in range(3):
        await world.kill(replica)
        await world.restart(replica)
        await asyncio.sleep(chance.uniform(0.05, fault.length_s))
    await world.kill(replica)
    await world.restart(replica)
    return [f"r{replica}"]


async def pause_of_master(world: World, fault: Fault) -> Hit:
    master = await world.master()

    async def look_again() -> None:
        nonlocal master
        master = await world.master()

    await until(lambda: _is_up(world, master), UP_SECONDS_MAX, look_again)
    return await _paused(world, fault, master)


def _is_up(world: World, replica: int) -> bool:
    return replica not in world.down and world.cell.running(replica)


async def pause_of_follower(world: World, fault: Fault) -> Hit:
    return await _paused(world, fault, await world.follower(fault.chance))


async def _paused(world: World, fault: Fault, replica: int) -> Hit:
    if not _is_up(world, replica):
        return []
    await paused(world.cell.pid(replica), fault.length_s)
    return [f"r{replica}"]


async def rolling_restart(world: World, fault: Fault) -> Hit:
    """Each in its turn is told to end in order, and is ready again before the next."""
    done = []
    for replica in world.replicas:
        if replica in world.down:
            continue
        await world.kill(replica, signal.SIGTERM)
        await world.restart(replica)
        done.append(f"r{replica}")
        await until(lambda replica=replica: world.cell.ready(replica), ROLLING_READY_SECONDS_MAX)  # type: ignore[misc]
    return done


async def left_behind(world: World, fault: Fault) -> Hit:
    """One is down until its peers have cut from their logs what it misses: it can only be given a snapshot."""
    replica = await world.follower(fault.chance)
    status = await world.status(replica)
    if replica in world.down or status is None:
        return []

    def out_of_reach() -> bool:
        others = (world.cell.status(other) for other in world.replicas if other != replica)
        return all(other is not None and other["log_first_slot"] > status["chosen_upto"] + 1 for other in others)

    await world.kill(replica)
    try:
        done = await until(out_of_reach, LEFT_BEHIND_SECONDS_MAX, _writes(world))
        await asyncio.sleep(fault.length_s)
    finally:
        await world.restart(replica)
    return [f"r{replica}"] if done else []


# ---- disks and wall clocks ----


async def slow_sync_of_master(world: World, fault: Fault) -> Hit:
    return await _slow_sync(world, fault, await world.master())


async def slow_sync_of_follower(world: World, fault: Fault) -> Hit:
    return await _slow_sync(world, fault, await world.follower(fault.chance))


async def _slow_sync(world: World, fault: Fault, replica: int) -> Hit:
    shim = world.shims[replica]
    before = shim.counts["syncs_delayed"]
    shim.delay_syncs(0.02 + fault.chance % 1_000 / 1_000)
    try:
        await asyncio.sleep(fault.length_s)
    finally:
        shim.delay_syncs(0)
    delayed = shim.counts["syncs_delayed"] - before
    return [f"r{replica} ({delayed} syncs)"] if delayed else []


async def failing_sync(world: World, fault: Fault) -> Hit:
    """The daemon must end by that, with a status of its own; a person looks at the disk and starts it again."""
    replica = any_of(world.replicas, fault)
    if not _is_up(world, replica):
        return []
    shim = world.shims[replica]
    before = shim.counts["syncs_failed"]
    world.down.add(replica)
    shim.fail_syncs(True)
    try:
        ended = await until(lambda: not world.cell.running(replica), SYNC_FAILURE_SECONDS_MAX)
    finally:
        shim.fail_syncs(False)
    failed = shim.counts["syncs_failed"] - before
    if failed and not ended:  # it may be on its way
        ended = await until(lambda: not world.cell.running(replica), SYNC_FAILURE_SECONDS_MAX)
    if not ended:
        if failed:
            world.findings.append(f"replica {replica} goes on after {failed} syncs that failed")
        world.down.discard(replica)
        return []
    status = world.cell.wait_exit(replica)
    if status != Exit.DISK:
        world.findings.append(f"replica {replica} ended with {status} after a sync that failed, not with {Exit.DISK}")
    await asyncio.sleep(fault.length_s)
    await world.restart(replica)
    return [f"r{replica}"]


async def full_disk(world: World, fault: Fault) -> Hit:
    """Writes go on until the replica says that its disk is full; then there is room again after a while."""
    replica = world.small
    assert replica is not None, "only planned where there is a small disk"
    said = world.cell.log(replica).count("disk full")
    await asyncio.to_thread(world.filler.fill)
    try:
        noticed = await until(
            lambda: world.cell.log(replica).count("disk full") > said, fault.length_s + 10, _writes(world)
        )
        await asyncio.sleep(fault.length_s if noticed else 0)
    finally:
        world.filler.give_back()
    return [f"r{replica}"] if noticed else []


def _writes(world: World) -> Callable[[], Awaitable[None]]:
    """Large files to whoever is master, so that the log needs another segment."""
    body = {"path": "/bulk", "contents": {"text": "x" * BLOB_BYTES}}
    left = BLOBS_MAX

    async def write() -> None:
        nonlocal left
        if left:
            left -= 1
            with contextlib.suppress(OSError, ValueError):
                await asyncio.to_thread(world.cell.post, await world.master(), "put", body, 2.0)

    return write


async def wall_clock_step(world: World, fault: Fault) -> Hit:
    """Of one daemon or of all, by up to years, forwards or back; it stays so until the next step."""
    chance = random.Random(fault.chance)
    replicas = world.replicas if chance.random() < 0.3 else [chance.choice(world.replicas)]
    seconds = round(10 ** chance.uniform(0, 8)) * chance.choice((1, -1))
    for replica in replicas:
        world.shims[replica].move_wall_clock(seconds)
    return [f"r{replica} {seconds:+} s" for replica in replicas]


_FAULTS: dict[str, Callable[[World, Fault], Awaitable[Hit]]] = {
    "kill master": kill_master,
    "kill follower": kill_follower,
    "kill all": kill_all,
    "kill while it recovers": kill_while_it_recovers,
    "pause of the master, short": pause_of_master,
    "pause of the master, beyond its lease": pause_of_master,
    "pause of a follower": pause_of_follower,
    "rolling restart": rolling_restart,
    "left behind the log": left_behind,
    "slow sync of the master": slow_sync_of_master,
    "slow sync of a follower": slow_sync_of_follower,
    "failing sync": failing_sync,
    "full disk": full_disk,
    "wall clock step": wall_clock_step,
}
FAULTS = _FAULTS | NETWORK_FAULTS | MEMBER_FAULTS | CLIENT_FAULTS
assert FAULTS.keys() == BY_NAME.keys() and len(BY_NAME) == len(KINDS), "each kind has one way to be done"
