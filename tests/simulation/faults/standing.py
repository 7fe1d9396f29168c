"""After the faults, perhaps: one that stays. A minority of the voters has it, and the others have to serve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.simulation.faults.nemesis import Nemesis
from tests.simulation.network import DROP

HOW = ("down", "alone", "deaf", "dumb", "pair", "full")


@dataclass(frozen=True, slots=True)
class Standing:
    """A fault that stays while the others have to serve."""

    how: str
    victims: tuple[int, ...]

    def words(self) -> str:
        """For the story."""
        return f"{self.how}: {', '.join(map(str, self.victims))}"


def stand(nemesis: Nemesis, voters: Sequence[int]) -> Standing | None:
    """Half the time something stands, if the cell can bear it. Voters without a machine are lost, and count too."""
    chance = nemesis.world.chance("standing")
    processes = nemesis.processes
    there = [name for name in voters if name in processes and name not in nemesis.lost]
    bearable = (len(voters) - 1) // 2 - (len(voters) - len(there))
    if bearable < 1 or chance.random() < 0.5:
        return None
    victims = chance.sample(there, chance.randint(1, bearable))
    standing = Standing(chance.choice(HOW), tuple(victims))
    rest = [name for name in processes if name not in victims]
    for victim in victims:
        if standing.how == "down":
            nemesis.stays_down.add(victim)
            processes[victim].crash(power=False)
        elif standing.how == "alone":
            nemesis.network.cut_between([victim], rest, DROP)
        elif standing.how == "deaf":
            nemesis.network.cut_between(rest, [victim], DROP, both=False)
        elif standing.how == "dumb":
            nemesis.network.cut_between([victim], rest, DROP, both=False)
        elif standing.how == "pair":
            nemesis.network.cut_between([victim], [chance.choice(rest)], DROP)
        else:
            nemesis.disks.fill(victim, 0)
    if nemesis.world.tracing:
        nemesis.world.tell("--", f"this stands: {standing.words()}")
    return standing
