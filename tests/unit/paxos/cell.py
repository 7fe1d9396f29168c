"""A cell driven by hand: messages lie in a list until a test delivers them; a disk is what has been synced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from coordd.paxos import invariants
from coordd.paxos.ballot import CHOSEN, ZERO, Ballot
from coordd.paxos.effects import (
    AcceptedRecord,
    Chosen,
    ChosenRecord,
    Durable,
    Effects,
    PeersRecord,
    PromiseRecord,
    SendSnapshotChunk,
    StoreSnapshotChunk,
)
from coordd.paxos.membership import Membership
from coordd.paxos.messages import Message
from coordd.paxos.replica import Replica, Role
from coordd.paxos.starts import mark_of, start_number
from coordd.paxos.state import PaxosSettings

LEASE_MS = 1500


class Disk:
    """The durable words of one replica."""

    def __init__(self, membership: Membership, mark: int = 0) -> None:
        self.durable = Durable(start=start_number(mark, 0), membership=membership)

    def write(self, effects: Effects) -> None:
        durable = self.durable
        for record in effects.persist:
            match record:
                case PromiseRecord(ballot):
                    durable.promised = max(durable.promised, ballot)
                case AcceptedRecord(slot, ballot, value):
                    durable.entries[slot] = (ballot, value)
                    if ballot != CHOSEN:
                        durable.promised = max(durable.promised, ballot)
                case ChosenRecord(upto):
                    durable.chosen_upto = upto
                case PeersRecord(peers):
                    durable.peers = peers

    def start(self) -> Durable:
        durable = self.durable
        durable.start += 1
        return Durable(
            durable.start,
            durable.membership,
            durable.promised,
            dict(durable.entries),
            durable.chosen_upto,
            durable.snapshot_slot,
            durable.snapshot_size,
            durable.peers,
        )


class Cell:
    """Replicas 1..n. `wire` holds `(from, to, message)`; `unsynced` what waits for a disk."""

    def __init__(self, size: int, *, sync: bool = True, membership: Membership | None = None) -> None:
        self.membership = membership or Membership(1, tuple(range(1, size + 1)), lease_ms=LEASE_MS)
        self.now_ms = 100_000
        self.sync = sync
        members = (*self.membership.voters, *self.membership.learners)
        self.disks = {replica: Disk(self.membership) for replica in members}
        self.replicas: dict[int, Replica] = {}
        self.wire: list[tuple[int, int, Message]] = []
        self.unsynced: dict[int, list[Effects]] = {}
        self.chosen: dict[int, list[Chosen]] = {}
        self.stopped: dict[int, str] = {}
        self.left: set[int] = set()
        self.stored: list[StoreSnapshotChunk] = []
        self.snapshot = b""  # the bytes of every replica's snapshot file
        self._summaries: dict[int, invariants.Summary] = {}
        for replica in members:
            self.boot(replica)

    def __getitem__(self, replica: int) -> Replica:
        return self.replicas[replica]

    def role(self, replica: int) -> Role:
        """What the replica is at this moment."""
        return self.replicas[replica].role

    def serves(self, replica: int) -> bool:
        """Whether the replica is a serving master at this moment."""
        return self.replicas[replica].serving

    def boot(self, replica: int) -> Replica:
        settings = PaxosSettings(replica)
        self.replicas[replica] = Replica(settings, self.disks[replica].start(), self.now_ms)
        self.unsynced[replica] = []
        self.chosen[replica] = []
        return self.replicas[replica]

    def join(self, replica: int) -> Replica:
        """A new replica with an empty disk, which has been told whom to ask."""
        self.disks[replica] = Disk(Membership(0, self.membership.voters, (replica,), lease_ms=LEASE_MS))
        return self.boot(replica)

    def change(self, master: int, membership: Membership) -> int:
        slot = self.replicas[master].change(membership, self.now_ms)
        self.perform(master)
        return slot

    def change_when_possible(self, master: int, membership: Membership) -> int:
        """The last change has to settle first."""
        while not self.replicas[master].can_change():
            self.run(for_ms=50)
        return self.change(master, membership)

    def crash(self, replica: int) -> None:
        """The process dies; what was not synced is lost, what it sent is on the wire."""
        del self.replicas[replica]

    def lose_disk(self, replica: int) -> None:
        """A dead replica's disk is replaced by an empty one."""
        assert replica not in self.replicas
        self.disks[replica] = Disk(self.membership, mark_of(self.disks[replica].durable.start) + 1)
        self._summaries.pop(replica, None)

    def perform(self, replica: int) -> None:
        """Do what the replica wants done, up to the sync (with it, when `sync` is on)."""
        summary = invariants.check(self.replicas[replica])
        if replica in self._summaries:
            invariants.check_delta(self._summaries[replica], summary)
        self._summaries[replica] = summary
        effects = self.replicas[replica].take_effects()
        self.chosen[replica] += effects.chosen
        self.wire += [(replica, to, message) for to, message in effects.send_now]
        for transfer in effects.snapshot_transfers:
            match transfer:
                case SendSnapshotChunk(to, chunk):
                    data = self.snapshot[chunk.offset : chunk.offset + 4]
                    self.wire.append((replica, to, replace(chunk, data=data)))
                case StoreSnapshotChunk():
                    self.stored.append(transfer)
        if effects.stop:
            self.stopped[replica] = effects.stop
        if effects.left:
            self.left.add(replica)
        if effects.persist or effects.send_after_persist:
            self.unsynced[replica].append(effects)
            if self.sync:
                self.sync_disk(replica)

    def sync_disk(self, replica: int) -> None:
        """Everything that waits becomes durable, is reported, and what depended on it leaves."""
        waiting, self.unsynced[replica] = self.unsynced[replica], []
        for effects in waiting:
            self.disks[replica].write(effects)
            self.replicas[replica].persisted(effects.persist_number, self.now_ms)
            self.wire += [(replica, to, message) for to, message in effects.send_after_persist]
        if waiting:
            self.perform(replica)

    def tick(self, *replicas: int, after_ms: int = 0) -> None:
        """Let time pass, then tick these replicas (all without names)."""
        self.now_ms += after_ms
        for replica in replicas or tuple(self.replicas):
            self.replicas[replica].tick(self.now_ms, chance=0)
            self.perform(replica)

    def deliver(self, wanted: Callable[[int, int, Message], bool] = lambda *_: True) -> list[Message]:
        """Deliver what is on the wire and wanted, once, in order; what these deliveries send stays on the wire."""
        taken = [entry for entry in self.wire if wanted(*entry)]
        self.wire = [entry for entry in self.wire if not wanted(*entry)]
        for _, to, message in taken:
            if to in self.replicas:
                self.replicas[to].receive(message, self.now_ms)
                self.perform(to)
        return [message for _, _, message in taken]

    def settle(self, *alive: int) -> None:
        """Deliver until nothing is on the wire; what concerns others than `alive` (all without names) is lost."""
        names = alive or tuple(self.replicas)
        for _ in range(1000):
            self.wire = [entry for entry in self.wire if entry[0] in names and entry[1] in names]
            if not self.wire:
                return
            self.deliver()
        raise AssertionError("messages without end")

    def settle_but(self, *kinds: type[Message]) -> None:
        """Deliver until nothing is on the wire but messages of these kinds, which stay there."""
        while self.deliver(lambda _, to, message: to in self.replicas and not isinstance(message, kinds)):
            pass

    def run(self, *alive: int, for_ms: int, step_ms: int = 50) -> None:
        """Time passes for `alive`, with instant delivery among them."""
        names = alive or tuple(self.replicas)
        for _ in range(for_ms // step_ms):
            self.tick(*names, after_ms=step_ms)
            self.settle(*names)

    def elect(self, replica: int, *alive: int) -> Replica:
        """Make `replica` the serving master of the `alive` (all without names)."""
        names = alive or tuple(self.replicas)
        for other in names:
            if other != replica:
                self.replicas[other].state.ask_at_ms = self.now_ms + 60_000
        self.replicas[replica].state.ask_at_ms = 0
        self.run(*names, for_ms=LEASE_MS * 3)
        master = self.replicas[replica]
        assert master.serving, f"replica {replica} should serve"
        return master

    def propose(self, replica: int, payload: bytes) -> int:
        slot = self.replicas[replica].propose(payload, self.now_ms)
        self.perform(replica)
        return slot

    def value(self, replica: int, slot: int) -> bytes | None:
        """The payload of a chosen slot as this replica handed it out."""
        return next((chosen.payload for chosen in self.chosen[replica] if chosen.slot == slot), None)


def sent_by(sender: int, kind: type[Message]) -> Callable[[int, int, Message], bool]:
    """For `Cell.deliver`: messages of one kind from one replica."""
    return lambda origin, _, message: origin == sender and isinstance(message, kind)


__all__ = ["CHOSEN", "LEASE_MS", "ZERO", "Ballot", "Cell", "Disk", "sent_by"]
