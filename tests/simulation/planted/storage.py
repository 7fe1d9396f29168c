"""Bugs of the disk's side: what is not synced, not written, or believed without proof."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any
from zlib import crc32

from coordd.paxos.ballot import ZERO
from coordd.storage import record as record_format
from coordd.storage import store as store_module
from coordd.storage.checked import CheckedDisk, File
from coordd.storage.errors import DamagedError
from coordd.storage.recovery import LogReader, LogState
from coordd.storage.segment import segment_name
from coordd.storage.spare import Spare
from coordd.storage.wal import Wal
from tests.simulation.planted import Bug
from tests.simulation.process import Process


def _never_synced(right: Any) -> Any:
    def sync(self: Any) -> None:
        self._synced = self._end

    return sync


def _speaks_before_its_sync(right: Any) -> Any:
    def queue_sync(self: Any, effects: Any) -> None:
        self._send(effects.send_after_persist)
        effects.send_after_persist = []
        right(self, effects)

    return queue_sync


def _reports_too_much(right: Any) -> Any:
    """What was written while the sync ran is reported with it."""

    def after_sync(self: Any, early: bool) -> None:
        self._syncing_group += self._unsynced
        self._unsynced = []
        right(self, early)

    return after_sync


def _header_without_promise(right: Any) -> Any:
    def begin(self: Any, header: Any) -> None:
        self.start = max(self.start, header.start)
        self.slot_max = max(self.slot_max, header.slots_before)

    return begin


def _peers_forgotten(right: Any) -> Any:
    """What peers were known to be is in memory only."""

    def durable(start: int, state: Any, membership: Any, stored: Any) -> Any:
        return replace(right(start, state, membership, stored), peers=())

    return durable


def _header_without_peers(right: Any) -> Any:
    def begin(self: Any, header: Any) -> None:
        before = self.peers
        right(self, header)
        self.peers = before

    return begin


def _snapshot_lowers_promise(right: Any) -> Any:
    def durable(start: int, state: Any, membership: Any, stored: Any) -> Any:
        found = right(start, state, membership, stored)
        if stored is not None:
            found.promised = max((ballot for ballot, _ in found.entries.values()), default=ZERO)
        return found

    return durable


def _tail_trusted(right: Any) -> Any:
    def resume(cls: Any, disk: Any, directory: str, log: Any, segment_bytes: int) -> Any:
        tail = log.tail
        file = disk.open(f"{directory}/{segment_name(tail.header.number)}")
        self = cls(disk, directory, tail.header, file, log.segments, segment_bytes)
        self._end = self._synced = tail.end
        self._crc = tail.crc
        self.promised, self.start, self.slot_max = log.state.promised, log.state.start, log.state.slot_max
        if log.spare is not None:
            self._spare = Spare.found(disk, directory, f"{directory}/{segment_name(log.spare)}")
        return self

    return classmethod(resume)


def _no_damage_known(right: Any) -> Any:
    return lambda self, header, data, suspect, offset, following: None


def _every_bad_record_is_damage(right: Any) -> Any:
    def judge(self: Any, header: Any, data: bytes, suspect: int, offset: int, following: Any) -> None:
        if any(data[offset:]):
            raise DamagedError(segment_name(header.number), offset, "a record is not right")

    return judge


def _names_not_synced(right: Any) -> Any:
    return lambda self, path: None


def _header_not_synced(right: Any) -> Any:
    """The new segment's header is left to the next sync of the file that is in use."""

    def roll(self: Any, need: int) -> None:
        synced = File.sync
        try:
            File.sync = lambda self: None  # type: ignore[method-assign]
            right(self, need)
        finally:
            File.sync = synced  # type: ignore[method-assign]

    return roll


def _cut_too_far(right: Any) -> Any:
    def cut(self: Any, upto: int) -> None:
        right(self, upto + 8)

    return cut


def _lower_ballot_wins(right: Any) -> Any:
    def apply(self: Any, record: Any) -> None:
        held = dict(self.entries)
        right(self, record)
        slot = getattr(record, "slot", None)
        if slot in held:
            self.entries[slot] = min(held[slot], self.entries[slot])

    return apply


def _tail_kept(right: Any) -> Any:
    """The log goes on behind the unfinished tail, as far as anything is written there."""

    def scan(self: Any, header: Any, data: bytes, following: Any, state: Any) -> Any:
        tail, slot_max = right(self, header, data, following, state)
        end = max(tail.end, len(data.rstrip(b"\0")))
        return replace(tail, end=end, unsure_bytes=data[tail.unsure : end]), slot_max

    return scan


def _crc_not_looked_at(right: Any) -> Any:
    def decode(data: bytes, offset: int, place: Any) -> Any:
        found = right(data, offset, place)
        if found is not None or offset + record_format.RECORD_HEAD_BYTES > len(data):
            return found
        (length,) = struct.unpack_from("<I", data, offset + 4)
        end = offset + record_format.RECORD_HEAD_BYTES + length
        if end > len(data) or not any(data[offset:end]):
            return None
        crc = crc32(data[offset + 4 : end], place.seed)
        try:
            found = right(data[:offset] + struct.pack("<I", crc) + data[offset + 4 :], offset, place)
        except record_format.UnreadableBodyError:
            return None
        return None if found is None else replace(found, crc=struct.unpack_from("<I", data, offset)[0])

    return decode


def _start_trusted(right: Any) -> Any:
    """`_tail_trusted`, and the records of the start are not synced either: their sync would reach the tail too."""
    trusting = _tail_trusted(right)

    def resume(cls: Any, *arguments: Any) -> Any:
        wal = trusting.__func__(cls, *arguments)
        wal.trusted = 2
        return wal

    return classmethod(resume)


def _skips_trusted(right: Any) -> Any:
    def sync(self: Any) -> None:
        if getattr(self, "trusted", 0):
            self.trusted -= 1
            self._synced = self._end
        else:
            right(self)

    return sync


# Not here: a tail that is not zeroed. What is left behind it can never be read again, because the start's own records
# begin another chain of CRCs at other places; `unit/storage/test_power.py` has a test of it (the_rest_behind_the_tail).
BUGS = (
    Bug("torn tail kept", "storage", "cell", [(LogReader, "_scan", _tail_kept)]),
    Bug("rot accepted", "storage", "cell", [(record_format, "decode", _crc_not_looked_at)]),
    Bug(
        "unsynced tail trusted after kill -9",
        "storage",
        "cell",
        [(Wal, "resume", _start_trusted), (Wal, "sync", _skips_trusted)],
    ),
    Bug("log never synced", "storage", "cell", [(Wal, "sync", _never_synced)]),
    Bug("answers before its fsync", "storage", "cell", [(Process, "_queue_sync", _speaks_before_its_sync)]),
    Bug("vote beyond the bytes of its sync", "storage", "cell", [(Process, "_after_sync", _reports_too_much)]),
    Bug("promise cut away with the log", "storage", "cell", [(LogState, "begin", _header_without_promise)]),
    Bug("memory of peers not durable", "storage", "cell", [(store_module, "_durable", _peers_forgotten)]),
    Bug("memory of peers cut away with the log", "storage", "cell", [(LogState, "begin", _header_without_peers)]),
    Bug("snapshot lowers the promise", "storage", "cell", [(store_module, "_durable", _snapshot_lowers_promise)]),
    Bug("unsynced tail trusted after a failed sync", "storage", "cell", [(Wal, "resume", _tail_trusted)]),
    Bug("torn tail taken for damage", "storage", "cell", [(LogReader, "_judge", _every_bad_record_is_damage)]),
    Bug("directory not synced", "storage", "cell", [(CheckedDisk, "sync_directory", _names_not_synced)]),
    Bug("segment begun before the last one is durable", "storage", "cell", [(Wal, "_roll", _header_not_synced)]),
    Bug("log cut beyond the snapshot", "storage", "cell", [(Wal, "cut", _cut_too_far)]),
    Bug("older record of a slot wins at start", "storage", "cell", [(LogState, "apply", _lower_ballot_wins)]),
)
