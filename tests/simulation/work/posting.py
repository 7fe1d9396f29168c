"""What posters do: now and then a lock, used while it is believed in, released or given up; and their last things."""

from __future__ import annotations

from random import Random

from coordclient.errors import CoordError, OutcomeUnknown, SessionExpired, Unavailable
from coordclient.holds import Hold, HoldState
from tests.histories.hold import Hold as Record
from tests.simulation.client import ClientProcess
from tests.simulation.poster import PostClient, PostProcess
from tests.simulation.work.heirs import record_of
from tests.simulation.work.locks import LOCKS
from tests.simulation.work.work import Work, Worker

STOP_MARGIN_MS = 50
WAIT_SECONDS = (0.05, 1.0, 5.0)


async def _post(work: Work, process: ClientProcess, chance: Random) -> None:
    client = _client(process)
    await adopt_all(work, process)
    await process.loop.rest(chance.expovariate(1) * 0.3)
    if process.closing:
        return
    path, mode = f"/l/{chance.randrange(LOCKS)}", chance.choice(("exclusive", "exclusive", "shared"))
    record = work.orders.recorder.hold(path, mode, process.name)
    delay_ms, margin_ms = chance.choice((0, 500, 2_000)), chance.choice((STOP_MARGIN_MS, 300))
    hold = await client.acquire(path, mode, delay_ms, margin_ms, chance.choice(WAIT_SECONDS))
    if hold is None:
        work.timeouts += 1
        return
    record.granted, record.token, record.tokens = work.world.now_us, hold.token, {hold.path: hold.token}
    work.records[hold.session.id, hold.number] = record
    work.entered += 1
    rounds = chance.randint(5, 30) if chance.random() < max(0.2, work.swarm.long_holds) else chance.randint(1, 3)
    await _use(work, process, hold, record, rounds)


async def _use(work: Work, process: ClientProcess, hold: Hold, record: Record, rounds: int) -> None:
    """Hold it for a while, look again and again, and let it go."""
    client = _client(process)
    for _ in range(rounds):
        if work.stop or process.closing or not hold.safe(client.clocks()):
            break
        record.sure = work.world.now_us
        _fence(work, hold)
        await process.loop.rest(0.2)
    hold.stopped = True
    if hold.state is not HoldState.HELD:
        work.lost += 1
        return
    leaves = work.world.now_us
    await client.release(hold)
    record.release = leaves, work.world.now_us


def _fence(work: Work, hold: Hold) -> None:
    """Whoever is safe is the one whose token is the highest."""
    before = work.fences.refused
    work.fences.use(hold.path, hold.token)
    excused = not work.swarm.clocks_kept or (hold.path, hold.session.id, hold.number) in work.story.smashed
    if work.fences.refused > before and not excused:
        raise work.world.violation("fence", f"{hold.path}: a safe holder comes with the old token {hold.token}")


async def adopt_all(work: Work, process: ClientProcess) -> None:
    """What the process before held is used once, when it cannot believe in it any more, and let go."""
    client = _client(process)
    while (life := client.life) is not None and life.holds.inherited and not process.closing:
        hold = next(iter(life.holds.inherited.values()))
        hold.stop_margin_ms = STOP_MARGIN_MS
        if hold.doubt_ms(client.clocks()) > 0 or not life.holds.adopt(hold, client.clocks()):
            await process.loop.rest(0.1)
            continue
        work.adopted += 1
        await _use(work, process, hold, record_of(work, process, hold), 1)


async def last_posts(work: Work, process: ClientProcess, since_us: int) -> None:
    """As `ending.last_things`, by POST."""
    client, seat = _client(process), process.seat.name
    while process.alive and not process.closing:
        try:
            life = await client.present()
            await client.call(life, "put", {"path": f"/last/{seat}", "contents": b"done", "parents": True})
            await adopt_all(work, process)
            hold = await client.acquire("/l/last", "exclusive", 0, STOP_MARGIN_MS, 5.0)
            if hold is None:
                continue
            await client.release(hold)
            if work.busy[process.name] or await _left(client):
                await process.loop.rest(0.1)
                continue
            work.done[seat] = since_us
            process.closing = True
            await client.close()
        except (Unavailable, OutcomeUnknown, SessionExpired):
            await process.loop.rest(0.2)
        except CoordError as error:
            work.failure = work.failure or work.world.violation("unexpected error", f"{process.name}: {error!r}")
            return


async def _left(client: PostClient) -> bool:
    """Whether the cell sees a hold or a waiter of this session."""
    life = await client.present()
    _, info = await client.call(life, "session_info", {"session": 0})
    return bool(info["holds"] or info["waiting"])


def _client(process: ClientProcess) -> PostClient:
    assert isinstance(process, PostProcess)
    return process.posts


WORKERS = (Worker("posts", 0, _post),)
