"""What is to happen, from a seed alone: the same seed and length give the same faults at the same moments.

Two tracks run side by side: faults of the cell, and faults of the clients. Each is dealt from a shuffled deck of all
its kinds, so that every kind comes once before any comes twice; after the first deck two cell faults may come at once.
Whom a fault hits is drawn too, by role where it is a role ("the master"): who has that role only the run knows.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault, of an `area`. `needs`: what the machine must allow; `members`: how large a cell it takes."""

    name: str
    area: str
    low_s: float = 0.0
    high_s: float = 0.0
    needs: str = ""
    members: int = 1

    @property
    def track(self) -> str:
        """Faults of clients go on beside those of the cell."""
        return CLIENT if self.area == CLIENTS else CELL


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: after `wait_s` of calm, for `length_s`; `chance` (32 bits) decides whatever else there is."""

    kind: str
    wait_s: float
    length_s: float
    chance: int


SHIM, SMALL_DISK = "preloaded shim", "small file system"
CELL, CLIENT = "cell", "client"
NETWORK, PROCESSES, MEMBERS = "network between replicas", "replicas' processes", "members"
DISKS, WALL_CLOCKS, CLIENTS = "disks", "wall clocks", "clients"
AREAS = (NETWORK, PROCESSES, MEMBERS, DISKS, WALL_CLOCKS, CLIENTS)

KINDS = (
    Kind("late bytes", NETWORK, 1.5, 4, members=2),
    Kind("stalled link", NETWORK, 1, 4, members=2),
    Kind("one-way cut", NETWORK, 1.5, 5, members=2),
    Kind("master cut off", NETWORK, 1.5, 5, members=2),
    Kind("follower cut off", NETWORK, 1, 6, members=3),
    Kind("split in two", NETWORK, 3, 6, members=3),
    Kind("partial partition", NETWORK, 2, 5, members=3),
    Kind("flapping link", NETWORK, 1.5, 4, members=2),
    Kind("resets", NETWORK, 0.5, 2, members=2),
    Kind("slow bytes", NETWORK, 1.5, 4, members=2),
    Kind("kill master", PROCESSES, 0.2, 3),
    Kind("kill follower", PROCESSES, 0.5, 4, members=2),
    Kind("kill all", PROCESSES, 0.1, 1.5),
    Kind("kill while it recovers", PROCESSES, 0.5, 1.5),
    Kind("pause of the master, short", PROCESSES, 0.2, 1.0),
    Kind("pause of the master, beyond its lease", PROCESSES, 2, 5),
    Kind("pause of the master, cut off", PROCESSES, 2, 5, members=2),
    Kind("pause of a follower", PROCESSES, 0.5, 6, members=2),
    Kind("rolling restart", PROCESSES),
    Kind("left behind the log", PROCESSES, 0, 0.5, members=3),
    Kind("member replaced", MEMBERS, members=3),
    Kind("mastership handed over", MEMBERS, members=2),
    Kind("slow sync of the master", DISKS, 1.5, 4, SHIM),
    Kind("slow sync of a follower", DISKS, 1.5, 4, SHIM, members=2),
    Kind("failing sync", DISKS, 0.5, 2, SHIM),
    Kind("full disk", DISKS, 1.5, 4, SMALL_DISK),
    Kind("wall clock step", WALL_CLOCKS, 0, 0, SHIM),
    Kind("client: late bytes", CLIENTS, 1, 4),
    Kind("client: stalled link", CLIENTS, 0.5, 6),
    Kind("client: cut off", CLIENTS, 1, 8),
    Kind("client: one-way cut", CLIENTS, 1, 6),
    Kind("client: master hidden", CLIENTS, 1, 5, members=2),
    Kind("client: resets", CLIENTS, 0.3, 1.5),
    Kind("client: slow bytes", CLIENTS, 1, 4),
    Kind("client: pause, short", CLIENTS, 0.2, 1.5),
    Kind("client: pause beyond its lease", CLIENTS, 4, 8),
    Kind("client: kill", CLIENTS, 0.1, 1.5),
)
BY_NAME = {kind.name: kind for kind in KINDS}
CALM_S = (0.2, 1.0)


def possible(replicas: int, allowed: Collection[str]) -> tuple[list[Kind], list[Kind]]:
    """Kinds that can be done here, and those that cannot for what the machine lacks."""
    fitting = [kind for kind in KINDS if kind.members <= replicas]
    can = [kind for kind in fitting if not kind.needs or kind.needs in allowed]
    return can, [kind for kind in fitting if kind not in can]


def plan(seed: int, kinds: Collection[Kind], track: str) -> Iterator[tuple[Fault, ...]]:
    """What happens on one track, without an end: each item at once, one item after the other."""
    chance = random.Random(f"{seed} {track}")
    deck: list[Kind] = []
    own = [kind for kind in kinds if kind.track == track]
    decks = 0
    while own:
        if not deck:
            deck = chance.sample(own, len(own))
            decks += 1
        count = 2 if decks > 1 and track == CELL and len(deck) > 1 and chance.random() < 0.3 else 1
        wait_s = chance.uniform(*CALM_S)
        yield tuple(_drawn(chance, deck.pop(), wait_s) for _ in range(count))


def _drawn(chance: random.Random, kind: Kind, wait_s: float) -> Fault:
    return Fault(kind.name, wait_s, chance.uniform(kind.low_s, kind.high_s), chance.getrandbits(32))
