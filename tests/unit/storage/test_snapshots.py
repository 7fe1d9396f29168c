"""Snapshots are written aside, verified, and replace the older one only when they are durable."""

from __future__ import annotations

import random
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordclient.protocol.paths import cell_id
from coordd.paxos.ballot import Ballot
from coordd.paxos.effects import PromiseRecord
from coordd.storage.errors import DamagedError, DiskFullError, SnapshotRefusedError, StorageError, UnknownFormatError
from coordd.storage.snapshots import SNAPSHOT_BYTES_MAX, decode_snapshot, snapshot_name, snapshot_slot
from coordd.testing.memory_disk import MemoryDisk
from tests.fuzz import many
from tests.unit.storage.world import DIRECTORY, LATER_MEMBERS, MEMBERS, accepted, open_store, snapshot_bytes

STATE = bytes(range(256)) * 8


def names(disk: MemoryDisk) -> list[str]:
    return [name for name in disk.list_directory(DIRECTORY) if "snapshot" in name or "incoming" in name]


def test_a_snapshot_is_found_again_with_slot_membership_size_and_state():
    disk = MemoryDisk()
    store = open_store(disk)
    assert store.snapshot_state is None and store.durable.membership == MEMBERS
    size = store.write_snapshot(7, LATER_MEMBERS, STATE)
    disk.crash(random.Random(0), 0.0)
    store = open_store(disk)
    durable = store.durable
    assert store.snapshot_state == STATE
    assert (durable.snapshot_slot, durable.snapshot_size, durable.chosen_upto) == (7, size, 7)
    assert durable.membership == LATER_MEMBERS


def test_entries_up_to_the_snapshot_are_dropped_and_a_snapshot_never_lowers_the_promise():
    disk = MemoryDisk()
    store = open_store(disk)
    store.append([PromiseRecord(Ballot(30, 1)), accepted(3), accepted(4)])
    store.write_snapshot(3, MEMBERS, b"")
    store.close()
    durable = open_store(disk).durable
    assert list(durable.entries) == [4] and durable.promised == Ballot(30, 1)


def test_the_bytes_are_the_same_at_every_replica():
    disk = MemoryDisk()
    open_store(disk).write_snapshot(7, LATER_MEMBERS, STATE)
    assert disk.contents(f"{DIRECTORY}/{snapshot_name(7)}") == snapshot_bytes(7, STATE)


def test_the_older_snapshot_goes_when_the_newer_is_durable_and_an_older_one_never_replaces_it():
    disk = MemoryDisk()
    store = open_store(disk)
    store.write_snapshot(5, MEMBERS, b"five")
    store.write_snapshot(9, MEMBERS, b"nine")
    assert names(disk) == [snapshot_name(9)]
    assert store.write_snapshot(8, MEMBERS, b"eight") is None
    assert names(disk) == [snapshot_name(9)] and store.snapshot_slot == 9


def test_write_and_publish_may_be_apart_and_what_was_not_published_does_not_exist():
    disk = MemoryDisk()
    store = open_store(disk)
    size = store.write_snapshot_temp(5, MEMBERS, b"five")
    assert store.snapshot_slot == 0 and store.read_snapshot_chunk(5, 0, 10) is None
    (name,) = names(disk)
    synced = disk.copy()  # by the writer, so that whoever publishes does not wait for the medium
    synced.sync_directory(DIRECTORY)
    synced.crash(random.Random(0), 0.0)
    assert synced.contents(f"{DIRECTORY}/{name}") == disk.contents(f"{DIRECTORY}/{name}")
    twin = disk.copy()
    assert open_store(twin).durable.snapshot_slot == 0
    assert names(twin) == []
    assert store.publish_snapshot(5) == size
    store.write_snapshot_temp(6, MEMBERS, b"six")
    store.discard_snapshot_temp(6)
    store.discard_snapshot_temp(6)
    assert names(disk) == [snapshot_name(5)]


def test_a_writer_that_died_half_way_is_written_over():
    disk = MemoryDisk()
    store = open_store(disk)
    store.write_snapshot_temp(5, MEMBERS, b"the first attempt, of which nobody knows how it ended")
    store.write_snapshot(5, MEMBERS, b"five")
    store.close()
    assert open_store(disk).snapshot_state == b"five"


@pytest.mark.parametrize("size", [0, 39, 40, -1])
def test_what_is_not_a_whole_snapshot_is_not_published(size):
    disk = MemoryDisk()
    store = open_store(disk)
    store.write_snapshot_temp(5, MEMBERS, b"five")
    (name,) = names(disk)
    disk.replace(f"{DIRECTORY}/{name}", disk.contents(f"{DIRECTORY}/{name}")[:size])
    with pytest.raises(DamagedError, match="not whole"):
        store.publish_snapshot(5)
    assert store.snapshot_slot == 0


def test_the_log_is_cut_only_behind_a_snapshot_and_only_in_whole_segments():
    disk = MemoryDisk()
    store = open_store(disk)
    for slot in range(1, 10):
        store.append([accepted(slot, size=1500)])
    with pytest.raises(AssertionError):
        store.cut(1)
    before = store.log_bytes
    store.write_snapshot(6, MEMBERS, b"")
    assert 0.2 * before < store.log_bytes < 0.5 * before
    store.cut(6)
    store.close()
    assert list(open_store(disk).durable.entries) == [7, 8, 9]
    assert "log-00000003" not in disk.list_directory(DIRECTORY)
    assert "log-00000004" in disk.list_directory(DIRECTORY)


@pytest.mark.parametrize("reopened", [False, True])
@pytest.mark.parametrize("upto", range(1, 10))
def test_a_cut_takes_nothing_above_the_slot(upto, reopened):
    disk = MemoryDisk()
    store = open_store(disk)
    for slot in range(1, 10):
        store.append([accepted(slot, size=1500)])
    if reopened:
        store.close()
        store = open_store(disk)
    store.write_snapshot(upto, MEMBERS, b"")
    before = len(disk.list_directory(DIRECTORY))
    store.cut(upto)
    assert before - len(disk.list_directory(DIRECTORY)) == min(upto // 2, 4)
    store.close()
    assert list(open_store(disk).durable.entries) == list(range(upto + 1, 10))


def test_log_bytes_is_about_what_a_start_would_have_to_apply():
    disk = MemoryDisk()
    store = open_store(disk)
    assert store.log_bytes < 200
    for slot in range(1, 50):
        store.append([accepted(slot, size=300)])
    grown = store.log_bytes
    assert 49 * 300 < grown < 49 * 450
    store.write_snapshot(49, MEMBERS, b"")
    assert store.log_bytes == 0
    store.append([accepted(50, size=300)])
    assert 300 < store.log_bytes < 600
    store.close()
    assert 300 < open_store(disk).log_bytes < 500


@pytest.mark.parametrize("chunk", [1, 7, 100, 5000])
def test_a_peers_snapshot_arrives_in_chunks_read_from_the_other(chunk):
    giver_disk, taker_disk = MemoryDisk(), MemoryDisk()
    giver, taker = open_store(giver_disk), open_store(taker_disk)
    size = giver.write_snapshot(7, LATER_MEMBERS, STATE[:300])
    assert size is not None
    offset, stored = 0, None
    while stored is None:
        data = giver.read_snapshot_chunk(7, offset, chunk)
        assert data
        stored = taker.store_chunk(7, size, offset, data)
        offset += len(data)
    assert (offset, stored.slot, stored.size) == (size, 7, size)
    assert (stored.membership, stored.state) == (LATER_MEMBERS, STATE[:300])
    taker_disk.crash(random.Random(0), 0.0)
    assert open_store(taker_disk).snapshot_state == STATE[:300]


def test_a_transfer_goes_on_where_it_broke_off_and_repeated_or_early_chunks_change_nothing():
    data = snapshot_bytes(7, STATE)
    size = len(data)
    store = open_store(MemoryDisk())
    assert store.store_chunk(7, size, 0, data[:100]) is None
    assert store.store_chunk(7, size, 500, data[500:600]) is None  # too early
    assert store.store_chunk(7, size, 500, data[500:]) is None  # its last byte is not all of it
    assert store.store_chunk(7, size, 0, data[:100]) is None  # again
    assert store.store_chunk(7, size, 50, data[50:200]) is None  # partly again
    stored = store.store_chunk(7, size, 150, data[150:])
    assert stored is not None and stored.state == STATE
    assert store.store_chunk(7, size, 0, data[:100]) is None  # it is here already
    assert store.store_chunk(6, size, 0, data[:100]) is None  # older


def test_another_snapshot_takes_the_place_of_one_half_way_but_only_from_its_beginning():
    disk = MemoryDisk()
    store = open_store(disk)
    old, new = snapshot_bytes(7, STATE), snapshot_bytes(9, b"new")
    store.store_chunk(7, len(old), 0, old[:100])
    assert store.store_chunk(9, len(new), 50, new[50:]) is None
    assert names(disk) == [f"incoming-{7:020d}.1.tmp"], "and what has come of the first one is not lost"
    assert store.store_chunk(7, len(old) + 1, 50, old[50:]) is None
    assert names(disk) == [f"incoming-{7:020d}.1.tmp"]
    stored = store.store_chunk(9, len(new), 0, new)
    assert stored is not None and stored.slot == 9
    assert names(disk) == [snapshot_name(9)]


def test_any_flipped_bit_in_a_peers_snapshot_is_refused_and_leaves_no_trace():
    data = snapshot_bytes(7, b"state")
    disk = MemoryDisk()
    store = open_store(disk)
    for at in range(len(data)):
        bad = bytearray(data)
        bad[at] ^= 1 << at % 8
        with pytest.raises(SnapshotRefusedError, match="slot 7"):
            store.store_chunk(7, len(data), 0, bytes(bad))
    assert names(disk) == [] and store.snapshot_slot == 0
    assert store.store_chunk(7, len(data), 0, data) is not None


@pytest.mark.parametrize(
    ("size", "offset", "length"),
    [(SNAPSHOT_BYTES_MAX + 1, 0, 10), (10, 0, 10), (100, 95, 10), (100, -1, 10), (100, 101, 0)],
)
def test_impossible_chunks_are_refused(size, offset, length):
    disk = MemoryDisk()
    with pytest.raises(SnapshotRefusedError):
        open_store(disk).store_chunk(7, size, offset, bytes(length))
    assert names(disk) == []


def test_a_peers_snapshot_of_another_cell_or_slot_is_refused():
    data = snapshot_bytes(7, STATE)
    store = open_store(MemoryDisk())
    with pytest.raises(SnapshotRefusedError, match="it is of slot 7"):
        store.store_chunk(8, len(data), 0, data)
    with pytest.raises(DamagedError, match="cell with id"):
        decode_snapshot(data, cell_id("other"), 7, "file")


@pytest.mark.parametrize(
    ("at", "other", "what"),
    [
        (8, b"\x03", "a snapshot of format 3"),
        (40, b"\xc1", "impossible membership"),
        (43, b"\x02\x02", "(?s)impossible"),
    ],
)
def test_a_snapshot_of_another_format_or_of_no_possible_cell_is_refused(at, other, what):
    data = snapshot_bytes(7, STATE)[:-16]
    data = data[:at] + other + data[at + len(other) :]
    data += blake2b(data, digest_size=16).digest()
    with pytest.raises(StorageError, match=f"{what}.*Way out"):
        decode_snapshot(data, cell_id("demo"), 7, "file")
    with pytest.raises(SnapshotRefusedError, match=what):
        open_store(MemoryDisk()).store_chunk(7, len(data), 0, data)


def test_a_state_that_the_machine_cannot_read_is_refused_and_leaves_the_snapshot_that_is_there():
    def only_old(state: bytes) -> str | None:
        return None if state == b"old" else "machine version 7"

    disk = MemoryDisk()
    store = open_store(disk, check_state=only_old)
    store.write_snapshot(5, MEMBERS, b"old")
    data = snapshot_bytes(7, STATE)
    with pytest.raises(SnapshotRefusedError, match="from a peer: machine version 7"):
        store.store_chunk(7, len(data), 0, data)
    assert names(disk) == [snapshot_name(5)] and store.snapshot_slot == 5
    store.write_snapshot(9, MEMBERS, STATE)
    store.close()
    with pytest.raises(UnknownFormatError, match=r"snapshot-0*9, byte \d+: the state: machine version 7. Way out: run"):
        open_store(disk, check_state=only_old)
    assert open_store(disk).snapshot_state == STATE, "it was left as it was"


def test_a_chunk_of_a_snapshot_that_is_gone_or_outside_of_it_is_none():
    store = open_store(MemoryDisk())
    assert store.read_snapshot_chunk(0, 0, 10) is None
    size = store.write_snapshot(5, MEMBERS, b"five")
    assert size is not None
    assert store.read_snapshot_chunk(5, size, 10) is None
    assert store.read_snapshot_chunk(5, -1, 10) is None
    assert len(store.read_snapshot_chunk(5, size - 3, 10) or b"") == 3
    store.write_snapshot(6, MEMBERS, b"six")
    assert store.read_snapshot_chunk(5, 0, 10) is None
    assert store.read_snapshot_chunk(6, 0, 8) == b"coordsnp"


def test_a_full_disk_leaves_no_part_of_a_snapshot_own_or_foreign():
    disk = MemoryDisk(capacity=3 * 4096)
    store = open_store(disk)
    with pytest.raises(DiskFullError):
        store.write_snapshot(5, MEMBERS, bytes(10_000))
    data = snapshot_bytes(7, bytes(20_000))
    store.store_chunk(7, len(data), 0, data[:1000])
    with pytest.raises(DiskFullError):
        store.store_chunk(7, len(data), 1000, data[1000:])
    assert names(disk) == []
    disk.capacity = None
    assert store.store_chunk(7, len(data), 0, data) is not None


@many(300)
@given(st.binary(max_size=200), st.integers(0, 200), st.booleans())
def test_whatever_the_bytes_a_snapshot_is_decoded_or_refused_by_name(noise, at, keep_head):
    good = snapshot_bytes(7, b"state")
    data = good[:at] + noise if keep_head else noise
    if data != good:
        with pytest.raises(StorageError):
            decode_snapshot(data, cell_id("demo"), 7, "file")


def test_only_names_of_snapshots_are_taken_for_snapshots():
    assert snapshot_slot(snapshot_name(7)) == 7
    for name in (
        "snapshot-7",
        "snapshot-",
        "log-00000001",
        "snapshot-0000000000000000000x",
        f"{snapshot_name(7)}.1.tmp",
    ):
        assert snapshot_slot(name) is None
