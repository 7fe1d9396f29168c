"""The kinds of work of a client process. Each is one thread of control that goes on until it is cancelled.

Names: /reg/PERIOD/K (registers; new ones every few seconds, so that each has a short history), /count/K under
/lock/count/K (plain get and put), /lock/hold/K (held, looked at, its token written to the record), /made/WHO/... (each
path once), /alive/WORKER/SESSION (ephemeral).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass, field
from pathlib import Path

from coordclient import CoordError, InternalError, LockLost, OutcomeUnknown, SessionExpired, Unavailable, aio
from coordclient.errors import NotFound, StaleChannel
from tests.nemesis.history import NOT_DONE, OK, UNKNOWN, Writer, now_ns
from tests.nemesis.record import RecordClient

REGISTERS, COUNTERS, LOCKS = 4, 2, 5
SHARED_LOCK = 2  # this one is taken in both modes
PERIOD_NS = 12 * 10**9
BULK_BYTES = 64 * 1024
LOCK_DELAYS_S = (0.8, 3.0)
STOP_MARGIN_S = 0.4
HOLDS_S = ((0.7, 0.0, 0.2), (0.2, 0.8, 3.0), (0.1, 4.0, 9.0))  # how often, how long; the last ones outlive a lease
LOOK_EVERY_S = 0.04


@dataclass
class Bench:
    """What all work of one process shares."""

    name: str
    client: aio.Client
    history: Writer
    chance: random.Random
    record: Path
    own: set[int] = field(default_factory=set)  # sessions that have their ephemeral file

    async def pause(self, low: float = 0.02, high: float = 0.12) -> None:
        await asyncio.sleep(self.chance.uniform(low, high))

    def outcome(self, error: BaseException) -> str:
        """How an operation ended that raised."""
        if isinstance(error, Unavailable):
            return NOT_DONE
        if isinstance(error, InternalError):
            self.history.note(self.name, "internal", text=str(error))
        unknown = isinstance(error, OutcomeUnknown | SessionExpired | StaleChannel | asyncio.CancelledError)
        if unknown or not isinstance(error, CoordError):
            return UNKNOWN
        return error.code


# --- registers


async def use_registers(bench: Bench, who: str) -> None:
    """Reads, writes, conditional writes, first writes and deletions of a few files that everybody uses."""
    written = 0
    while True:
        path = f"/reg/{now_ns() // PERIOD_NS}/{bench.chance.randrange(REGISTERS)}"
        dice = bench.chance.random()
        written += 1
        value = f"{who}-{written}"
        if dice < 0.4:
            await _read(bench, who, path)
        elif dice < 0.65:
            await _write(bench, who, "put", path, value)
        elif dice < 0.9:
            seen = await _read(bench, who, path)
            if seen is not None:
                await _write(bench, who, "swap", path, value, expected=seen[0], generation=seen[1])
        elif dice < 0.98:
            await _write(bench, who, "add", path, value)
        else:
            await _remove(bench, who, path)
        await bench.pause()


async def _read(bench: Bench, who: str, path: str) -> tuple[str, int] | None:
    """What was seen, and its generation; None when there was nothing or no answer."""
    number = bench.history.begin(who, "get", key=path)
    try:
        contents, stat = await bench.client.get(path)
    except NotFound:
        bench.history.end(who, number, OK, value=None)
        return None
    except (CoordError, asyncio.CancelledError) as error:
        _over(bench, who, number, error)
        return None
    value = contents.rstrip(b".").decode()
    bench.history.end(who, number, OK, value=value, generation=stat.content_generation)
    return value, stat.content_generation


async def _write(
    bench: Bench, who: str, do: str, path: str, value: str, expected: str | None = None, generation: int | None = None
) -> None:
    contents = value.encode()
    if bench.chance.random() < 0.1:
        contents = contents.ljust(BULK_BYTES, b".")
    number = bench.history.begin(who, do, key=path, value=value, expected=expected, generation=generation)
    try:
        stat = await bench.client.put(
            path, contents, if_generation=generation, if_absent=do == "add", parents=generation is None
        )
    except (CoordError, asyncio.CancelledError) as error:
        _over(bench, who, number, error)
    else:
        bench.history.end(who, number, OK, revision=stat.revision, generation=stat.content_generation)


async def _remove(bench: Bench, who: str, path: str) -> None:
    number = bench.history.begin(who, "delete", key=path)
    try:
        revision = await bench.client.delete(path)
    except (CoordError, asyncio.CancelledError) as error:
        _over(bench, who, number, error)
    else:
        bench.history.end(who, number, OK, revision=revision)


def _over(bench: Bench, who: str, number: int, error: BaseException) -> None:
    bench.history.end(who, number, bench.outcome(error))
    if isinstance(error, asyncio.CancelledError):
        raise error


# --- counters


async def count(bench: Bench, who: str) -> None:
    """Increments of a file under a lock, by get and put alone: only the lock makes them right."""
    while True:
        counter = bench.chance.randrange(COUNTERS)
        number = bench.history.begin(who, "increment", counter=counter)
        sent, read, put = False, None, ""
        try:
            async with bench.client.lock(f"/lock/count/{counter}", lock_delay=bench.chance.choice(LOCK_DELAYS_S)):
                read = int((await bench.client.get(f"/count/{counter}")).contents)
                await bench.pause(0, 0.02)
                sent = True
                await bench.client.put(f"/count/{counter}", str(read + 1).encode())
                put = OK
        except (CoordError, asyncio.CancelledError) as error:
            put = put or (_of_put(bench, error) if sent else NOT_DONE)
            bench.history.end(who, number, put, read=read, said=type(error).__name__)
            if isinstance(error, asyncio.CancelledError):
                raise
        else:
            bench.history.end(who, number, put, read=read)
        await bench.pause()


def _of_put(bench: Bench, error: BaseException) -> str:
    """What the end of the body says about the put in it: one that was interrupted may take effect."""
    return UNKNOWN if isinstance(error, LockLost) else bench.outcome(error)


# --- locks


async def hold(bench: Bench, who: str) -> None:
    """Takes a lock, looks again and again whether it may still believe in it, and writes its token to the record."""
    record = RecordClient(bench.record, who)
    while True:
        which = bench.chance.randrange(LOCKS)
        shared = which == SHARED_LOCK and bench.chance.random() < 0.7
        mode = "shared" if shared else "exclusive"
        number = bench.history.begin(who, "hold", lock=which, mode=mode)
        token: int | None = None
        try:
            lock = bench.client.lock(
                f"/lock/hold/{which}",
                "shared" if shared else "exclusive",
                timeout=bench.chance.uniform(0.5, 6.0),
                lock_delay=bench.chance.choice(LOCK_DELAYS_S),
                stop_margin=STOP_MARGIN_S,
            )
            async with lock:
                token = lock.token
                await _held(bench, who, number, lock, record, f"{which}")
        except (CoordError, asyncio.CancelledError) as error:
            record.forget()
            bench.history.end(who, number, OK if token else bench.outcome(error), token=token, said=_said(error))
            if isinstance(error, asyncio.CancelledError):
                raise
        else:
            bench.history.end(who, number, OK, token=token)
        await bench.pause()


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


async def _held(bench: Bench, who: str, number: int, lock: aio.Lock, record: RecordClient, name: str) -> None:
    """The body. A look is dated before it, the first one after it: so nobody is said to believe longer than he does."""
    history, chance = bench.history, bench.chance
    (_, low, high), *_ = chance.choices(HOLDS_S, [often for often, *_ in HOLDS_S])
    until_ns = now_ns() + round(1e9 * chance.uniform(low, high))
    if not _believes(lock):
        history.note(who, "unsafe at entry", n=number)
        return
    history.note(who, "enter", n=number, lock=name, mode=lock.mode, token=lock.token)
    try:
        while True:
            before_ns = now_ns()
            safe = _believes(lock)
            history.note(who, "look", n=number, before_ns=before_ns, safe=safe)
            if safe and chance.random() < 0.3:
                admitted = await record.append(name, lock.token)
                history.note(who, "appended", n=number, took_ns=now_ns() - before_ns, admitted=admitted)
            if now_ns() > until_ns:
                return
            await asyncio.sleep(LOOK_EVERY_S)
    finally:
        history.note(who, "leave", n=number)


def _believes(lock: aio.Lock) -> bool:
    """A look at this very moment."""
    return lock.safe


# --- files that are made once, and ephemeral ones


async def make(bench: Bench, who: str) -> None:
    """Makes one new file after another; nobody else uses these paths, so there is no reason to be refused."""
    number = 0
    while True:
        path = f"/made/{who}/{number // 100}/{number}"
        operation = bench.history.begin(who, "create", path=path)
        number += 1
        try:
            stat = await bench.client.create(path, parents=True)
        except (CoordError, asyncio.CancelledError) as error:
            _over(bench, who, operation, error)
        else:
            bench.history.end(who, operation, OK, revision=stat.revision)
        await bench.pause(0.05, 0.35)  # they stay, so let them not be too many


async def keep(bench: Bench, who: str) -> None:
    """Each session makes one ephemeral file, which must be there for as long as the session is."""
    client = bench.client
    while True:
        session = client.session_id
        if session is None:
            await _look_for_session(client)
        else:
            await _keep_one(bench, who, session)
        await bench.pause(0.1, 0.4)


async def _look_for_session(client: aio.Client) -> None:
    with contextlib.suppress(CoordError):
        await client.stat("/")


async def _keep_one(bench: Bench, who: str, session: int) -> None:
    """Make the file of this session or look at it. What happens in another session says nothing."""
    client, path = bench.client, f"/alive/{bench.name}/{session}"
    do = "see" if session in bench.own else "appear"
    operation = bench.history.begin(who, do, path=path, session=session)
    try:
        if do == "see":
            await client.stat(path)
        else:
            await client.create(path, ephemeral=True, parents=True)
        ended = OK
    except CoordError as error:
        ended = bench.outcome(error)
    except asyncio.CancelledError:
        bench.history.end(who, operation, UNKNOWN)
        raise
    same = client.session_id == session
    bench.history.end(who, operation, ended if same else UNKNOWN)
    if same and ended in (OK, "exists"):
        bench.own.add(session)
