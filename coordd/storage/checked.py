"""The disk as storage uses it: named errors, and fail-stop.

Whatever fails for another reason than lack of room makes the disk unusable for good: every later call raises the
same error, so no code path can go on after a failed sync, not even by mistake. After a failed sync the kernel may hold
pages that it calls clean and that the medium never saw, hence only a start that writes them anew may speak again.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TypeVar

from coordd.storage.disk import Disk
from coordd.storage.errors import DiskFailedError, DiskFullError, SyncFailedError

T = TypeVar("T")
TEMPORARY = ".tmp"  # how the names of unfinished files end

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_NEEDS_ROOM = ("make", "create", "reserve room for", "write", "rename", "remove")  # the last on some file systems only
WAY_OUT = (
    "see the kernel's log; replace the medium if it fails, then start again: the start reads and rewrites what is not "
    "surely durable, and refuses what is damaged"
)

_NO_DIRECTORY = "name a directory; there is a file of that name"
_PERMISSION = "let the daemon's user own the data directory and all in it, mode 0700"
_NOT_THE_MEDIUM = {
    errno.EACCES: _PERMISSION,
    errno.EPERM: _PERMISSION,
    errno.EROFS: "mount the file system for writing; if it was, see the kernel's log for why it is not any more",
    errno.ENOTDIR: _NO_DIRECTORY,
    errno.EEXIST: _NO_DIRECTORY,
    errno.EISDIR: "move that directory away; a data directory is the daemon's alone",
    errno.ENOENT: "see who removed it; a data directory is the daemon's alone",
    errno.EMFILE: "raise the limit of open files (LimitNOFILE)",
}


class CheckedDisk:
    """A `Disk` whose errors are `StorageError`s. `failed` is the first fatal one."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.failed: DiskFailedError | None = None
        self._open: dict[int, File] = {}

    def check(self) -> None:
        """Raise if a call failed before."""
        if self.failed is not None:
            raise self.failed

    def call(self, what: str, path: str, function: Callable[[], T]) -> T:
        """`function()`, its OSError translated."""
        self.check()
        try:
            return function()
        except OSError as error:
            raise self.failure(what, path, error) from error

    def failure(self, what: str, path: str, error: OSError) -> DiskFullError | DiskFailedError:
        """The named error for `error`; fatal ones are remembered."""
        if error.errno in _NO_ROOM and what in _NEEDS_ROOM:
            return DiskFullError(f"cannot {what} {path}: {error.strerror}. Way out: make room in that file system")
        way_out = _NOT_THE_MEDIUM.get(error.errno or 0, WAY_OUT)
        message = f"cannot {what} {path}: {error.strerror or error}. Way out: {way_out}"
        return self.fail(message, SyncFailedError if what == "sync" else DiskFailedError)

    def fail(self, message: str, kind: type[DiskFailedError] = DiskFailedError) -> DiskFailedError:
        """Nothing more is to be written; the error to raise."""
        self.failed = kind(message)
        return self.failed

    def make_directory(self, path: str) -> None:
        self.call("make", path, lambda: self.disk.make_directory(path))

    def list_directory(self, path: str) -> list[str]:
        return self.call("list", path, lambda: self.disk.list_directory(path))

    def sync_directory(self, path: str) -> None:
        self.call("sync", path, lambda: self.disk.sync_directory(path))

    def rename(self, old: str, new: str) -> None:
        self.call("rename", old, lambda: self.disk.rename(old, new))

    def unlink(self, path: str) -> None:
        self.call("remove", path, lambda: self.disk.unlink(path))

    def open(self, path: str) -> File:
        """The file `path`, which is there."""
        return self._opened(path, self.call("open", path, lambda: self.disk.open(path)))

    def create(self, path: str) -> File:
        """A new file under a temporary name. One that is left there goes: removing it at the time may have failed."""
        assert path.endswith(TEMPORARY)
        self.check()
        try:
            handle = self.disk.open(path, create=True)
        except FileExistsError:
            self.unlink(path)
            handle = self.call("create", path, lambda: self.disk.open(path, create=True))
        except OSError as error:
            raise self.failure("create", path, error) from error
        return self._opened(path, handle)

    def _opened(self, path: str, handle: int) -> File:
        file = self._open[handle] = File(self, path, handle)
        return file

    def close(self, handle: int) -> None:
        """Forget an open file. Never raises: what had to be durable was synced before."""
        del self._open[handle]
        try:
            self.disk.close(handle)
        except OSError as error:
            self.failure("close", str(handle), error)

    def close_all(self) -> None:
        """Forget all of them."""
        for handle in list(self._open):
            self.close(handle)

    def read_whole(self, path: str) -> bytes:
        """All bytes of the file `path`."""
        file = self.open(path)
        try:
            return file.read(file.size(), 0)
        finally:
            file.close()


class File:
    """One open file of a `CheckedDisk`."""

    def __init__(self, disk: CheckedDisk, path: str, handle: int) -> None:
        self.path = path
        self._checked = disk
        self._disk = disk.disk
        self._handle = handle

    def write(self, data: bytes | memoryview, offset: int) -> None:
        """All of `data` at `offset`."""
        self._checked.check()
        try:
            self._disk.pwrite(self._handle, data, offset)
        except OSError as error:
            raise self._checked.failure("write", self.path, error) from error

    def sync(self) -> None:
        """What was written is durable afterwards."""
        self._checked.check()
        try:
            self._disk.fdatasync(self._handle)
        except OSError as error:
            raise self._checked.failure("sync", self.path, error) from error

    def read(self, length: int, offset: int) -> bytes:
        """Up to `length` bytes; fewer only at the end."""
        return self._checked.call(
            f"read byte {offset} of", self.path, lambda: self._disk.pread(self._handle, length, offset)
        )

    def size(self) -> int:
        """Bytes in the file."""
        return self._checked.call("look at", self.path, lambda: self._disk.size(self._handle))

    def allocate(self, size: int) -> None:
        """Reserve room, or `DiskFullError`."""
        self._checked.call("reserve room for", self.path, lambda: self._disk.allocate(self._handle, size))

    def close(self) -> None:
        """Forget the file; see `CheckedDisk.close`. Its number may be another file's from now on."""
        handle, self._handle = self._handle, -1
        self._checked.close(handle)
