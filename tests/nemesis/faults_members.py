"""Changes of the members under load: a replica is replaced by a new one, the mastership is handed over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from coordd.exits import Exit
from tests.nemesis.schedule import Fault
from tests.nemesis.support import until
from tests.nemesis.world import World

Hit = Sequence[str]
CHANGE_SECONDS_MAX = 60.0
ASK_S = 5.0


async def member_replaced(world: World, fault: Fault) -> Hit:
    """A new replica joins, learns and votes; then another one, perhaps the master, is removed and ends by that.

    What could not be finished the last time comes first, so that the cell keeps its size.
    """
    hit = []
    if len(world.replicas) <= world.size:
        replica, address = await world.prepare_member()
        if not await _change(world, "add_member", {"replica": replica, "address": address}):
            return []
        world.joined(replica)
        world.start_replica(replica)
        hit.append(f"r{replica} joined")
    newest = max(world.replicas)
    if not await _change(world, "promote_member", {"replica": newest}):
        return hit
    stays = {newest, world.small, *world.down}
    able = [replica for replica in world.replicas if replica not in stays and world.cell.running(replica)]
    if not able:
        return hit
    master = await world.master()
    victim = master if master in able and fault.chance & 1 else able[fault.chance // 8 % len(able)]
    world.down.add(victim)
    if not await _change(world, "remove_member", {"replica": victim}):
        world.down.discard(victim)
        return hit
    world.left(victim)
    if not await until(lambda: not world.cell.running(victim), CHANGE_SECONDS_MAX):
        world.findings.append(f"replica {victim} was removed and goes on")
    elif (status := world.cell.wait_exit(victim)) != Exit.REMOVED:
        world.findings.append(f"replica {victim} was removed and ended with {status}, not with {Exit.REMOVED}")
    return [*hit, f"r{victim} removed"]


async def mastership_handed_over(world: World, fault: Fault) -> Hit:
    to = await world.follower(fault.chance)
    answer = await _ask(world, "transfer_master", {"to": to})
    return [f"to r{to}"] if answer is not None and "code" not in answer else []


async def _change(world: World, operation: str, arguments: Mapping[str, Any]) -> bool:
    """Ask for it until it is done; a change that was done already is answered so."""
    answers: list[Mapping[str, Any]] = []

    async def attempt() -> None:
        answer = await _ask(world, operation, arguments)
        if answer is not None and "code" not in answer:
            answers.append(answer)

    return await until(lambda: bool(answers), CHANGE_SECONDS_MAX, attempt)


async def _ask(world: World, operation: str, arguments: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """One attempt, at whoever seems to be the master; None when no answer came."""
    try:
        return await asyncio.to_thread(world.cell.post, await world.master(), operation, dict(arguments), ASK_S)
    except (OSError, ValueError):
        return None


MEMBER_FAULTS: dict[str, Callable[[World, Fault], Awaitable[Hit]]] = {
    "member replaced": member_replaced,
    "mastership handed over": mastership_handed_over,
}
