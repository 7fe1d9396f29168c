"""The kinds of work of a client process. Each is one thread of control that goes on until it is cancelled.

Here are files of all kinds and counters; locks are in `work_locks`, directories and questions in `work_names`,
transactions in `work_tables`, watches in `work_watches`; and some of it once more in the thread flavour in
`work_threads`.

Names: /reg/PERIOD/K (registers; new ones every few seconds, so that each has a short history), /reg/PERIOD/tK/KEY (so
have tables, changed by transactions), /reg/end/WORKER (the last thing that a watch is told), /dir/PERIOD/K/NAME (so
have directories), /count/K under /lock/count/K (plain get and put), /lock/hold/K (held, looked at, its token written to
the record), /made/WHO/... (each path once), /alive/WORKER/SESSION (ephemeral).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass, field
from pathlib import Path

from coordclient import CoordError, InternalError, LockLost, OutcomeUnknown, SessionExpired, Unavailable, aio
from coordclient.errors import ClientClosed, NotFound, StaleChannel
from tests.nemesis.history import NOT_DONE, OK, UNKNOWN, Writer, now_ns

REGISTERS, COUNTERS = 4, 2
PERIOD_NS = 12 * 10**9
BULK_BYTES = 64 * 1024
AGAIN = 3  # so many times more a client with a cache reads what it has read
SHOWN_MAX = 100
LOCK_DELAYS_S = (0.8, 3.0)


@dataclass
class Bench:
    """What all work of one process shares. `pace`: how much longer than usual the pauses are; `again`: how often more
    than once something is read."""

    name: str
    client: aio.Client
    history: Writer
    chance: random.Random
    record: Path
    pace: float = 1.0
    again: int = 0
    own: set[int] = field(default_factory=set)  # sessions that have their ephemeral file

    async def pause(self, low: float = 0.02, high: float = 0.12) -> None:
        await asyncio.sleep(self.chance.uniform(low, high) * self.pace)

    def outcome(self, error: BaseException) -> str:
        """How an operation ended that raised."""
        return outcome_of(error, self.history, self.name)


def outcome_of(error: BaseException, history: Writer, name: str) -> str:
    """How an operation of the process `name` ended that raised."""
    if isinstance(error, Unavailable):
        return NOT_DONE
    if isinstance(error, InternalError):
        history.note(name, "internal", text=str(error))
    unknown = isinstance(
        error, OutcomeUnknown | SessionExpired | StaleChannel | ClientClosed | LockLost | asyncio.CancelledError
    )
    if unknown or not isinstance(error, CoordError):
        return UNKNOWN
    return error.code


def shown(contents: bytes) -> str:
    """Contents in few letters, by which any two can be told apart: what was written, and the dots behind it."""
    value = contents.rstrip(b".")
    return f"{value[:SHOWN_MAX].decode(errors='replace')}*{len(contents) - len(value)}"


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
            for _ in range(bench.again):
                await bench.pause(0, 0.02)
                await _read(bench, who, path)
        elif dice < 0.65:
            await write(bench, who, "put", path, value)
        elif dice < 0.9:
            seen = await _read(bench, who, path)
            if seen is not None:
                await write(bench, who, "swap", path, value, expected=seen[0], generation=seen[1])
        elif dice < 0.98:
            await write(bench, who, "add", path, value)
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
        over(bench, who, number, error)
        return None
    value = contents.rstrip(b".").decode()
    bench.history.end(who, number, OK, value=value, generation=stat.content_generation)
    return value, stat.content_generation


async def write(
    bench: Bench, who: str, do: str, path: str, value: str, expected: str | None = None, generation: int | None = None
) -> None:
    """A put, of some kind; now and then of much."""
    contents = value.encode()
    if bench.chance.random() < 0.1:
        contents = contents.ljust(BULK_BYTES, b".")
    number = bench.history.begin(who, do, key=path, value=value, expected=expected, generation=generation)
    try:
        stat = await bench.client.put(
            path, contents, if_generation=generation, if_absent=do == "add", parents=generation is None
        )
    except (CoordError, asyncio.CancelledError) as error:
        over(bench, who, number, error)
    else:
        bench.history.end(who, number, OK, revision=stat.revision, generation=stat.content_generation)


async def _remove(bench: Bench, who: str, path: str) -> None:
    number = bench.history.begin(who, "delete", key=path)
    try:
        revision = await bench.client.delete(path)
    except (CoordError, asyncio.CancelledError) as error:
        over(bench, who, number, error)
    else:
        bench.history.end(who, number, OK, revision=revision)


def over(bench: Bench, who: str, number: int, error: BaseException) -> None:
    """An operation ended by an error; a cancellation goes on."""
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
            put = put or (bench.outcome(error) if sent else NOT_DONE)
            bench.history.end(who, number, put, read=read, said=type(error).__name__)
            if isinstance(error, asyncio.CancelledError):
                raise
        else:
            bench.history.end(who, number, put, read=read)
        await bench.pause()


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
            over(bench, who, operation, error)
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
