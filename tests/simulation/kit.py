"""Makes whole replicas: the real engine and machine over the real store on a memory disk."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from coordd.engine.engine import Engine
from coordd.engine.settings import EngineSettings
from coordd.machine import snapshot
from coordd.machine.machine import Machine
from coordd.paxos.membership import Membership
from coordd.storage.errors import (
    DamagedError,
    DiskFailedError,
    DiskFullError,
    SnapshotRefusedError,
    UnknownFormatError,
    WrongDirectoryError,
)
from coordd.storage.store import Store
from coordd.testing.memory_disk import MemoryDisk, PowerCutError
from tests.simulation.rot import Flip, Place, open_rotten, rot

DIRECTORY = "/data"
SEGMENT_BYTES = 8 * 1024


class SimDisk(MemoryDisk):
    """A memory disk on which a blow can wait for the next start or the next snapshot."""

    def __init__(self) -> None:
        super().__init__()
        self.cut_by_power = True
        self.next_start: tuple[str, int] | None = None
        self.next_snapshot: tuple[str, int] | None = None

    def strike(self, how: str, call: int) -> None:
        """At that call from now: `fail` it, or end the process in the middle of it, by the `power` or a `kill`."""
        if how == "fail":
            self.fail_at(call)
        else:
            self.cut_by_power = how == "power"
            self.cut_at(call)

    def mend(self) -> None:
        """No blow waits any more, and there is room."""
        self.cut_at(None)
        self.fail_at(None)
        self._fail_sync = False
        self.capacity = self.next_start = self.next_snapshot = None


class CellKit:
    """See `tests.simulation.process.Kit`; `disks` by replica. Classes may be replaced by planted bugs."""

    disk_full: type[Exception] = DiskFullError
    disk_failed: type[Exception] = DiskFailedError
    refused: tuple[type[Exception], ...] = (DamagedError, UnknownFormatError, WrongDirectoryError, AssertionError)
    snapshot_refused: type[Exception] = SnapshotRefusedError
    power_cut: type[Exception] = PowerCutError
    engine_class: type[Engine] = Engine
    store_class: type[Store] = Store

    def __init__(
        self,
        cell: str,
        membership: Membership,
        settings: dict[int, EngineSettings],
        machine_class: Callable[[int], type[Machine]],
    ) -> None:
        self._cell = cell
        self._membership = membership
        self._settings = settings
        self._machine_class = machine_class
        self.disks = {replica: SimDisk() for replica in settings}
        self._rotten: dict[int, list[Flip]] = {}  # since its last start
        self._joining: dict[int, Membership] = {}  # what the files of later replicas say

    def add(self, replica: int, membership: Membership, settings: EngineSettings) -> None:
        """A new machine with an empty disk."""
        self._settings[replica] = settings
        self._joining[replica] = membership
        self.disks[replica] = SimDisk()

    def open(self, replica: int, now_ms: int) -> tuple[Any, Any]:
        """A started engine over a recovered store."""
        disk = self.disks[replica]
        if disk.next_start is not None:
            disk.strike(*disk.next_start)
            disk.next_start = None
        store = self._open_own(replica)
        machine_class = self._machine_class(replica)
        state, store.snapshot_state = store.snapshot_state, None
        machine = machine_class(self._cell) if state is None else machine_class.restore(state)
        return self.engine_class(self._settings[replica], store.durable, machine, now_ms), store

    def open_store(self, replica: int, disk: MemoryDisk) -> Store:
        """What a start of this replica finds on `disk`: its own, or a copy."""
        first = self._joining.get(replica, self._membership)
        return self.store_class.open(
            disk,
            DIRECTORY,
            self._cell,
            replica,
            first,
            segment_bytes=SEGMENT_BYTES,
            check_state=snapshot.refusal_of,
        )

    def _open_own(self, replica: int) -> Store:
        disk = self.disks[replica]
        flips = self._rotten.pop(replica, None)
        if not flips:
            return self.open_store(replica, disk)
        disk.mend()  # one fault at a time: what this start finds is compared
        return open_rotten(disk, flips, Place(DIRECTORY, self._cell, replica, partial(self.open_store, replica)))

    def is_rotten(self, replica: int) -> bool:
        """Bytes have changed since its last start."""
        return replica in self._rotten

    def crash(self, replica: int, chance: Random, *, power: bool) -> None:
        """The process is gone; with `power`, so are unsynced bytes."""
        disk = self.disks[replica]
        if power:
            disk.crash(chance, chance.choice((0.0, 0.3, 0.5, 0.9)))
        else:
            disk.kill()

    def lost_power(self, replica: int) -> bool:
        """See `ports.Kit`."""
        return self.disks[replica].cut_by_power

    def begins_snapshot(self, replica: int) -> None:
        """See `ports.Kit`."""
        disk = self.disks[replica]
        if disk.next_snapshot is not None:
            disk.strike(*disk.next_snapshot)
            disk.next_snapshot = None

    # ---- what the nemesis does to disks ----

    def fill(self, replica: int, room: int | None) -> None:
        """The disk of this replica has room for so many bytes more; None: for everything again."""
        disk = self.disks[replica]
        disk.capacity = None if room is None else disk.used + room

    def fail_next_sync(self, replica: int) -> None:
        """The next sync of this replica fails."""
        self.disks[replica].fail_next_sync()

    def cut_call(self, replica: int, call: int, *, power: bool) -> None:
        """The power goes, or a kill comes, in the middle of that disk call from now."""
        self.disks[replica].strike("power" if power else "kill", call)

    def fail_call(self, replica: int, call: int) -> None:
        """That disk call from now fails."""
        self.disks[replica].strike("fail", call)

    def strike_start(self, replica: int, how: str, call: int) -> None:
        """The next start is struck at that disk call."""
        self.disks[replica].next_start = (how, call)

    def strike_snapshot(self, replica: int, how: str, call: int) -> None:
        """That disk call from the next snapshot on is struck."""
        self.disks[replica].next_snapshot = (how, call)

    def rot(self, replica: int, chance: Random, *, settled: bool) -> bool:
        """Durable bytes change; `settled`: only where nobody writes any more. False: there are none, or they did."""
        if replica in self._rotten:
            return False
        self._rotten[replica] = rot(self.disks[replica], DIRECTORY, chance, settled=settled)
        return bool(self._rotten[replica])

    def empty(self, replica: int) -> None:
        """Another disk is in its place, with nothing on it."""
        disk = SimDisk()
        disk._nonces = self.disks[replica]._nonces  # which no two directories share
        self.disks[replica] = disk

    def mend(self, replica: int) -> None:
        """No more faults."""
        self.disks[replica].mend()
