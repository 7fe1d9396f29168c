"""The smallest engine and the smallest store: enough to exercise `coordd.paxos` by itself.

The state is a counter and a hash chain over all batches. Operations: `append` (arguments: `token`) answers the place of
the token in the log, `read` answers how many there are, after a confirming round where the lease does not allow it at
once. The store is a list of records in memory: a power cut keeps a prefix of what was not synced.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from random import Random
from typing import Any

from coordclient.protocol.codec import decode, encode
from coordclient.protocol.errors import Refusal
from coordd.engine.changes import MEMBERSHIP_CHANGES, Changes, WaitingChange
from coordd.engine.effects import CutLog, Effects, Reply, TakeSnapshot
from coordd.engine.inputs import (
    Call,
    DiskFull,
    DiskHasRoom,
    HandOverRequest,
    Input,
    PeerMessage,
    Persisted,
    SnapshotDropped,
    SnapshotReceived,
    SnapshotTaken,
)
from coordd.engine.settings import EngineSettings
from coordd.paxos.effects import (
    AcceptedRecord,
    Chosen,
    ChosenRecord,
    Durable,
    PeersRecord,
    PromiseRecord,
    Record,
    ValueKind,
)
from coordd.paxos.membership import Membership
from coordd.paxos.replica import Replica, Role
from coordd.paxos.state import PaxosSettings
from tests.simulation.ports import NoFiles


class PlainState:
    """What the batches add up to."""

    def __init__(self, upto: int = 0, count: int = 0, chain: bytes = b"") -> None:
        self.upto, self.count, self.chain = upto, count, chain

    def apply(self, chosen: Chosen) -> list[int]:
        """The places of the tokens in this entry."""
        assert chosen.slot == self.upto + 1, "chosen entries come in order without gaps"
        self.upto = chosen.slot
        self.chain = hashlib.blake2b(self.chain + chosen.payload, digest_size=16).digest()
        if chosen.kind is not ValueKind.BATCH:
            return []
        first = self.count + 1
        self.count += len(decode(chosen.payload))
        return list(range(first, self.count + 1))

    def encode(self) -> bytes:
        """Snapshot; padded, so that it takes several chunks."""
        return encode([self.upto, self.count, self.chain, b"\0" * 4000])

    @classmethod
    def of(cls, state: bytes) -> PlainState:
        """The inverse of `encode`."""
        upto, count, chain, _ = decode(state)
        return cls(upto, count, chain)


class PlainEngine:
    """`Engine.step` for `PlainState`."""

    def __init__(self, replica: Replica, state: PlainState, snapshot_bytes: int) -> None:
        self.replica = replica
        self._changes = Changes(EngineSettings(replica.state.settings), replica, self._changed)
        self.state = state
        self.applied: list[Chosen] = []  # by the last step; for the checkers
        self._snapshot_bytes = snapshot_bytes
        self._bytes = 0
        self._queue: list[Call] = []
        self._pending: dict[int, tuple[bytes, list[Call]]] = {}
        self._reads: list[tuple[int, Call]] = []
        self._replies: list[Reply] = []

    def snapshot_state(self) -> bytes:
        return self.state.encode()

    def step(self, inputs: Sequence[Input], now_ms: int, wall_ms: int, entropy: bytes) -> Effects:
        """One turn."""
        self.applied, self._replies = [], []
        out = Effects()
        for item in inputs:
            self._take(item, now_ms, out)
        self.replica.tick(now_ms, int.from_bytes(entropy[:8], "big"))
        self._change(now_ms)
        self._propose(now_ms)
        effects = self.replica.take_effects()
        for chosen in effects.chosen:
            self._apply(chosen)
        self._answer_reads(now_ms)
        if self.replica.role is not Role.MASTER:
            self._give_up()
        out.persist, out.persist_number = effects.persist, effects.persist_number
        out.send_now, out.send_after_persist = effects.send_now, effects.send_after_persist
        out.transfers, out.stop = effects.snapshot_transfers, effects.stop
        out.answers += self._replies
        out.left = effects.left
        if self._bytes > self._snapshot_bytes:
            self._bytes = 0
            out.snapshot = TakeSnapshot(self.state.upto, self.replica.membership)
        return out

    def _take(self, item: Input, now_ms: int, out: Effects) -> None:
        replica = self.replica
        if isinstance(item, PeerMessage):
            replica.receive(item.message, now_ms)
        elif isinstance(item, Persisted):
            replica.persisted(item.number, now_ms)
        elif isinstance(item, Call):
            self._queue.append(item)
        elif isinstance(item, SnapshotTaken):
            replica.compact(item.slot, item.size)
            out.cut = CutLog(item.slot)
        elif isinstance(item, SnapshotReceived):
            if item.slot > self.state.upto:
                self.state = PlainState.of(item.state)
                replica.install(item.slot, item.size, item.membership, now_ms)
                out.cut = CutLog(item.slot)
            else:
                replica.forget_snapshot()
        elif isinstance(item, SnapshotDropped):
            replica.forget_snapshot()
        elif isinstance(item, DiskFull):
            replica.disk_full(now_ms)
        elif isinstance(item, DiskHasRoom):
            replica.disk_has_room(now_ms)
        elif isinstance(item, HandOverRequest):
            replica.hand_over(now_ms, item.to)

    def _propose(self, now_ms: int) -> None:
        queue, self._queue = self._queue, []
        serving = self.replica.serving
        if self._changes and self.replica.may_drain():
            self._queue = queue
            return
        writes: list[Call] = []
        for call in queue:
            if not serving:
                self._refuse(call, "not_master")
            elif call.operation in MEMBERSHIP_CHANGES:
                self._changes.enqueue(WaitingChange(call, now_ms))
            elif call.operation == "read":
                number = 0 if self.replica.lease_valid(now_ms) else self.replica.confirm(now_ms)
                self._reads.append((number, call))
            else:
                writes.append(call)
        if not writes:
            return
        if not self.replica.can_propose():
            self._queue = writes
            return
        payload = encode([call.arguments["token"] for call in writes])
        self._pending[self.replica.propose(payload, now_ms)] = (payload, writes)

    def _change(self, now_ms: int) -> None:
        self._changes.refuse_late(now_ms - 3_000)
        if self._changes._proposed is not None or not (self._changes and self.replica.can_change()):
            return
        found = self._changes.next(now_ms)
        if found is not None:
            change, membership = found
            self._changes.proposed(change, self.replica.change(membership, now_ms), membership)

    def _changed(self, change: WaitingChange, result: dict[str, object] | Refusal) -> None:
        self._replies.append(Reply(change.call.request, result))

    def _apply(self, chosen: Chosen) -> None:
        if chosen.kind is ValueKind.MEMBERSHIP:
            self._changes.chosen(chosen.slot, chosen.payload, 0)
        self.applied.append(chosen)
        self._bytes += len(chosen.payload)
        places = self.state.apply(chosen)
        payload, calls = self._pending.pop(chosen.slot, (b"", []))
        if payload != chosen.payload:
            for call in calls:
                self._refuse(call, "outcome_unknown")
            return
        for place, call in zip(places, calls, strict=True):
            self._replies.append(Reply(call.request, {"place": place, "slot": chosen.slot}))

    def _answer_reads(self, now_ms: int) -> None:
        waiting: list[tuple[int, Call]] = []
        for number, call in self._reads:
            if number == 0 or self.replica.confirmed >= number:
                self._replies.append(Reply(call.request, {"count": self.state.count}))
            else:
                waiting.append((number, call))
        self._reads = waiting

    def _give_up(self) -> None:
        self._changes.end_reign()
        for _, calls in self._pending.values():
            for call in calls:
                self._refuse(call, "outcome_unknown")
        for _, call in self._reads:
            self._refuse(call, "not_master")
        self._pending, self._reads = {}, []

    def _refuse(self, call: Call, code: str) -> None:
        self._replies.append(Reply(call.request, Refusal(code, "", master=self.replica.master)))


class PlainDiskFull(Exception):
    """No room for these records."""


class PlainSyncFailed(Exception):
    """The disk said no to a sync."""


class PlainNever(Exception):
    """Never raised; see `ports.NoFiles`."""


@dataclass(slots=True)
class PlainSnapshot:
    """A durable snapshot."""

    slot: int
    size: int
    membership: Membership
    state: bytes
    file: bytes


@dataclass(slots=True)
class PlainDisk:
    """What survives the process; `synced` records survive the power too."""

    membership: Membership
    start: int = 0
    records: list[Record] = field(default_factory=list)
    synced: int = 0
    snapshot: PlainSnapshot | None = None
    full: bool = False
    sync_fails: bool = False


class PlainStore:
    """The store's interface over a `PlainDisk`."""

    def __init__(self, disk: PlainDisk) -> None:
        self._disk = disk
        disk.start += 1
        disk.synced = len(disk.records)  # what a kill -9 left in the page cache is written anew and synced
        self.snapshot_state = disk.snapshot.state if disk.snapshot else None
        self.durable = self._recover()
        self._incoming: dict[int, bytearray] = {}

    def _recover(self) -> Durable:
        snapshot = self._disk.snapshot
        durable = Durable(self._disk.start, self._disk.membership)
        if snapshot is not None:
            durable.membership = snapshot.membership
            durable.snapshot_slot, durable.snapshot_size = snapshot.slot, snapshot.size
        durable.chosen_upto = durable.snapshot_slot
        for record in self._disk.records:
            if isinstance(record, PromiseRecord):
                durable.promised = max(durable.promised, record.ballot)
            elif isinstance(record, ChosenRecord):
                durable.chosen_upto = max(durable.chosen_upto, record.upto)
            elif isinstance(record, PeersRecord):
                durable.peers = record.peers
            elif record.slot > durable.snapshot_slot:
                durable.entries[record.slot] = (record.ballot, record.value)
        return durable

    def append(self, records: Sequence[Record]) -> None:
        if self._disk.full and records:
            raise PlainDiskFull
        self._disk.records.extend(records)

    def sync(self) -> None:
        if self._disk.sync_fails:
            self._disk.sync_fails = False
            raise PlainSyncFailed
        self._disk.synced = len(self._disk.records)

    def cut(self, upto: int) -> None:
        kept = [record for record in self._disk.records[: self._disk.synced] if self._outlives(record, upto)]
        self._disk.records = kept + self._disk.records[self._disk.synced :]
        self._disk.synced = len(kept)

    @staticmethod
    def _outlives(record: Record, upto: int) -> bool:
        return not isinstance(record, AcceptedRecord) or record.slot > upto

    def write_snapshot(self, slot: int, membership: Membership, state: bytes) -> int:
        file = encode([membership.to_wire(), state])
        if self._disk.snapshot is None or slot > self._disk.snapshot.slot:
            self._disk.snapshot = PlainSnapshot(slot, len(file), membership, state, file)
        return len(file)

    def read_snapshot_chunk(self, slot: int, offset: int, limit: int) -> bytes | None:
        snapshot = self._disk.snapshot
        return snapshot.file[offset : offset + limit] if snapshot and snapshot.slot == slot else None

    def store_chunk(self, slot: int, size: int, offset: int, data: bytes) -> PlainSnapshot | None:
        incoming = self._incoming.setdefault(slot, bytearray(size))
        incoming[offset : offset + len(data)] = data
        if offset + len(data) < size:
            return None
        file = bytes(self._incoming.pop(slot))
        wire, state = decode(file)
        stored = PlainSnapshot(slot, size, Membership.from_wire(wire), state, file)
        if self._disk.snapshot is None or slot > self._disk.snapshot.slot:
            self._disk.snapshot = stored
        return deepcopy(stored)


class PlainKit(NoFiles):
    """Makes plain replicas; `disks` by replica."""

    disk_full: type[Exception] = PlainDiskFull
    disk_failed: type[Exception] = PlainSyncFailed
    refused: tuple[type[Exception], ...] = (AssertionError,)
    snapshot_refused: type[Exception] = PlainNever
    power_cut: type[Exception] = PlainNever

    def __init__(self, membership: Membership, settings: dict[int, PaxosSettings], snapshot_bytes: int) -> None:
        self._settings = settings
        self._snapshot_bytes = snapshot_bytes
        self.disks = {replica: PlainDisk(membership) for replica in settings}
        self.replica_class: type[Replica] = Replica

    def add(self, replica: int, membership: Membership, settings: PaxosSettings) -> None:
        """A new machine with an empty disk."""
        self._settings[replica] = settings
        self.disks[replica] = PlainDisk(membership)

    def open(self, replica: int, now_ms: int) -> tuple[Any, Any]:
        store = PlainStore(self.disks[replica])
        state = PlainState() if store.snapshot_state is None else PlainState.of(store.snapshot_state)
        core = self.replica_class(self._settings[replica], store.durable, now_ms)
        return PlainEngine(core, state, self._snapshot_bytes), store

    def crash(self, replica: int, chance: Random, *, power: bool) -> None:
        disk = self.disks[replica]
        if power:
            unsynced = len(disk.records) - disk.synced
            disk.records = disk.records[: disk.synced + chance.randint(0, unsynced)]
            disk.synced = len(disk.records)

    def fill(self, replica: int, room: int | None) -> None:
        """The disk of this replica has no room (or has again)."""
        self.disks[replica].full = room is not None

    def mend(self, replica: int) -> None:
        """No more faults."""
        self.disks[replica].full = self.disks[replica].sync_fails = False

    def fail_next_sync(self, replica: int) -> None:
        """The next sync of this replica fails."""
        self.disks[replica].sync_fails = True
