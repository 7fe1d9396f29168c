"""Rot is refused by file, offset and way out, or it hit what nobody needs: never taken for a torn tail."""

from __future__ import annotations

import pytest

from coordclient.protocol.paths import cell_id
from coordd.paxos.ballot import Ballot
from coordd.paxos.effects import ChosenRecord, PromiseRecord
from coordd.storage.checked import CheckedDisk
from coordd.storage.errors import DamagedError, StorageError, UnknownFormatError, WrongDirectoryError
from coordd.storage.record import GOES_ON_BYTES, RECORD_HEAD_BYTES, GoesOnRecord, decode, encode_batch
from coordd.storage.recovery import LogReader
from coordd.storage.segment import HEADER_BLOCK_BYTES, HEADER_BYTES, decode_header, segment_name
from coordd.storage.store import Store
from coordd.testing.memory_disk import MemoryDisk
from tests.unit.storage.world import DIRECTORY, LOG, MEMBERS, REPLICA, SMALL, Ledger, accepted, open_store

SECOND, THIRD = f"{DIRECTORY}/{segment_name(2)}", f"{DIRECTORY}/{segment_name(3)}"
SNAPSHOT = f"{DIRECTORY}/snapshot-{4:020d}"
IDENTITY = f"{DIRECTORY}/identity"


def make() -> tuple[MemoryDisk, Ledger]:
    """Two segments in use, a spare, a snapshot, every group synced; the last group is a start record alone."""
    disk, ledger = MemoryDisk(), Ledger()
    store = open_store(disk)
    ledger.opened(store)
    for slot in range(1, 11):
        ledger.append(store, accepted(slot, Ballot(slot, 2), 400), ChosenRecord(slot - 1))
        ledger.sync(store)
    ledger.append(store, PromiseRecord(Ballot(99, 1)))
    ledger.sync(store)
    ledger.snapshot(store, 4, b"the state of the machine")
    ledger.append(store, accepted(11, Ballot(99, 1), 1200))
    ledger.sync(store)
    store.close()
    store = open_store(disk)
    ledger.opened(store)
    store.close()
    assert [name[:8] for name in disk.list_directory(DIRECTORY)].count("log-0000") == 3
    return disk, ledger


DISK, LEDGER = make()
READ = LogReader(CheckedDisk(DISK), DIRECTORY, cell_id("demo"), REPLICA).read()
BEGUN = decode_header(DISK.contents(SECOND))
assert BEGUN is not None
USED = {LOG: BEGUN.end_before - GOES_ON_BYTES, SECOND: READ.tail.end}  # what only says "goes on" can be made again
USED |= {path: len(DISK.contents(path)) for path in (SNAPSHOT, IDENTITY)}
LAST_GROUP = USED[SECOND] - RECORD_HEAD_BYTES - 8  # the start record


@pytest.mark.parametrize("path", [LOG, SECOND, SNAPSHOT, IDENTITY])
def test_a_flipped_bit_anywhere_is_refused_by_file_and_offset_or_harmless(path):
    refused = 0
    for at in range(min(len(DISK.contents(path)), USED[path] + 100)):
        disk = DISK.copy()
        disk.flip(path, at, 1 << (at * 5 % 8))
        harmless = at >= USED[path] or (HEADER_BYTES <= at < HEADER_BLOCK_BYTES and "log" in path)
        try:
            store = open_store(disk)
        except (DamagedError, UnknownFormatError, WrongDirectoryError) as error:
            assert not harmless, at
            assert path in str(error) and "Way out" in str(error)
            assert getattr(error, "offset", 0) <= at
            refused += 1
        else:
            assert harmless or (path == SECOND and at >= LAST_GROUP), f"byte {at} of {path} was accepted"
            assert LEDGER.copy().check(store) == len(LEDGER.records)
    assert refused > USED[path] * 0.7


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_rot_in_a_record_that_a_later_one_calls_synced_names_its_very_offset(mask):
    found = []
    for at in range(HEADER_BLOCK_BYTES, USED[LOG], 7):
        disk = DISK.copy()
        disk.flip(LOG, at, mask)
        with pytest.raises(StorageError) as caught:
            open_store(disk)
        offset = getattr(caught.value, "offset", -1)
        assert at - 500 < offset <= at
        found.append(offset)
    assert len(set(found)) > 10


def test_zeros_over_a_synced_record_are_damage_not_the_end_of_the_log():
    """A lost write leaves zeros, which look like the end; the records behind it say that it is not."""
    disk = DISK.copy()
    data = disk.contents(SECOND)
    disk.replace(SECOND, data[:HEADER_BLOCK_BYTES] + bytes(300) + data[HEADER_BLOCK_BYTES + 300 :])
    with pytest.raises(DamagedError, match="durable up to byte") as caught:
        open_store(disk)
    assert (caught.value.file, caught.value.offset) == (SECOND, HEADER_BLOCK_BYTES)


@pytest.mark.parametrize("synced", [True, False])
def test_an_older_version_of_a_record_is_damage_if_it_was_synced_and_else_the_tail(synced):
    """A write that the drive lost leaves older bytes, right in themselves; the next record does not follow them."""
    disk = MemoryDisk()
    store = open_store(disk)
    store.append([accepted(1)])
    store.sync()
    store.close()
    data = disk.contents(LOG)
    header = decode_header(data)
    assert header is not None
    mark, crc = HEADER_BLOCK_BYTES, header.place.seed
    first, first_crc = encode_batch([accepted(1)], header.place, mark, mark, crc)
    older, _ = encode_batch([accepted(1, Ballot(1, 3))], header.place, mark, mark, crc)
    end = mark + len(first)
    second, _ = encode_batch([accepted(2)], header.place, end, end if synced else mark, first_crc)
    disk.replace(LOG, data[:mark] + older + second + bytes(SMALL - end - len(second)))
    if synced:
        with pytest.raises(DamagedError, match="durable up to") as caught:
            open_store(disk)
        assert caught.value.offset == mark
    else:
        assert open_store(disk).durable.entries == {1: (Ballot(1, 3), accepted(1).value)}


@pytest.mark.parametrize("path", [LOG, SECOND, SNAPSHOT])
def test_a_missing_file_is_refused(path):
    disk = DISK.copy()
    disk.remove(path)
    if path == SNAPSHOT:  # the log is whole without it; cut it first
        disk = DISK.copy()
        store = open_store(disk)
        store.write_snapshot(11, MEMBERS, b"later")
        store.cut(11)
        store.close()
        disk.remove(f"{DIRECTORY}/snapshot-{11:020d}")
    said = "the file is missing, yet log-00000003 is there" if path == SECOND else "cut behind a snapshot"
    with pytest.raises(DamagedError, match=f"{DIRECTORY}/log.*{said}.*Way out"):
        open_store(disk)


def test_a_log_without_the_snapshot_that_it_was_cut_behind_is_refused():
    disk = MemoryDisk()
    store = open_store(disk)
    for slot in range(1, 10):
        store.append([accepted(slot, size=1500)])
    store.write_snapshot(6, MEMBERS, b"")
    store.cut(6)
    store.close()
    disk.remove(f"{DIRECTORY}/snapshot-{6:020d}")
    with pytest.raises(DamagedError, match="cut behind a snapshot of slot 6 or later; there is only 0"):
        open_store(disk)


def test_a_header_that_rots_under_its_records_is_refused_in_the_last_segment_too():
    for at in range(HEADER_BYTES):
        disk = DISK.copy()
        disk.remove(THIRD)
        disk.flip(SECOND, at, 0x10)
        with pytest.raises(StorageError, match=SECOND):
            open_store(disk)


def test_an_older_version_of_the_last_record_of_a_full_segment_is_refused():
    disk = DISK.copy()
    data, at = disk.contents(LOG), USED[LOG]
    end = at + GOES_ON_BYTES
    assert BEGUN is not None
    header = decode_header(data)
    assert header is not None
    found = decode(data, at, header.place)
    assert found is not None and found.record == GoesOnRecord(2)
    other, _ = encode_batch([ChosenRecord(1)], header.place, at, found.synced, found.previous)
    disk.replace(LOG, data[:at] + other + data[end:])
    with pytest.raises(DamagedError, match="does not end as log-00000002 says"):
        open_store(disk)


def test_an_identity_without_any_log_is_refused():
    disk = DISK.copy()
    for path in (LOG, SECOND, THIRD):
        disk.remove(path)
    with pytest.raises(DamagedError, match="no log at all"):
        open_store(disk)


def test_a_hole_in_the_chosen_prefix_is_refused():
    """Another snapshot than the one that the log goes on from, put there by hand."""
    disk = MemoryDisk()
    store = open_store(disk)
    store.write_snapshot(5, MEMBERS, b"five")
    store.append([accepted(7), ChosenRecord(7)])
    store.close()
    with pytest.raises(DamagedError, match="slot 6 is neither here nor in a snapshot"):
        open_store(disk)


@pytest.mark.parametrize("size", [0, 79, 80, 512, 4095, 4097, 8192])
@pytest.mark.parametrize("path", [LOG, SECOND])
def test_a_segment_of_another_size_is_refused(path, size):
    disk = DISK.copy()
    data = disk.contents(path)
    disk.replace(path, data[:size] + bytes(max(0, size - len(data))))
    with pytest.raises(DamagedError, match=path):
        open_store(disk)


@pytest.mark.parametrize("size", [0, 55, 56, 80])
def test_a_snapshot_cut_short_is_refused(size):
    disk = DISK.copy()
    disk.replace(SNAPSHOT, disk.contents(SNAPSHOT)[:size])
    with pytest.raises(DamagedError, match=SNAPSHOT):
        open_store(disk)


def test_a_segment_in_another_ones_place_is_refused():
    disk = DISK.copy()
    disk.replace(SECOND, disk.contents(LOG))
    with pytest.raises(DamagedError, match="says that it is segment 1"):
        open_store(disk)
    disk.replace(LOG, DISK.contents(SECOND))
    with pytest.raises(DamagedError, match="says that it is segment 2"):
        open_store(disk)


def test_an_older_copy_of_a_segment_that_was_left_behind_is_refused():
    disk = DISK.copy()
    data = disk.contents(LOG)
    disk.replace(LOG, data[: USED[LOG] - 100] + bytes(SMALL - USED[LOG] + 100))
    with pytest.raises(DamagedError, match="log-00000002 was begun"):
        open_store(disk)


def test_records_of_another_file_do_not_count_in_this_one():
    """A stored value may hold the bytes of a real record; the file's nonce keeps it from passing for one."""
    disk = MemoryDisk()
    store = open_store(disk)
    store.append([accepted(1, size=100)])
    store.sync()
    store.append([accepted(2, size=700)])
    donor = disk.contents(LOG)
    other = MemoryDisk()
    other.nonce()
    Store.open(other, DIRECTORY, "demo", REPLICA, MEMBERS, segment_bytes=SMALL).close()
    data = other.contents(LOG)
    header = decode_header(data)
    assert header is not None and header.cell == donor[12:20]
    end = len(data.rstrip(b"\0"))
    other.replace(LOG, data[:end] + donor[end:])
    assert open_store(other).durable.entries == {}


def test_a_torn_header_of_a_segment_not_yet_used_is_the_tail():
    for torn in range(HEADER_BYTES):
        disk = MemoryDisk()
        store, ledger = open_store(disk), Ledger()
        for slot in range(1, 6):
            ledger.append(store, accepted(slot, size=600))
        ledger.sync(store)
        store.close()
        assert disk.list_directory(DIRECTORY)[-1] == segment_name(2)
        header = decode_header(disk.contents(LOG))
        assert header is not None
        disk.replace(SECOND, header.encode()[:torn] + bytes(SMALL - torn))
        store = ledger.recover(disk)
        ledger.append(store, accepted(6, size=2000), accepted(7, size=900))
        ledger.sync(store)
        store.close()
        assert ledger.recover(disk).durable.entries.keys() == set(range(1, 8))
