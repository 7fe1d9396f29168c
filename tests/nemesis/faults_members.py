"""Changes of the members under load: a replica is replaced by a new one, the mastership is handed over.

An operator asks for them, by the library and through the proxies like everybody.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from coordclient import CoordError
from coordd.exits import Exit
from tests.nemesis.schedule import Fault
from tests.nemesis.support import until
from tests.nemesis.world import World

Hit = Sequence[str]
CHANGE_SECONDS_MAX = 60.0
HAND_OVER_SECONDS_MAX = 6.0


async def member_replaced(world: World, fault: Fault) -> Hit:
    """A new replica joins, learns and votes; then another one, perhaps the master, is removed and ends by that.

    What could not be finished the last time comes first, so that the cell keeps its size.
    """
    hit = []
    if len(world.replicas) <= world.size:
        replica, address = await world.prepare_member()
        if not await _change(lambda: world.operator.add_member(address, replica)):
            return []
        world.joined(replica)
        world.start_replica(replica)
        hit.append(f"r{replica} joined")
    newest = max(world.replicas)
    if not await _change(lambda: world.operator.promote_member(newest)):
        return hit
    stays = {newest, world.small, *world.down}
    able = [replica for replica in world.replicas if replica not in stays and world.cell.running(replica)]
    if not able:
        return hit
    master = await world.master()
    victim = master if master in able and fault.chance & 1 else able[fault.chance // 8 % len(able)]
    world.down.add(victim)
    if not await _change(lambda: world.operator.remove_member(victim)):
        world.down.discard(victim)
        return hit
    world.left(victim)
    if not await until(lambda: not world.cell.running(victim), CHANGE_SECONDS_MAX):
        world.findings.append(f"replica {victim} was removed and goes on")
    elif (status := world.cell.wait_exit(victim)) != Exit.REMOVED:
        world.findings.append(f"replica {victim} was removed and ended with {status}, not with {Exit.REMOVED}")
    return [*hit, f"r{victim} removed"]


async def mastership_handed_over(world: World, fault: Fault) -> Hit:
    taken: list[int] = []

    async def hand_over() -> object:
        to = await world.follower(fault.chance)
        await world.operator.transfer_master(to)
        taken.append(to)
        return to

    await _change(hand_over, HAND_OVER_SECONDS_MAX)
    return [f"to r{to}" for to in taken]


async def _change(change: Callable[[], Awaitable[object]], seconds: float = CHANGE_SECONDS_MAX) -> bool:
    """Ask for it until it is done; a change that was done already is answered so."""
    done: list[object] = []

    async def attempt() -> None:
        try:
            done.append(await change())
        except CoordError:
            return  # refused as things stand, or nobody answered

    return await until(lambda: bool(done), seconds, attempt)


MEMBER_FAULTS: dict[str, Callable[[World, Fault], Awaitable[Hit]]] = {
    "member replaced": member_replaced,
    "mastership handed over": mastership_handed_over,
}
