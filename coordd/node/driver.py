"""The one task that touches the engine: take inputs, read the clock, step, perform what the step wants done.

Order of one turn, and why:
1. take what is queued, **then** read the clock: a lease counts from a moment after the message was in hand;
2. step the engine;
3. write the records to the log (not yet synced), then put `send_now` into the sockets, then hand out the replies;
4. let the loop run once, so that sockets and replies are really on their way while the disk works;
5. sync; report `Persisted` to the engine in the next step, which follows at once, and send `send_after_persist`. These
   messages are about the disk alone, so they leave between the sync and that step.

What must not wait behind a flood of other calls is taken first (see `post`); peers, urgent calls and the others each
have a share of every turn, so that none of them starves the others.

Nothing is sent, and no `Persisted` reported, for records that did not reach the disk. When the disk is full they wait
in `_unwritten`, in order, and are tried again; meanwhile the engine votes no more. Any other failure of the disk, a
broken assertion or an unexpected exception ends `run` by that exception, and with it the process: never half a state.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import structlog

from coordclient.protocol.errors import Refusal
from coordd.engine.effects import CutLog, Effects, Push, RoleChange, TakeSnapshot
from coordd.engine.inputs import (
    DiskFull,
    DiskHasRoom,
    Input,
    PeerMessage,
    Persisted,
    SnapshotDropped,
    SnapshotFailed,
    SnapshotReceived,
)
from coordd.node import clock
from coordd.node.snapshotter import Snapshotter
from coordd.paxos.effects import Record, SendSnapshotChunk, StoreSnapshotChunk
from coordd.paxos.membership import Membership
from coordd.paxos.messages import Message
from coordd.storage.errors import DiskFullError, SnapshotRefusedError
from coordd.storage.snapshots import StoredSnapshot

TICK_SECONDS = 0.05
INPUTS_PER_STEP = 256
URGENT_PER_STEP = 192  # of the client's share, while others wait as well
PEER_INBOX_BYTES_MAX = 64 * 1024 * 1024
DISK_FULL_RETRY_MS = 1_000
UNWRITTEN_RECORDS_MAX = 100_000  # the engine makes next to none while the disk is full
SNAPSHOT_CHUNK_BYTES = 512 * 1024

REMOVED = (
    "this replica was removed from the cell. Its data directory is not needed any more; a replica on this machine joins"
    " under a new id, with an empty directory"
)

_log = structlog.get_logger("coordd.node")


class StopRequired(Exception):
    """The core refuses to go on (its data went back in time, it was removed, ...); starting again would not help."""


class Diverged(Exception):
    """The state here is not that of the other replicas: it must not serve, nor be started again unseen."""


class RemovedFromCell(Exception):
    """This replica is no member of the cell any more, and is not needed: it ends in order."""


class Stepper(Protocol):
    """The engine, as the driver sees it."""

    def step(self, inputs: Sequence[Input], now_ms: int, wall_ms: int, entropy: bytes) -> Effects: ...

    def snapshot_state(self) -> bytes: ...

    def status(self, now_ms: int) -> Mapping[str, Any]: ...


class LogStore(Protocol):
    """The storage, as the driver sees it."""

    def append(self, records: Sequence[Record]) -> None: ...

    def sync(self) -> None: ...

    def cut(self, upto: int) -> None: ...

    def read_snapshot_chunk(self, slot: int, offset: int, limit: int) -> bytes | None: ...

    def store_chunk(self, slot: int, size: int, offset: int, data: bytes) -> StoredSnapshot | None: ...


@dataclass(frozen=True, slots=True)
class Outlets:
    """Where effects go that are not for the disk."""

    send: Callable[[Sequence[tuple[int, Message]]], None]
    reply: Callable[[int, dict[str, object] | Refusal], None]
    push: Callable[[Sequence[int], dict[str, object]], None]
    role: Callable[[RoleChange], None]
    membership: Callable[[Membership], None] = lambda membership: None


class Driver:
    """Owner of the engine. `post` and `post_message` may be called from anywhere in the loop's thread."""

    def __init__(self, engine: Stepper, store: LogStore, snapshotter: Snapshotter, outlets: Outlets) -> None:
        self._engine = engine
        self._store = store
        self._snapshotter = snapshotter
        self._outlets = outlets
        self._inbox: deque[Input] = deque()
        self._urgent: deque[Input] = deque()
        self._peer_inbox: deque[tuple[Message, int]] = deque()
        self._peer_inbox_bytes = 0
        self._carried: list[Input] = []
        self._unwritten: list[Record] = []
        self._disk_full_until_ms = 0
        self._unfinished = False  # the engine has more to do at once
        self._owed = 0  # the highest persist number that is asked for and not yet reported
        self._wake: asyncio.Future[None] | None = None
        self._stopping = False
        self.started = asyncio.Event()  # the first turn is over: what the log holds is applied
        self.turns = 0
        self.peer_messages_dropped = 0

    # ---- the way in ----

    @property
    def queued(self) -> int:
        """Inputs of this replica's own doors that wait for a step, without the urgent ones."""
        return len(self._inbox)

    @property
    def queued_urgent(self) -> int:
        """The urgent ones."""
        return len(self._urgent)

    def post(self, item: Input, urgent: bool = False) -> None:
        """Queue an input for the next step; the doors keep their own limits (see `queued`).

        Urgent ones come before others that were posted earlier, never the other way round.
        """
        (self._urgent if urgent else self._inbox).append(item)
        self._wake_up()

    def post_message(self, message: Message, size: int) -> None:
        """Queue a peer's message of about `size` bytes; dropped when too much waits already, as the network may."""
        if self._peer_inbox_bytes + size > PEER_INBOX_BYTES_MAX:
            self.peer_messages_dropped += 1
            return
        self._peer_inbox.append((message, size))
        self._peer_inbox_bytes += size
        self._wake_up()

    def status(self) -> Mapping[str, Any]:
        """The engine's part of the operation `status`, as of now."""
        return self._engine.status(clock.now_ms())

    def stop(self) -> None:
        """End `run` after the present turn."""
        self._stopping = True
        self._wake_up()

    def _wake_up(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    # ---- the turns ----

    async def run(self) -> None:
        """Turn after turn until `stop`; raises what the module docstring says."""
        while not self._stopping:
            synced = await self._turn()
            self.started.set()
            if not (self._inbox or self._urgent or self._peer_inbox or self._carried or self._unfinished):
                await self._wait()
            elif not synced:
                await asyncio.sleep(0)
        self._snapshotter.abandon()

    async def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        self._wake = loop.create_future()
        timer = loop.call_later(TICK_SECONDS, self._wake_up)
        await self._wake
        timer.cancel()
        self._wake = None

    async def _turn(self) -> bool:
        """One turn; True when it synced, and so let the loop run meanwhile."""
        self.turns += 1
        inputs = self._take_inputs()
        now_ms = clock.now_ms()  # after the last input was taken
        effects = self._engine.step(inputs, now_ms, clock.wall_ms(), os.urandom(32))
        self._unfinished = effects.unfinished
        if effects.stop is not None:
            raise StopRequired(effects.stop)
        if effects.differs is not None:
            _log.error("the replicas differ", reason=effects.differs)
        if effects.diverged is not None:
            await self._say_last(effects.send_now)
            raise Diverged(effects.diverged)
        written = self._write(effects.persist, now_ms)
        self._outlets.send(effects.send_now)
        self._hand_out(effects)
        self._transfer(effects)
        if effects.snapshot is not None:
            self._begin_snapshot(effects.snapshot)
        if effects.cut is not None:
            self._cut(effects.cut)
        self._owed = effects.persist_number or self._owed
        if effects.left and not (self._owed and written):
            raise RemovedFromCell(REMOVED)
        if not (self._owed and written):
            return False  # messages that wait for records without room are lost, as the network may lose them
        await asyncio.sleep(0)
        if effects.answers:
            await asyncio.sleep(0)  # a channel writes in a callback of its own, and uvloop's sockets after that turn
        self._store.sync()
        self._outlets.send(effects.send_after_persist)
        self._carried.append(Persisted(self._owed))
        self._owed = 0
        if effects.left:
            raise RemovedFromCell(REMOVED)
        return True

    async def _say_last(self, messages: Sequence[tuple[int, Message]]) -> None:
        """The others judge by what they hear: this is to be on its way before the end."""
        self._outlets.send(messages)
        for _ in range(2):  # see `_turn`
            await asyncio.sleep(0)

    def _take_inputs(self) -> list[Input]:
        inputs, self._carried = self._carried, []
        outcome = self._snapshotter.poll()
        if outcome is not None:
            _log.log(30 if isinstance(outcome, SnapshotFailed) else 20, "own snapshot", outcome=str(outcome))
            inputs.append(outcome)
        while self._peer_inbox and len(inputs) < INPUTS_PER_STEP:
            message, size = self._peer_inbox.popleft()
            self._peer_inbox_bytes -= size
            inputs.append(PeerMessage(message))
        calls_max = len(inputs) + INPUTS_PER_STEP  # peers never starve clients, nor the other way round
        urgent_max = len(inputs) + (URGENT_PER_STEP if self._inbox else INPUTS_PER_STEP)
        while self._urgent and len(inputs) < urgent_max:
            inputs.append(self._urgent.popleft())
        while self._inbox and len(inputs) < calls_max:
            inputs.append(self._inbox.popleft())
        return inputs

    def _write(self, records: Sequence[Record], now_ms: int) -> bool:
        """Append what is to be durable; False when something is still unwritten because the disk is full."""
        if self._unwritten:
            self._unwritten.extend(records)
            assert len(self._unwritten) <= UNWRITTEN_RECORDS_MAX, "a full disk makes this replica mute"
            if now_ms < self._disk_full_until_ms:
                return False
            records = self._unwritten
        if not records:
            return True
        try:
            self._store.append(records)
        except DiskFullError as error:
            _log.error("disk full: this replica votes no more until there is room", reason=str(error))
            self._unwritten = list(records)
            self._disk_full_until_ms = now_ms + DISK_FULL_RETRY_MS
            self._carried.append(DiskFull())
            return False
        if self._unwritten:
            _log.warning("the disk has room again: this replica votes again")
            self._unwritten = []
            self._carried.append(DiskHasRoom())
        return True

    def _hand_out(self, effects: Effects) -> None:
        if effects.membership is not None:
            self._outlets.membership(effects.membership)
        if effects.role is not None:
            self._outlets.role(effects.role)
        for answer in effects.answers:
            if isinstance(answer, Push):
                self._outlets.push(answer.requests, answer.body)
            else:
                self._outlets.reply(answer.request, answer.result)

    def _transfer(self, effects: Effects) -> None:
        for transfer in effects.transfers:
            if isinstance(transfer, SendSnapshotChunk):
                self._send_chunk(transfer)
            else:
                self._store_chunk(transfer)

    def _send_chunk(self, transfer: SendSnapshotChunk) -> None:
        chunk = transfer.chunk
        data = self._store.read_snapshot_chunk(chunk.slot, chunk.offset, SNAPSHOT_CHUNK_BYTES)
        if data:
            self._outlets.send([(transfer.to, replace(chunk, data=data))])

    def _store_chunk(self, transfer: StoreSnapshotChunk) -> None:
        slot = transfer.slot
        try:
            stored = self._store.store_chunk(slot, transfer.size, transfer.offset, transfer.data)
        except (DiskFullError, SnapshotRefusedError) as error:
            _log.error("snapshot of a peer not kept", slot=slot, reason=str(error))
            self._carried.append(SnapshotDropped(slot))
            return
        if stored is not None:
            _log.info("snapshot received", slot=slot, size=stored.size)
            self._carried.append(SnapshotReceived(slot, stored.size, stored.membership, stored.state))
        elif transfer.offset + len(transfer.data) == transfer.size:
            self._carried.append(SnapshotDropped(slot))  # an earlier chunk was lost here

    def _begin_snapshot(self, wanted: TakeSnapshot) -> None:
        if self._snapshotter.busy:
            self._carried.append(SnapshotFailed(wanted.slot, "another one is being written"))
            return
        try:
            self._snapshotter.begin(wanted.slot, wanted.membership, self._engine.snapshot_state)
        except (OSError, DiskFullError) as error:  # no process or no room for it now; the log is kept
            self._carried.append(SnapshotFailed(wanted.slot, str(error)))

    def _cut(self, cut: CutLog) -> None:
        self._store.cut(cut.upto)
        _log.info("log cut", upto=cut.upto)
