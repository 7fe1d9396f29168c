"""Locks: taken in every way that the library has, held, looked at, asked about, and given back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from coordclient import CoordError, LockInfo, LockLost, SequencerCheck, aio
from tests.nemesis.history import OK, now_ns
from tests.nemesis.record import RecordClient
from tests.nemesis.work import LOCK_DELAYS_S, Bench

LOCKS = 6
SHARED_LOCK = 2  # this one is taken in both modes
STOP_MARGIN_S = 0.4
HOLDS_S = ((0.7, 0.0, 0.2), (0.2, 0.8, 3.0), (0.1, 4.0, 9.0))  # how often, how long; the last ones outlive a lease
LOOK_EVERY_S = 0.04
PATIENCE_S = (0.5, 6.0)


def which_lock(chance: random.Random) -> tuple[int, str]:
    """Its number and mode."""
    which = chance.randrange(LOCKS)
    return which, "shared" if which == SHARED_LOCK and chance.random() < 0.7 else "exclusive"


def how_long_ns(chance: random.Random) -> int:
    """For how long to hold it."""
    (_, low, high), *_ = chance.choices(HOLDS_S, [often for often, *_ in HOLDS_S])
    return round(1e9 * chance.uniform(low, high))


async def hold(bench: Bench, who: str) -> None:
    """By `async with`: the body is ended when the lock is lost."""

    async def held(lock: aio.Lock, body: Callable[[], Awaitable[None]]) -> bool:
        async with lock:
            await body()
        return True

    await _hold_on(bench, who, held, asks=True)


async def hold_by_hand(bench: Bench, who: str) -> None:
    """By acquire and release: once without waiting, for a while, or for ever until somebody interrupts it.

    Nothing interrupts such a body when the lock is lost: so it does not ask the cell, which may be slow to answer.
    """

    async def held(lock: aio.Lock, body: Callable[[], Awaitable[None]]) -> bool:
        if not await _acquire(lock, bench.chance):
            return False
        try:
            await body()
        finally:
            await lock.release()
        await _ask(bench, who, lock, "released", bench.client.check_sequencer(lock.sequencer))
        return True

    await _hold_on(bench, who, held, asks=False)


async def _acquire(lock: aio.Lock, chance: random.Random) -> bool:
    dice, patience_s = chance.random(), chance.uniform(*PATIENCE_S)
    if dice < 0.2:
        return await lock.acquire(blocking=False)
    if dice < 0.7:
        return await lock.acquire(timeout=patience_s)
    try:
        async with asyncio.timeout(patience_s):  # the acquire is cancelled: nothing of it may stay in the queue
            return await lock.acquire()
    except TimeoutError:
        return False


async def _hold_on(
    bench: Bench, who: str, held: Callable[[aio.Lock, Callable[[], Awaitable[None]]], Awaitable[bool]], *, asks: bool
) -> None:
    record = RecordClient(bench.record, who)
    while True:
        which, mode = which_lock(bench.chance)
        number = bench.history.begin(who, "hold", lock=which, mode=mode)
        lock = bench.client.lock(
            f"/lock/hold/{which}",
            "shared" if mode == "shared" else "exclusive",
            timeout=bench.chance.uniform(*PATIENCE_S),
            lock_delay=bench.chance.choice(LOCK_DELAYS_S),
            stop_margin=STOP_MARGIN_S,
        )
        token: int | None = None

        async def body(number: int = number, lock: aio.Lock = lock, name: str = f"{which}") -> None:
            nonlocal token
            token = lock.token
            await _held(bench, who, number, lock, record if asks else None, name)

        try:
            ended = OK if await held(lock, body) else "not_acquired"
        except (CoordError, asyncio.CancelledError) as error:
            record.forget()
            ended = OK if token else bench.outcome(error)
            bench.history.end(who, number, ended, token=token, said=f"{type(error).__name__}: {error}")
            if isinstance(error, asyncio.CancelledError):
                raise
        else:
            bench.history.end(who, number, ended, token=token)
        await bench.pause()


async def _held(bench: Bench, who: str, number: int, lock: aio.Lock, record: RecordClient | None, name: str) -> None:
    """The body. A look is dated before it, the first one after it: so nobody is said to believe longer than he does."""
    history, chance = bench.history, bench.chance
    until_ns = now_ns() + how_long_ns(chance)
    if not lock.safe:
        history.note(who, "unsafe at entry", n=number)
        return
    history.note(who, "enter", n=number, lock=name, mode=lock.mode, token=lock.token)
    try:
        while True:
            before_ns = now_ns()
            safe = _believes(lock)
            history.note(who, "look", n=number, before_ns=before_ns, safe=safe)
            dice = chance.random() if safe and record is not None else 1.0
            if dice < 0.3 and record is not None:
                admitted = await record.append(name, lock.token)
                history.note(who, "appended", n=number, took_ns=now_ns() - before_ns, admitted=admitted)
            elif dice < 0.34:
                await _inquire(bench, who, lock)
            if not safe or now_ns() > until_ns:
                return
            await asyncio.sleep(LOOK_EVERY_S)
    finally:
        history.note(who, "leave", n=number)


def _believes(lock: aio.Lock) -> bool:
    """A look at this very moment."""
    return lock.safe


async def _inquire(bench: Bench, who: str, lock: aio.Lock) -> None:
    """What the cell says of a lock that is held: by its sequencer, to its holder, to anybody."""
    dice = bench.chance.random()
    if dice < 0.5:
        await _ask(bench, who, lock, "sequencer", bench.client.check_sequencer(lock.sequencer))
    elif dice < 0.75:
        await _ask(bench, who, lock, "verify", _verified(lock))
    else:
        await _ask(bench, who, lock, "info", lock.info())


async def _verified(lock: aio.Lock) -> SequencerCheck:
    await lock.verify()
    return SequencerCheck(True, "")


async def _ask(bench: Bench, who: str, lock: aio.Lock, what: str, question: Awaitable[object]) -> None:
    """Note what the cell said, if it said anything; `safe` is looked at after the answer."""
    try:
        answer = await question
    except LockLost as lost:
        said, held = str(lost), False
    except CoordError:
        return
    else:
        said, held = str(answer), _says_held(answer, lock)
    bench.history.note(who, "asked", what=what, held=held, safe=lock.safe, token=lock.token, said=said)


def _says_held(answer: object, lock: aio.Lock) -> bool:
    if isinstance(answer, SequencerCheck):
        return answer.valid
    holders = answer.holders if isinstance(answer, LockInfo) else ()
    return any(holder.token == lock.token and not holder.delayed for holder in holders)
