"""Faults of the network between the replicas: late, slow, stalled, cut, partitioned, reset."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractContextManager

from tests.nemesis.faults_clients import hurtable
from tests.nemesis.proxy import Link, Trouble, Way, troubled
from tests.nemesis.schedule import Fault
from tests.nemesis.support import any_of, paused, two_of
from tests.nemesis.world import World

Hit = Sequence[str]
DEAF_AFTERWARDS_S = 1.0


def shut(links: Iterable[Link], ways: Iterable[Way], torn: bool) -> AbstractContextManager[None]:
    """These ways are shut for a while; with `torn` nothing of what they hold up arrives afterwards."""
    return troubled(links, ways, Trouble(shut=True), torn)


async def late_bytes(world: World, fault: Fault) -> Hit:
    replica = any_of(world.replicas, fault)
    links = world.links_of(replica)
    late = Trouble(delay_ms=10 + fault.chance % 200, jitter_ms=fault.chance % 97)
    with troubled(links, [link.there for link in links], late):
        await asyncio.sleep(fault.length_s)
    return [f"r{replica}"]


async def stalled_link(world: World, fault: Fault) -> Hit:
    one, other = two_of(world.replicas, fault)
    link = world.link(f"r{one}", other)
    with shut([link], [link.there], torn=False):
        await asyncio.sleep(fault.length_s)
    return [f"r{one}>r{other}"]


async def one_way_cut(world: World, fault: Fault) -> Hit:
    """The master, or any other, can be heard but cannot hear, or the other way round."""
    master = await world.master()
    replica = master if fault.chance & 1 else any_of(world.replicas, fault)
    links = [link for link in world.links_of(replica) if (link.replica == replica) == bool(fault.chance & 2)]
    with shut(links, [link.there for link in links], torn=True):
        await asyncio.sleep(fault.length_s)
    return [f"r{replica} {'deaf' if fault.chance & 2 else 'mute'}"]


async def master_cut_off(world: World, fault: Fault) -> Hit:
    return await _cut_off(world, fault, await world.master())


async def follower_cut_off(world: World, fault: Fault) -> Hit:
    return await _cut_off(world, fault, await world.follower(fault.chance))


async def _cut_off(world: World, fault: Fault, replica: int) -> Hit:
    """From its peers alone: clients still reach it."""
    links = world.links_of(replica)
    with shut(links, [link.there for link in links], torn=bool(fault.chance & 4)):
        await asyncio.sleep(fault.length_s)
    return [f"r{replica}"]


async def split_in_two(world: World, fault: Fault) -> Hit:
    """The master alone (or a follower) with some clients on one side; all others, and most clients, on the other.

    Who is with the majority is not hit: it has to find the new master.
    """
    alone = await world.master() if fault.chance & 3 else await world.follower(fault.chance)
    others = [replica for replica in world.replicas if replica != alone]
    outside = [name for place, name in enumerate(hurtable(world)) if fault.chance >> place & 4]
    inside = [name for name in world.worker_names if name not in outside]
    links = world.links_of(alone)
    links += [world.link(name, alone) for name in inside]
    links += [world.link(name, replica) for name in outside for replica in others]
    with shut(links, [way for link in links for way in (link.there, link.back)], torn=bool(fault.chance & 1)):
        await asyncio.sleep(fault.length_s)
    return [f"r{alone}", *outside]


async def partial_partition(world: World, fault: Fault) -> Hit:
    """Two do not hear each other; all others hear both."""
    one, other = two_of(world.replicas, fault)
    links = world.links_between(one, other)
    with shut(links, [link.there for link in links], torn=bool(fault.chance & 4)):
        await asyncio.sleep(fault.length_s)
    return [f"r{one}|r{other}"]


async def flapping_link(world: World, fault: Fault) -> Hit:
    one, other = two_of(world.replicas, fault)
    links = world.links_between(one, other)
    chance = random.Random(fault.chance)
    until = time.monotonic() + fault.length_s
    while time.monotonic() < until:
        with shut(links, [link.there for link in links], torn=chance.random() < 0.5):
            await asyncio.sleep(chance.uniform(0.05, 0.5))
        await asyncio.sleep(chance.uniform(0.05, 0.5))
    return [f"r{one}|r{other}"]


async def resets(world: World, fault: Fault) -> Hit:
    replica = any_of(world.replicas, fault)
    count = 0
    for _ in range(3):
        count += sum(link.reset() for link in world.links_of(replica))
        await asyncio.sleep(fault.length_s / 3)
    return [f"r{replica} ({count} connections)"] if count else []


async def slow_bytes(world: World, fault: Fault) -> Hit:
    replica = any_of(world.replicas, fault)
    links = world.links_of(replica)
    slow = Trouble(bytes_per_s=2_000 + fault.chance % 60_000)
    with troubled(links, [link.there for link in links], slow):
        await asyncio.sleep(fault.length_s)
    return [f"r{replica}"]


async def pause_while_cut_off(world: World, fault: Fault) -> Hit:
    """A master that wakes up and hears nothing: only its clock can tell that it does not reign any more."""
    master = await world.master()
    if master in world.down or not world.cell.running(master):
        return []
    links = world.links_of(master)
    with shut(links, [link.there for link in links], torn=False):
        await paused(world.cell.pid(master), fault.length_s)
        await asyncio.sleep(DEAF_AFTERWARDS_S)
    return [f"r{master}"]


NETWORK_FAULTS: dict[str, Callable[[World, Fault], Awaitable[Hit]]] = {
    "late bytes": late_bytes,
    "stalled link": stalled_link,
    "one-way cut": one_way_cut,
    "master cut off": master_cut_off,
    "follower cut off": follower_cut_off,
    "split in two": split_in_two,
    "partial partition": partial_partition,
    "flapping link": flapping_link,
    "resets": resets,
    "slow bytes": slow_bytes,
    "pause of the master, cut off": pause_while_cut_off,
}
