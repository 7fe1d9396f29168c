"""One run of the nemesis: a cell, clients, faults by a schedule, and then the judgement.

A run may pass, pass incomplete (this machine does not allow some faults), fail, or be refused as too quiet: too little
was done for the silence of the checks to mean anything.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from coordclient import CoordError
from coordd.testing.cells import CellError
from tests.nemesis import dialers, ending, mounts
from tests.nemesis.checks import CHECKS
from tests.nemesis.faults import inflict
from tests.nemesis.history import History, read
from tests.nemesis.readers import Readers
from tests.nemesis.report import Report, tell
from tests.nemesis.schedule import CELL, CLIENT, Fault, plan, possible
from tests.nemesis.world import World

LAG_EVERY_S = 0.05
LAG_NOTED_MS = 60
STOP_SECONDS_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is told."""

    directory: Path
    seconds: float
    seed: int
    replicas: int = 3
    workers: int = 8
    say: Callable[[str], None] = print


@dataclass
class _Done:
    """Faults that really were done, by kind."""

    faults: Counter[str] = field(default_factory=Counter)
    not_done: Counter[str] = field(default_factory=Counter)


def run(options: Options) -> Report:
    """The whole run; never raises for what the cell does, only for what the nemesis itself cannot do."""
    if not dialers.available():
        raise SystemExit("nemesis: needs Linux: a proxy has to learn from the kernel who dialled it")
    options.directory.mkdir(parents=True)
    namespace_fault = mounts.own_namespace()
    return asyncio.run(_run(options, namespace_fault))


async def _run(options: Options, namespace_fault: str) -> Report:
    world = World(options.directory, options.replicas, options.workers, options.seed)
    lag = asyncio.create_task(_watch_own_lag(world))
    done = _Done()
    slot = 0
    try:
        await world.start(namespace_fault)
        await ending.prepare(world)
        world.start_workers()
        await world.see_through()
        await _hurt(world, options, done)
        slot = await _come_to_rest(world)
    except (CellError, CoordError) as error:
        world.findings.append(f"the cell does not serve where nothing hurts it: {type(error).__name__}: {error}")
    finally:
        lag.cancel()
        await world.close()
    if slot:
        ending.compare_states(world, slot)
    ending.look_into_logs(world)
    report = _judge(options, world, done, read(world.histories()))
    if report.broken and world.small is not None:  # what is mounted goes away with this process
        shutil.copytree(options.directory / "small" / "data", options.directory / "small-kept")
    return report


async def _come_to_rest(world: World) -> int:
    """After the faults: served, read, agreed, stopped; the slot that every replica has reached (0: they have not)."""
    await ending.heal(world)
    await ending.everybody_is_served(world)
    await world.stop_workers(STOP_SECONDS_MAX)
    await world.dismiss_operator()
    try:
        await ending.read_everything(world)
    finally:
        slot = await ending.replicas_agree(world)
        world.look_for_the_dead()
        for replica in world.replicas:
            await world.kill(replica, signal.SIGTERM)
    return slot


async def _hurt(world: World, options: Options, done: _Done) -> None:
    """Both tracks until the time is over, and reads; faults under way are seen through."""
    begun = time.monotonic()
    kinds, _ = possible(options.replicas, world.allowed)
    readers = Readers(world.direct_addresses, world.notes, random.Random(options.seed))
    reading = asyncio.create_task(readers.run())

    async def follow(track: str) -> None:
        for faults in plan(options.seed, kinds, track):
            if time.monotonic() + faults[0].wait_s > begun + options.seconds:
                return
            await asyncio.sleep(faults[0].wait_s)
            world.look_for_the_dead()
            await asyncio.gather(*(one(fault) for fault in faults))

    async def one(fault: Fault) -> None:
        from_ns, at_s = time.monotonic_ns(), time.monotonic() - begun
        hit = list(await inflict(world, fault))
        (done.faults if hit else done.not_done)[fault.kind] += 1
        world.notes.note("nemesis", "fault", kind=fault.kind, on=hit, from_ns=from_ns)
        lasted_s = time.monotonic() - begun - at_s
        options.say(f"{at_s:7.1f} s  {fault.kind}: {', '.join(hit) or 'could not be done now'} ({lasted_s:.1f} s)")

    async with asyncio.TaskGroup() as tasks:
        for track in (CELL, CLIENT):
            tasks.create_task(follow(track))
    readers.stop()
    await reading
    world.look_for_the_dead()


async def _watch_own_lag(world: World) -> None:
    """Note when the proxies did not run: what passed through them was late by that."""
    before = time.monotonic_ns()
    while True:
        await asyncio.sleep(LAG_EVERY_S)
        now = time.monotonic_ns()
        lag_ms = (now - before) // 1_000_000 - round(LAG_EVERY_S * 1_000)
        if lag_ms > LAG_NOTED_MS:
            world.notes.note("nemesis", "lag", ms=lag_ms)
        before = now


def _judge(options: Options, world: World, done: _Done, history: History) -> Report:
    kinds, impossible = possible(options.replicas, world.allowed)
    missing = {kind.name: world.impossible[kind.needs] for kind in impossible}
    broken = {"every process ends only when told": world.findings} if world.findings else {}
    for promise, check in CHECKS.items():
        found = check(history)
        if found:
            broken[promise] = found
    return Report(
        directory=options.directory,
        seed=options.seed,
        seconds=options.seconds,
        replicas=options.replicas,
        clients=options.workers,
        kinds=len(kinds) + len(impossible),
        faults=done.faults,
        not_done=done.not_done,
        missing=missing,
        broken=broken,
        work=tell(history),
        traffic=world.proxies.traffic(),
    )


def main(options: Options) -> int:
    """Run, print the report, and the exit status."""
    report = run(options)
    lines = report.lines()
    (options.directory / "report.txt").write_text("\n".join([*lines, ""]))
    for line in ["", *lines]:
        options.say(line)
    sys.stdout.flush()
    return report.exit_status
