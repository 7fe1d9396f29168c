"""The last things of a client process, after the faults: all has to work again, and nothing may be left behind."""

from __future__ import annotations

from coordclient.errors import Locked, LockLost, LockTimeout, OutcomeUnknown, SessionExpired, Unavailable
from tests.simulation.client import ClientProcess
from tests.simulation.work.heirs import adopt_all
from tests.simulation.work.work import Work


async def last_things(work: Work, process: ClientProcess, since_us: int) -> None:
    """A new write and a lock cycle must succeed, then the process says goodbye."""
    seat = process.seat.name
    while process.alive and not process.closing:
        try:
            await process.client.put(f"/last/{seat}", b"done", parents=True)
            await adopt_all(work, process)
            async with process.client.lock("/l/last", timeout=5, stop_margin=0.05):
                pass
            await _nothing_behind(work, process)
            work.done[seat] = since_us
            process.closing = True
            await process.client.close()
            return
        except (Unavailable, OutcomeUnknown, SessionExpired, LockTimeout, LockLost):
            await process.loop.rest(0.2)
        except Locked as error:
            work.failure = work.failure or work.world.violation("unexpected error", repr(error))
            return


async def _nothing_behind(work: Work, process: ClientProcess) -> None:
    """When all its workers are done, the cell sees no hold and no waiter of this client; releases may take time."""
    session = process.session()
    while process.alive and session is process.session():
        own = process.client.session_id
        left = [
            lock.path
            for lock in await process.client.list_locks("/")
            if any(one.session == own for one in lock.holders) or any(one.session == own for one in lock.waiters)
        ]
        if not left and not work.busy[process.name]:
            return
        work.left_behind[process.name] = f"workers {work.busy[process.name]}, locks {left}"
        await process.loop.rest(0.1)
