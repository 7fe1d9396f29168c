"""What plain watchers do: watches that come and go, from now or from some revision; and their last things."""

from __future__ import annotations

from random import Random

from coordclient.aio.nodes import Scope, Values
from tests.simulation.checkers.watching import Following
from tests.simulation.client import ClientProcess
from tests.simulation.watcher import PlainWatch, WatchClient, WatchProcess
from tests.simulation.work.work import Work, Worker
from tests.simulation.world import Violation

WATCHES_MAX = 5
FAR_AHEAD = 1_000_000
VALUES: tuple[Values, ...] = ("none", "new", "both")
PLACES: tuple[tuple[Scope, str], ...] = (
    ("node", "/r/0"),
    ("node", "/r/1"),
    ("node", "/c/0"),
    ("node", "/l/0"),
    ("node", "/d"),
    ("node", "/p/1"),
    ("children", "/"),
    ("children", "/r"),
    ("children", "/c"),
    ("children", "/d/0"),
    ("children", "/e"),
    ("children", "/t"),
    ("subtree", "/"),
    ("subtree", "/r"),
    ("subtree", "/d"),
    ("subtree", "/p"),
    ("subtree", "/l"),
    ("subtree", "/t"),
)


async def _watch_around(work: Work, process: ClientProcess, chance: Random) -> None:
    client = _client(process)
    client.look()
    if process.closing:
        return
    if len(client.watches) < WATCHES_MAX and chance.random() < 0.5:
        await client.add(draw_watch(work, process, chance))
    elif client.watches and chance.random() < 0.2:
        await client.drop(chance.choice(client.watches))


def draw_watch(work: Work, process: ClientProcess, chance: Random) -> PlainWatch:
    """Of somewhere, from some revision on; some of them acknowledge late, and some hardly ever."""
    scope, path = draw_place(work, chance)
    values = chance.choice(VALUES)
    lag = chance.choice((0, 0, 3, 30))
    return PlainWatch(work.watching.follow(process.name, path, scope, values, draw_since(work, chance)), lag)


def draw_place(work: Work, chance: Random) -> tuple[Scope, str]:
    """Mostly where something is."""
    there = [place for place in PLACES if place[1] in work.tree.present]
    return chance.choice(there if there and chance.random() < 0.8 else PLACES)


def draw_since(work: Work, chance: Random) -> int | None:
    """Now, or after some revision of the past, or one that is not there yet."""
    how = chance.random()
    if how < 0.6:
        return None
    present = work.tree.revision
    return chance.randint(0, present) if how < 0.95 else present + FAR_AHEAD


async def last_watches(work: Work, process: ClientProcess, since_us: int) -> None:
    """Each of its watches, and a few new ones, is told of everything, and acknowledges at once: in a small window a
    large resync takes a second for each piece otherwise."""
    client, seat = _client(process), process.seat.name
    chance = work.world.chance(f"last {process.name}")
    upto = work.tree.revision
    try:
        for _ in range(3):
            await client.add(draw_watch(work, process, chance))
        for watch in client.watches:
            watch.lag = 0
        while process.alive and not process.closing:
            client.look()
            late = [str(watch.following) for watch in client.watches if is_behind(watch.following, upto)]
            if not late and not work.busy[process.name]:
                work.done[seat] = since_us
                process.closing = True
                await client.close()
                return
            work.left_behind[process.name] = f"watches {late}"
            await process.loop.rest(0.2)
    except Violation as violation:
        work.failure = work.failure or violation


def is_behind(following: Following, upto: int) -> bool:
    """Whether it has not been told of all that is so old."""
    change = following.waits_for()
    return following.revision is None or following.revision < upto or change is not None


def _client(process: ClientProcess) -> WatchClient:
    assert isinstance(process, WatchProcess)
    return process.watcher


WORKERS = (Worker("watchers", 0, _watch_around),)
