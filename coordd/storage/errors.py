"""What storage refuses, by name. Nothing here is ever repaired by guessing.

- `DamagedError`: bytes that were durable are gone or changed. Exit; the message says file, offset and way out.
- `UnknownFormatError`: written in a format that this build does not read. Exit; run the build that wrote it.
- `WrongDirectoryError`: the directory is another cell's or replica's, or no data directory. Exit.
- `AlreadyRunningError`: another process has the directory. Exit.
- `DiskFullError`: no room, and nothing was half written. Hand over, vote no more, try again later.
- `DiskFailedError`: any other call failed. Exit.
- `SyncFailedError`, one of these: the page cache is not to be believed. Exit with a code that is not restarted.
- `SnapshotRefusedError`: a peer's snapshot is not whole or not ours; it was thrown away. Ask again.
"""

from __future__ import annotations

WAY_OUT = (
    "this replica counts as lost: keep the directory for inspection, remove the replica from the cell and add it again "
    "with an empty directory under a new replica id (a cell of one replica: restore a backup)"
)


class StorageError(Exception):
    """The root of all that storage raises on purpose."""


class DamagedError(StorageError):
    """Durable bytes are missing or changed; starting anyway could forget what was acknowledged."""

    def __init__(self, file: str, offset: int, reason: str, way_out: str = WAY_OUT) -> None:
        super().__init__(f"{file} is damaged at byte {offset}: {reason}. Way out: {way_out}")
        self.file = file
        self.offset = offset


class UnknownFormatError(StorageError):
    """A format version that this build does not know."""

    def __init__(self, file: str, offset: int, what: str) -> None:
        super().__init__(
            f"{file}, byte {offset}: {what}. Way out: run the build that wrote it; if this file was never written by "
            f"another build, it is damaged: {WAY_OUT}"
        )
        self.file = file
        self.offset = offset


class WrongDirectoryError(StorageError):
    """The directory belongs to somebody else, or is not a data directory."""


class AlreadyRunningError(StorageError):
    """Another process has the directory's lock."""


class DiskFullError(StorageError):
    """No room on the disk; what was asked for has not happened, not even in part."""


class DiskFailedError(StorageError):
    """A call to the disk failed; this store is not usable any more."""


class SyncFailedError(DiskFailedError):
    """A sync failed; nobody knows what is on the disk, and only a start from the disk itself may find out."""


class SnapshotRefusedError(StorageError):
    """An incoming snapshot did not verify and was removed."""
