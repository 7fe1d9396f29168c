"""Links between replicas, and to clients: cut in many shapes, and old messages that come once more."""

from __future__ import annotations

from random import Random

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
    """Old peer messages come once more."""
    nemesis.network.replay(chance.randint(1, 6))


FAULTS = (
    Fault("cut", 0.7, 1_000, 8_000, _cut),
    Fault("replay", 0.3, 100, 2_000, _replay),
)
