"""After the faults: the cell must serve everybody again, agree with itself, and hold what it acknowledged.

What is read at the end goes into the history like everything else; what does not come true in a time that no machine
needs is a finding.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from coordclient import CoordError, aio
from coordclient.errors import NotFound
from coordd.engine.engine import Engine
from coordd.engine.settings import EngineSettings
from coordd.machine.machine import Machine
from coordd.paxos.state import PaxosSettings
from coordd.storage.disk import RealDisk
from coordd.storage.store import Store
from tests.nemesis.history import OK, read
from tests.nemesis.spans import CHANGES
from tests.nemesis.work import COUNTERS, Bench, shown
from tests.nemesis.work_tables import look
from tests.nemesis.world import CELL, SEGMENT_BYTES, World

RECOVERY_SECONDS_MAX = 120.0
POLL_S = 0.5
TAIL_BYTES = 64 * 1024
WHO = "nemesis.final"
_SUSPICIOUS = re.compile(r"\bbug\b|Traceback|AssertionError|never retrieved|was never awaited")


async def heal(world: World) -> None:
    """No fault is left, those of links have ended by themselves, and every replica runs."""
    world.filler.give_back()
    for shim in world.shims.values():
        shim.delay_syncs(0)
        shim.fail_syncs(False)
    for replica in world.replicas:
        await world.restart(replica)


async def everybody_is_served(world: World) -> None:
    """Every client gets a change acknowledged that it began after the faults."""
    since_ns = time.monotonic_ns()

    async def served() -> bool:
        world.look_for_the_dead()
        return all(_changed_since(Path(worker.orders.history), since_ns) for worker in world.workers.values())

    if not await _comes_true(served):
        world.findings.append(f"not every client was served within {RECOVERY_SECONDS_MAX} s after the last fault")


def _changed_since(path: Path, since_ns: int) -> bool:
    if not path.exists():
        return False  # the process has only just been started
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        lines = file.read().splitlines()[1:]
    begun: set[tuple[str, int]] = set()
    for text in lines:
        try:
            line = json.loads(text)
        except ValueError:
            continue  # the worker is writing it just now
        if line.get("do") in CHANGES and line["at"] > since_ns:
            begun.add((line["who"], line["n"]))
        elif line.get("ended") == OK and (line["who"], line["n"]) in begun:
            return True
    return False


async def replicas_agree(world: World) -> int:
    """One master, and everywhere the same revision at the same slot; the slot that all have reached."""
    slot = 0

    async def agree() -> bool:
        nonlocal slot
        world.look_for_the_dead()
        statuses = (await world.statuses()).values()
        states = {(status["chosen_upto"], status["revision"], status["epoch"]) for status in statuses}
        masters = [status["replica"] for status in statuses if status["role"] == "master" and status["serving"]]
        if len(statuses) < len(world.replicas) or len(states) != 1 or len(masters) != 1:
            return False
        slot = next(iter(states))[0]
        return True

    if not await _comes_true(agree):
        seen = {
            replica: {name: status[name] for name in ("role", "epoch", "chosen_upto", "revision")}
            for replica, status in (await world.statuses()).items()
        }
        world.findings.append(f"the replicas do not come to the same state: {seen}")
    return slot


async def read_everything(world: World) -> None:
    """Every register, table, counter and file as it is now, and what is left of sessions that are over: nothing."""
    history = read(world.histories())
    keys = sorted({op.args["key"] for op in history.of("get", "put", "swap", "add", "delete")})
    tables = sorted({op.args["table"] for op in history.of("txn", "look")})
    async with aio.Client(world.endpoints, name="nemesis", request_timeout=30.0) as client:
        files = {key: await _read_register(world, client, key) for key in keys}
        for table in tables:
            files |= await _read_table(world, client, table)
        world.notes.note(WHO, "final state", files=files)
        for counter in range(COUNTERS):
            contents, _ = await client.get(f"/count/{counter}")
            world.notes.note(WHO, "final counter", counter=counter, value=int(contents))
        world.notes.note(WHO, "final files", paths=await _files(client, "/made"))

        async def gone() -> bool:
            return not any([await _files(client, "/alive"), await client.list_locks(), await _foreign_sessions(client)])

        await _comes_true(gone)
        world.notes.note(WHO, "final ephemerals", paths=await _files(client, "/alive"))
        world.notes.note(WHO, "final locks", paths=[lock.path for lock in await client.list_locks()])
        world.notes.note(WHO, "final sessions", sessions=await _foreign_sessions(client))


async def _foreign_sessions(client: aio.Client) -> list[str]:
    return [
        f"{info.session} of {info.client['name']}"
        for info in await client.sessions()
        if info.session != client.session_id
    ]


async def _read_register(world: World, client: aio.Client, key: str) -> tuple[str, int] | None:
    """What is there, in few letters, and its generation."""
    number = world.notes.begin(WHO, "get", key=key)
    try:
        contents, stat = await client.get(key)
    except NotFound:
        world.notes.end(WHO, number, OK, value=None)
        return None
    world.notes.end(WHO, number, OK, value=contents.rstrip(b".").decode())
    return shown(contents), stat.content_generation


async def _read_table(world: World, client: aio.Client, table: str) -> dict[str, tuple[str, int] | None]:
    bench = Bench(WHO, client, world.notes, world.chance, world.directory)
    seen = await look(bench, WHO, table) or {}
    return {
        f"{table}/{key}": None if one.value is None else (shown(one.value.encode()), one.generation)
        for key, one in seen.items()
    }


async def _files(client: aio.Client, path: str) -> list[str]:
    """Every file below a directory."""
    try:
        entries = await client.ls(path)
    except NotFound:
        return []
    found: list[str] = []
    for entry in entries:
        child = f"{path}/{entry.name}"
        found += await _files(client, child) if entry.stat.kind == "directory" else [child]
    return found


async def prepare(world: World) -> None:
    """What the work needs before it begins."""
    async with aio.Client(world.endpoints, name="nemesis", request_timeout=30.0) as client:
        for counter in range(COUNTERS):
            await client.put(f"/count/{counter}", b"0", parents=True)


def compare_states(world: World, slot: int) -> None:
    """The disks of all replicas, after their end: at the same slot their states have the same digest."""
    digests = {}
    for replica in world.replicas:
        try:
            digests[replica] = state_digest(world.cell.directory / f"replica-{replica}", replica, slot)
        except AssertionError as error:
            world.findings.append(f"replica {replica}: its disk holds no state at slot {slot}: {error}")
    if len(set(digests.values())) > 1:
        world.findings.append(f"at slot {slot} the states differ: { {r: d.hex() for r, d in digests.items()} }")


def state_digest(directory: Path, replica: int, slot: int) -> bytes:
    """The digest of the state that the data directory of a replica holds at `slot`, which is known to be chosen."""
    store = Store.open(RealDisk(), str(directory), CELL, replica, None, segment_bytes=SEGMENT_BYTES)
    try:
        durable = store.durable
        assert durable.snapshot_slot <= slot, f"its snapshot is of slot {durable.snapshot_slot}"
        durable.chosen_upto = slot
        for above in [number for number in durable.entries if number > slot]:
            del durable.entries[above]
        state = store.snapshot_state
        machine = Machine(CELL) if state is None else Machine.restore(state)
        engine = Engine(EngineSettings(paxos=PaxosSettings(replica=replica)), durable, machine, 0)
        engine.step([], 0, 0, bytes(32))
        assert engine.machine.applied_upto == slot, f"it reaches slot {engine.machine.applied_upto}"
        return engine.machine.digest()
    finally:
        store.close()


def look_into_logs(world: World) -> None:
    """Whatever a daemon or a client says of a bug of its own."""
    for path in sorted([*world.cell.directory.glob("replica-*.log"), *world.directory.glob("log-c*")]):
        for line in path.read_text(errors="replace").splitlines():
            if _SUSPICIOUS.search(line):
                world.findings.append(f"{path.name} says: {line[:400]}")
                break


async def _comes_true(condition: Callable[[], Awaitable[bool]]) -> bool:
    until = time.monotonic() + RECOVERY_SECONDS_MAX
    while time.monotonic() < until:
        try:
            if await condition():
                return True
        except CoordError:
            pass  # the cell is not back yet
        await asyncio.sleep(POLL_S)
    return False
