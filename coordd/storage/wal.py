"""The log: append, sync, roll to the next segment, cut. Layouts: `record` and `segment`; start: `recovery`.

- `append` writes a batch with one write and syncs nothing; `sync` makes all that is written durable with one sync.
- A batch stands in one segment. One that is larger than a segment gets a segment of its size.
- Rolling makes all of the old segment durable, then the new header, then a last record of the old one that says that
  the log goes on, and only then goes on; so at most one segment has unsynced records, and "synced up to" is an offset
  in the record's own segment.
- `DiskFullError` from `append` means that nothing of the batch is in the log.
- A cut removes whole segments from the oldest on, each durably before the next, and never the one in use.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from coordd.paxos.ballot import CHOSEN, Ballot
from coordd.paxos.effects import AcceptedRecord, PeersRecord, PromiseRecord
from coordd.storage import record as record_format
from coordd.storage.checked import CheckedDisk, File
from coordd.storage.errors import DiskFullError
from coordd.storage.record import GOES_ON_BYTES, LogRecord, StartRecord
from coordd.storage.recovery import RecoveredLog, Segment
from coordd.storage.segment import HEADER_BLOCK_BYTES, SEGMENT_BYTES_MAX, Header, segment_name
from coordd.storage.spare import Spare, write_zeros

SEGMENT_BYTES_DEFAULT = 16 * 1024 * 1024
SEGMENT_BYTES_MIN = 4096
_PIECE_BYTES = 128 * 1024  # of the spare, prepared along with one append


class Wal:
    """The open log of one replica. `full`: the next segment could not be prepared at the last attempt."""

    def __init__(
        self, disk: CheckedDisk, directory: str, header: Header, file: File, segments: list[Segment], segment_bytes: int
    ) -> None:
        assert SEGMENT_BYTES_MIN <= segment_bytes <= SEGMENT_BYTES_MAX
        self.full = False
        self.promised = header.promised
        self.start = header.start
        self.slot_max = header.slots_before
        self.peers = header.peers or ()
        self._disk = disk
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._segments = segments
        self._spare: Spare | None = None
        self._spare_after = 0  # not before the log has grown to here; spaces the attempts out on a full disk
        self._marks: deque[tuple[int, int]] = deque()  # (highest slot, bytes) at some moments, to know what is cut
        self._bytes = 0
        self._bytes_cut = 0
        self._use(header, file)

    def _use(self, header: Header, file: File) -> None:
        self._header = header
        self._place = header.place
        self._file = file
        self._size = header.size
        self._end = self._synced = HEADER_BLOCK_BYTES
        self._crc = self._place.seed
        self._spare_after = header.size // 2

    # ---- making and reopening ----

    @classmethod
    def create(cls, disk: CheckedDisk, directory: str, cell: bytes, replica: int, segment_bytes: int) -> None:
        """Make the first segment: it appears whole or not at all."""
        nonce = disk.disk.nonce()
        header = Header(cell, replica, 1, segment_bytes, nonce, Ballot(0, 0), 0, 0, 0, 0)
        path = f"{directory}/{segment_name(1)}"
        file = disk.create(path + ".tmp")
        try:
            file.allocate(segment_bytes)
            write_zeros(file, 0, segment_bytes)
            file.write(header.encode(), 0)
            file.sync()
        finally:
            file.close()
        disk.rename(path + ".tmp", path)
        disk.sync_directory(directory)

    @classmethod
    def resume(cls, disk: CheckedDisk, directory: str, log: RecoveredLog, segment_bytes: int) -> Wal:
        """Go on behind what `recovery` read.

        The last group is written anew, the rest zeroed, both synced: after a kill these bytes may be in the page cache
        only, and after a failed sync the kernel may call pages clean that never reached the medium.
        """
        tail = log.tail
        header = tail.header
        file = disk.open(f"{directory}/{segment_name(header.number)}")
        if tail.end == HEADER_BLOCK_BYTES:
            file.write(header.encode(), 0)
        file.write(tail.unsure_bytes, tail.unsure)
        write_zeros(file, tail.end, header.size)
        file.sync()
        if log.unmarked is not None:  # only now is the header durable that it speaks of
            cls._mark(disk, directory, *log.unmarked)
        self = cls(disk, directory, header, file, log.segments, segment_bytes)
        self._end = self._synced = tail.end
        self._crc = tail.crc
        self.promised, self.start, self.slot_max = log.state.promised, log.state.start, log.state.slot_max
        self.peers = log.state.peers
        if log.spare is not None:
            self._spare = Spare.found(disk, directory, f"{directory}/{segment_name(log.spare)}")
        return self

    @staticmethod
    def _mark(disk: CheckedDisk, directory: str, segment: int, offset: int, data: bytes) -> None:
        file = disk.open(f"{directory}/{segment_name(segment)}")
        try:
            file.write(data, offset)
            file.sync()
        finally:
            file.close()

    # ---- writing ----

    def append(self, records: Sequence[LogRecord]) -> None:
        """Write `records`, all or none of them; durable only after `sync`."""
        self._disk.check()
        if not records:
            return
        data, crc = record_format.encode_batch(records, self._place, self._end, self._synced, self._crc)
        if self._end + len(data) + GOES_ON_BYTES > self._size:
            self._roll(len(data))
            data, crc = record_format.encode_batch(records, self._place, self._end, self._synced, self._crc)
        try:
            self._file.write(data, self._end)
        except DiskFullError:
            self._unwrite(len(data))
            raise
        self._end += len(data)
        self._crc = crc
        self._bytes += len(data)
        self._note(records)
        if self._end > self._spare_after:
            self._prepare(max(_PIECE_BYTES, 2 * len(data)))

    def sync(self) -> None:
        """All that was appended is durable afterwards."""
        self._disk.check()
        if self._synced < self._end:
            end = self._end
            self._file.sync()
            self._synced = end

    def _note(self, records: Sequence[LogRecord]) -> None:
        segment = self._segments[-1]
        for record in records:
            if isinstance(record, AcceptedRecord):
                if record.ballot > self.promised and record.ballot != CHOSEN:
                    self.promised = record.ballot
                if record.slot > segment.slot_max:
                    segment.slot_max = record.slot
            elif isinstance(record, PromiseRecord):
                self.promised = max(self.promised, record.ballot)
            elif isinstance(record, StartRecord):
                self.start = max(self.start, record.start)
            elif isinstance(record, PeersRecord):
                self.peers = record.peers
        self.slot_max = max(self.slot_max, segment.slot_max)
        if not self._marks or self._bytes - self._marks[-1][1] >= self._segment_bytes // 64:
            self._marks.append((self.slot_max, self._bytes))

    def _unwrite(self, size: int) -> None:
        """A file system that copies on write may lack room even here: leave no half of the batch behind."""
        try:
            write_zeros(self._file, self._end, self._end + size)
        except DiskFullError as error:
            # The remains are no record that anybody was told of, but only a start can surely go on behind them.
            raise self._disk.fail(f"{error}; a batch is half written. Way out: make room, start again") from error

    # ---- the next segment ----

    def _prepare(self, size: int) -> None:
        """A piece of the next segment; lack of room is no error before the segment is needed."""
        try:
            if self._spare is None:
                self._spare = self._new_spare(self._segment_bytes)
            if not self._spare.ready:
                self._spare.advance(size)
            self.full = False
        except DiskFullError:
            self._spare = None
            self.full = True
            self._spare_after = self._end + self._size // 32
        if self._spare is not None and self._spare.ready:
            self._spare_after = self._size

    def _new_spare(self, size: int) -> Spare:
        path = f"{self._directory}/{segment_name(self._header.number + 1)}"
        return Spare(self._disk, self._directory, path, size)

    def _spare_for(self, need: int) -> Spare:
        """A prepared segment with room for a batch of `need` bytes, or `DiskFullError`."""
        size = max(self._segment_bytes, -(-(HEADER_BLOCK_BYTES + need + GOES_ON_BYTES) // 4096) * 4096)
        if size > SEGMENT_BYTES_MAX:
            raise ValueError(f"a batch of {need} bytes; a segment has at most {SEGMENT_BYTES_MAX}")
        try:
            if self._spare is None or self._spare.size < size:
                self._spare = self._larger_spare(size)
            self._spare.finish()
        except DiskFullError:
            if self._spare is not None and not self._spare.ready:
                self._spare = None
            self.full = True
            raise
        self.full = False
        return self._spare

    def _larger_spare(self, size: int) -> Spare:
        """A new one, in place of the present one once it is ready: a ready one is kept if there is no room."""
        old = self._spare
        if old is not None and not old.ready:
            self._spare = None
            old.discard()
        larger = self._new_spare(size)
        larger.finish()
        if old is not None and old.ready:
            old.close()
        return larger

    def _roll(self, need: int) -> None:
        spare = self._spare_for(need)
        self.sync()
        mark, crc = record_format.encode_goes_on(self._place, self._end, self._crc)
        if self._end + len(mark) > self._size:  # filled by a build that left no room for it
            mark, crc = b"", self._crc
        old = self._header
        header = Header(
            old.cell,
            old.replica,
            old.number + 1,
            spare.size,
            self._disk.disk.nonce(),
            self.promised,
            self.start,
            self.slot_max,
            self._end + len(mark),
            crc,
            self.peers,
        )
        file = spare.take()
        try:
            file.write(header.encode(), 0)
            file.sync()
            self._file.write(mark, self._end)
            self._file.sync()
        except DiskFullError as error:  # it may be there in full: nothing more may be written before it
            raise self._disk.fail(f"{error}, which was prepared. Way out: make room, start again") from error
        self._file.close()
        self._spare = None
        self._segments.append(Segment(header.number, header.size))
        self._use(header, file)

    # ---- cutting ----

    def cut(self, upto: int) -> None:
        """Remove the segments that hold nothing above slot `upto`; the caller has a durable snapshot of these."""
        self._disk.check()
        while len(self._segments) > 1 and self._segments[0].slot_max <= upto:
            try:
                self._disk.unlink(f"{self._directory}/{segment_name(self._segments[0].number)}")
            except DiskFullError:  # where removing needs room: the next cut tries again
                return
            self._disk.sync_directory(self._directory)
            del self._segments[0]

    def bytes_above(self, slot: int) -> int:
        """About how many bytes of records the log has for slots above `slot`; asked with rising slots."""
        while self._marks and self._marks[0][0] <= slot:
            self._bytes_cut = self._marks.popleft()[1]
        return 0 if slot >= self.slot_max else self._bytes - self._bytes_cut

    def count(self, size: int) -> None:
        """Count `size` bytes of records that a start found above the snapshot."""
        self._bytes += size
        self._marks.append((self.slot_max, self._bytes))
