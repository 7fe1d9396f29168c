"""Files that are missing, too many, exchanged, half renamed, or of another moment or replica: never a wrong start."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

import pytest

from coordd.paxos.ballot import Ballot
from coordd.paxos.effects import AcceptedRecord, ChosenRecord, PromiseRecord
from coordd.storage.errors import DamagedError, StorageError, WrongDirectoryError
from coordd.storage.record import GOES_ON_BYTES, RECORD_HEAD_BYTES, decode, encode_batch
from coordd.storage.segment import HEADER_BLOCK_BYTES, decode_header, segment_name, segment_number
from coordd.storage.snapshots import snapshot_name, snapshot_slot
from coordd.storage.store import Store
from coordd.testing.memory_disk import MemoryDisk, PowerCutError
from tests.unit.storage.test_power import work
from tests.unit.storage.world import (
    DIRECTORY,
    LATER_MEMBERS,
    LOG,
    MEMBERS,
    SMALL,
    Ledger,
    accepted,
    judge,
    open_store,
    snapshot_bytes,
)


def life(slots: int, snapshot: int = 0, cut: bool = False) -> tuple[MemoryDisk, Ledger]:
    """So many slots, each a group of its own; a snapshot; perhaps the log cut behind it; a start that is over."""
    disk, ledger = MemoryDisk(), Ledger()
    store = open_store(disk)
    ledger.opened(store)
    for slot in range(1, slots + 1):
        ledger.append(store, accepted(slot, Ballot(slot, 2), 700), ChosenRecord(slot - 1), PromiseRecord(Ballot(90, 1)))
        ledger.sync(store)
    if snapshot:
        ledger.snapshot(store, snapshot, b"the state after %d" % snapshot)
    if cut:
        store.cut(snapshot)
    store.close()
    store = open_store(disk)
    ledger.opened(store)
    store.close()
    return disk, ledger


LIVES = {
    "one segment": life(1),
    "one segment and the next prepared": life(3, 2),
    "three segments, the last one just begun": life(9),
    "three segments and the next prepared": life(11, 4),
    "cut behind a snapshot": life(9, 5, cut=True),
    "all cut but the last segment": life(9, 9, cut=True),
}


def names(disk: MemoryDisk) -> list[str]:
    return [name for name in disk.list_directory(DIRECTORY) if name != "lock"]


def test_the_lives_are_those_that_are_named():
    def shape(disk: MemoryDisk) -> tuple[list[int], list[int], list[int]]:
        files = names(disk)
        segments = [number for name in files if (number := segment_number(name))]
        snapshots = [slot for name in files if (slot := snapshot_slot(name))]
        return segments, sorted(map(int, (name[4:] for name in in_use(disk)))), snapshots

    assert {life: shape(disk) for life, (disk, _) in LIVES.items()} == {
        "one segment": ([1], [1], []),
        "one segment and the next prepared": ([1, 2], [1], [2]),
        "three segments, the last one just begun": ([1, 2, 3], [1, 2, 3], []),
        "three segments and the next prepared": ([1, 2, 3, 4], [1, 2, 3], [4]),
        "cut behind a snapshot": ([2, 3], [2, 3], [5]),
        "all cut but the last segment": ([3], [3], [9]),
    }


def in_use(disk: MemoryDisk) -> set[str]:
    """The segments that have a header."""
    return {name for name in names(disk) if segment_number(name) and any(disk.contents(f"{DIRECTORY}/{name}"))}


@pytest.mark.parametrize("life", LIVES)
def test_any_missing_files_are_refused_or_were_not_needed(life):
    """Also the last segment alone, behind which nothing tells of it: the one before says that the log goes on."""
    whole, ledger = LIVES[life]
    files = names(whole)
    for count in range(1, len(files)):
        for missing in combinations(files, count):
            disk = whole.copy()
            for name in missing:
                disk.remove(f"{DIRECTORY}/{name}")
            snapshot = next((slot for name in files if name not in missing and (slot := snapshot_slot(name))), 0)
            ledger = ledger.copy()
            ledger.snapshot_acknowledged = snapshot
            covered = {"log-00000001"} if snapshot >= 4 else set()  # all four slots of it
            needed = {"identity"} | in_use(whole) - covered
            if "cut" in life:
                needed |= {name for name in files if snapshot_slot(name)}
            error = judge(disk, ledger)
            assert (error is not None) == bool(needed & set(missing)), (missing, error)


def test_a_missing_last_segment_is_named():
    disk = LIVES["three segments, the last one just begun"][0].copy()
    disk.remove(f"{DIRECTORY}/log-00000003")
    with pytest.raises(DamagedError, match=r"log-00000003 .* at byte 0: the file is missing, yet log-00000002 says"):
        open_store(disk)


def strangers() -> dict[str, bytes]:
    """Files of other directories: of another replica of the cell, and of this replica of another cell."""
    found: dict[str, bytes] = {}
    for cell, replica in (("demo", 3), ("other", 2)):
        disk = MemoryDisk()
        store = Store.open(disk, DIRECTORY, cell, replica, MEMBERS, segment_bytes=SMALL)
        for slot in range(1, 12):
            store.append([accepted(slot, Ballot(slot, 2), 700), PromiseRecord(Ballot(95, 3))])
        store.sync()
        store.write_snapshot(4, LATER_MEMBERS, b"the state after 4")
        store.close()
        found |= {f"{name} of {cell} {replica}": disk.contents(f"{DIRECTORY}/{name}") for name in names(disk)}
    return found


STRANGERS = strangers()


@pytest.mark.parametrize("life", LIVES)
def test_any_file_under_any_name_is_refused_or_harmless(life):
    """Own files copied over others or under names that were free, and those of strangers."""
    whole, ledger = LIVES[life]
    own = {name: whole.contents(f"{DIRECTORY}/{name}") for name in names(whole)}
    targets = [*own, *(segment_name(number) for number in range(1, 6)), *(snapshot_name(slot) for slot in (3, 4, 99))]
    refused = harmless = 0
    for source, data in (own | STRANGERS).items():
        for target in dict.fromkeys(targets):
            disk, seen = whole.copy(), ledger.copy()
            disk.replace(f"{DIRECTORY}/{target}", data)
            if source.startswith(snapshot_name(4)) and target == snapshot_name(4):
                seen.snapshots[4] = b"the state after 4"  # the cell's own, the same at every replica
                seen.snapshot_acknowledged = 4
            error = judge(disk, seen)
            if error is None:
                harmless += 1
            else:
                refused += 1
                assert source != target
    assert refused > 80 and harmless >= 5


@pytest.mark.parametrize("life", LIVES)
def test_any_two_exchanged_files_are_refused(life):
    whole, ledger = LIVES[life]
    for one, other in combinations(names(whole), 2):
        disk = whole.copy()
        disk.replace(f"{DIRECTORY}/{one}", whole.contents(f"{DIRECTORY}/{other}"))
        disk.replace(f"{DIRECTORY}/{other}", whole.contents(f"{DIRECTORY}/{one}"))
        assert judge(disk, ledger) is not None, (one, other)


def test_a_directory_of_another_replica_is_refused_file_by_file():
    """Its identity made to fit by hand: the log still says whose it is."""
    theirs = MemoryDisk()
    Store.open(theirs, DIRECTORY, "demo", 3, MEMBERS, segment_bytes=SMALL).close()
    theirs.replace(f"{DIRECTORY}/identity", LIVES["one segment"][0].contents(f"{DIRECTORY}/identity"))
    with pytest.raises(WrongDirectoryError, match=r"log-00000001 belongs to replica 3 .* not to replica 2.*Way out"):
        open_store(theirs)


# ---- the record that says that the log goes on ----


def rolled() -> tuple[MemoryDisk, Ledger, int]:
    """Two segments, a record in the second, and where the last record of the first one stands."""
    disk, ledger = LIVES["three segments, the last one just begun"]
    header = decode_header(disk.contents(f"{DIRECTORY}/{segment_name(3)}"))
    assert header is not None
    return disk.copy(), ledger, header.end_before - GOES_ON_BYTES


def test_the_record_that_says_that_the_log_goes_on_may_be_torn_at_every_byte_and_is_made_again():
    whole, ledger, at = rolled()
    second = f"{DIRECTORY}/{segment_name(2)}"
    data = whole.contents(second)
    for cut in range(GOES_ON_BYTES):
        disk = whole.copy()
        disk.replace(second, data[: at + cut] + bytes(len(data) - at - cut))
        assert judge(disk, ledger) is None
        disk.crash(random.Random(cut), 0.0)
        assert disk.contents(second) == data, "and is durable before the replica says a word"


@pytest.mark.parametrize("left", [0, 1, GOES_ON_BYTES - 1])
def test_a_segment_filled_by_a_build_that_left_no_room_for_that_record_is_left_and_read(left):
    disk = MemoryDisk()
    store = open_store(disk)
    store.append([accepted(1)])
    store.sync()
    store.close()
    data = disk.contents(LOG).rstrip(b"\0")
    header = decode_header(data)
    assert header is not None
    found = decode(data, HEADER_BLOCK_BYTES, header.place)
    while found is not None:
        last, found = found, decode(data, found.end, header.place)
    filling = AcceptedRecord(2, Ballot(1, 1), bytes(SMALL - last.end - RECORD_HEAD_BYTES - 20 - left))
    more, _ = encode_batch([filling], header.place, last.end, last.end, last.crc)
    disk.replace(LOG, (data[: last.end] + more).ljust(SMALL, b"\0"))
    store = open_store(disk)
    store.append([accepted(3)])
    store.sync()
    store.close()
    assert len(disk.contents(LOG)) == SMALL and disk.contents(LOG)[: last.end] == data[: last.end]
    assert list(open_store(disk).durable.entries) == [1, 2, 3]


# ---- half-renamed snapshots ----


def half_renamed() -> Iterator[tuple[str, MemoryDisk, int]]:
    """A new snapshot under its temporary name, its own, or both, whole or torn at any byte; the older one there or not.

    With each: the slot of the one to start from, 0 for none.
    """
    whole, _ = LIVES["three segments and the next prepared"]
    data = snapshot_bytes(9, b"the state after 9")
    temporary, final = f"{DIRECTORY}/{snapshot_name(9)}.1.tmp", f"{DIRECTORY}/{snapshot_name(9)}"
    for older in (True, False):
        for size in range(len(data) + 1):
            for torn in {data[:size], data[:size].ljust(len(data), b"\0")}:
                for places in ([temporary], [final], [temporary, final]):
                    disk = whole.copy()
                    if not older:
                        disk.remove(f"{DIRECTORY}/{snapshot_name(4)}")
                    for place in places:
                        disk.replace(place, torn)
                    slot = 4 if older else 0
                    if final in places:
                        slot = 9 if torn == data else 0
                    yield f"{size} bytes in {places}", disk, slot


def test_a_half_renamed_snapshot_is_the_snapshot_or_nothing_or_refused_by_name():
    ledger = LIVES["three segments and the next prepared"][1].copy()
    ledger.snapshots[9] = b"the state after 9"
    cases = 0
    for what, disk, slot in half_renamed():
        ledger.snapshot_acknowledged = slot
        refused = f"{snapshot_name(9)}" in disk.list_directory(DIRECTORY) and slot == 0
        error = judge(disk, ledger)
        assert (error is not None) == refused, what
        if refused:
            assert isinstance(error, DamagedError) and error.file == f"{DIRECTORY}/{snapshot_name(9)}"
        else:
            left = [name for name in disk.list_directory(DIRECTORY) if "snapshot" in name]
            assert left == ([snapshot_name(slot)] if slot else []), what
        cases += 1
    assert cases > 500


# ---- copies ----


def images() -> list[tuple[MemoryDisk, Ledger]]:
    """The directory in the middle of every call of a busy life, as a reader of it sees it."""
    found: list[tuple[MemoryDisk, Ledger]] = []
    while True:
        disk, ledger = MemoryDisk(), Ledger()
        disk.cut_at(len(found) + 1)
        try:
            store = open_store(disk)
            ledger.opened(store)
            work(store, ledger)
        except PowerCutError:
            disk.kill()
            found.append((disk, ledger))
        else:
            return found


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("later", [0, 1, 4, 17, 40, 80])
def test_a_directory_copied_while_it_was_in_use_is_refused_or_is_one_that_there_was(later, backwards):
    """File by file, the first ones as they were some calls before the last ones. Such a copy knows less than its
    original, and the peers refuse it for that; here: it is never a mixture, of which nobody could say what it knows."""
    refused = started = 0
    moments = images()
    for one, (before, _) in enumerate(moments[: len(moments) - later]):
        after, ledger = moments[one + later]
        files = sorted({*names(before), *names(after)}, reverse=backwards)
        for split in range(len(files) + 1 if later else 1):
            copy = MemoryDisk()
            for name in files:
                source = before if name in files[:split] else after
                if name in names(source):
                    copy.replace(f"{DIRECTORY}/{name}", source.contents(f"{DIRECTORY}/{name}"))
            seen = replace(ledger.copy(), acknowledged=0, snapshot_acknowledged=0, start=0)
            try:
                store = open_store(copy)
            except StorageError as error:
                assert DIRECTORY in str(error) and "Way out: " in str(error)
                refused += 1
            else:
                seen.check(store)
                started += 1
    assert started > 30 and (refused > 0 or later < 4)
