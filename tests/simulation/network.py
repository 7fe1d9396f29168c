"""Links between machines: loss, delay, reordering, duplication, cuts, and frames held back and delivered late.

A link is a directed pair of names (replica numbers, client names). Messages are values and are never copied.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from typing import Any

from tests.simulation.swarm import Swarm
from tests.simulation.world import World

DROP, HOLD = "drop", "hold"
OLD_MAX = 12  # of each kind, for replays
REMEMBERED = 0.3
HELD_MAX = 200  # a dead connection's buffer is not endless

Name = Hashable
Deliver = Callable[[Any, Any], None]  # source, message


class Network:
    """Carries messages between named machines, or loses them."""

    def __init__(self, world: World, swarm: Swarm) -> None:
        self._world = world
        self._chance = world.chance("network")
        self._random = self._chance.random
        self._low_us, self._high_us = swarm.latency_us
        self._tail_rate, self._tail_us = swarm.tail_rate, swarm.tail_us
        self.loss, self.duplicate = swarm.loss, swarm.duplicate
        self._ordered = swarm.ordered
        self._ends: dict[Name, Deliver] = {}
        self._cuts: dict[tuple[Name, Name], str] = {}
        self._held: dict[tuple[Name, Name], list[Any]] = {}
        self._held_packets: dict[tuple[Name, Name], list[Any]] = {}
        self._last_us: dict[tuple[Name, Name], int] = {}
        self._old: dict[type, deque[tuple[tuple[Name, Name], Any]]] | None = {} if "replay" in swarm.faults else None
        self.carried = 0
        self.lost = 0

    def join(self, name: Name, deliver: Deliver) -> None:
        """`deliver(source, message)` is called for everything that arrives at `name`."""
        self._ends[name] = deliver

    def send(self, source: Name, target: Name, message: Any) -> None:
        """Put `message` on the link; it may arrive once, several times, late, or never."""
        link = (source, target)
        if self._old is not None and self._random() < REMEMBERED:
            self._old.setdefault(type(message), deque(maxlen=OLD_MAX)).append((link, message))
        cut = self._cuts.get(link)
        if cut is not None:
            self._keep_back(link, cut, message)
            return
        if self.loss and self._random() < self.loss:
            self.lost += 1
            return
        self._carry(link, message)
        if self.duplicate and self._random() < self.duplicate:
            self._carry(link, message)

    def replay(self, count: int, source: Name | None = None) -> None:
        """Messages of long ago, all or those of one, come once more; rare kinds as often as common ones."""
        kinds = [
            chosen
            for old in (self._old or {}).values()
            if (chosen := [one for one in old if source is None or one[0][0] == source])
        ]
        for _ in range(count if kinds else 0):
            link, message = self._chance.choice(self._chance.choice(kinds))
            self._carry(link, message)

    def carry_stream(self, source: Name, target: Name, packet: Any) -> None:
        """Put a packet of a connection on the way: what is lost is sent again later, what is cut off waits."""
        again_us = 0
        while self.loss and self._random() < self.loss:
            again_us += 200_000 + int(self._random() * 300_000)
        self._world.after(self.latency_us() + again_us, self._arrive_in_stream, (source, target), packet)

    def _arrive_in_stream(self, link: tuple[Name, Name], packet: Any) -> None:
        if link in self._cuts:
            held = self._held_packets.setdefault(link, [])
            if len(held) < HELD_MAX:
                held.append(packet)
            return
        deliver = self._ends.get(link[1])
        if deliver is not None:
            self.carried += 1
            deliver(link[0], packet)

    def leave(self, name: Name) -> None:
        """Nobody listens there any more."""
        self._ends.pop(name, None)

    def latency_us(self) -> int:
        """One draw of the time on a link."""
        if self._tail_rate and self._random() < self._tail_rate:
            return int(self._random() * self._tail_us)
        return self._low_us + int(self._random() * (self._high_us - self._low_us))

    def cut(self, source: Name, target: Name, how: str) -> None:
        """From now on nothing passes; with HOLD it waits in the buffer of the connection."""
        self._cuts[source, target] = how

    def is_cut(self, source: Name, target: Name) -> bool:
        """True while nothing passes on this link."""
        return (source, target) in self._cuts

    def heal(self, source: Name, target: Name) -> None:
        """Messages pass again, and what was held back comes now, late."""
        self._cuts.pop((source, target), None)
        for message in self._held.pop((source, target), ()):
            self._carry((source, target), message)
        for packet in self._held_packets.pop((source, target), ()):
            self._world.after(self.latency_us(), self._arrive_in_stream, (source, target), packet)

    def heal_all(self) -> None:
        """No cuts, no loss, no duplicates, no long tail: the world after the faults."""
        for source, target in list(self._cuts):
            self.heal(source, target)
        self.loss = self.duplicate = self._tail_rate = 0.0

    def cut_between(
        self, left: Iterable[Name], right: Iterable[Name], how: str, both: bool = True
    ) -> list[tuple[Name, Name]]:
        """Cut every link from `left` to `right` (and back); answers the links that were cut by this call."""
        right = list(right)
        links = [(a, b) for a in left for b in right if a != b]
        if both:
            links += [(b, a) for a, b in links]
        new = [link for link in links if link not in self._cuts]
        for source, target in new:
            self.cut(source, target, how)
        return new

    def _keep_back(self, link: tuple[Name, Name], cut: str, message: Any) -> None:
        held = self._held.setdefault(link, [])
        if cut == HOLD and len(held) < HELD_MAX:
            held.append(message)
        else:
            self.lost += 1

    def _carry(self, link: tuple[Name, Name], message: Any) -> None:
        self.carried += 1
        at_us = self._world.now_us + self.latency_us()
        if self._ordered:
            at_us = max(at_us, self._last_us.get(link, 0))
            self._last_us[link] = at_us
        self._world.after(at_us - self._world.now_us, self._arrive, link, message)

    def _arrive(self, link: tuple[Name, Name], message: Any) -> None:
        if link in self._cuts and self._cuts[link] == DROP:
            self.lost += 1
            return
        deliver = self._ends.get(link[1])
        if deliver is not None:
            deliver(link[0], message)
