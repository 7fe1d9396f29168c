"""One replica of `wild_cell`: the core with a driver, a disk and a clock around it, all as coarse as can be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from coordd.paxos import invariants
from coordd.paxos import messages as m
from coordd.paxos.effects import Chosen
from coordd.paxos.membership import Membership
from coordd.paxos.replica import Replica
from coordd.paxos.state import PaxosSettings
from tests.unit.paxos.wild_disk import SNAPSHOT_BYTES, WildDisk, snapshot_of

if TYPE_CHECKING:
    from tests.unit.paxos.wild_cell import WildCell

SLOW_SYNC_RATE = 0.01


class Broken(AssertionError):
    """A promise was broken."""


class WildReplica:
    """One replica with its driver, its disk and its clock. `replica` is None while it is down."""

    def __init__(self, cell: WildCell, number: int, membership: Membership) -> None:
        self.cell, self.number = cell, number
        self.chance = cell.chance
        self.disk = WildDisk(number, membership)
        self.dismissed = False
        self.boot_us = 0
        self.full = False
        self.summary: invariants.Summary | None = None
        self._anchor_us, self._local = 0, self.chance.randrange(10**7) * 1_000_000_000
        self.rate = self.chance.choice((-4_900, 0, 4_900))  # together within the bound of 1 %
        self.replica: Replica | None = None

    # ---- time and life ----

    def clock(self) -> int:
        return (self._local + (self.cell.now_us - self._anchor_us) * (1_000_000 + self.rate)) // 1_000_000_000

    def set_rate(self, rate: int) -> None:
        self._local += (self.cell.now_us - self._anchor_us) * (1_000_000 + self.rate)
        self._anchor_us, self.rate = self.cell.now_us, rate

    def boot(self) -> None:
        lease_ms = self.disk.membership.lease_ms
        settings = PaxosSettings(
            self.number,
            heartbeat_ms=lease_ms // 5,
            retransmit_ms=lease_ms // 7,
            election_jitter_ms=lease_ms // 5,
            window_slots=self.cell.window,
            candidate_ms=2_000,
            stuck_ms=2_000,
            stay_out_ms=3_000,
        )
        durable = self.disk.start()
        self.replica = Replica(settings, durable, self.clock())
        self.summary = None  # what was promised and not spoken of may be forgotten; the rest is the disk's to watch
        self.applied = durable.snapshot_slot
        self.inbox: list[m.Message] = []
        self.carried: list[tuple[str, int]] = []
        self.unwritten: list[Any] = []
        self.retry_us = self.owed = self.sync_us = self.paused_us = 0
        self.after: Sequence[tuple[int, m.Message]] = ()
        self.snapshot_due: tuple[int, int, Membership] | None = None
        self.rounds: list[tuple[int, int, int]] = []  # confirming rounds: number, epoch, what must be seen
        self.quiet_steps = 0
        self.tick_us = self.cell.now_us + self.chance.randrange(30_000)

    def crash(self, *, power: bool) -> None:
        if self.replica is not None:
            self.replica = None
            self.disk.crash(self.chance if power else None)
            self.boot_us = self.cell.now_us + self.chance.choice((1_000, 50_000, 500_000, 3_000_000))

    # ---- the driver ----

    def turn(self) -> None:
        """What is due of the disk, and a step."""
        cell = self.cell
        if self.replica is None:
            if not self.dismissed and cell.now_us >= self.boot_us:
                self.boot()
            return
        if self.paused_us > cell.now_us or self.sync_us > cell.now_us:
            return
        if self.sync_us:
            self.sync_us = 0
            self.disk.sync()
            cell.send(self, self.after)
            self.carried.append(("persisted", self.owed))
            self.owed = 0
            self.tick_us = cell.now_us
        if self.snapshot_due is not None and cell.now_us >= self.snapshot_due[0]:
            self._take_snapshot(self.replica, *self.snapshot_due[1:])
        if self.inbox or self.carried or cell.now_us >= self.tick_us:
            self.tick_us = cell.now_us + 20_000
            self._step(self.replica)

    def _step(self, replica: Replica) -> None:
        now_ms = self.clock()
        carried, self.carried = self.carried, []
        for what, number in carried:
            self._carry(replica, what, number, now_ms)
        inbox, self.inbox = self.inbox, []
        for message in inbox:
            replica.receive(message, now_ms)
        replica.tick(now_ms, self.chance.getrandbits(64))
        self._propose(replica, now_ms)
        self._perform(replica)
        self.cell.check_reads(self, now_ms)

    def _carry(self, replica: Replica, what: str, number: int, now_ms: int) -> None:
        self.cell.counts[what] += 1
        if what == "persisted":
            replica.persisted(number, now_ms)
        elif what == "full":
            replica.disk_full(now_ms)
        elif what == "room":
            replica.disk_has_room(now_ms)
        elif what == "dropped":
            replica.forget_snapshot()
        else:
            self._apply(replica.state.effects.chosen)
            replica.state.effects.chosen.clear()
            if number > replica.chosen_upto:
                self.applied = number
                replica.install(number, SNAPSHOT_BYTES, self.disk.membership, now_ms)
            else:
                replica.forget_snapshot()
                replica.compact(number, SNAPSHOT_BYTES)
            self.disk.cut(number)

    def _propose(self, replica: Replica, now_ms: int) -> None:
        cell, chance = self.cell, self.chance
        if replica.can_change() and not cell.calm and chance.random() < cell.changes:
            cell.change(replica, now_ms)
        if self.quiet_steps:  # now and then the pipeline drains, so that a change finds its moment
            self.quiet_steps -= 1
        elif chance.random() < cell.changes / 10:
            self.quiet_steps = 60
        while not self.quiet_steps and replica.can_propose() and chance.random() < cell.load:
            cell.proposed += 1
            payload = b"%d:%d:%d" % (self.number, replica.epoch, cell.proposed)
            replica.propose(payload + b"x" * chance.choice((0, 0, 30)), now_ms)
        if replica.serving and chance.random() < 0.2:
            self.rounds.append((replica.confirm(now_ms), replica.epoch, cell.acknowledged))

    def _perform(self, replica: Replica) -> None:
        summary = invariants.check(replica)
        if self.summary is not None:
            invariants.check_delta(self.summary, summary)
        self.summary = summary
        effects = replica.take_effects()
        if effects.stop is not None:
            raise Broken(f"replica {self.number} stops: {effects.stop}")
        self._apply(effects.chosen)
        assert self.applied == replica.chosen_upto
        written = self._write(effects.persist)
        self.cell.send(self, effects.send_now)
        for transfer in effects.snapshot_transfers:
            self._transfer(transfer)
        if effects.left:
            self.replica, self.dismissed = None, True
            return
        self.owed = effects.persist_number or self.owed
        if self.owed and written:
            slow = self.cell.has("slow_sync") and self.chance.random() < SLOW_SYNC_RATE
            self.sync_us = self.cell.now_us + self.chance.randrange(200, 3_000_000 if slow else 5_000)
            self.after = effects.send_after_persist

    def _write(self, records: Sequence[Any]) -> bool:
        """As the driver does: what has no room waits, in order."""
        self.unwritten += records
        if not self.unwritten:
            return True
        if self.cell.now_us < self.retry_us:
            return False
        if self.full:
            self.retry_us = self.cell.now_us + 100_000
            self.carried.append(("full", 0))
            return False
        self.disk.records += self.unwritten
        self.unwritten = []
        if self.retry_us:
            self.retry_us = 0
            self.carried.append(("room", 0))
        return True

    def _apply(self, chosen: Sequence[Chosen]) -> None:
        for entry in chosen:
            assert entry.slot == self.applied + 1
            self.applied = entry.slot
            self.cell.check_chosen(self, entry)

    # ---- snapshots ----

    def _transfer(self, transfer: Any) -> None:
        if hasattr(transfer, "chunk"):
            chunk = transfer.chunk
            if self.disk.snapshot_slot == chunk.slot:
                data = snapshot_of(chunk.slot)[chunk.offset : chunk.offset + 3]
                self.cell.send(self, [(transfer.to, replace(chunk, data=data))])
        elif self.full:
            self.carried.append(("dropped", 0))
        elif self.disk.store_chunk(transfer, self.cell.membership_at(transfer.slot)):
            self.carried.append(("received", transfer.slot))
        elif transfer.offset + len(transfer.data) == transfer.size:
            self.carried.append(("dropped", 0))

    def wish_snapshot(self) -> None:
        replica = self.replica
        if replica is not None and self.snapshot_due is None and replica.chosen_upto > replica.snapshot_slot:
            due_us = self.cell.now_us + self.chance.randrange(50_000)
            self.snapshot_due = (due_us, self.applied, self.cell.membership_at(self.applied))

    def _take_snapshot(self, replica: Replica, slot: int, membership: Membership) -> None:
        self.snapshot_due = None
        if slot > self.disk.snapshot_slot:
            self.disk.snapshot_slot, self.disk.membership = slot, membership
            if slot > replica.snapshot_slot:
                replica.compact(slot, SNAPSHOT_BYTES)
                self.disk.cut(slot)
