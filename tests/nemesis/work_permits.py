"""Semaphores, several locks at once, and an operator who takes locks back while their holders work."""

from __future__ import annotations

import asyncio

from coordclient import CoordError, aio
from coordclient.errors import NotFound
from tests.nemesis.history import OK, now_ns
from tests.nemesis.work import LOCK_DELAYS_S, Bench, over
from tests.nemesis.work_locks import LOCKS, LOOK_EVERY_S, PATIENCE_S, STOP_MARGIN_S, how_long_ns

PERMITS = 2
TOGETHER = ("/lock/together/0", "/lock/together/1", "/lock/together/2")


async def permit(bench: Bench, who: str) -> None:
    """One of a few permits is held, and looked at, for a while."""
    while True:
        lock = bench.client.semaphore(
            "/lock/permits",
            PERMITS,
            timeout=bench.chance.uniform(*PATIENCE_S),
            lock_delay=bench.chance.choice(LOCK_DELAYS_S),
            stop_margin=STOP_MARGIN_S,
        )
        await _under(bench, who, lock, {"permits": "semaphore"})
        await bench.pause()


async def together(bench: Bench, who: str) -> None:
    """Two or three locks at once: each of them counts as held by itself."""
    while True:
        paths = bench.chance.sample(TOGETHER, bench.chance.choice((2, 2, 3)))
        lock = bench.client.locks(
            paths,
            timeout=bench.chance.uniform(*PATIENCE_S),
            lock_delay=bench.chance.choice(LOCK_DELAYS_S),
            stop_margin=STOP_MARGIN_S,
        )
        await _under(bench, who, lock, dict.fromkeys(paths, "exclusive"))
        await bench.pause()


async def _under(bench: Bench, who: str, lock: aio.Lock | aio.LockSet, modes: dict[str, str]) -> None:
    history = bench.history
    numbers = {name: history.begin(who, "part", lock=name, mode=mode) for name, mode in modes.items()}
    ended = OK
    try:
        async with lock:
            for name, number in numbers.items():
                token = lock.tokens[name] if isinstance(lock, aio.LockSet) else lock.token
                history.note(who, "enter", n=number, lock=name, mode=modes[name], token=token)
            try:
                await _look(bench, who, lock, list(numbers.values()))
            finally:
                for number in numbers.values():
                    history.note(who, "leave", n=number)
    except (CoordError, asyncio.CancelledError) as error:
        ended = bench.outcome(error)
        if isinstance(error, asyncio.CancelledError):
            raise
    finally:
        for number in numbers.values():
            history.end(who, number, ended)


async def _look(bench: Bench, who: str, lock: aio.Lock | aio.LockSet, numbers: list[int]) -> None:
    until_ns = now_ns() + how_long_ns(bench.chance)
    while True:
        before_ns = now_ns()
        safe = lock.safe
        for number in numbers:
            bench.history.note(who, "look", n=number, before_ns=before_ns, safe=safe)
        if not safe or now_ns() > until_ns:
            return
        await asyncio.sleep(LOOK_EVERY_S)


async def operate(bench: Bench, who: str) -> None:
    """Asks why, and now and then takes a lock back from whoever holds it; who does is told, stops, and waits again."""
    while True:
        path = bench.chance.choice((f"/lock/hold/{bench.chance.randrange(LOCKS)}", "/lock/permits", TOGETHER[0]))
        unlocks = bench.chance.random() < 0.1
        number = bench.history.begin(who, "unlock" if unlocks else "ask", what="why", path=path)
        try:
            if unlocks:
                await bench.client.unlock(path, reason=f"{who} {number}")
            else:
                await bench.client.why(path)
            bench.history.end(who, number, OK)
        except NotFound:
            bench.history.end(who, number, "not_found")
        except (CoordError, asyncio.CancelledError) as error:
            over(bench, who, number, error)
        await bench.pause(0.5, 2.0)
