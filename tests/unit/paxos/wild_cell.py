"""Bare replicas in random histories, with bounds so small that every edge is near. One seed, one history.

Coarser than `tests.simulation` and quicker, and with what is rare there: messages of one slot, promises in many parts,
logs without a tail, several candidates in one round, voters stuck on high ballots, full disks that get room again,
changes of the membership one after another. Checked at every step: what is chosen, who holds a lease, whose epoch it
is, what was promised and accepted over every crash, reads in the lease and by confirming rounds; at the end: rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random

from coordd.paxos import messages as m
from coordd.paxos.effects import Chosen, ValueKind
from coordd.paxos.membership import Membership
from coordd.paxos.replica import Replica, Role
from tests.unit.paxos.wild_replica import Broken, WildReplica

FAULTS = {  # how likely at each moment
    "kill": 0.001,
    "power": 0.001,
    "full": 0.002,
    "cut": 0.002,
    "one_way": 0.002,
    "pause": 0.001,
    "hand_over": 0.001,
    "snapshot": 0.01,
    "stick": 0.01,  # a candidacy that nobody wanted
    "rush": 0.004,  # several ask at the same moment
}
CALM_MS = 4_000
REST_MS_MAX = 30_000


def draw_bounds(chance: Random) -> dict[str, int]:
    """Names in `coordd.paxos` and the values that they have in this history."""
    return {
        "MESSAGE_BYTES": chance.choice((1, 20, 60, 10**6)),
        "SLOTS_AHEAD_MAX": chance.choice((6, 12, 256)),
        "LEARN_SLOTS_MAX": chance.choice((1, 3, 1024)),
        "KEPT_SLOTS": chance.choice((0, 2, 1024)),
    }


class WildCell:
    """The world of one history."""

    def __init__(self, seed: int) -> None:
        chance = self.chance = Random(f"wild {seed}")
        self.now_us = 0
        size = chance.choice((1, 2, 3, 3, 3, 3, 4, 5, 5))
        voters = tuple(range(1, size + 1))
        learners = (size + 1,) if chance.random() < 0.2 else ()
        self.membership = Membership(1, voters, learners, lease_ms=chance.choice((300, 600)))
        self.window = chance.choice((1, 3, 8))
        self.loss, self.copies = chance.choice((0, 0, 0.02, 0.2)), chance.choice((0, 0.05, 0.3))
        self.latency_us = chance.choice(((100, 2_000), (1_000, 30_000), (1_000, 300_000)))
        self.late = chance.choice((0, 0, 0.05))
        self.load, self.changes = 0.7, chance.choice((0, 0.05, 0.2))
        self.calm = False
        self._faults = {name for name in (*FAULTS, "slow_sync") if chance.random() < 0.5}
        self.counts: Counter[str] = Counter()
        self.proposed = self.acknowledged = 0
        self._chosen: dict[int, Chosen] = {}
        self._memberships: list[tuple[int, Membership]] = [(0, self.membership)]
        self._epochs: dict[int, tuple[int, int]] = {}
        self._cuts: set[tuple[int, int]] = set()
        self._wire: list[tuple[int, float, int, int, m.Message]] = []
        self.all = {number: WildReplica(self, number, self.membership) for number in (*voters, *learners)}

    def has(self, fault: str) -> bool:
        return fault in self._faults and not self.calm

    def run(self, until_us: int) -> None:
        while self.now_us < until_us:
            self.now_us += self.chance.choice((200, 1_000, 3_000))
            self._deliver()
            for one in list(self.all.values()):
                one.turn()
                self.check_leases()
            self._strike()

    def send(self, sender: WildReplica, messages: Sequence[tuple[int, m.Message]]) -> None:
        chance = self.chance
        sender.disk.note_spoken(message for _, message in messages)
        for to, message in messages:
            for _ in range(1 + (chance.random() < self.copies)):
                if chance.random() >= self.loss:
                    late_us = chance.randrange(3_000_000) if chance.random() < self.late else 0
                    at_us = self.now_us + chance.randint(*self.latency_us) + late_us
                    self._wire.append((at_us, chance.random(), sender.number, to, message))

    def _deliver(self) -> None:
        due = sorted(entry for entry in self._wire if entry[0] <= self.now_us)
        if due:
            self._wire = [entry for entry in self._wire if entry[0] > self.now_us]
        for _, _, sender, to, message in due:
            if (sender, to) not in self._cuts and to in self.all and self.all[to].replica is not None:
                self.all[to].inbox.append(message)

    # ---- changes and faults ----

    def change(self, replica: Replica, now_ms: int) -> None:
        """One change of one replica, and the new one's process; never without a reachable majority afterwards."""
        now, chance = replica.membership, self.chance
        kind = chance.choice(("add", "promote", "remove"))
        if kind == "add" and len(now.learners) < 2 and now.highest < 12:
            after = now.with_learner(now.highest + 1)
        elif kind == "promote" and now.learners and len(now.voters) < 6:
            after = now.with_voter(chance.choice(now.learners))
        elif kind == "remove" and len(now.voters) > 1:
            after = now.without(chance.choice((*now.voters, *now.learners)))
            if not after.is_majority(v for v in after.voters if self.all[v].replica is not None):
                return
        else:
            return
        self.counts[kind] += 1
        replica.change(after, now_ms)
        for number in after.learners:
            if number not in self.all:
                view = Membership(0, now.voters, lease_ms=now.lease_ms)
                self.all[number] = WildReplica(self, number, view)
                self.all[number].boot_us = self.now_us + chance.randrange(2_000_000)

    def membership_at(self, slot: int) -> Membership:
        return max((pair for pair in self._memberships if pair[0] <= slot), key=lambda pair: pair[0])[1]

    def _strike(self) -> None:
        chance = self.chance
        if chance.random() < 0.001:
            chance.choice(list(self.all.values())).set_rate(chance.choice((-4_900, 0, 4_900)))
        for fault, likely in FAULTS.items():
            if self.has(fault) and chance.random() < likely:
                self.counts[fault] += 1
                busy = [one for one in self.all.values() if one.replica and one.replica.role is not Role.FOLLOWER]
                victims = busy if busy and chance.random() < 0.5 else list(self.all.values())
                self._hit(fault, chance.choice(victims))

    def _hit(self, fault: str, one: WildReplica) -> None:
        chance, numbers = self.chance, list(self.all)
        if fault in ("kill", "power"):
            one.crash(power=fault == "power")
        elif fault == "full":
            one.full = not one.full
        elif fault == "one_way":
            self._cuts ^= {(chance.choice(numbers), chance.choice(numbers))}
        elif fault == "cut":
            side = {number for number in numbers if chance.random() < 0.5}
            split = {(a, b) for a in numbers for b in numbers if (a in side) != (b in side)}
            self._cuts = set() if self._cuts and chance.random() < 0.6 else self._cuts | split
        elif fault == "rush":
            for other in self.all.values():
                if other.replica is not None and chance.random() < 0.7:
                    other.replica.state.ask_at_ms = 0
        elif one.replica is not None and not one.sync_us:
            self._hit_running(fault, one, one.replica)

    def _hit_running(self, fault: str, one: WildReplica, replica: Replica) -> None:
        state, now_ms = replica.state, one.clock()
        if fault == "pause":
            one.paused_us = self.now_us + self.chance.choice((100_000, 700_000, 2_000_000))
        elif fault == "hand_over":
            replica.hand_over(now_ms, self.chance.choice((None, *self.all)))
        elif fault == "snapshot":
            one.wish_snapshot()
        else:
            idle = replica.role is Role.FOLLOWER and state.is_voter and not state.left and not state.mute
            if idle and state.grants.may_promise(one.number, state.start, now_ms):
                state.now_ms = replica._standing_since_ms = now_ms
                replica.election.prepare()

    # ---- what is promised ----

    def check_chosen(self, one: WildReplica, entry: Chosen) -> None:
        known = self._chosen.setdefault(entry.slot, entry)
        if known != entry:
            raise Broken(f"slot {entry.slot} is {known!r:.80}, and {entry!r:.80} at {one.number}")
        replica = one.replica
        assert replica is not None
        if entry.kind is ValueKind.MEMBERSHIP and known is entry:
            self._memberships.append((entry.slot, Membership.from_bytes(entry.payload)))
        if replica.serving and entry.payload.startswith(b"%d:%d:" % (one.number, replica.epoch)):
            self.acknowledged = max(self.acknowledged, entry.slot)

    def check_reads(self, one: WildReplica, now_ms: int) -> None:
        replica = one.replica
        if replica is None or not replica.serving:
            one.rounds = []
            return
        owner = (one.number, one.disk.starts)
        if self._epochs.setdefault(replica.epoch, owner) != owner:
            raise Broken(f"epoch {replica.epoch} is that of {self._epochs[replica.epoch]} and of {owner}")
        if replica.lease_valid(now_ms) and replica.lease_valid(one.clock()) and self.acknowledged > replica.chosen_upto:
            raise Broken(f"{one.number} reads slot {replica.chosen_upto} in its lease; {self.acknowledged} was told")
        for number, epoch, floor in one.rounds:
            if epoch == replica.epoch and replica.confirmed >= number and replica.chosen_upto < floor:
                raise Broken(f"{one.number} reads slot {replica.chosen_upto} by a round; {floor} was told before")
        one.rounds = [entry for entry in one.rounds if entry[0] > replica.confirmed]

    def check_leases(self) -> None:
        holders = [one.number for one in self.all.values() if one.replica and one.replica.lease_valid(one.clock())]
        if len(holders) > 1:
            raise Broken(f"{holders} hold the lease")

    # ---- the end ----

    def come_to_rest(self) -> None:
        """No faults and little load: one master stays, new entries are chosen, every member catches up."""
        self.calm, self.load = True, 0.02
        self._cuts, self.loss, self.copies, self.late = set(), 0, 0, 0
        self.latency_us = (100, 2_000)
        for one in self.all.values():
            one.full = False
            one.paused_us = 0
        end_us = self.now_us + REST_MS_MAX * 1_000
        self.run(self.now_us + CALM_MS * 1_000)
        while not self._rests():
            if self.now_us > end_us:
                state = {n: one.replica and (one.replica.role.value, one.applied) for n, one in self.all.items()}
                raise Broken(f"no rest: {state}, {self.acknowledged} told, {self.membership_at(10**9)}")

    def _rests(self) -> bool:
        members = self.membership_at(10**9)
        asked = self.acknowledged
        before = [
            (one.number, one.replica and one.replica.ballot) for one in self.all.values() if one.number in members
        ]
        self.run(self.now_us + 2_000_000)
        after = [(one.number, one.replica and one.replica.ballot) for one in self.all.values() if one.number in members]
        behind = [
            n for n in (*members.voters, *members.learners) if not self.all[n].replica or self.all[n].applied < asked
        ]
        return before == after and not behind and self.acknowledged > asked
