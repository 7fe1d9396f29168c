"""The driver performs what a step wants done, in the documented order, and never goes on after a broken promise."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import pytest

from coordclient.protocol.errors import Refusal
from coordd.engine.effects import CutLog, Effects, Reply, RoleChange, TakeSnapshot
from coordd.engine.inputs import (
    Call,
    DiskFull,
    DiskHasRoom,
    Gone,
    Input,
    PeerMessage,
    Persisted,
    SnapshotDropped,
    SnapshotFailed,
    SnapshotReceived,
    SnapshotTaken,
)
from coordd.node import clock, driver
from coordd.node.driver import (
    INPUTS_PER_STEP,
    PEER_INBOX_BYTES_MAX,
    URGENT_PER_STEP,
    Diverged,
    Driver,
    Outlets,
    RemovedFromCell,
    StopRequired,
)
from coordd.paxos import messages as m
from coordd.paxos.ballot import Ballot
from coordd.paxos.effects import ChosenRecord, Record, SendSnapshotChunk, StoreSnapshotChunk
from coordd.paxos.membership import Membership
from coordd.storage.errors import DiskFullError, SnapshotRefusedError, SyncFailedError
from coordd.storage.snapshots import StoredSnapshot
from coordd.testing.until import until

MEMBERS = Membership(1, (1, 2, 3))
MESSAGE = m.Heartbeat(2, 1, Ballot(1, 2), 1, 0, caches=False)
AFTER = m.Heartbeat(1, 1, Ballot(1, 1), 2, 0, caches=False)
RECORD = ChosenRecord(1)
CALL = Call(1, "get", {"path": "/"})


class World:
    """Engine, storage, snapshotter and outlets in one: plays the effects it was given and notes what happens when."""

    def __init__(self, *steps: Effects) -> None:
        self.happened: list[object] = []
        self.steps = list(steps)
        self.inputs: list[Sequence[Input]] = []
        self.full = False
        self.fail_sync = False
        self.stored: StoredSnapshot | None = None
        self.refuse_snapshot = False
        self.outcome: SnapshotTaken | SnapshotFailed | None = None
        self.busy = False
        self.driver = Driver(self, self, self, Outlets(self.send, self.reply, self.push, self.role, self.membership))

    # engine

    def step(self, inputs: Sequence[Input], now_ms: int, wall_ms: int, entropy: bytes) -> Effects:
        assert len(entropy) == 32
        self.inputs.append(list(inputs))
        self.happened.append("step")
        return self.steps.pop(0) if self.steps else Effects()

    def snapshot_state(self) -> bytes:
        return b"state"

    def status(self, now_ms: int) -> Mapping[str, Any]:
        return {}

    def membership(self, membership: Membership) -> None:
        self.happened.append(membership)

    # storage

    def append(self, records: Sequence[Record]) -> None:
        if self.full:
            self.happened.append("full")
            raise DiskFullError("no room")
        self.happened.append(("append", list(records)))

    def sync(self) -> None:
        if self.fail_sync:
            raise SyncFailedError("the disk says no")
        self.happened.append("sync")

    def cut(self, upto: int) -> None:
        self.happened.append(("cut", upto))

    def read_snapshot_chunk(self, slot: int, offset: int, limit: int) -> bytes | None:
        return b"chunk" if slot == 7 else None

    def store_chunk(self, slot: int, size: int, offset: int, data: bytes) -> StoredSnapshot | None:
        if self.refuse_snapshot:
            raise SnapshotRefusedError("not whole")
        return self.stored

    # snapshotter

    def begin(self, slot: int, membership: Membership, state: Callable[[], bytes]) -> None:
        self.happened.append(("snapshot", slot, membership, state()))

    def poll(self) -> SnapshotTaken | SnapshotFailed | None:
        outcome, self.outcome = self.outcome, None
        return outcome

    def abandon(self) -> None:
        self.happened.append("abandon")

    # outlets

    def send(self, addressed: Sequence[tuple[int, m.Message]]) -> None:
        if addressed:
            self.happened.append(("send", list(addressed)))

    def reply(self, request: int, result: dict[str, object] | Refusal) -> None:
        self.happened.append(("reply", request))

    def push(self, requests: Sequence[int], body: object) -> None:
        self.happened.append(("push", requests, body))

    def role(self, change: RoleChange) -> None:
        self.happened.append(change)

    # the test's side

    @property
    def taken(self) -> list[Input]:
        return [item for inputs in self.inputs for item in inputs]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.driver.run())
        try:
            yield
        finally:
            self.driver.stop()
            await task


def order(world: World, *names: object) -> list[int]:
    return [world.happened.index(name) for name in names]


async def test_persist_then_speak_and_sockets_before_the_disk() -> None:
    world = World(
        Effects(
            persist=[RECORD],
            persist_number=3,
            send_now=[(2, MESSAGE)],
            send_after_persist=[(3, AFTER)],
            answers=[Reply(1, {})],
        )
    )
    async with world.running():
        await until(lambda: Persisted(3) in world.taken)
    places = order(world, ("append", [RECORD]), ("send", [(2, MESSAGE)]), ("reply", 1), "sync", ("send", [(3, AFTER)]))
    assert places == sorted(places)
    assert world.inputs[1] == [Persisted(3)], "the report follows at once"


async def test_other_tasks_run_between_the_sockets_and_the_sync() -> None:
    world = World(Effects(persist=[RECORD], persist_number=1, send_now=[(2, MESSAGE)]))
    world_sync = world.sync

    def sync() -> None:
        world_sync()
        assert "loop turned" in world.happened

    world.sync = sync  # type: ignore[method-assign]
    async with world.running():
        asyncio.get_running_loop().call_soon(world.happened.append, "loop turned")
        await until(lambda: Persisted(1) in world.taken)


async def test_the_clock_is_read_after_the_inputs_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    drained: list[bool] = []

    def now_ms() -> int:
        drained.append(world.driver.queued == 0)
        return 1

    monkeypatch.setattr(clock, "now_ms", now_ms)
    world.driver.post(CALL)
    async with world.running():
        await until(lambda: CALL in world.taken)
    assert drained[0]


async def test_time_goes_on_without_inputs() -> None:
    world = World()
    async with world.running():
        await until(lambda: len(world.inputs) >= 3)
    assert not world.taken


async def test_what_queues_while_the_disk_works_goes_into_one_step() -> None:
    world = World(Effects(persist=[RECORD], persist_number=1))
    async with world.running():
        await until(lambda: bool(world.inputs))
        calls = [Call(number, "get", {}) for number in range(5)]
        for call in calls:
            world.driver.post(call)
        await until(lambda: calls[0] in world.taken)
    assert any(list(inputs[-5:]) == calls for inputs in world.inputs)


async def test_turns_stay_short_whatever_has_queued() -> None:
    world = World()
    for number in range(3 * INPUTS_PER_STEP):
        world.driver.post(Call(number, "get", {}))
        world.driver.post_message(MESSAGE, 10)
    async with world.running():
        await until(lambda: len(world.taken) == 6 * INPUTS_PER_STEP)
    assert max(len(inputs) for inputs in world.inputs) == 2 * INPUTS_PER_STEP
    assert any(isinstance(item, Call) for item in world.inputs[0])
    assert any(isinstance(item, PeerMessage) for item in world.inputs[0])


async def test_what_is_urgent_overtakes_a_flood_of_other_calls_and_starves_nobody() -> None:
    world = World()
    flood = [Call(number, "get", {}) for number in range(2 * INPUTS_PER_STEP)]
    urgent = [Call(number, "keep_alive", {}) for number in range(10_000, 10_000 + INPUTS_PER_STEP)]
    gone = Gone((urgent[0].request,))
    for call in flood:
        world.driver.post(call)
    for call in urgent:
        world.driver.post(call, urgent=True)
    world.driver.post(gone)
    assert (world.driver.queued, world.driver.queued_urgent) == (len(flood) + 1, len(urgent))
    async with world.running():
        await until(lambda: len(world.taken) == len(flood) + len(urgent) + 1)
    first, second, *_ = (list(inputs) for inputs in world.inputs)
    assert first == urgent[:URGENT_PER_STEP] + flood[: INPUTS_PER_STEP - URGENT_PER_STEP]
    assert second[: INPUTS_PER_STEP - URGENT_PER_STEP] == urgent[URGENT_PER_STEP:]
    assert world.taken.index(gone) > world.taken.index(urgent[0]), "nobody has gone before he came"


async def test_what_is_urgent_has_the_whole_turn_where_nothing_else_waits() -> None:
    world = World()
    urgent = [Call(number, "keep_alive", {}) for number in range(INPUTS_PER_STEP)]
    for call in urgent:
        world.driver.post(call, urgent=True)
    async with world.running():
        await until(lambda: bool(world.inputs))
    assert list(world.inputs[0]) == urgent


async def test_messages_of_peers_beyond_the_bound_are_dropped() -> None:
    world = World()
    world.driver.post_message(MESSAGE, PEER_INBOX_BYTES_MAX)
    world.driver.post_message(MESSAGE, 1)
    assert world.driver.peer_messages_dropped == 1
    async with world.running():
        await until(lambda: PeerMessage(MESSAGE) in world.taken)
        world.driver.post_message(MESSAGE, 1)
        await until(lambda: world.taken.count(PeerMessage(MESSAGE)) == 2)


async def test_a_failed_sync_ends_the_driver_and_nothing_that_depends_on_it_leaves() -> None:
    world = World(Effects(persist=[RECORD], persist_number=1, send_after_persist=[(2, AFTER)]))
    world.fail_sync = True
    with pytest.raises(SyncFailedError):
        await world.driver.run()
    assert ("send", [(2, AFTER)]) not in world.happened
    assert len(world.inputs) == 1


async def test_a_broken_assertion_of_the_engine_ends_the_driver() -> None:
    world = World()

    def step(*arguments: object) -> Effects:
        raise AssertionError("an invariant is broken")

    world.step = step  # type: ignore[method-assign, assignment]
    with pytest.raises(AssertionError, match="an invariant is broken"):
        await world.driver.run()


async def test_a_stop_that_the_core_requires_comes_before_anything_else_of_that_step() -> None:
    world = World(Effects(persist=[RECORD], persist_number=1, send_now=[(2, MESSAGE)], stop="went back in time"))
    with pytest.raises(StopRequired, match="went back in time"):
        await world.driver.run()
    assert world.happened == ["step"]


async def test_a_replica_whose_state_is_not_that_of_the_others_says_so_once_more_and_does_nothing_else() -> None:
    world = World(
        Effects(
            persist=[RECORD],
            persist_number=1,
            send_now=[(2, MESSAGE)],
            send_after_persist=[(2, AFTER)],
            answers=[Reply(1, {})],
            diverged="not that of replicas 2, 3",
            differs="one of them is wrong",
        )
    )
    with pytest.raises(Diverged, match="not that of replicas 2, 3"):
        await world.driver.run()
    assert world.happened == ["step", ("send", [(2, MESSAGE)])]


async def test_a_full_disk_is_told_and_the_records_wait_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "DISK_FULL_RETRY_MS", 0)
    first, second = ChosenRecord(1), ChosenRecord(2)
    world = World(
        Effects(persist=[first], persist_number=1, send_after_persist=[(2, AFTER)]),
        Effects(persist=[second], persist_number=2),
    )
    world.full = True
    async with world.running():
        await until(lambda: world.happened.count("full") >= 2)
        assert DiskFull() in world.taken
        assert "sync" not in world.happened, "nothing is reported durable that is not written"
        world.full = False
        await until(lambda: Persisted(2) in world.taken)
    assert world.taken.index(DiskHasRoom()) > world.taken.index(DiskFull())
    assert ("append", [first, second]) in world.happened
    assert ("send", [(2, AFTER)]) not in world.happened
    assert Persisted(1) not in world.taken


async def test_a_chunk_of_a_snapshot_is_read_and_sent_and_a_gone_one_is_not() -> None:
    chunk = m.SnapshotChunk(1, 1, Ballot(1, 1), 7, 100, 20, b"")
    gone = m.SnapshotChunk(1, 1, Ballot(1, 1), 6, 100, 20, b"")
    world = World(Effects(transfers=[SendSnapshotChunk(2, chunk), SendSnapshotChunk(3, gone)]))
    async with world.running():
        await until(lambda: len(world.inputs) > 1)
    sent = [item for item in world.happened if isinstance(item, tuple) and item[0] == "send"]
    assert sent == [("send", [(2, m.SnapshotChunk(1, 1, Ballot(1, 1), 7, 100, 20, b"chunk"))])]


async def test_a_whole_snapshot_of_a_peer_is_reported() -> None:
    world = World(Effects(transfers=[StoreSnapshotChunk(9, 10, 0, bytes(10))]))
    world.stored = StoredSnapshot(9, 10, MEMBERS, b"state")
    async with world.running():
        await until(lambda: SnapshotReceived(9, 10, MEMBERS, b"state") in world.taken)


@pytest.mark.parametrize("refuse", [True, False], ids=["damaged", "earlier chunk lost"])
async def test_a_snapshot_that_does_not_become_whole_is_given_up(refuse: bool) -> None:
    world = World(Effects(transfers=[StoreSnapshotChunk(9, 10, 5, bytes(5))]))
    world.refuse_snapshot = refuse
    async with world.running():
        await until(lambda: SnapshotDropped(9) in world.taken)


async def test_an_own_snapshot_is_begun_and_its_outcome_reported_and_the_log_cut_when_told() -> None:
    world = World(Effects(snapshot=TakeSnapshot(5, MEMBERS)), Effects(cut=CutLog(5)))
    async with world.running():
        await until(lambda: ("snapshot", 5, MEMBERS, b"state") in world.happened)
        world.outcome = SnapshotTaken(5, 100)
        await until(lambda: SnapshotTaken(5, 100) in world.taken)
        await until(lambda: ("cut", 5) in world.happened)


async def test_a_snapshot_while_one_is_being_written_fails_and_does_no_harm() -> None:
    world = World(Effects(snapshot=TakeSnapshot(5, MEMBERS)))
    world.busy = True
    async with world.running():
        await until(lambda: any(isinstance(item, SnapshotFailed) for item in world.taken))


async def test_a_change_of_role_is_told() -> None:
    world = World(Effects(role=RoleChange("master", 1, 4)))
    async with world.running():
        await until(lambda: RoleChange("master", 1, 4) in world.happened)


async def test_a_removed_replica_ends_when_all_it_owes_is_done() -> None:
    world = World(Effects(persist=[RECORD], persist_number=1, send_now=[(2, MESSAGE)], left=True,
                          send_after_persist=[(3, AFTER)], membership=MEMBERS))  # fmt: skip
    with pytest.raises(RemovedFromCell, match="removed from the cell"):
        await world.driver.run()
    assert world.happened[-2:] == ["sync", ("send", [(3, AFTER)])]
    assert MEMBERS in world.happened


async def test_a_removed_replica_with_a_full_disk_ends_all_the_same() -> None:
    world = World(Effects(persist=[RECORD], persist_number=1, left=True))
    world.full = True
    with pytest.raises(RemovedFromCell):
        await world.driver.run()
