"""Faults of the clients: their links to the replicas, and their processes. The sheltered client is never hit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from tests.nemesis.proxy import Link, Trouble, troubled
from tests.nemesis.schedule import Fault
from tests.nemesis.support import paused
from tests.nemesis.world import SHELTERED, World

Hit = Sequence[str]


def hurtable(world: World) -> list[str]:
    """The clients that may be hit."""
    return [name for name in world.worker_names if name != SHELTERED]


def _victims(world: World, fault: Fault) -> list[str]:
    """One of them, some, or all."""
    names = hurtable(world)
    if not names or fault.chance % 3 == 0:
        return names
    one = names[fault.chance // 8 % len(names)]
    return [name for name in names if name == one or (fault.chance % 3 == 1 and world.chance.random() < 0.5)]


def _links(world: World, names: Iterable[str]) -> list[Link]:
    return [link for name in names for link in world.links_of_worker(name)]


async def _suffer(fault: Fault, links: Sequence[Link], there: Trouble, back: Trouble, torn: bool = False) -> None:
    with (
        troubled(links, [link.there for link in links], there, torn),
        troubled(links, [link.back for link in links], back, torn),
    ):
        await asyncio.sleep(fault.length_s)


async def late_bytes(world: World, fault: Fault) -> Hit:
    names = _victims(world, fault)
    late = Trouble(delay_ms=10 + fault.chance % 400, jitter_ms=fault.chance % 211)
    await _suffer(fault, _links(world, names), late, late)
    return names


async def stalled_link(world: World, fault: Fault) -> Hit:
    """What was on its way arrives late, in both directions."""
    return await _shut(world, fault, there=True, back=True, torn=False)


async def cut_off(world: World, fault: Fault) -> Hit:
    return await _shut(world, fault, there=True, back=True, torn=True)


async def one_way_cut(world: World, fault: Fault) -> Hit:
    """Requests arrive and answers do not, or the other way round."""
    answers = bool(fault.chance & 2)
    return await _shut(world, fault, there=not answers, back=answers, torn=bool(fault.chance & 4))


async def _shut(world: World, fault: Fault, *, there: bool, back: bool, torn: bool) -> Hit:
    names = _victims(world, fault)
    await _suffer(fault, _links(world, names), Trouble(shut=there), Trouble(shut=back), torn)
    return names


async def master_hidden(world: World, fault: Fault) -> Hit:
    """They reach every replica but the one that reigns."""
    names = _victims(world, fault)
    master = await world.master()
    links = [world.link(name, master) for name in names]
    await _suffer(fault, links, Trouble(shut=True), Trouble(shut=True), torn=bool(fault.chance & 4))
    return names


async def resets(world: World, fault: Fault) -> Hit:
    names = _victims(world, fault)
    count = 0
    for _ in range(3):
        count += sum(link.reset() for link in _links(world, names))
        await asyncio.sleep(fault.length_s / 3)
    return names if count else []


async def slow_bytes(world: World, fault: Fault) -> Hit:
    names = _victims(world, fault)
    there, back = (Trouble(bytes_per_s=5_000 + fault.chance % upto) for upto in (50_000, 70_000))
    await _suffer(fault, _links(world, names), there, back)
    return names


async def pause(world: World, fault: Fault) -> Hit:
    names = _victims(world, fault)
    await asyncio.gather(*(paused(world.workers[name].process.pid, fault.length_s) for name in names))
    return names


async def kill(world: World, fault: Fault) -> Hit:
    """Without a goodbye; after a while another process takes its place."""
    names = _victims(world, fault)
    for name in names:
        await world.kill_worker(name)
    await asyncio.sleep(fault.length_s)
    for name in names:
        world.respawn(name)
    return names


CLIENT_FAULTS: dict[str, Callable[[World, Fault], Awaitable[Hit]]] = {
    "client: late bytes": late_bytes,
    "client: stalled link": stalled_link,
    "client: cut off": cut_off,
    "client: one-way cut": one_way_cut,
    "client: master hidden": master_hidden,
    "client: resets": resets,
    "client: slow bytes": slow_bytes,
    "client: pause, short": pause,
    "client: pause beyond its lease": pause,
    "client: kill": kill,
}
