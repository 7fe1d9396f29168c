"""A replica's disk, what was written to it, and the one question of all storage tests: is what was acknowledged there?

`Ledger` notes what a workload wrote and what was acknowledged. `recover` starts from the disk and compares with a
separate, naive account: what is found must be what some prefix of the writes adds up to, and no shorter a prefix than
the acknowledged one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from coordd.paxos.ballot import CHOSEN, ZERO, Ballot
from coordd.paxos.effects import AcceptedRecord, ChosenRecord, PromiseRecord, Record
from coordd.paxos.membership import Membership
from coordd.storage.disk import Disk
from coordd.storage.errors import DamagedError, StorageError, UnknownFormatError
from coordd.storage.snapshots import CheckState, encode_head
from coordd.storage.store import Store
from coordd.testing.memory_disk import MemoryDisk

CELL, REPLICA, DIRECTORY = "demo", 2, "/data"
MEMBERS = Membership(1, (1, 2, 3))
LATER_MEMBERS = Membership(2, (1, 2, 4), (5,), 2000, founders=(1, 2, 3))
LOG = f"{DIRECTORY}/log-00000001"
SMALL = 4096


def open_store(
    disk: Disk,
    bootstrap: Membership | None = MEMBERS,
    directory: str = DIRECTORY,
    check_state: CheckState = lambda state: None,
) -> Store:
    return Store.open(disk, directory, CELL, REPLICA, bootstrap, segment_bytes=SMALL, check_state=check_state)


def accepted(slot: int, ballot: Ballot = Ballot(1, 1), size: int = 40) -> AcceptedRecord:
    return AcceptedRecord(slot, ballot, b"%d." % slot + bytes([slot % 251 + 1]) * size)


def snapshot_bytes(slot: int, state: bytes) -> bytes:
    """The file of a peer's snapshot, made by another replica of the cell."""
    disk = MemoryDisk()
    store = Store.open(disk, "/peer", CELL, 1, MEMBERS, segment_bytes=SMALL)
    store.write_snapshot(slot, LATER_MEMBERS, state)
    data = disk.contents(f"/peer/snapshot-{slot:020d}")
    assert data.startswith(encode_head(data[12:20], slot, LATER_MEMBERS, len(state)))
    return data


@dataclass
class Account:
    """What records add up to, told again in the simplest words."""

    promised: Ballot = ZERO
    chosen: int = 0
    entries: dict[int, tuple[Ballot, bytes]] = field(default_factory=dict)

    @classmethod
    def of(cls, records: list[Record]) -> Account:
        self = cls()
        for record in records:
            if isinstance(record, PromiseRecord):
                self.promised = max(self.promised, record.ballot)
            elif isinstance(record, ChosenRecord):
                self.chosen = max(self.chosen, record.upto)
            elif isinstance(record, AcceptedRecord):
                if record.ballot != CHOSEN:
                    self.promised = max(self.promised, record.ballot)
                if self.entries.get(record.slot, (ZERO, b""))[0] != CHOSEN:
                    self.entries[record.slot] = (record.ballot, record.value)
        return self


@dataclass
class Ledger:
    """What was written in order, how much of it was acknowledged, and which snapshots there may be."""

    records: list[Record] = field(default_factory=list)
    acknowledged: int = 0
    snapshots: dict[int, bytes] = field(default_factory=dict)  # slot -> state
    snapshot_acknowledged: int = 0
    start: int = 0

    def copy(self) -> Ledger:
        """For trying one of several futures."""
        return replace(self, records=list(self.records), snapshots=dict(self.snapshots))

    def opened(self, store: Store) -> None:
        """A start number was handed out."""
        assert store.durable.start > self.start
        self.start = store.durable.start

    def append(self, store: Store, *records: Record) -> None:
        """Write without a sync; noted before, because a part may land even where the call is never seen to end."""
        self.records += records
        store.append(records)

    def sync(self, store: Store) -> None:
        store.sync()
        self.acknowledged = len(self.records)

    def snapshot(self, store: Store, slot: int, state: bytes) -> None:
        self.snapshots[slot] = state
        store.write_snapshot(slot, LATER_MEMBERS, state)
        self.snapshot_acknowledged = slot

    def install(self, store: Store, slot: int, state: bytes, chunk: int) -> None:
        data = snapshot_bytes(slot, state)
        self.snapshots[slot] = state
        for at in range(0, len(data), chunk):
            stored = store.store_chunk(slot, len(data), at, data[at : at + chunk])
            assert (stored is not None) == (at + chunk >= len(data))
        self.snapshot_acknowledged = slot

    def check(self, store: Store) -> int:
        """How many of the records are there; fails unless it is a prefix that holds all that was acknowledged."""
        self.opened(store)
        found = store.durable
        assert found.snapshot_slot >= self.snapshot_acknowledged
        assert store.snapshot_state == self.snapshots.get(found.snapshot_slot)
        assert found.membership == (LATER_MEMBERS if found.snapshot_slot else MEMBERS)
        for count in range(len(self.records), self.acknowledged - 1, -1):
            account = Account.of(self.records[:count])
            entries = {slot: entry for slot, entry in account.entries.items() if slot > found.snapshot_slot}
            chosen = max(account.chosen, found.snapshot_slot)
            if (account.promised, entries, chosen) == (found.promised, found.entries, found.chosen_upto):
                return count
        raise AssertionError(f"{found} is no state from {self.acknowledged} to {len(self.records)} records")

    def recover(self, disk: MemoryDisk, bootstrap: Membership | None = None) -> Store:
        """Start from the disk and check; what was found is acknowledged from then on, and nothing else exists."""
        store = open_store(disk, bootstrap)
        count = self.check(store)
        del self.records[count:]
        self.acknowledged = count
        self.snapshot_acknowledged = store.durable.snapshot_slot
        return store


def judge(disk: MemoryDisk, ledger: Ledger) -> StorageError | None:
    """Start from a disk to which something was done: exactly what was acknowledged is there, or the refusal.

    A refusal tells an operator what he needs: file, way out, and for bytes that are not right, where.
    """
    try:
        store = open_store(disk)
    except StorageError as error:
        told = str(error)
        assert DIRECTORY in told and "Way out: " in told, told
        if isinstance(error, DamagedError | UnknownFormatError):
            assert error.file.startswith(f"{DIRECTORY}/") and f"byte {error.offset}" in told, told
        return error
    assert ledger.copy().check(store) == len(ledger.records)
    store.close()
    return None
