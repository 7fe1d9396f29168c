"""Snapshot files, format 2: the state of the machine after one slot, and the membership then.

`snapshot-<slot, 20 digits>`; numbers little-endian; the same bytes at every replica:

| at | size | what |
|---|---|---|
| 0 | 8 | `coordsnp` |
| 8 | 4 | format version: 2 |
| 12 | 8 | cell id |
| 20 | 8 | slot: everything up to it is in the state |
| 28 | 4 | length of the membership |
| 32 | 8 | length of the state |
| 40 | | membership: msgpack `[version, [voters], [learners], lease_ms, highest id, [[id, address]], [founders]]` |
| | | the state |
| end - 16 | 16 | BLAKE2b-128 of all before it |

Format 1 has no founders in the membership.

A snapshot is written under a temporary name (with the start number, so that a writer left over from an earlier process
never meets a later one), synced, renamed, its directory synced; only then is the older one removed. Chunks of a peer's
snapshot are put together in the same way, and verified before the rename.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b

from coordclient.protocol import codec
from coordd.paxos.membership import Membership
from coordd.storage.checked import CheckedDisk, File
from coordd.storage.errors import DamagedError, DiskFullError, SnapshotRefusedError, UnknownFormatError

FORMAT = 2
MAGIC = b"coordsnp"
SNAPSHOT_BYTES_MAX = 4 * 1024**3
_HEAD = struct.Struct("<8sI8sQIQ")
_DIGEST_BYTES = 16
_PIECE_BYTES = 1024 * 1024
assert _HEAD.size == 40

CheckState = Callable[[bytes], str | None]  # why the machine could not read that state; None where it can


@dataclass(frozen=True, slots=True)
class StoredSnapshot:
    """What a snapshot file of `size` bytes holds."""

    slot: int
    size: int
    membership: Membership
    state: bytes


def encode_head(cell: bytes, slot: int, membership: Membership, state_size: int) -> bytes:
    """All that stands before the state."""
    wire = codec.encode(membership.to_wire())
    return _HEAD.pack(MAGIC, FORMAT, cell, slot, len(wire), state_size) + wire


def size_in_head(head: bytes, cell: bytes, slot: int) -> int | None:
    """The size of the file that begins with `head`, or None where that is not a snapshot of `cell` at `slot`."""
    if len(head) < _HEAD.size:
        return None
    magic, version, of_cell, at_slot, wire_size, state_size = _HEAD.unpack_from(head)
    if version not in (1, FORMAT) or (magic, of_cell, at_slot) != (MAGIC, cell, slot):
        return None
    return int(_HEAD.size + wire_size + state_size + _DIGEST_BYTES)


def decode_snapshot(data: bytes, cell: bytes, slot: int, path: str) -> StoredSnapshot:
    """The inverse; refuses bytes that are not a whole snapshot of `cell` at `slot`."""
    if len(data) < _HEAD.size + _DIGEST_BYTES:
        raise DamagedError(path, 0, f"{len(data)} bytes are no whole snapshot")
    view = memoryview(data)
    if blake2b(view[:-_DIGEST_BYTES], digest_size=_DIGEST_BYTES).digest() != data[-_DIGEST_BYTES:]:
        raise DamagedError(path, 0, f"the checksum is not that of the snapshot's {len(data)} bytes")
    magic, version, of_cell, at_slot, wire_size, _ = _HEAD.unpack_from(data)
    if magic == MAGIC and version not in (1, FORMAT):
        raise UnknownFormatError(path, 8, f"a snapshot of format {version}; this build reads format {FORMAT}")
    if size_in_head(data, cell, slot) != len(data):
        reason = f"it says that it is of slot {at_slot} of the cell with id {of_cell.hex()}, or has another size"
        raise DamagedError(path, 0, reason)
    start = _HEAD.size + wire_size
    try:
        membership = Membership.from_wire(codec.decode(data[_HEAD.size : start]))
    except (codec.Malformed, AssertionError, TypeError, ValueError) as error:
        why = str(error).partition("\n")[0] or type(error).__name__
        raise DamagedError(path, _HEAD.size, f"it names an impossible membership ({why})") from None
    return StoredSnapshot(slot, len(data), membership, data[start:-_DIGEST_BYTES])


def snapshot_name(slot: int) -> str:
    """The name of a snapshot's file."""
    return f"snapshot-{slot:020d}"


def snapshot_slot(name: str) -> int | None:
    """The inverse of `snapshot_name`; None for any other name."""
    digits = name.removeprefix("snapshot-")
    if name != digits and len(digits) == 20 and digits.isascii() and digits.isdigit():
        return int(digits)
    return None


@dataclass(slots=True)
class _Incoming:
    slot: int
    size: int
    received: int
    path: str
    file: File


class Snapshots:
    """The snapshot of one replica: at most one durable one (`slot` 0, `size` 0: none yet), and one arriving."""

    def __init__(
        self, disk: CheckedDisk, directory: str, cell: bytes, start: int, check_state: CheckState = lambda state: None
    ) -> None:
        self.slot = 0
        self.size = 0
        self._disk = disk
        self._directory = directory
        self._cell = cell
        self._start = start
        self._check_state = check_state
        self._incoming: _Incoming | None = None
        self._reading: File | None = None

    def load(self) -> StoredSnapshot | None:
        """The latest, verified, or a refusal; older ones, left over by a crash, are removed.

        The directory was synced before: the name of the latest is durable when the others go.
        """
        slots = [slot for name in self._disk.list_directory(self._directory) if (slot := snapshot_slot(name))]
        if not slots:
            return None
        path = self._path(max(slots))
        latest = decode_snapshot(self._disk.read_whole(path), self._cell, max(slots), path)
        reason = self._check_state(latest.state)
        if reason is not None:
            raise UnknownFormatError(path, latest.size - _DIGEST_BYTES - len(latest.state), f"the state: {reason}")
        self._adopt(latest.slot, latest.size)
        return latest

    # ---- own snapshots ----

    def write_temp(self, slot: int, membership: Membership, state: bytes) -> int:
        """Write the snapshot of `slot` under its temporary name and sync it; returns its size."""
        assert slot > 0
        path = self._temp(slot)
        head = encode_head(self._cell, slot, membership, len(state))
        digest = blake2b(head, digest_size=_DIGEST_BYTES)
        digest.update(state)
        file = self._disk.create(path)
        try:
            file.write(head, 0)
            view = memoryview(state)
            for at in range(0, len(state), _PIECE_BYTES):
                file.write(view[at : at + _PIECE_BYTES], len(head) + at)
            file.write(digest.digest(), len(head) + len(state))
            file.sync()
        except DiskFullError:
            self._disk.unlink(path)
            raise
        finally:
            file.close()
        return len(head) + len(state) + _DIGEST_BYTES

    def publish(self, slot: int) -> int | None:
        """Make what `write_temp` wrote the snapshot; returns its size, None when one as new is already here."""
        path = self._temp(slot)
        if slot <= self.slot:
            self._disk.unlink(path)
            return None
        file = self._disk.open(path)
        try:
            size = file.size()
            whole = size_in_head(file.read(_HEAD.size, 0), self._cell, slot) == size
            file.sync()  # whoever wrote it said so; this costs nothing and takes nobody's word
        finally:
            file.close()
        if not whole:
            raise DamagedError(path, 0, "the snapshot just written is not whole", "start again")
        self._rename(path, slot, size)
        return size

    def discard_temp(self, slot: int) -> None:
        """Remove what a failed writer left of the snapshot of `slot`; lacking room for that, the next writer does."""
        name = self._temp(slot).rpartition("/")[2]
        if name in self._disk.list_directory(self._directory):
            with contextlib.suppress(DiskFullError):
                self._disk.unlink(self._temp(slot))

    def read_chunk(self, slot: int, offset: int, limit: int) -> bytes | None:
        """Bytes of the snapshot of `slot`; None when it is gone or `offset` is not inside."""
        if slot != self.slot or slot == 0 or not 0 <= offset < self.size:
            return None
        if self._reading is None:
            self._reading = self._disk.open(self._path(slot))
        return self._reading.read(min(limit, self.size - offset), offset)

    # ---- a peer's snapshot ----

    def store_chunk(self, slot: int, size: int, offset: int, data: bytes) -> StoredSnapshot | None:
        """Put a chunk in its place; the snapshot when that made it whole, verified and durable.

        Chunks come in order; one that repeats what is there, or leaves a gap, changes nothing. A chunk of another
        snapshot than the one arriving begins anew, at offset 0.
        """
        if slot <= self.slot:
            return None
        if not _HEAD.size + _DIGEST_BYTES <= size <= SNAPSHOT_BYTES_MAX or offset < 0 or offset + len(data) > size:
            raise SnapshotRefusedError(f"{len(data)} bytes at {offset} of a snapshot of {size}: impossible")
        incoming = self._incoming
        if incoming is None or (incoming.slot, incoming.size) != (slot, size):
            if offset != 0:
                return None
            incoming = self._begin(slot, size)
        if not offset <= incoming.received < offset + len(data):
            return None
        try:
            incoming.file.write(memoryview(data)[incoming.received - offset :], incoming.received)
        except DiskFullError:
            self._drop_incoming()
            raise
        incoming.received = offset + len(data)
        return self._install(incoming) if incoming.received == size else None

    def _begin(self, slot: int, size: int) -> _Incoming:
        self._drop_incoming()
        path = f"{self._directory}/incoming-{slot:020d}.{self._start}.tmp"
        file = self._disk.create(path)
        self._incoming = _Incoming(slot, size, 0, path, file)
        return self._incoming

    def _drop_incoming(self) -> None:
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            incoming.file.close()
            with contextlib.suppress(DiskFullError):  # the next one to arrive, or the next start, removes it
                self._disk.unlink(incoming.path)

    def _install(self, incoming: _Incoming) -> StoredSnapshot:
        try:
            stored = decode_snapshot(incoming.file.read(incoming.size, 0), self._cell, incoming.slot, incoming.path)
            reason = self._check_state(stored.state)
        except (DamagedError, UnknownFormatError) as error:
            reason = str(error)
        if reason is not None:  # the one that is here, if any, stays: a state that nobody here can read is worth less
            self._drop_incoming()
            raise SnapshotRefusedError(f"the snapshot of slot {incoming.slot} from a peer: {reason}")
        incoming.file.sync()
        incoming.file.close()
        self._incoming = None
        self._rename(incoming.path, incoming.slot, incoming.size)
        return stored

    # ---- both ----

    def _rename(self, temporary: str, slot: int, size: int) -> None:
        try:
            self._disk.rename(temporary, self._path(slot))
        except DiskFullError:  # a name needs room too, in some file systems; so the next attempt finds none taken
            self._disk.unlink(temporary)
            raise
        self._disk.sync_directory(self._directory)
        self._adopt(slot, size)

    def _adopt(self, slot: int, size: int) -> None:
        """`slot` is durable: it is the snapshot now, and older ones go."""
        assert slot > self.slot
        if self._reading is not None:
            self._reading.close()
            self._reading = None
        self.slot, self.size = slot, size
        for name in self._disk.list_directory(self._directory):
            other = snapshot_slot(name)
            if other is not None and other < slot:
                with contextlib.suppress(DiskFullError):  # where removing needs room: the next start removes it
                    self._disk.unlink(f"{self._directory}/{name}")

    def _path(self, slot: int) -> str:
        return f"{self._directory}/{snapshot_name(slot)}"

    def _temp(self, slot: int) -> str:
        return f"{self._path(slot)}.{self._start}.tmp"
