"""Operators: they ask why, look at sessions, take locks back, now or after the lease, and kill sessions."""

from __future__ import annotations

from random import Random

from coordclient.errors import LockLost, NotFound
from tests.simulation.client import ClientProcess
from tests.simulation.work.work import Work, Worker

SHELTERED = "/l/last"  # everybody must get it in the end


async def _operate(work: Work, process: ClientProcess, chance: Random) -> None:
    client = process.client
    await process.loop.rest(chance.expovariate(1))
    kind = chance.choices(("why", "info", "unlock", "now", "kill"), (50, 20, 18, 6, 6))[0]
    if kind in ("info", "kill"):
        rows = await client.sessions()
        session = chance.choice(rows).session
        try:
            if kind == "kill" and not work.stop:
                await client.kill_session(session, reason=work.new_name())
            else:
                await client.session_info(session)
        except NotFound:
            return
        return
    held = [row.path for row in await client.list_locks("/") if row.holders and row.path != SHELTERED]
    if not held or work.stop:
        return
    path = chance.choice(held)
    if kind == "why":
        await _why(work, process, path)
        return
    try:
        await client.unlock(path, reason=work.new_name(), now=kind == "now")
    except (LockLost, NotFound):
        return  # nobody holds it any more


async def _why(work: Work, process: ClientProcess, path: str) -> None:
    """What it tells of losses is what happened."""
    told = await process.client.why(path)
    for loss in told.losses:
        causes = work.story.causes.get((path, loss.session, loss.hold))
        if causes is None or loss.cause not in causes:
            raise work.world.violation("why", f"{path}: {loss} is told, and the causes were {causes}")


WORKERS = (Worker("operators", 1, _operate),)
