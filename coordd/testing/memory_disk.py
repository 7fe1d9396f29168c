"""The disk's deterministic twin: same calls, in memory, with every way to lose what was not synced.

- *Synced or not*: each file has the bytes that a reader sees and the bytes that are durable, in sectors of 512. Between
  two syncs a sector may reach the medium in any version it had (`crash`), whatever becomes of its neighbours.
- *Names* made, renamed and removed are durable after `sync_directory`; before, any of these changes may be lost,
  a rename as a whole.
- *A failed sync* leaves all pages readable and called clean, some of them not durable: a later sync does not write
  them.
- *Faults*: `fail_at(n)` (the n-th call from now, or several from it on), `fail_next_sync`, `cut_at(n)` (power cut in
  the middle of the n-th call from now), `capacity` (a full disk), `flip` (rot). A call that fails may have done a part
  of its work, as on a real disk.

Nothing is random but what the generator passed to `crash` decides; `nonce` counts.
"""

from __future__ import annotations

import errno
import os
import random
from dataclasses import dataclass, field

SECTOR_BYTES = 512


class PowerCutError(Exception):
    """The power went in the middle of a call: call `crash` and start anew."""


@dataclass(slots=True, eq=False)
class _File:
    """One file. `versions`: for each sector written since the last sync, what it held after each write."""

    seen: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    versions: dict[int, list[bytes]] = field(default_factory=dict)

    def write(self, data: bytes | memoryview, offset: int) -> None:
        end = offset + len(data)
        if len(self.seen) < end:
            self.seen.extend(bytes(end - len(self.seen)))
        self.seen[offset:end] = data
        for sector in range(offset // SECTOR_BYTES, -(-end // SECTOR_BYTES)):
            at = sector * SECTOR_BYTES
            self.versions.setdefault(sector, []).append(bytes(self.seen[at : at + SECTOR_BYTES]))

    def sync(self) -> None:
        for sector in self.versions:
            at = sector * SECTOR_BYTES
            self._settle(at, bytes(self.seen[at : at + SECTOR_BYTES]))
        self.durable.extend(bytes(len(self.seen) - len(self.durable)))
        self.versions.clear()

    def forget(self, first: int) -> None:
        """A sync failed: all pages are clean now, and only every other one, from the `first`-th on, was written."""
        for sector in sorted(self.versions)[first::2]:
            self._settle(sector * SECTOR_BYTES, self.versions[sector][-1])
        self.versions.clear()

    def lose(self, rng: random.Random, keep: float) -> None:
        """The power goes: each unsynced sector is durable in some version it had, or not at all."""
        for sector, versions in sorted(self.versions.items()):
            if rng.random() < keep:
                self._settle(sector * SECTOR_BYTES, rng.choice(versions))
        self.versions.clear()
        self.seen = bytearray(self.durable)

    def _settle(self, at: int, data: bytes) -> None:
        if len(self.durable) < at + len(data):
            self.durable.extend(bytes(at + len(data) - len(self.durable)))
        self.durable[at : at + len(data)] = data


@dataclass(frozen=True, slots=True)
class _Change:
    """One change of names: `removed` goes, `made` stands for `file`. A rename is both at once."""

    removed: str | None
    made: str | None
    file: _File | None


class MemoryDisk:
    """A `coordd.storage.disk.Disk`. `calls` counts the calls that could fail; `last_call` names the latest."""

    def __init__(self, capacity: int | None = None) -> None:
        self.capacity = capacity
        self.calls = 0
        self.last_call = ""
        self._names: dict[str, _File] = {}
        self._durable_names: dict[str, _File] = {}
        self._changes: list[_Change] = []
        self._handles: dict[int, _File] = {}
        self._locks: dict[int, str] = {}
        self._next_handle = 3
        self._nonces = 0
        self._fail_at = range(0)
        self._fail_with = errno.EIO
        self._cut_at: int | None = None
        self._fail_sync = False

    # ---- faults ----

    def fail_at(self, call: int | None, error: int = errno.EIO, times: int = 1) -> None:
        """The `call`-th call from now (1: the next) raises, and so do the `times` - 1 behind it; None: no call does."""
        self._fail_at = range(0) if call is None else range(self.calls + call, self.calls + call + times)
        self._fail_with = error

    def cut_at(self, call: int | None) -> None:
        """In the middle of the `call`-th call from now the power goes (`PowerCutError`); None: it stays."""
        self._cut_at = None if call is None else self.calls + call

    def fail_next_sync(self) -> None:
        """The next sync of a file's bytes fails, whenever it comes."""
        self._fail_sync = True

    @property
    def used(self) -> int:
        """Bytes in all files; set `capacity` to this, and the disk is full."""
        return sum(len(file.seen) for file in self._names.values())

    def crash(self, rng: random.Random, keep: float = 0.5) -> None:
        """The power went: what was not synced is lost in arbitrary parts; `keep` is the chance of each part to stay."""
        for change in self._changes:
            if rng.random() < keep:
                _apply(self._durable_names, change)
        self._names = dict(self._durable_names)
        self._changes.clear()
        for _, file in sorted(self._names.items()):
            file.lose(rng, keep)
        self.kill()

    def kill(self) -> None:
        """The process died (kill -9): open files and locks are gone, the page cache stays."""
        self._handles.clear()
        self._locks.clear()
        self._fail_at = range(0)
        self._cut_at = None
        self._fail_sync = False

    def flip(self, path: str, offset: int, mask: int) -> None:
        """Rot: these bits of one byte are inverted, on the medium and for every reader."""
        file = self._names[path]
        file.seen[offset] ^= mask
        if offset < len(file.durable):
            file.durable[offset] ^= mask

    def contents(self, path: str) -> bytes:
        """What a reader of the file sees."""
        return bytes(self._names[path].seen)

    def replace(self, path: str, data: bytes) -> None:
        """Put other durable bytes in the file's place, as an operator or a lost medium might."""
        self._names[path] = self._durable_names[path] = _File(bytearray(data), bytearray(data))

    def remove(self, path: str) -> None:
        """Take the file away, durably."""
        del self._names[path]
        self._durable_names.pop(path, None)

    def copy(self) -> MemoryDisk:
        """Another disk of the same contents, durable and not; nothing is open there."""
        twin = MemoryDisk(self.capacity)
        files: dict[_File, _File] = {}
        for file in [*self._names.values(), *self._durable_names.values(), *(c.file for c in self._changes if c.file)]:
            if file not in files:
                versions = {sector: list(held) for sector, held in file.versions.items()}
                files[file] = _File(bytearray(file.seen), bytearray(file.durable), versions)
        twin._names = {name: files[file] for name, file in self._names.items()}
        twin._durable_names = {name: files[file] for name, file in self._durable_names.items()}
        twin._changes = [_Change(c.removed, c.made, files[c.file] if c.file else None) for c in self._changes]
        twin._nonces = self._nonces
        return twin

    def _call(self, what: str, path: str) -> bool:
        """Count a call; True when the power goes in the middle of it."""
        self.calls += 1
        self.last_call = f"{what} {path}"
        if self.calls in self._fail_at:
            raise OSError(self._fail_with, os.strerror(self._fail_with), path)
        return self.calls == self._cut_at

    def _cut(self) -> None:
        raise PowerCutError(f"in the middle of call {self.calls}: {self.last_call}")

    def _file(self, handle: int) -> _File:
        if handle not in self._handles:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._handles[handle]

    def _need_room(self, file: _File, size: int) -> None:
        if self.capacity is None:
            return
        others = {id(held): len(held.seen) for held in [*self._names.values(), *self._handles.values()]}
        others.pop(id(file), None)
        if sum(others.values()) + max(size, len(file.seen)) > self.capacity:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    # ---- the calls of Disk ----

    def make_directory(self, path: str) -> None:
        """Directories are not modelled: all of them are there."""
        if self._call("make directory", path):
            self._cut()

    def list_directory(self, path: str) -> list[str]:
        if self._call("list", path):
            self._cut()
        prefix = path + "/"
        return sorted(name[len(prefix) :] for name in self._names if name.startswith(prefix))

    def sync_directory(self, path: str) -> None:
        prefix = path + "/"
        if self._call("sync directory", path):
            self._cut()
        kept = []
        for change in self._changes:
            if (change.made or change.removed or "").startswith(prefix):
                _apply(self._durable_names, change)
            else:
                kept.append(change)
        self._changes = kept

    def open(self, path: str, create: bool = False) -> int:
        cut = self._call("create" if create else "open", path)
        if create:
            if path in self._names:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
            self._change(_Change(None, path, _File()))
        if path not in self._names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        if cut:
            self._cut()
        self._next_handle += 1
        self._handles[self._next_handle] = self._names[path]
        return self._next_handle

    def close(self, file: int) -> None:
        self._file(file)
        del self._handles[file]

    def size(self, file: int) -> int:
        return len(self._file(file).seen)

    def allocate(self, file: int, size: int) -> None:
        if self._call("allocate", str(file)):
            self._cut()
        held = self._file(file)
        self._need_room(held, size)
        held.seen.extend(bytes(max(0, size - len(held.seen))))

    def pwrite(self, file: int, data: bytes | memoryview, offset: int) -> None:
        """A write that fails, or that the power cuts, has done its first half."""
        held = self._file(file)
        half = len(data) // 2
        try:
            cut = self._call("write", f"{len(data)} bytes at {offset}")
        except OSError:
            held.write(data[:half], offset)
            raise
        self._need_room(held, offset + len(data))
        if cut:
            held.write(data[:half], offset)
            self._cut()
        held.write(data, offset)

    def pread(self, file: int, length: int, offset: int) -> bytes:
        if self._call("read", f"{length} bytes at {offset}"):
            self._cut()
        return bytes(self._file(file).seen[offset : offset + length])

    def fdatasync(self, file: int) -> None:
        """One that fails leaves the pages clean and not durable."""
        held = self._file(file)
        try:
            if self._call("sync", str(file)):
                self._cut()
            if self._fail_sync:
                self._fail_sync = False
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        except OSError:
            held.forget(self.calls % 2)
            raise
        held.sync()

    def rename(self, old: str, new: str) -> None:
        cut = self._call("rename", old)
        if old not in self._names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), old)
        self._change(_Change(old, new, self._names[old]))
        if cut:
            self._cut()

    def unlink(self, path: str) -> None:
        cut = self._call("remove", path)
        if path not in self._names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        self._change(_Change(path, None, None))
        if cut:
            self._cut()

    def lock(self, path: str) -> int:
        if path in self._locks.values():
            raise BlockingIOError(errno.EAGAIN, "another process has it", path)
        if path not in self._names:
            self._change(_Change(None, path, _File()))
        self._next_handle += 1
        self._locks[self._next_handle] = path
        return self._next_handle

    def unlock(self, lock: int) -> None:
        self._locks.pop(lock, None)

    def nonce(self) -> bytes:
        """Counts: the twin has no chance of its own."""
        self._nonces += 1
        return self._nonces.to_bytes(8, "big")

    def _change(self, change: _Change) -> None:
        _apply(self._names, change)
        self._changes.append(change)


def _apply(names: dict[str, _File], change: _Change) -> None:
    if change.removed is not None:
        names.pop(change.removed, None)
    if change.made is not None and change.file is not None:
        names[change.made] = change.file
