"""A full disk: refused by name, nothing half written, and all well again when there is room."""

from __future__ import annotations

import errno
import random

import pytest

from coordd.paxos.ballot import Ballot
from coordd.paxos.effects import AcceptedRecord, PromiseRecord
from coordd.storage.errors import DiskFailedError, DiskFullError, StorageError, SyncFailedError
from coordd.storage.segment import segment_name
from coordd.storage.snapshots import snapshot_name
from coordd.storage.store import Store
from coordd.testing.memory_disk import MemoryDisk
from tests.unit.storage.test_power import calls_of_work, work
from tests.unit.storage.world import DIRECTORY, MEMBERS, SMALL, Ledger, accepted, open_store, snapshot_bytes


def fill(store, ledger: Ledger) -> int:
    """Append until it is refused; returns the first slot that did not fit."""
    slot = 1 + max((record.slot for record in ledger.records if isinstance(record, AcceptedRecord)), default=0)
    while True:
        try:
            store.append([accepted(slot, size=400)])
        except DiskFullError:
            return slot
        ledger.records.append(accepted(slot, size=400))
        slot += 1


@pytest.mark.parametrize("segments", [1, 2, 3])
def test_what_does_not_fit_is_refused_whole_and_the_rest_is_kept(segments):
    disk, ledger = MemoryDisk(capacity=segments * SMALL + 200), Ledger()
    store = open_store(disk)
    slot = fill(store, ledger)
    assert 7 * segments <= slot <= 10 * segments and store.disk_full
    for _ in range(3):
        with pytest.raises(DiskFullError, match="No space left"):
            store.append([accepted(slot, size=400)])
    ledger.append(store, PromiseRecord(Ballot(50, 1)))  # there is still room for a little
    ledger.sync(store)
    disk.capacity = None
    for more in range(slot, slot + 10):
        ledger.append(store, accepted(more, size=400))
    assert not store.disk_full
    ledger.sync(store)
    disk.crash(random.Random(1), 0.0)
    ledger.recover(disk)


def test_a_full_disk_is_seen_while_there_is_still_room_in_the_log():
    disk, ledger = MemoryDisk(capacity=SMALL + 200), Ledger()
    store = open_store(disk)
    seen_at = None
    for slot in range(1, 7):
        ledger.append(store, accepted(slot, size=400))
        if store.disk_full and seen_at is None:
            seen_at = slot
    assert seen_at is not None and seen_at < 6
    disk.capacity = None
    ledger.append(store, accepted(7, size=100))
    assert not store.disk_full
    assert [name for name in disk.list_directory("/data") if name.endswith(".tmp")] == []


def test_a_batch_too_large_for_the_disk_leaves_the_prepared_segment_for_smaller_ones():
    disk, ledger = MemoryDisk(capacity=2 * SMALL + 1000), Ledger()
    store = open_store(disk)
    ledger.append(store, accepted(1, size=2000))
    with pytest.raises(DiskFullError):
        store.append([accepted(2, size=3 * SMALL)])
    ledger.append(store, accepted(2, size=2500))
    ledger.sync(store)
    disk.crash(random.Random(1), 0.0)
    ledger.recover(disk)


def test_a_segment_half_prepared_for_whose_rest_there_is_no_room_is_given_up_and_said_to_be_missing():
    disk, ledger = MemoryDisk(), Ledger()
    store = Store.open(disk, DIRECTORY, "demo", 2, MEMBERS, segment_bytes=1024 * 1024)
    ledger.opened(store)
    for slot in (1, 2):
        ledger.append(store, accepted(slot, size=264_000))
    assert f"{segment_name(2)}.tmp" in disk.list_directory(DIRECTORY) and not store.disk_full
    disk.fail_at(1, errno.ENOSPC)
    with pytest.raises(DiskFullError):
        store.append([accepted(3, size=600_000)])
    assert store.disk_full and f"{segment_name(2)}.tmp" not in disk.list_directory(DIRECTORY)
    ledger.append(store, accepted(3, size=600_000))
    assert not store.disk_full
    ledger.sync(store)
    disk.crash(random.Random(1), 0.0)
    ledger.recover(disk)


def test_a_snapshot_and_a_cut_make_room_again():
    disk, ledger = MemoryDisk(capacity=4 * SMALL), Ledger()
    store = open_store(disk)
    slot = fill(store, ledger)
    ledger.sync(store)
    ledger.snapshot(store, slot - 1, b"small")
    store.cut(slot - 1)
    slot = fill(store, ledger)
    ledger.sync(store)
    assert slot > len(ledger.records)
    disk.crash(random.Random(1), 0.0)
    ledger.recover(disk)


def test_a_start_on_a_full_disk_refuses_or_works_but_forgets_nothing():
    disk, ledger = MemoryDisk(capacity=2 * SMALL + 200), Ledger()
    store = open_store(disk)
    fill(store, ledger)
    ledger.sync(store)
    disk.kill()
    opened = 0
    for _ in range(30):  # each start needs a little room in the log, until there is none
        try:
            store = ledger.recover(disk)
        except DiskFullError as error:
            assert "log-00000003" in str(error)
            break
        store.close()
        opened += 1
    assert 0 < opened < 30
    disk.capacity = None
    ledger.recover(disk)


def test_a_start_needs_no_room_again_for_the_segment_that_was_prepared():
    disk, ledger = MemoryDisk(), Ledger()
    store = open_store(disk)
    ledger.append(store, accepted(1, size=2000))
    ledger.sync(store)
    assert segment_name(2) in disk.list_directory(DIRECTORY)
    store.close()
    store = open_store(disk)
    disk.capacity = disk.used
    ledger.append(store, accepted(2, size=2000))
    ledger.sync(store)
    disk.crash(random.Random(1), 0.0)
    disk.capacity = None
    ledger.recover(disk)


def test_no_room_at_any_call_is_named_and_the_work_goes_on_or_the_store_refuses_all():
    """Also where room was reserved: a file system that copies on write may lack it for the second write."""
    full = 0
    for call in range(1, calls_of_work() + 1):
        disk, ledger = MemoryDisk(), Ledger()
        disk.fail_at(call, errno.ENOSPC)
        try:
            store = open_store(disk)
            ledger.opened(store)
            work(store, ledger)
        except DiskFullError:
            full += 1
        except DiskFailedError as error:
            assert isinstance(error, SyncFailedError) or "Way out" in str(error)
        disk.kill()
        copy = disk.copy()
        copy.crash(random.Random(call), 0.5)
        for after in (disk, copy):
            ledger.copy().check(open_store(after))
    assert full > 20


def test_no_room_for_a_name_or_for_a_removal_keeps_no_peers_snapshot_away():
    data = snapshot_bytes(7, b"state" * 100)
    seen = set()
    for call in range(1, 20):
        disk = MemoryDisk()
        store = open_store(disk)
        store.write_snapshot(5, MEMBERS, b"five")
        disk.fail_at(call, errno.ENOSPC)
        try:
            stored = store.store_chunk(7, len(data), 0, data)
        except DiskFullError as error:
            if " rename " not in str(error):
                continue
            seen.add("rename")
            assert store.snapshot_slot == 5
            stored = store.store_chunk(7, len(data), 0, data)
        except DiskFailedError:  # what needs no room, and syncs
            continue
        disk.fail_at(None)
        if snapshot_name(5) in disk.list_directory(DIRECTORY):
            seen.add("unlink")
            assert open_store(disk.copy()).snapshot_slot == 7, "the next start finds both and keeps the newer"
        assert stored is not None and store.snapshot_slot == stored.slot == 7
        assert store.read_snapshot_chunk(7, 0, len(data)) == data
    assert seen == {"rename", "unlink"}


def test_a_cut_for_which_there_is_no_room_is_made_the_next_time():
    disk = MemoryDisk()
    store = open_store(disk)
    for slot in range(1, 40):
        store.append([accepted(slot, size=400)])
    store.sync()
    store.write_snapshot(39, MEMBERS, b"")
    segments = [name for name in disk.list_directory(DIRECTORY) if name.startswith("log-")]
    disk.fail_at(1, errno.ENOSPC)
    store.cut(39)
    assert disk.last_call.startswith("remove")
    assert [name for name in disk.list_directory(DIRECTORY) if name.startswith("log-")] == segments
    store.append([accepted(40)])
    store.cut(39)
    assert segments[0] not in disk.list_directory(DIRECTORY)
    store.sync()
    store.close()
    assert 40 in open_store(disk).durable.entries


def test_a_batch_that_found_no_room_half_way_is_not_there_afterwards():
    disk, ledger = MemoryDisk(), Ledger()
    store = open_store(disk)
    ledger.append(store, accepted(1))
    disk.fail_at(1, errno.ENOSPC)
    with pytest.raises(DiskFullError):
        store.append([accepted(2), accepted(3), accepted(4)])
    ledger.sync(store)
    twin, found = disk.copy(), ledger.copy()
    twin.kill()
    assert list(found.recover(twin).durable.entries) == [1]
    ledger.append(store, accepted(2, size=10))
    ledger.sync(store)
    disk.kill()
    assert list(ledger.recover(disk).durable.entries) == [1, 2]


def test_a_batch_that_can_be_neither_written_nor_taken_back_ends_the_store(monkeypatch):
    disk = MemoryDisk()
    store = open_store(disk)

    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(disk, "pwrite", no_room)
    with pytest.raises(DiskFailedError, match=r"half written.*Way out"):
        store.append([accepted(1)])
    with pytest.raises(StorageError, match="half written"):
        store.sync()
