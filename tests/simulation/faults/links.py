"""Links between replicas, and to clients: cut in many shapes, and old messages that come once more."""

from __future__ import annotations

from random import Random

from coordd.paxos.replica import Role
from tests.simulation.faults.fault import Fault
from tests.simulation.faults.nemesis import Nemesis, long_us
from tests.simulation.network import DROP, HOLD, Name

SHAPES = ("alone", "halves", "deaf", "dumb", "pair", "one way", "no clients", "some clients")


def _cut(nemesis: Nemesis, chance: Random) -> bool | None:
    names: list[Name] = list(nemesis.processes)
    if len(names) < 2:
        return False
    how = chance.choice((DROP, HOLD))
    one: Name = nemesis.victim(chance).name
    rest = [name for name in names if name != one]
    clients: list[Name] = [client.name for client in nemesis.clients]
    shape = chance.choice(SHAPES)
    both = True
    if shape == "alone":
        left, right = [one], rest
    elif shape == "halves":
        chance.shuffle(rest)
        left, right = [one, *rest[: len(rest) // 2]], rest[len(rest) // 2 :]
    elif shape == "deaf":
        left, right, both = rest, [one], False
    elif shape == "dumb":
        left, right, both = [one], rest, False
    elif shape == "no clients":
        left, right = [one], [*rest, *clients]
    elif shape == "some clients":
        here = [client for client in clients if chance.random() < 0.5]
        left, right = [one, *here], [*rest, *(client for client in clients if client not in here)]
    else:
        left, right, both = [one], [chance.choice(rest)], shape == "pair"
    links = nemesis.network.cut_between(left, right, how, both)
    if nemesis.world.tracing:
        nemesis.world.tell("--", f"cut ({shape}, {how}): {left} | {right}")
    nemesis.world.after(long_us(chance, 50_000, 6_000_000), nemesis.heal, links)
    return None


def _replay(nemesis: Nemesis, chance: Random) -> None:
    """Old peer messages come once more; at times many of the master's, while one replica hears nothing else of him."""
    master = nemesis.victim(chance)
    others = [name for name in nemesis.processes if name != master.name]
    reigns = master.up and master.engine.replica.role is Role.MASTER
    if not (reigns and others) or chance.random() < 0.5:
        nemesis.network.replay(chance.randint(1, 6))
        return
    for_us = long_us(chance, 1_000_000, 4_000_000)
    links = nemesis.network.cut_between([master.name], [chance.choice(others)], DROP)
    nemesis.world.after(for_us, nemesis.heal, links)
    for _ in range(chance.randint(4, 16)):
        nemesis.later(int(chance.random() * for_us), lambda: nemesis.network.replay(1, master.name))


FAULTS = (
    Fault("cut", 0.7, 1_000, 8_000, _cut),
    Fault("replay", 0.3, 100, 2_000, _replay),
)
