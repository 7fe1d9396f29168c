"""Links that carry less than is asked of them: nothing is repeated without need, or copies would fill them for ever.

Each directed link is a queue of its own with a rate and a bound, like a connection with its outbox. Time is virtual.
"""

from __future__ import annotations

from collections import deque
from random import Random

import pytest

from coordd.paxos.effects import Durable, ValueKind
from coordd.paxos.membership import Membership
from coordd.paxos.messages import Message
from coordd.paxos.replica import Replica
from coordd.paxos.state import PaxosSettings

MIB = 1024 * 1024
OUTBOX_BYTES = 64 * MIB
STEP_MS = 5


def size_of(message: Message) -> int:
    values = [entry[-1] for entry in getattr(message, "entries", ())]
    return 60 + sum(map(len, (*values, *getattr(message, "values", ()))))


class SlowCell:
    """Three replicas; `rate` is in bytes per millisecond, for each direction of each link."""

    def __init__(self, rate: int) -> None:
        self.now_ms = 1_000
        self._rate = rate
        self._chance = Random(1)
        self._links: dict[tuple[int, int], deque[tuple[float, Message]]] = {}
        membership = Membership(1, (1, 2, 3))
        self.replicas = {number: Replica(PaxosSettings(number), Durable(1, membership), 1_000) for number in (1, 2, 3)}
        self.down: set[int] = set()
        self.reigns: set[tuple[int, int]] = set()
        self.chosen = 0
        self.without_lease_ms = 0
        self.dropped = 0

    def run(self, for_ms: int, value: bytes = b"") -> None:
        """Let time pass; with `value`, whoever may propose proposes it again and again."""
        for _ in range(for_ms // STEP_MS):
            self.now_ms += STEP_MS
            for (_, to), link in self._links.items():
                while link and link[0][0] <= self.now_ms:
                    message = link.popleft()[1]
                    if to not in self.down:
                        self.replicas[to].receive(message, self.now_ms)
                        self._perform(to)
            for number, replica in self.replicas.items():
                if number not in self.down:
                    self._turn(number, replica, value)

    def _turn(self, number: int, replica: Replica, value: bytes) -> None:
        replica.tick(self.now_ms, self._chance.getrandbits(64))
        self._perform(number)
        while value and replica.can_propose():
            replica.propose(value, self.now_ms)
            self._perform(number)
        if replica.serving:
            self.reigns.add((number, replica.epoch))
            self.without_lease_ms += 0 if replica.lease_valid(self.now_ms) else STEP_MS

    def _perform(self, number: int) -> None:
        """Disks here take no time."""
        replica = self.replicas[number]
        while True:
            effects = replica.take_effects()
            self.chosen += sum(chosen.kind is ValueKind.BATCH for chosen in effects.chosen) if replica.serving else 0
            for to, message in effects.send_now:
                self._send(number, to, message)
            if effects.persist_number:
                replica.persisted(effects.persist_number, self.now_ms)
            for to, message in effects.send_after_persist:
                self._send(number, to, message)
            if not effects.persist_number:
                return

    def _send(self, sender: int, to: int, message: Message) -> None:
        link = self._links.setdefault((sender, to), deque())
        free_ms = max(self.now_ms, link[-1][0] if link else 0)
        if (free_ms - self.now_ms) * self._rate + size_of(message) > OUTBOX_BYTES:
            self.dropped += 1
        else:
            link.append((free_ms + 1 + size_of(message) / self._rate, message))

    def master(self) -> int | None:
        serving = [number for number, replica in self.replicas.items() if replica.serving and number not in self.down]
        return serving[0] if serving else None


@pytest.mark.parametrize("rate", [12_500, 2_500], ids=["100 Mbit/s", "20 Mbit/s"])
def test_a_slow_link_is_used_in_full_and_costs_the_master_neither_its_lease_nor_its_place(rate: int) -> None:
    cell = SlowCell(rate)
    cell.run(1_000)
    assert cell.master() is not None
    cell.without_lease_ms = 0
    cell.run(20_000, b"x" * MIB)
    assert cell.chosen * MIB > 0.8 * rate * 20_000
    assert len(cell.reigns) == 1
    assert cell.without_lease_ms == 0


@pytest.mark.parametrize("rate", [12_500, 2_500], ids=["100 Mbit/s", "20 Mbit/s"])
def test_over_a_slow_link_a_new_master_brings_home_what_was_in_flight(rate: int) -> None:
    cell = SlowCell(rate)
    cell.run(5_000, b"x" * MIB)
    old = cell.master()
    assert old is not None
    cell.down.add(old)
    cell.run(8_000)
    assert cell.master() not in (None, old)
    assert len(cell.reigns) == 2


@pytest.mark.parametrize("rate", [12_500, 2_500], ids=["100 Mbit/s", "20 Mbit/s"])
def test_over_a_slow_link_a_follower_that_was_away_catches_up(rate: int) -> None:
    cell = SlowCell(rate)
    cell.run(1_000)
    away = next(number for number in cell.replicas if number != cell.master())
    cell.down.add(away)
    cell.run(4_000, b"x" * MIB)
    cell.down.clear()
    missed_ms = 4_000
    cell.run(2 * missed_ms + 4_000)
    assert {replica.chosen_upto for replica in cell.replicas.values()} == {cell.replicas[away].chosen_upto}
    assert cell.dropped == 0
