"""All that one replica keeps on disk, behind one door: the log, the snapshot, the directory's identity and lock.

A start (`Store.open`) reads and verifies everything, decides tail or damage, makes durable what it believes, raises the
start number durably, and only then hands out `durable`: before that the replica has nothing to say. Whatever it cannot
vouch for it refuses, by file, offset and way out.

After `SyncFailedError` or `DiskFailedError` every further call raises the same; the process has to end.
Everything happens in the calling thread, when the call is made.
"""

from __future__ import annotations

from collections.abc import Sequence

from coordclient.protocol.paths import cell_id
from coordd.paxos.effects import Durable, Record
from coordd.paxos.membership import Membership
from coordd.paxos.starts import MARK_MAX, start_number
from coordd.storage.checked import CheckedDisk
from coordd.storage.disk import Disk
from coordd.storage.errors import WAY_OUT, AlreadyRunningError, DamagedError, WrongDirectoryError
from coordd.storage.identity import IDENTITY_NAME, Identity, read_identity, write_identity
from coordd.storage.record import RECORD_HEAD_BYTES, StartRecord
from coordd.storage.recovery import LogReader, LogState, RecoveredLog
from coordd.storage.segment import HEADER_BLOCK_BYTES, decode_header, segment_name
from coordd.storage.snapshots import CheckState, Snapshots, StoredSnapshot
from coordd.storage.wal import SEGMENT_BYTES_DEFAULT, Wal

LOCK_NAME = "lock"
_ACCEPTED_HEAD_BYTES = RECORD_HEAD_BYTES + 20
_NOT_OURS_TO_MIND = (LOCK_NAME, "lost+found")


class Store:
    """The open data directory of one replica.

    `durable`: what the replica finds at start. `snapshot_state`: the machine's state in the latest snapshot then; the
    owner sets it to None once it is restored, to free the memory.
    """

    def __init__(self, disk: CheckedDisk, lock: int, wal: Wal, snapshots: Snapshots, durable: Durable) -> None:
        self.durable = durable
        self.snapshot_state: bytes | None = None
        self._disk = disk
        self._lock = lock
        self._wal = wal
        self._snapshots = snapshots
        self._closed = False

    @classmethod
    def open(
        cls,
        disk: Disk,
        directory: str,
        cell: str,
        replica: int,
        bootstrap: Membership | None,
        *,
        segment_bytes: int = SEGMENT_BYTES_DEFAULT,
        check_state: CheckState = lambda state: None,
    ) -> Store:
        """Recover the directory, or make it where it is empty and `bootstrap` says with which membership.

        No snapshot is believed, the own or a peer's, whose state `check_state` refuses.
        """
        assert 1 <= replica <= 255
        checked = CheckedDisk(disk)
        checked.make_directory(directory)
        try:
            lock = disk.lock(f"{directory}/{LOCK_NAME}")
        except BlockingIOError as error:
            raise AlreadyRunningError(f"{directory} is in use: {error.strerror}. Way out: stop that process") from None
        except OSError as error:
            raise checked.failure("lock", directory, error) from error
        try:
            checked.sync_directory(directory)  # what is seen here may be known to the page cache only
            if IDENTITY_NAME in checked.list_directory(directory):
                identity = read_identity(checked, directory, cell, replica)
            else:
                identity = _begin_directory(checked, directory, cell, replica, bootstrap, segment_bytes)
            return cls._recover(checked, lock, directory, identity, segment_bytes, check_state)
        except BaseException:
            checked.close_all()
            disk.unlock(lock)
            raise

    @classmethod
    def _recover(
        cls,
        disk: CheckedDisk,
        lock: int,
        directory: str,
        identity: Identity,
        segment_bytes: int,
        check_state: CheckState,
    ) -> Store:
        for name in disk.list_directory(directory):
            if name.endswith(".tmp"):  # what was not finished was not relied upon
                disk.unlink(f"{directory}/{name}")
        cell = cell_id(identity.cell)
        log = LogReader(disk, directory, cell, identity.replica).read()
        start = log.state.start + 1
        snapshots = Snapshots(disk, directory, cell, start, check_state)
        stored = snapshots.load()
        _check_together(directory, log, snapshots.slot)
        wal = Wal.resume(disk, directory, log, segment_bytes)
        for _ in range(2):  # the second says that the first is durable: rot in either is not taken for a torn tail
            wal.append([StartRecord(start)])
            wal.sync()
        durable = _durable(start_number(identity.mark, start), log.state, identity.membership, stored)
        wal.count(sum(_ACCEPTED_HEAD_BYTES + len(value) for _, value in durable.entries.values()))
        store = cls(disk, lock, wal, snapshots, durable)
        store.snapshot_state = None if stored is None else stored.state
        return store

    # ---- the log ----

    def append(self, records: Sequence[Record]) -> None:
        """Write `records`, all or none (`DiskFullError`); they are durable after the next `sync`."""
        self._wal.append(records)

    def sync(self) -> None:
        """Everything appended before is durable afterwards. Costs nothing where nothing is new."""
        self._wal.sync()

    def cut(self, upto: int) -> None:
        """Free what the log holds up to slot `upto`, in whole segments; there is a durable snapshot of that."""
        assert upto <= self._snapshots.slot, "the log is cut only behind a snapshot"
        self._wal.cut(upto)

    @property
    def log_bytes(self) -> int:
        """About how many bytes of records lie behind the snapshot: what a start would have to apply."""
        return self._wal.bytes_above(self._snapshots.slot)

    @property
    def disk_full(self) -> bool:
        """The next segment of the log could not be prepared: `DiskFullError` is near."""
        return self._wal.full

    # ---- snapshots ----

    @property
    def snapshot_slot(self) -> int:
        """The slot of the durable snapshot, 0 for none."""
        return self._snapshots.slot

    def write_snapshot(self, slot: int, membership: Membership, state: bytes) -> int | None:
        """`write_snapshot_temp` and `publish_snapshot` in one."""
        self.write_snapshot_temp(slot, membership, state)
        return self.publish_snapshot(slot)

    def write_snapshot_temp(self, slot: int, membership: Membership, state: bytes) -> int:
        """Write and sync a snapshot under its temporary name; returns its size.

        Fit for a forked child that has closed every descriptor it inherited: it opens its own, by name.
        """
        return self._snapshots.write_temp(slot, membership, state)

    def publish_snapshot(self, slot: int) -> int | None:
        """Make it the snapshot, durably, in place of an older one; returns its size.

        None: a peer's snapshot that is as new came in meanwhile, and this one was removed.
        """
        return self._snapshots.publish(slot)

    def discard_snapshot_temp(self, slot: int) -> None:
        """Remove what is left of a `write_snapshot_temp` that failed or was killed."""
        self._snapshots.discard_temp(slot)

    def read_snapshot_chunk(self, slot: int, offset: int, limit: int) -> bytes | None:
        """Up to `limit` bytes of the snapshot of `slot` from `offset`; None when it is gone meanwhile."""
        return self._snapshots.read_chunk(slot, offset, limit)

    def store_chunk(self, slot: int, size: int, offset: int, data: bytes) -> StoredSnapshot | None:
        """Put a chunk of a peer's snapshot in its place; what it holds once it is whole, verified and durable.

        `SnapshotRefusedError`: it was whole and wrong; it is gone, ask from offset 0.
        """
        return self._snapshots.store_chunk(slot, size, offset, data)

    def close(self) -> None:
        """Let go of files and lock. Syncs nothing: what had to be durable is."""
        if not self._closed:
            self._closed = True
            self._disk.close_all()
            self._disk.disk.unlock(self._lock)


def _begin_directory(
    disk: CheckedDisk, directory: str, cell: str, replica: int, bootstrap: Membership | None, segment_bytes: int
) -> Identity:
    """Make a data directory of an empty one. The identity comes last, so an interrupted attempt is made anew."""
    names = [name for name in disk.list_directory(directory) if name not in _NOT_OURS_TO_MIND]
    first = segment_name(1)
    foreign = [name for name in names if name not in (first, f"{first}.tmp", f"{IDENTITY_NAME}.tmp")]
    if foreign:
        raise WrongDirectoryError(
            f"{directory} is not empty and has no file {IDENTITY_NAME!r}, but {foreign[0]!r}. Way out: name an empty "
            f"directory; if this was a data directory, it lost its identity: {WAY_OUT}"
        )
    if bootstrap is None:
        raise WrongDirectoryError(
            f"{directory} holds no data of replica {replica} of cell {cell!r}, and nothing says with which members to "
            "begin. Way out: correct the path or the mount, or begin a new cell or replica on purpose"
        )
    if first in names:
        _check_unused(disk, f"{directory}/{first}")
    for name in names:
        disk.unlink(f"{directory}/{name}")
    Wal.create(disk, directory, cell_id(cell), replica, segment_bytes)
    mark = int.from_bytes(disk.disk.nonce(), "big") % MARK_MAX + 1
    identity = Identity(cell, replica, bootstrap, mark)
    write_identity(disk, directory, identity)
    return identity


def _check_unused(disk: CheckedDisk, path: str) -> None:
    data = disk.read_whole(path)
    header = decode_header(data)
    if header is None or data.count(0, HEADER_BLOCK_BYTES) != len(data) - HEADER_BLOCK_BYTES:
        raise DamagedError(path, HEADER_BLOCK_BYTES, f"the log is in use, yet the file {IDENTITY_NAME!r} is missing")


def _check_together(directory: str, log: RecoveredLog, snapshot_slot: int) -> None:
    """The snapshot must reach to where the log begins, and what is chosen must be there."""
    path = f"{directory}/{segment_name(log.segments[0].number)}"
    if snapshot_slot < log.slots_before:
        reason = f"the log was cut behind a snapshot of slot {log.slots_before} or later; there is only {snapshot_slot}"
        raise DamagedError(path, 0, reason)
    for slot in range(snapshot_slot + 1, log.state.chosen_upto + 1):
        if slot not in log.state.entries:
            reason = f"slots up to {log.state.chosen_upto} are chosen, slot {slot} is neither here nor in a snapshot"
            raise DamagedError(path, 0, reason)


def _durable(start: int, state: LogState, membership: Membership, stored: StoredSnapshot | None) -> Durable:
    slot = 0 if stored is None else stored.slot
    return Durable(
        start=start,
        membership=membership if stored is None else stored.membership,
        promised=state.promised,
        entries={at: entry for at, entry in sorted(state.entries.items()) if at > slot},
        chosen_upto=max(slot, state.chosen_upto),
        snapshot_slot=slot,
        snapshot_size=0 if stored is None else stored.size,
        peers=state.peers,
    )
