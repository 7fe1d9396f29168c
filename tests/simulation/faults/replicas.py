"""Replica processes and their machines: killed, without power, stopped, asked to hand over."""

from __future__ import annotations

from random import Random

from coordd.engine.inputs import HandOverRequest
from tests.simulation.faults.fault import Fault
from tests.simulation.faults.nemesis import Nemesis, long_us
from tests.simulation.process import CRASH_POINTS, Process


def _crash(nemesis: Nemesis, chance: Random, *, power: bool) -> None:
    process = nemesis.victim(chance)
    if process.up and chance.random() < 0.6:
        process.crash_point, process.crash_power = chance.choice(CRASH_POINTS), power
    else:
        process.crash(power=power)


def _kill(nemesis: Nemesis, chance: Random) -> None:
    """kill -9: unsynced bytes stay in the page cache."""
    _crash(nemesis, chance, power=False)


def _power(nemesis: Nemesis, chance: Random) -> None:
    """Power cut of one machine: unsynced sectors are lost in any subset."""
    _crash(nemesis, chance, power=True)


def _power_all(nemesis: Nemesis, chance: Random) -> None:
    """Every machine at once."""
    for process in list(nemesis.processes.values()):
        process.crash(power=True)


def _kill_power(nemesis: Nemesis, chance: Random) -> None:
    """A kill -9, a restart, and then a power cut before anything is settled."""
    process = nemesis.victim(chance)
    process.crash(power=False)
    nemesis.later(long_us(chance, 1_000, 3_000_000), lambda: process.crash(power=True))


def _bounce(nemesis: Nemesis, chance: Random) -> None:
    """The same replica comes back at once, within any lease; once, or again and again."""
    process = nemesis.victim(chance)

    def down(left: int) -> None:
        if not process.up:
            return
        process.crash(power=chance.random() < 0.3)
        nemesis.later(chance.randrange(500, 30_000), lambda: up(left))

    def up(left: int) -> None:
        if nemesis.has(process) and not process.up:
            process.start()
        if left:
            nemesis.later(long_us(chance, 1_000, 300_000), lambda: down(left - 1))

    down(chance.choice((0, 0, 1, 4)))


def _pause(nemesis: Nemesis, chance: Random) -> None:
    """SIGSTOP."""
    nemesis.victim(chance).pause(long_us(chance, 5_000, 4_000_000))


def _hand_over(nemesis: Nemesis, chance: Random) -> None:
    """An operator sends the mastership away, perhaps to somebody."""
    to = chance.choice((None, *nemesis.processes))
    process: Process = nemesis.victim(chance)
    process.put(HandOverRequest(to))


FAULTS = (
    Fault("kill", 0.6, 1_500, 12_000, _kill),
    Fault("power", 0.6, 1_500, 12_000, _power),
    Fault("power_all", 0.15, 6_000, 20_000, _power_all),
    Fault("kill_power", 0.2, 4_000, 15_000, _kill_power),
    Fault("bounce", 0.3, 1_500, 10_000, _bounce),
    Fault("pause", 0.5, 800, 8_000, _pause),
    Fault("hand_over", 0.3, 2_000, 12_000, _hand_over),
)
