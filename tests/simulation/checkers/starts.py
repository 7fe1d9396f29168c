"""What if it died now? A copy of a replica's disk is started anew at many moments: whatever was spoken of is there.

The faults of a run end a process some dozens of times; this looks at some hundred more moments, above all right after
the log was cut, at failed syncs, and at a power cut right behind the start.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from coordd.engine.effects import Effects
from coordd.engine.inputs import Input
from coordd.paxos.messages import Accepted, HeartbeatAnswer, Prepare, Promise
from coordd.storage.errors import StorageError
from coordd.testing.memory_disk import MemoryDisk
from tests.simulation.checkers.agreement import Promises
from tests.simulation.checkers.panel import Checker
from tests.simulation.kit import DIRECTORY, CellKit
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.process import Process

ONE_IN = 80  # of the moments at which something was said


class AnyStart(Checker):
    """See the module docstring."""

    name = "start at any moment"

    def __init__(self, world: World, promises: Promises, kit: Callable[[], CellKit]) -> None:
        super().__init__(world)
        self._promises, self._kit = promises, kit
        self._chance = world.chance("any start")
        self._cut: set[int] = set()  # replicas that have cut their log since the last look
        self.looks = 0

    def started(self, process: Process) -> None:
        self._cut.discard(process.name)

    def stepped(self, process: Process, inputs: Sequence[Input], effects: Effects, now_ms: int) -> None:
        if process.name in self._cut:
            self._cut.discard(process.name)
            self._look(process.name)
        if effects.cut is not None:  # which is done behind this turn
            self._cut.add(process.name)

    def spoke(self, process: Process, messages: Sequence[tuple[int, Any]]) -> None:
        if not self._chance.randrange(ONE_IN):
            self._look(process.name)

    def _look(self, replica: int) -> None:
        kit = self._kit()
        if kit.is_rotten(replica):
            return
        self.looks += 1
        disk = kit.disks[replica].copy()
        disk.capacity = None
        for how in (self._chance.choice(("kill", "power", "failed sync")), "power"):
            if how == "failed sync":
                _fail_sync(disk)
            if how == "power":
                disk.crash(self._chance, self._chance.choice((0.0, 0.3, 0.5, 0.9)))
            else:
                disk.kill()
            try:
                found = kit.open_store(replica, disk).durable
            except (StorageError, AssertionError) as error:
                raise self.broken(f"replica {replica} could not be started now: {error!r}") from error
            self._promises.compare(replica, found.promised, found.chosen_upto, found.entries)


class Refused(Checker):
    """Whoever lost its directory at a restart of all is refused by the others, and neither votes nor learns."""

    name = "lost directory"

    def __init__(self, world: World, processes: Callable[[], Mapping[int, Process]]) -> None:
        super().__init__(world)
        self._processes = processes

    def spoke(self, process: Process, messages: Sequence[tuple[int, Any]]) -> None:
        if process.directory_lost:
            for _, message in messages:
                if isinstance(message, Promise | Accepted | Prepare | HeartbeatAnswer):
                    raise self.broken(f"replica {process.name} has lost its directory and says {message!r:.120}")

    def left_behind(self) -> str | None:
        lost = [name for name, process in self._processes().items() if process.directory_lost]
        return f"replicas {lost} have lost their directories, and nobody has refused them" if lost else None


def _fail_sync(disk: MemoryDisk) -> None:
    """The process has met a failed sync: the kernel calls its pages clean, and not all of them were written."""
    for name in disk.list_directory(DIRECTORY):
        if name.startswith("log-"):
            file = disk.open(f"{DIRECTORY}/{name}")
            disk.fail_next_sync()
            with contextlib.suppress(OSError):
                disk.fdatasync(file)
