"""Every call of the operating system that storage makes, as one protocol, and the real thing behind it.

The twin for tests and simulation is `coordd.testing.memory_disk.MemoryDisk`. Paths are text, open files are integers
of the disk's own. Calls do the whole of what they say or raise OSError; none retries a failed sync.
What is promised about durability is POSIX's minimum and no more: bytes are durable after `fdatasync`, names after
`sync_directory`, a rename is seen whole or not at all.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sys
from typing import ClassVar, Protocol

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600


class Disk(Protocol):
    """What storage needs of an operating system."""

    def make_directory(self, path: str) -> None:
        """Make `path` and its parents where missing, durably."""
        ...

    def list_directory(self, path: str) -> list[str]:
        """The names in it, sorted."""
        ...

    def sync_directory(self, path: str) -> None:
        """Names made, renamed and removed in `path` are durable afterwards."""
        ...

    def open(self, path: str, create: bool = False) -> int:
        """Open for reading and writing; `create` makes an empty file and refuses one that exists."""
        ...

    def close(self, file: int) -> None:
        """Forget an open file. Writes and syncs nothing."""
        ...

    def size(self, file: int) -> int:
        """Bytes in the file."""
        ...

    def allocate(self, file: int, size: int) -> None:
        """Reserve room for `size` bytes, or ENOSPC. Says nothing about what is read there before it is written."""
        ...

    def pwrite(self, file: int, data: bytes | memoryview, offset: int) -> None:
        """Write all of `data` at `offset`."""
        ...

    def pread(self, file: int, length: int, offset: int) -> bytes:
        """Up to `length` bytes from `offset`; fewer only at the end of the file."""
        ...

    def fdatasync(self, file: int) -> None:
        """All bytes written to this file, and its size, are durable afterwards."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, replacing what had it."""
        ...

    def unlink(self, path: str) -> None:
        """Remove a name."""
        ...

    def lock(self, path: str) -> int:
        """Take the exclusive lock that the file `path` (made where missing) stands for; BlockingIOError if it is taken.

        It is held until `unlock` or the end of the process, and is not inherited by a fork.
        """
        ...

    def unlock(self, lock: int) -> None:
        """Give back what `lock` returned."""
        ...

    def nonce(self) -> bytes:
        """8 bytes that nobody can foretell, so that no client can make bytes that pass for a record."""
        ...


class RealDisk:
    """The operating system's files, in the calling thread."""

    # POSIX record locks are the process's: a second open in the same process would be given the lock, and closing any
    # descriptor of the file would drop it. So the process remembers what it holds.
    _held: ClassVar[dict[tuple[int, int], int]] = {}

    def make_directory(self, path: str) -> None:
        missing = []
        while not os.path.isdir(path):
            missing.append(path)
            path = os.path.dirname(path) or "."
        for new in reversed(missing):
            os.mkdir(new, DIRECTORY_MODE)
            self.sync_directory(os.path.dirname(new) or ".")

    def list_directory(self, path: str) -> list[str]:
        return sorted(os.listdir(path))

    def sync_directory(self, path: str) -> None:
        file = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _sync(file)
        finally:
            os.close(file)

    def open(self, path: str, create: bool = False) -> int:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if create else 0)
        return os.open(path, flags, FILE_MODE)

    def close(self, file: int) -> None:
        os.close(file)

    def size(self, file: int) -> int:
        return os.fstat(file).st_size

    def allocate(self, file: int, size: int) -> None:
        if sys.platform == "linux":  # pragma: no branch - elsewhere the zeros that are written reserve the room
            try:
                os.posix_fallocate(file, 0, size)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # a file system that cannot reserve
                    raise

    def pwrite(self, file: int, data: bytes | memoryview, offset: int) -> None:
        written = os.pwrite(file, data, offset)
        if written == len(data):
            return
        rest = memoryview(data)[written:]
        while len(rest):
            offset += written
            written = os.pwrite(file, rest, offset)
            rest = rest[written:]

    def pread(self, file: int, length: int, offset: int) -> bytes:
        pieces = []
        while length:
            piece = os.pread(file, length, offset)
            if not piece:
                break
            pieces.append(piece)
            offset += len(piece)
            length -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def fdatasync(self, file: int) -> None:
        _sync(file)

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def lock(self, path: str) -> int:
        """The file holds the process id, for people."""
        if os.path.exists(path):
            status = os.stat(path)
            if (status.st_dev, status.st_ino) in self._held:
                raise BlockingIOError(errno.EAGAIN, "this process has it", path)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            holder = os.pread(file, 32, 0).decode("ascii", "replace").strip()
            os.close(file)
            raise BlockingIOError(errno.EAGAIN, f"process {holder or 'unknown'} has it", path) from None
        except OSError:
            os.close(file)
            raise
        status = os.fstat(file)
        self._held[(status.st_dev, status.st_ino)] = file
        with contextlib.suppress(OSError):  # no room for it: it is for people only
            os.ftruncate(file, 0)
            os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        return file

    def unlock(self, lock: int) -> None:
        for key in [key for key, file in self._held.items() if file == lock]:
            del self._held[key]
        os.close(lock)

    def nonce(self) -> bytes:
        return os.urandom(8)


def _sync(file: int) -> None:
    if sys.platform == "darwin":  # pragma: no cover - another system: fsync there stops at the drive's cache
        fcntl.fcntl(file, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(file)
