"""Rot: durable bytes change on a disk. Whoever starts from them refuses and names the file, or nothing is lost.

There is one way out between the two: rot with no record behind it that proves more looks like a torn write, and the log
ends there. A replica that refuses, and one that forgot something in this way, counts as lost. To tell what
a start may forget, the same disk without the rot is read beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from coordclient.protocol.paths import cell_id
from coordd.storage import record
from coordd.storage.checked import CheckedDisk
from coordd.storage.errors import StorageError
from coordd.storage.recovery import LogReader, Tail
from coordd.storage.segment import HEADER_BLOCK_BYTES, segment_name, segment_number
from coordd.storage.snapshots import snapshot_slot
from coordd.storage.store import Store
from coordd.testing.memory_disk import SECTOR_BYTES, MemoryDisk
from tests.simulation.ports import LostDisk, RotAccepted


@dataclass(frozen=True, slots=True)
class Flip:
    """Some bits of one byte. `file` tells a file from a later one of the same name."""

    path: str
    file: Any
    offset: int
    mask: int


@dataclass(frozen=True, slots=True)
class Place:
    """Whose directory it is, and how it is opened."""

    directory: str
    cell: str
    replica: int
    open_store: Callable[[MemoryDisk], Store]

    def tail(self, disk: MemoryDisk) -> Tail:
        """Where the log ends; nothing is written."""
        return LogReader(CheckedDisk(disk), self.directory, cell_id(self.cell), self.replica).read().tail


def rot(disk: MemoryDisk, directory: str, chance: Random, *, settled: bool) -> list[Flip]:
    """A bit, some bytes, or a sector; `settled`: only in files that nobody writes to any more."""
    paths = _settled(disk, directory) if settled else _files(disk, directory)
    if not paths:
        return []
    path = chance.choice(paths)
    contents = disk.contents(path)
    first = chance.randrange(min(len(contents), len(contents.rstrip(b"\0")) + 64))
    how = chance.choice(("bit", "bytes", "sector"))
    if how == "bit":
        masks = {first: 1 << chance.randrange(8)}
    elif how == "bytes":
        masks = {first + place: chance.randrange(1, 256) for place in range(chance.randint(1, 8))}
    else:
        at = first // SECTOR_BYTES * SECTOR_BYTES
        masks = dict(enumerate(contents[at : at + SECTOR_BYTES], at))  # all zeros then
    flips = [Flip(path, disk._names[path], at, mask) for at, mask in masks.items() if mask and at < len(contents)]
    for flip in flips:
        disk.flip(flip.path, flip.offset, flip.mask)
    return flips


def _files(disk: MemoryDisk, directory: str) -> list[str]:
    names = sorted(name for name in disk._names if name.startswith(directory + "/"))
    return [name for name in names if not name.endswith((".tmp", "/lock")) and disk._names[name].seen]


def _settled(disk: MemoryDisk, directory: str) -> list[str]:
    """Snapshots, and segments of the log behind which there are two more: the present one and the prepared one."""
    paths = _files(disk, directory)
    names = {path: path.removeprefix(directory + "/") for path in paths}
    segments = [path for path in paths if segment_number(names[path]) is not None]
    quiet = [path for path in paths if snapshot_slot(names[path]) is not None] + segments[:-2]
    return [path for path in quiet if not disk._names[path].versions]


def open_rotten(disk: MemoryDisk, flips: list[Flip], place: Place) -> Store:
    """The store, if nothing was lost; `LostDisk` if it refuses or forgot its tail, `RotAccepted` if it forgot more."""
    there = [flip for flip in flips if disk._names.get(flip.path) is flip.file]
    if not there:  # what rotted was removed before anybody read it
        return place.open_store(disk)
    sound = disk.copy()
    for flip in there:
        sound.flip(flip.path, flip.offset, flip.mask)
    right_tail = place.tail(sound)
    data = sound.contents(f"{place.directory}/{segment_name(right_tail.header.number)}")
    right = place.open_store(sound)
    try:
        tail = place.tail(disk)
        found = place.open_store(disk)
    except StorageError as error:
        _check_named(str(error), there)
        raise LostDisk(str(error)) from error
    if found.durable == right.durable and found.snapshot_state == right.snapshot_state:
        return found
    if tail.header == right_tail.header and _proved(data, right_tail, there) <= tail.end < right_tail.end:
        raise LostDisk(f"{there[0].path} rots at byte {there[0].offset}, and the log ends at {tail.end}, as if torn")
    raise RotAccepted(f"{there[0].path} rots at byte {there[0].offset}; the start goes on and forgets more than a tail")


def _proved(data: bytes, tail: Tail, flips: list[Flip]) -> int:
    """How far a record that has not rotted says that this segment was durable. Without one, nobody can know."""
    rotten = {flip.offset for flip in flips}
    offset, proved = HEADER_BLOCK_BYTES, 0
    while offset < tail.end:
        found = record.decode(data, offset, tail.header.place)
        assert found is not None, "without the rot it was read up to its end"
        if rotten.isdisjoint(range(offset, found.end)):
            proved = max(proved, found.synced)
        offset = found.end
    return proved


def _check_named(text: str, flips: list[Flip]) -> None:
    """The refusal names what rotted, or its neighbour, which it contradicts."""
    path = flips[0].path
    directory, _, name = path.rpartition("/")
    number = segment_number(name)
    near = [path] if number is None else [f"{directory}/{segment_name(number + step)}" for step in (-1, 0, 1)]
    if not any(one in text for one in near):
        raise RotAccepted(f"{path} rots at byte {flips[0].offset}, and the refusal blames something else: {text}")
