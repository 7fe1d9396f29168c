"""Disks: slow, full, failing, cut off in the middle of a call, rotten, lost."""

from __future__ import annotations

from random import Random

from tests.simulation.faults.fault import Fault
from tests.simulation.faults.nemesis import Nemesis, long_us
from tests.simulation.process import Process


def _slow_sync(nemesis: Nemesis, chance: Random) -> None:
    nemesis.victim(chance).slow_sync_until_us = nemesis.world.now_us + long_us(chance, 100_000, 8_000_000)


def _failed_sync(nemesis: Nemesis, chance: Random) -> None:
    nemesis.disks.fail_next_sync(nemesis.victim(chance).name)


def _failed_sync_power(nemesis: Nemesis, chance: Random) -> None:
    """A failed sync, a restart, and then a power cut."""
    process = nemesis.victim(chance)
    nemesis.disks.fail_next_sync(process.name)
    nemesis.later(long_us(chance, 100_000, 4_000_000), lambda: process.crash(power=True))


def _cut_call(nemesis: Nemesis, chance: Random) -> None:
    """The power goes, or a kill comes, in the middle of a call."""
    nemesis.disks.cut_call(nemesis.victim(chance).name, chance.randint(1, 40), power=chance.random() < 0.7)


def _fail_call(nemesis: Nemesis, chance: Random) -> None:
    nemesis.disks.fail_call(nemesis.victim(chance).name, chance.randint(1, 40))


def _cut_start(nemesis: Nemesis, chance: Random) -> None:
    """The process dies, and again in the middle of its recovery: by the power, a kill, or a call that fails."""
    process = nemesis.victim(chance)
    nemesis.disks.strike_start(process.name, chance.choice(("power", "kill", "fail")), chance.randint(1, 40))
    process.crash(power=chance.random() < 0.5)


def _cut_snapshot(nemesis: Nemesis, chance: Random) -> None:
    """The same in the middle of the next snapshot that is written or received."""
    how = chance.choice(("power", "kill", "fail"))
    nemesis.disks.strike_snapshot(nemesis.victim(chance).name, how, chance.randint(1, 12))


def _full(nemesis: Nemesis, chance: Random) -> None:
    """No room, or room for a little."""
    process = nemesis.victim(chance)
    nemesis.disks.fill(process.name, chance.choice((0, 0, 300, 4_000, 20_000)))
    nemesis.later(long_us(chance, 10_000, 4_000_000), lambda: nemesis.has_room(process, chance))


def _rot(nemesis: Nemesis, chance: Random) -> bool:
    """Bytes change: of a replica that is down and starts at once, or of files that a running one has done with."""
    process = nemesis.victim(chance)
    if not nemesis.may_lose(process.name):
        return False
    settled = process.up and chance.random() < 0.4
    if not settled:
        process.crash(power=chance.random() < 0.5)
    rotten = nemesis.disks.rot(process.name, chance, settled=settled)
    if rotten:
        nemesis.rotten.add(process.name)
    if rotten and nemesis.world.tracing:
        nemesis.world.tell(process.name, "its disk rots")
    if not settled and not process.up:
        process.start()
    return rotten


def _lost_disk(nemesis: Nemesis, chance: Random) -> bool:
    """A machine is gone for good, its disk with it."""
    process = nemesis.victim(chance)
    if not nemesis.may_lose(process.name):
        return False
    if nemesis.world.tracing:
        nemesis.world.tell(process.name, "is lost with its disk")
    process.retire("lost disk")
    nemesis.lose(process)
    return True


def _lost_directory(nemesis: Nemesis, chance: Random) -> bool:
    """The power goes everywhere, and where one disk was there is an empty directory when it comes back."""
    process = nemesis.victim(chance)
    others = [other for other in nemesis.processes.values() if other is not process]
    if not (nemesis.may_lose(process.name) and others and all(_remembers(other, process) for other in others)):
        return False
    for one in (process, *others):
        one.crash(power=True)
    if nemesis.world.tracing:
        nemesis.world.tell(process.name, "comes back with an empty directory")
    nemesis.disks.empty(process.name)
    nemesis.lost.add(process.name)
    process.directory_lost = True
    return True


def _remembers(process: Process, other: Process) -> bool:
    """Whether it is durable there which directory the other has; who has never heard of it cannot know."""
    if not process.up:
        return False
    state = process.engine.replica.state
    known = state.known.get(other.name)
    return known is not None and known.number is not None and known.number <= state.persist_done


FAULTS = (
    Fault("slow_sync", 0.3, 2_000, 10_000, _slow_sync),
    Fault("failed_sync", 0.15, 5_000, 20_000, _failed_sync),
    Fault("failed_sync_power", 0.2, 4_000, 15_000, _failed_sync_power),
    Fault("cut_call", 0.25, 2_000, 10_000, _cut_call, on_disks=True),
    Fault("fail_call", 0.1, 5_000, 20_000, _fail_call, on_disks=True),
    Fault("cut_start", 0.2, 2_500, 12_000, _cut_start, on_disks=True),
    Fault("cut_snapshot", 0.2, 2_000, 10_000, _cut_snapshot, on_disks=True),
    Fault("full", 0.15, 5_000, 20_000, _full),
    Fault("rot", 0.3, 500, 8_000, _rot, on_disks=True),
    Fault("lost_disk", 0.15, 2_000, 15_000, _lost_disk),
    Fault("lost_directory", 0.15, 2_000, 12_000, _lost_directory, on_disks=True),
)
