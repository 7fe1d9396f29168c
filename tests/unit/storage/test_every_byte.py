"""A small log and a small snapshot, every fault at every byte: exactly what was acknowledged, or a refusal by name."""

from __future__ import annotations

from itertools import product

import pytest

from coordd.paxos.ballot import Ballot
from coordd.paxos.effects import ChosenRecord, PromiseRecord
from coordd.storage.errors import DamagedError
from coordd.storage.record import RECORD_HEAD_BYTES, decode
from coordd.storage.segment import HEADER_BLOCK_BYTES, HEADER_BYTES, decode_header
from coordd.testing.memory_disk import SECTOR_BYTES, MemoryDisk
from tests.unit.storage.world import DIRECTORY, LOG, SMALL, Ledger, accepted, judge, open_store

SNAPSHOT, IDENTITY = f"{DIRECTORY}/snapshot-{1:020d}", f"{DIRECTORY}/identity"


def make() -> tuple[MemoryDisk, Ledger]:
    disk, ledger = MemoryDisk(), Ledger()
    store = open_store(disk)
    ledger.opened(store)
    ledger.append(store, PromiseRecord(Ballot(4, 2)), accepted(1, size=5))
    ledger.sync(store)
    ledger.append(store, accepted(2, size=0), ChosenRecord(1), accepted(3, size=9))
    ledger.sync(store)
    ledger.snapshot(store, 1, b"state")
    store.close()
    store = open_store(disk)
    ledger.opened(store)
    store.close()
    return disk, ledger


DISK, LEDGER = make()


def records() -> list[int]:
    """Where each record of the log begins, and where the last one ends."""
    data = DISK.contents(LOG)
    header = decode_header(data)
    assert header is not None
    places = [HEADER_BLOCK_BYTES]
    while (found := decode(data, places[-1], header.place)) is not None:
        places.append(found.end)
    return places


PLACES = records()
LAST, END = PLACES[-2:]  # the last group is one record: that the start number was raised, said for the second time


@pytest.mark.parametrize("bit", range(8))
def test_every_flipped_bit_of_the_log_is_refused_at_its_record_or_harmless(bit):
    for at in (*range(END + 40), *range(END + 40 + bit, SMALL, 40)):
        disk = DISK.copy()
        disk.flip(LOG, at, 1 << bit)
        error = judge(disk, LEDGER)
        if HEADER_BYTES <= at < HEADER_BLOCK_BYTES or at >= LAST:
            assert error is None, at
        elif at >= HEADER_BLOCK_BYTES:
            assert isinstance(error, DamagedError) and (error.file, error.offset) == (LOG, record_at(at)), at
        else:
            assert error is not None and LOG in str(error), at


def record_at(byte: int) -> int:
    return max(place for place in PLACES if place <= byte)


@pytest.mark.parametrize("bit", range(8))
@pytest.mark.parametrize("path", [SNAPSHOT, IDENTITY])
def test_every_flipped_bit_of_the_snapshot_and_the_identity_is_refused(path, bit):
    for at in range(len(DISK.contents(path))):
        disk = DISK.copy()
        disk.flip(path, at, 1 << bit)
        error = judge(disk, LEDGER)
        assert error is not None and path in str(error), at


@pytest.mark.parametrize("filling", [b"\0", b"\xff", b"r"])
def test_every_stretch_lost_before_the_last_group_is_refused_at_its_first_record(filling):
    """Lost writes leave zeros, or whatever was there before, and look like the end of the log; they are not."""
    data = DISK.contents(LOG)
    for first in range(HEADER_BLOCK_BYTES, LAST):
        for end in {first + 1, first + RECORD_HEAD_BYTES // 2, *(place for place in PLACES if first < place <= LAST)}:
            if end <= LAST:
                disk = DISK.copy()
                disk.replace(LOG, data[:first] + filling * (end - first) + data[end:])
                error = judge(disk, LEDGER)
                if error is None:
                    assert data[first:end] == filling * (end - first)
                else:
                    assert isinstance(error, DamagedError) and error.file == LOG
                    assert record_at(first) <= error.offset < end


@pytest.mark.parametrize("path", [LOG, SNAPSHOT, IDENTITY])
def test_a_file_that_ends_early_or_late_is_refused_at_every_byte(path):
    data = DISK.contents(path)
    for size in [*range(len(data)), len(data) + 1, 2 * len(data)]:
        disk = DISK.copy()
        disk.replace(path, data[:size].ljust(size, b"\0"))
        error = judge(disk, LEDGER)
        assert error is not None and path in str(error), size


@pytest.mark.parametrize("path", [SNAPSHOT, IDENTITY])
def test_every_stretch_lost_of_the_snapshot_and_the_identity_is_refused(path):
    data = DISK.contents(path)
    for first in range(len(data)):
        for end in range(first + 1, len(data) + 1, 7):
            if any(data[first:end]):
                disk = DISK.copy()
                disk.replace(path, data[:first] + bytes(end - first) + data[end:])
                error = judge(disk, LEDGER)
                assert error is not None and path in str(error), (first, end)


def test_the_last_group_torn_at_every_byte_costs_nothing():
    """It says only once more that the start number was raised, which the group before says too: nothing is lost."""
    data = DISK.contents(LOG)
    for cut in range(LAST, END):
        for garbage in (b"\0", b"\xff", b"r"):
            disk = DISK.copy()
            disk.replace(LOG, data[:cut] + garbage * (SMALL - cut))
            assert judge(disk, LEDGER) is None


def test_every_choice_of_sectors_of_an_unsynced_group_may_be_lost():
    """Exhaustive for a group over six sectors, of two appends: a prefix of it is there, and the group before."""
    disk, ledger = MemoryDisk(), Ledger()
    store = open_store(disk)
    ledger.opened(store)
    ledger.append(store, accepted(1))
    ledger.sync(store)
    before = disk.contents(LOG)
    ledger.append(store, accepted(2, size=900), accepted(3, size=600), PromiseRecord(Ballot(7, 3)))
    ledger.append(store, accepted(4, size=900), ChosenRecord(2))
    after = disk.contents(LOG)
    disk.kill()
    sectors = [
        at for at in range(0, SMALL, SECTOR_BYTES) if before[at : at + SECTOR_BYTES] != after[at : at + SECTOR_BYTES]
    ]
    assert len(sectors) == 6
    found = set()
    for landed in product([True, False], repeat=len(sectors)):
        torn, seen = disk.copy(), ledger.copy()
        data = bytearray(before)
        for at in (sector for sector, there in zip(sectors, landed, strict=True) if there):
            data[at : at + SECTOR_BYTES] = after[at : at + SECTOR_BYTES]
        torn.replace(LOG, bytes(data))
        store = seen.recover(torn)
        found.add(seen.acknowledged)
        seen.append(store, accepted(9))  # what lay behind the hole does not come back
        seen.sync(store)
        torn.kill()
        seen.recover(torn)
    assert found == {1, 2, 4, 6}
