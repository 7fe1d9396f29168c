"""Clocks: rates that change, wall clocks that jump."""

from __future__ import annotations

from random import Random

from tests.simulation.faults.fault import Fault
from tests.simulation.faults.nemesis import Nemesis
from tests.simulation.world import Clock


def _clock(nemesis: Nemesis, chance: Random) -> Clock:
    clocks = [process.clock for process in nemesis.processes.values()]
    return chance.choice(clocks + [client.clock for client in nemesis.clients])


def _rate(nemesis: Nemesis, chance: Random) -> None:
    """Two clocks together differ by no more than twice what one may; see `Swarm.clock_ppm`."""
    most = nemesis.swarm.clock_ppm
    _clock(nemesis, chance).set_rate(chance.choice((-most, 0, most)))


def _wall(nemesis: Nemesis, chance: Random) -> None:
    _clock(nemesis, chance).step_wall(chance.choice((-(10**9), -5_000, 700, 10**8)))


FAULTS = (
    Fault("rate", 0.4, 1_000, 10_000, _rate),
    Fault("wall", 0.3, 1_000, 10_000, _wall),
)
