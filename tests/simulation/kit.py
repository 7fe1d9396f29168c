"""Makes whole replicas: the real engine and machine over the real store on a memory disk."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from coordd.engine.engine import Engine
from coordd.engine.settings import EngineSettings
from coordd.machine.machine import Machine
from coordd.paxos.membership import Membership
from coordd.storage.errors import DamagedError, DiskFailedError, DiskFullError
from coordd.storage.store import Store
from coordd.testing.memory_disk import MemoryDisk, PowerCutError

DIRECTORY = "/data"
SEGMENT_BYTES = 8 * 1024
FULL_BYTES = 1  # a capacity that leaves no room for anything


class SimDisk(MemoryDisk):
    """A memory disk whose next sync can be made to fail."""

    sync_fails = False

    def fdatasync(self, file: int) -> None:
        if self.sync_fails:
            self.sync_fails = False
            self.fail_at(1)
        super().fdatasync(file)


class CellKit:
    """See `tests.simulation.process.Kit`; `disks` by replica. Classes may be replaced by planted bugs."""

    disk_full: type[Exception] = DiskFullError
    disk_failed: type[Exception] = DiskFailedError
    refused: type[Exception] = DamagedError
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
        self._joining: dict[int, Membership] = {}  # what the files of later replicas say

    def add(self, replica: int, membership: Membership, settings: EngineSettings) -> None:
        """A new machine with an empty disk."""
        self._settings[replica] = settings
        self._joining[replica] = membership
        self.disks[replica] = SimDisk()

    def open(self, replica: int, now_ms: int) -> tuple[Any, Any]:
        """A started engine over a recovered store."""
        first = self._joining.get(replica, self._membership)
        store = self.store_class.open(
            self.disks[replica], DIRECTORY, self._cell, replica, first, segment_bytes=SEGMENT_BYTES
        )
        machine_class = self._machine_class(replica)
        state, store.snapshot_state = store.snapshot_state, None
        machine = machine_class(self._cell) if state is None else machine_class.restore(state)
        return self.engine_class(self._settings[replica], store.durable, machine, now_ms), store

    def crash(self, replica: int, chance: Random, *, power: bool) -> None:
        """The process is gone; with `power`, so are unsynced bytes."""
        disk = self.disks[replica]
        if power:
            disk.crash(chance, chance.choice((0.0, 0.3, 0.5, 0.9)))
        else:
            disk.kill()

    def set_full(self, replica: int, full: bool) -> None:
        """The disk of this replica has no room (or has again)."""
        self.disks[replica].capacity = FULL_BYTES if full else None

    def fail_next_sync(self, replica: int) -> None:
        """The next sync of this replica fails."""
        self.disks[replica].sync_fails = True

    def cut_call(self, replica: int, call: int) -> None:
        """The power goes in the middle of that disk call from now."""
        self.disks[replica].cut_at(call)

    def fail_call(self, replica: int, call: int) -> None:
        """That disk call from now fails."""
        self.disks[replica].fail_at(call)

    def mend(self, replica: int) -> None:
        """No more faults."""
        disk = self.disks[replica]
        disk.cut_at(None)
        disk.fail_at(None)
        disk.capacity, disk.sync_fails = None, False
