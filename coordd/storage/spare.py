"""Prepares the next segment before the current one is full: zeros, synced, under its name, its directory synced.

The work is done in pieces between appends, so that no single one waits for a whole segment. Until it is whole the file
has a temporary name, so a segment's name always stands for a file that was durable in full.
"""

from __future__ import annotations

from coordd.storage.checked import CheckedDisk, File
from coordd.storage.errors import DiskFullError

_ZEROS = bytes(256 * 1024)
_SYNC_BYTES = 1024 * 1024  # what one sync inside the preparation may have to write


def write_zeros(file: File, start: int, end: int) -> None:
    """Zeros over `[start, end)`."""
    while start < end:
        size = min(len(_ZEROS), end - start)
        file.write(memoryview(_ZEROS)[:size], start)
        start += size


class Spare:
    """One segment in preparation: `advance` until `ready`, then `take` the file."""

    def __init__(self, disk: CheckedDisk, directory: str, path: str, size: int) -> None:
        self.size = size
        self.path = path
        self.ready = False
        self._disk = disk
        self._directory = directory
        self._temporary = path + ".tmp"
        self._done = 0
        self._synced = 0
        self._file = disk.create(self._temporary)
        try:
            self._file.allocate(size)
        except DiskFullError:
            self._abandon()
            raise

    @classmethod
    def found(cls, disk: CheckedDisk, directory: str, path: str) -> Spare:
        """The prepared segment that a start found; a torn header in it is nobody's and will be written over."""
        self = cls.__new__(cls)
        self.path, self.ready = path, True
        self._disk, self._directory = disk, directory
        self._file = disk.open(path)
        self.size = self._file.size()
        return self

    def advance(self, size: int) -> None:
        """Prepare about `size` bytes more; on `DiskFullError` nothing is left of it."""
        assert not self.ready
        try:
            end = min(self.size, self._done + size)
            write_zeros(self._file, self._done, end)
        except DiskFullError:
            self._abandon()
            raise
        self._done = end
        if self._done == self.size or self._done - self._synced >= _SYNC_BYTES:
            self._file.sync()
            self._synced = self._done
        if self._done == self.size:
            self._publish()

    def finish(self) -> None:
        """Prepare all that is left."""
        while not self.ready:
            self.advance(_SYNC_BYTES)

    def take(self) -> File:
        """The file, for use as the next segment."""
        assert self.ready
        return self._file

    def discard(self) -> None:
        """Give up an unfinished one and its room."""
        assert not self.ready
        self._abandon()

    def close(self) -> None:
        """Let go of the file; what is unfinished is removed by the next start."""
        self._file.close()

    def _publish(self) -> None:
        try:
            self._disk.rename(self._temporary, self.path)  # over a smaller spare, if there was one
        except DiskFullError:
            self._abandon()
            raise
        self._disk.sync_directory(self._directory)
        self.ready = True

    def _abandon(self) -> None:
        self._file.close()
        self._disk.unlink(self._temporary)
