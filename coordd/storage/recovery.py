"""Reads the log at start: tail or damage? Writes nothing.

The rule. Records form a chain: each carries the CRC of the one before, its own place, and how far its segment was
known to be durable when it was written (`synced`). A write may land in any subset of its sectors until it is synced,
so a bad record may have good ones of the same group behind it. At the first bad record:
- a later record that says "synced beyond it" proves that it once was durable: damage, refuse;
- so does the header of a later segment, which is written only when all before it is durable. Only the record that says
  that the log goes on there is younger, and follows from what is before it: where it is missing it is made again;
- otherwise it is the unfinished tail, which nobody was told of: cut there.
Rot in the last synced group, with nothing behind it, cannot be told from a torn write by anybody.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import assert_never

from coordd.paxos.ballot import CHOSEN, ZERO, Ballot
from coordd.paxos.effects import AcceptedRecord, ChosenRecord, PeersRecord, PromiseRecord
from coordd.storage import record as record_format
from coordd.storage.checked import CheckedDisk
from coordd.storage.errors import DamagedError, UnknownFormatError, WrongDirectoryError
from coordd.storage.record import GoesOnRecord, LogRecord, StartRecord
from coordd.storage.segment import (
    HEADER_BLOCK_BYTES,
    HEADER_BYTES,
    Header,
    decode_header,
    other_format,
    segment_name,
    segment_number,
)


@dataclass(slots=True)
class Segment:
    """One file of the log; `slot_max` is the highest slot with a record in it, 0 for none."""

    number: int
    size: int
    slot_max: int = 0


@dataclass(slots=True)
class Tail:
    """Where the log ends: in `header`'s segment at `end`; from `unsure` on, records may not be durable yet."""

    header: Header
    end: int
    crc: int
    unsure: int
    unsure_bytes: bytes


@dataclass(slots=True)
class LogState:
    """What the records add up to."""

    promised: Ballot = ZERO
    start: int = 0
    chosen_upto: int = 0
    slot_max: int = 0
    segment_max: int = 0  # the highest that a record calls in use
    peers: tuple[tuple[int, int], ...] = ()
    entries: dict[int, tuple[Ballot, bytes]] = field(default_factory=dict)

    def apply(self, record: LogRecord) -> None:
        """Take in the next record of the log."""
        match record:
            case AcceptedRecord(slot, ballot, value):
                if ballot != CHOSEN:  # the ballot of a learnt value is nobody's, so nothing was promised with it
                    self.promised = max(self.promised, ballot)
                self.slot_max = max(self.slot_max, slot)
                held = self.entries.get(slot)
                if held is None or held[0] != CHOSEN:
                    self.entries[slot] = (ballot, value)
            case PromiseRecord(ballot):
                self.promised = max(self.promised, ballot)
            case ChosenRecord(upto):
                self.chosen_upto = max(self.chosen_upto, upto)
            case StartRecord(start):
                self.start = max(self.start, start)
            case GoesOnRecord(segment):
                self.segment_max = segment
            case PeersRecord(peers):
                self.peers = peers
            case _:
                assert_never(record)

    def begin(self, header: Header) -> None:
        """Take in what a segment's header keeps of the segments before it."""
        self.promised = max(self.promised, header.promised)
        self.start = max(self.start, header.start)
        self.slot_max = max(self.slot_max, header.slots_before)
        if header.peers is not None:
            self.peers = header.peers


@dataclass(slots=True)
class RecoveredLog:
    """The whole log.

    `spare`: the number of a prepared segment behind the last used one, or None. `unmarked`: segment, offset and bytes
    of a record that says that the log goes on, where that is missing.
    """

    state: LogState
    segments: list[Segment]
    slots_before: int
    tail: Tail
    spare: int | None
    unmarked: tuple[int, int, bytes] | None


class LogReader:
    """Reads the log of one replica."""

    def __init__(self, disk: CheckedDisk, directory: str, cell: bytes, replica: int) -> None:
        self._disk = disk
        self._directory = directory
        self._cell = cell
        self._replica = replica
        self._unmarked: tuple[int, int, bytes] | None = None

    def read(self) -> RecoveredLog:
        """All of it, or a refusal."""
        numbers = self._numbers()
        state = LogState()
        segments: list[Segment] = []
        data = self._data(numbers[0])
        header = self._first_header(numbers[0], data)
        slots_before = header.slots_before
        position = 0
        while True:
            state.begin(header)
            following = numbers[position + 1] if position + 1 < len(numbers) else None
            next_data = self._data(following) if following is not None else b""
            next_header = None
            if following is not None:
                next_header = self._following_header(following, next_data, last=position + 2 == len(numbers))
            tail, slot_max = self._scan(header, data, next_header, state)
            segments.append(Segment(header.number, header.size, slot_max))
            if next_header is None:
                self._check_last(header, following, state)
                return RecoveredLog(state, segments, slots_before, tail, following, self._unmarked)
            position, header, data = position + 1, next_header, next_data

    def _check_last(self, header: Header, following: int | None, state: LogState) -> None:
        if state.segment_max > header.number:
            what = "the file is missing" if following is None else "the header is not right"
            reason = f"{what}, yet {segment_name(header.number)} says that the log goes on here"
            raise DamagedError(self._path(state.segment_max), 0, reason)

    def _path(self, number: int) -> str:
        return f"{self._directory}/{segment_name(number)}"

    def _data(self, number: int) -> bytes:
        return self._disk.read_whole(self._path(number))

    def _numbers(self) -> list[int]:
        names = self._disk.list_directory(self._directory)
        numbers = sorted(number for name in names if (number := segment_number(name)) is not None)
        if not numbers:
            raise DamagedError(self._path(1), 0, "the directory has an identity but no log at all")
        for number, expected in zip(numbers, range(numbers[0], numbers[0] + len(numbers)), strict=True):
            if number != expected:  # segments are cut from the oldest on, each removal durable before the next
                raise DamagedError(self._path(expected), 0, f"the file is missing, yet {segment_name(number)} is there")
        return numbers

    def _first_header(self, number: int, data: bytes) -> Header:
        header = self._header(number, data)
        if header is None:
            raise DamagedError(self._path(number), 0, "the header of the first segment is not right")
        return header

    def _following_header(self, number: int, data: bytes, last: bool) -> Header | None:
        """None: prepared, never used (a header may be torn: it is synced before any record follows it)."""
        header = self._header(number, data)
        if header is None and not last:
            raise DamagedError(self._path(number), 0, "the header is not right, yet there is a later segment")
        if header is None and data.count(0, HEADER_BYTES) != len(data) - HEADER_BYTES:
            raise DamagedError(self._path(number), 0, "the header is not right, yet there are records behind it")
        return header

    def _header(self, number: int, data: bytes) -> Header | None:
        path = self._path(number)
        header = decode_header(data)
        if header is None:
            version = other_format(data)
            if version is not None:
                raise UnknownFormatError(path, 8, f"a log of format {version}, which this build does not read")
            return None
        if header.cell != self._cell or header.replica != self._replica:
            raise WrongDirectoryError(
                f"{path} belongs to replica {header.replica} of the cell with id {header.cell.hex()}, not to replica "
                f"{self._replica} of {self._cell.hex()}. Way out: put back the file that was here"
            )
        if header.number != number:
            raise DamagedError(path, 24, f"the file says that it is segment {header.number}")
        if header.size != len(data):
            raise DamagedError(path, min(header.size, len(data)), f"{len(data)} bytes where {header.size} should be")
        return header

    def _scan(self, header: Header, data: bytes, following: Header | None, state: LogState) -> tuple[Tail, int]:
        """Take in the records of one segment; `following` is the header of the next, if that is in use."""
        place = header.place
        offset = unsure = last = HEADER_BLOCK_BYTES
        crc = place.seed
        slot_max = 0
        while following is None or offset < following.end_before:
            try:
                found = record_format.decode(data, offset, place)
            except record_format.UnreadableBodyError as error:
                raise UnknownFormatError(self._path(header.number), offset, str(error)) from None
            if found is None and following is not None and self._ends(header, following, offset, crc):
                offset, crc = following.end_before, following.crc_before
                break
            if found is None or found.previous != crc:
                # A right record that does not follow its neighbour accuses the neighbour.
                self._judge(header, data, offset if found is None else last, offset, following)
                break
            state.apply(found.record)
            if isinstance(found.record, AcceptedRecord):
                slot_max = max(slot_max, found.record.slot)
            last, offset, crc, unsure = offset, found.end, found.crc, found.synced
        if following is not None and (offset, crc) != (following.end_before, following.crc_before):
            reason = f"it does not end as {segment_name(following.number)} says"
            raise DamagedError(self._path(header.number), offset, reason)
        return Tail(header, offset, crc, unsure, data[unsure:offset]), slot_max

    def _ends(self, header: Header, following: Header, offset: int, crc: int) -> bool:
        """True when nothing is missing at `offset` but the record that says that the log goes on in `following`."""
        data, last = record_format.encode_goes_on(header.place, offset, crc)
        if (offset + len(data), last) != (following.end_before, following.crc_before):
            return False
        self._unmarked = (header.number, offset, data)
        return True

    def _judge(self, header: Header, data: bytes, suspect: int, offset: int, following: Header | None) -> None:
        """Return if the log may end at `offset`; refuse if what stood at `suspect` was durable once."""
        path = self._path(header.number)
        if following is not None:
            reason = f"a record is not right, yet {segment_name(following.number)} was begun"
            raise DamagedError(path, suspect, reason)
        try:
            synced = record_format.synced_beyond(data, offset, header.place)
        except record_format.UnreadableBodyError as error:
            raise UnknownFormatError(path, offset, str(error)) from None
        if synced > suspect:
            reason = f"a record is not right, yet a later one says that the log was durable up to byte {synced}"
            raise DamagedError(path, suspect, reason)
