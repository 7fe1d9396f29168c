"""What a turn of a replica process wants done: append, send, reply, sync, snapshots. In the order of the contract.

The order of performing is that of `coordd.engine.effects`. `Process` adds life, death and turns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from coordd.engine.effects import Effects, Push, Reply
from coordd.engine.inputs import (
    DiskFull,
    DiskHasRoom,
    Input,
    Persisted,
    SnapshotDropped,
    SnapshotFailed,
    SnapshotReceived,
    SnapshotTaken,
)
from coordd.paxos.effects import SendSnapshotChunk, StoreSnapshotChunk
from tests.simulation.ports import Kit
from tests.simulation.swarm import Swarm
from tests.simulation.world import World

CHUNK_BYTES = 1_500  # small, so that a snapshot takes several messages
FULL_RETRY_US = 300_000


class Performing:
    """The hands of a process; see the module docstring."""

    world: World
    swarm: Swarm
    kit: Kit
    name: int
    life: int
    up: bool
    paused: bool
    engine: Any
    store: Any
    inbox: list[Input]
    on_reply: Callable[[Reply], None]
    on_push: Callable[[Push], None]
    crash_point: str | None
    crash_power: bool
    slow_sync_until_us: int
    met_full_disk: bool
    _chance: Random
    _random: Callable[[], float]
    _unsynced: list[tuple[int, list[tuple[int, Any]]]]
    _syncing_group: list[tuple[int, list[tuple[int, Any]]]]
    _synced_meanwhile: tuple[bool, ...]
    _backlog: list[Effects]
    _retry_at_us: int
    _blocked: bool
    _syncing: bool
    _snapshotting: bool
    _in_gap: bool

    def crash(self, *, power: bool) -> None:
        """The process ends in the middle of whatever it does."""
        raise NotImplementedError

    def put(self, item: Input) -> None:
        """Something for the next turn."""
        raise NotImplementedError

    def _guard(self, action: Callable[..., None], *arguments: Any) -> None:
        raise NotImplementedError

    def _wake(self) -> None:
        raise NotImplementedError

    def _send(self, messages: Sequence[tuple[int, Any]]) -> None:
        raise NotImplementedError

    def _synced(self, number: int) -> None:
        raise NotImplementedError

    def _perform(self, effects: Effects) -> None:
        life = self.life
        dying = self.crash_point if effects.persist else None
        if dying == "before append":
            return self.crash(power=self.crash_power)
        if (effects.persist or self._backlog) and not self._append(effects):
            self._perform_without_disk(effects)
            return None
        if dying == "after append":
            return self.crash(power=self.crash_power)
        self._perform_without_disk(effects)
        if life != self.life or not self.up:
            return None
        if dying == "after sending":
            return self.crash(power=self.crash_power)
        self._queue_sync(effects)
        if dying == "while syncing":
            self.world.after(self._chance.randrange(1 + self.swarm.sync_us[0]), self._crash_later, life)
        return None

    def _append(self, effects: Effects) -> bool:
        """Writes what an earlier full disk refused, then this; False when there is no room."""
        had_no_room = bool(self._backlog)
        if not had_no_room or self.world.now_us >= self._retry_at_us:
            try:
                self._write(effects)
            except self.kit.disk_full:
                self.met_full_disk = True
                self._retry_at_us = self.world.now_us + FULL_RETRY_US
                self.put(DiskFull())
            else:
                if had_no_room:
                    self.inbox.append(DiskHasRoom())
                return True
        if effects.persist_number:
            self._backlog.append(effects)
        return False

    def _write(self, effects: Effects) -> None:
        while self._backlog:
            self.store.append(self._backlog[0].persist)
            late = self._backlog.pop(0)
            self._unsynced.append((late.persist_number, late.send_after_persist))
        self.store.append(effects.persist)

    def _perform_without_disk(self, effects: Effects) -> None:
        self._send(effects.send_now)
        for transfer in effects.transfers:
            self._transfer(transfer)
        for answer in effects.answers:
            if isinstance(answer, Push):
                self.on_push(answer)
            else:
                self.on_reply(answer)
        if effects.cut is not None:
            self.store.cut(effects.cut.upto)
        if effects.snapshot is not None and not self._snapshotting:
            self._snapshotting = True
            slot, membership, state = effects.snapshot.slot, effects.snapshot.membership, self.engine.snapshot_state()
            delay_us = int(self._random() ** 2 * 200_000)
            self.world.after(delay_us, self._snapshot_written, self.life, slot, membership, state)

    def _queue_sync(self, effects: Effects) -> None:
        if effects.persist_number:
            self._unsynced.append((effects.persist_number, effects.send_after_persist))
        else:
            assert not effects.persist
            self._send(effects.send_after_persist)
        self._begin_sync()

    def _begin_sync(self) -> None:
        if self._syncing or not self._unsynced:
            return
        self._syncing = True
        self._syncing_group, self._unsynced = self._unsynced, []
        early = self.swarm.sync_helper and self._random() < self.swarm.sync_early
        if early:
            self._sync(self._syncing_group)
        self._blocked = not self.swarm.sync_helper
        low_us, high_us = self.swarm.sync_us
        duration_us = low_us + int(self._random() * (high_us - low_us))
        if self.world.now_us < self.slow_sync_until_us:
            duration_us += int(self._random() * 2_000_000)
        self.world.after(duration_us, self._sync_done, self.life, early)

    def _sync_done(self, life: int, early: bool) -> None:
        if life != self.life:
            return
        if self.paused or self._in_gap:
            self._synced_meanwhile = (early,)
        else:
            self._guard(self._after_sync, early)

    def _after_sync(self, early: bool) -> None:
        if not early:
            self._sync(self._unsynced or self._syncing_group)
        self._blocked = False
        group, self._syncing_group = self._syncing_group, []
        for _, messages in group:
            self._send(messages)
        self.inbox.append(Persisted(group[-1][0]))
        self._wake()

    def _sync(self, written: list[tuple[int, list[tuple[int, Any]]]]) -> None:
        """All that was written is on the disk, `written` the last of it."""
        self.store.sync()
        self._synced(written[-1][0])

    def _crash_later(self, life: int) -> None:
        if life == self.life:
            self.crash(power=self.crash_power)

    # ---- snapshots ----

    def _snapshot_written(self, life: int, slot: int, membership: Any, state: bytes) -> None:
        if life == self.life:
            self._guard(self._write_snapshot, slot, membership, state)

    def _write_snapshot(self, slot: int, membership: Any, state: bytes) -> None:
        self._snapshotting = False
        self.kit.begins_snapshot(self.name)
        try:
            size = self.store.write_snapshot(slot, membership, state)
        except self.kit.disk_full as error:
            self.put(SnapshotFailed(slot, str(error)))
        else:
            outcome = "a newer one came in" if size is None else ""
            self.put(SnapshotTaken(slot, size) if size is not None else SnapshotFailed(slot, outcome))

    def _transfer(self, transfer: SendSnapshotChunk | StoreSnapshotChunk) -> None:
        if isinstance(transfer, SendSnapshotChunk):
            chunk = transfer.chunk
            data = self.store.read_snapshot_chunk(chunk.slot, chunk.offset, CHUNK_BYTES)
            if data:
                self._send([(transfer.to, replace(chunk, data=data))])
            return
        self.kit.begins_snapshot(self.name)
        try:
            stored = self.store.store_chunk(transfer.slot, transfer.size, transfer.offset, transfer.data)
        except (self.kit.disk_full, self.kit.snapshot_refused):
            self.put(SnapshotDropped(transfer.slot))
            return
        if stored is not None:
            self.put(SnapshotReceived(stored.slot, stored.size, stored.membership, stored.state))
        elif transfer.offset + len(transfer.data) == transfer.size:
            self.put(SnapshotDropped(transfer.slot))  # an earlier chunk was lost here
