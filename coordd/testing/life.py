"""One life of the only replica of a cell on a memory disk: the daemon's parts, composed for somebody else's process.

The engine, the driver, the store and the doors are those of the daemon. What a guest must not do is left out: no signal
handler, no limit raised, no garbage collector tuned, no fork (snapshots are written in the replica's turn), no file.
Everything here runs in one loop. A life ends by `kill`, as `kill -9` ends a daemon: connections are cut, nobody is told
anything, and only what the disk holds is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from heapq import heapify

from coordd.engine.effects import RoleChange
from coordd.engine.engine import Engine
from coordd.engine.inputs import Gone
from coordd.engine.settings import EngineSettings
from coordd.machine import snapshot
from coordd.machine.machine import Machine
from coordd.node import clock
from coordd.node.driver import Driver, Outlets
from coordd.node.hub import Hub
from coordd.node.snapshotter import InlineSnapshotter
from coordd.paxos.membership import Membership
from coordd.paxos.messages import Message
from coordd.paxos.state import PaxosSettings
from coordd.storage.store import Store
from coordd.testing.line import Line
from coordd.testing.memory_disk import MemoryDisk

REPLICA = 1
DIRECTORY = "/data"
MASTER_LEASE_MS = 300  # a restarted replica waits so long before it votes, so this is the time that a fail-over takes
SEGMENT_BYTES = 1024 * 1024
SNAPSHOT_BYTES = 8 * 1024 * 1024
HOUSEKEEPING_SECONDS = 1.0
LOOK_SECONDS = 0.001


class Life:
    """See the module docstring. Made in the loop; `run` recovers nothing any more, it only serves."""

    def __init__(self, disk: MemoryDisk, cell: str) -> None:
        bootstrap = Membership(1, (REPLICA,), (), MASTER_LEASE_MS)
        self._disk = disk
        self._store = store = Store.open(
            disk, DIRECTORY, cell, REPLICA, bootstrap, segment_bytes=SEGMENT_BYTES, check_state=snapshot.refusal_of
        )
        state, store.snapshot_state = store.snapshot_state, None
        machine = Machine(cell) if state is None else Machine.restore(state)
        paxos = PaxosSettings(replica=REPLICA, heartbeat_ms=MASTER_LEASE_MS // 5, election_jitter_ms=0)
        settings = EngineSettings(paxos=paxos, snapshot_log_bytes=SNAPSHOT_BYTES)
        self._engine = Engine(settings, store.durable, machine, clock.now_ms())
        self.hub = Hub(lambda replica: None)
        self.driver = Driver(
            self._engine,
            store,
            InlineSnapshotter(store),
            Outlets(_to_nobody, self.hub.deliver, self.hub.push, _role_changed),
        )
        self._lines: list[Line] = []
        self._killed = asyncio.Event()

    @property
    def epoch(self) -> int:
        """The epoch of the present mastership."""
        return self._engine.machine.epoch

    async def run(self, lines: Iterable[Line]) -> None:
        """Serve on `lines`, and those that are added, until `kill`; raises whatever would have ended a daemon."""
        try:
            async with asyncio.TaskGroup() as tasks:
                parts = [tasks.create_task(self.driver.run()), tasks.create_task(self._keep_house())]
                await self.driver.started.wait()
                for line in list(lines):
                    await self.add(line)
                await self._killed.wait()
                for part in parts:
                    part.cancel()
        finally:
            self.kill()
            for line in self._lines:
                async with line.mutex:
                    await line.close()
            self._disk.kill()

    async def add(self, line: Line) -> None:
        """Serve on this line too."""
        if line not in self._lines:
            self._lines.append(line)
            async with line.mutex:
                if not self._killed.is_set():
                    await line.open(self.hub, self.driver)

    def kill(self) -> None:
        """End now."""
        for line in self._lines:
            line.drop()
        self._killed.set()

    async def serving(self) -> None:
        """Wait until it is the master and answers."""
        while not (self._engine.replica.serving and self._engine.replica.lease_valid(clock.now_ms())):  # noqa: ASYNC110
            await asyncio.sleep(LOOK_SECONDS)

    async def expire(self, session: int) -> None:
        """End the lease of a session now; returns when its expiry is applied. KeyError when there is no such session.

        From here on everything is as when no KeepAlive had come for a whole lease: the expiry is decided by the lessor,
        inside the master lease, and logged.
        """
        sessions = self._engine.machine.sessions
        if session not in sessions:
            raise KeyError(session)
        lessor = self._engine._mastership.lessor
        while session in sessions:
            if session in lessor._deadlines:
                lessor._deadlines[session] = lessor._time
                lessor._heap = [(deadline, one) for one, deadline in lessor._deadlines.items()]
                heapify(lessor._heap)
            self.driver.post(Gone(()))  # nobody is gone: it ends the driver's wait
            await asyncio.sleep(LOOK_SECONDS)
        for line in self._lines:
            if session in line.sessions:
                line.drop()  # so its client asks, and hears of it at once

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_SECONDS)
            for line in self._lines:
                line.sweep()


def _to_nobody(messages: Sequence[tuple[int, Message]]) -> None:
    assert not messages, "the only replica has no peer"


def _role_changed(role: RoleChange) -> None:
    """Nobody is told: `serving` looks."""
