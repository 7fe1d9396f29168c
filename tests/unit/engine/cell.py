"""Engines in one process for tests: a network without delay that can be cut, disks that can be held, one clock.

Everything that an engine does is checked after every step. Time moves only by `run`; nothing is left to chance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from coordclient.protocol.errors import Refusal
from coordclient.protocol.operations import check_arguments, find_operation
from coordd.engine.effects import Effects, Push, TakeSnapshot
from coordd.engine.engine import Engine
from coordd.engine.inputs import Call, Input, PeerMessage, Persisted, SnapshotReceived, SnapshotTaken
from coordd.engine.settings import EngineSettings
from coordd.machine import invariants as machine_invariants
from coordd.machine.machine import Machine
from coordd.paxos import invariants as paxos_invariants
from coordd.paxos.effects import (
    AcceptedRecord,
    ChosenRecord,
    Durable,
    PromiseRecord,
    Record,
    SendSnapshotChunk,
    StoreSnapshotChunk,
)
from coordd.paxos.membership import Membership
from coordd.paxos.messages import Message, SnapshotChunk
from coordd.paxos.state import PaxosSettings

TICK_MS = 50
_ABOUT = ("session", "call", "acked", "attachment", "incarnation", "channel", "secret", "principal")


@dataclass
class Disk:
    """What survives a crash of one replica."""

    membership: Membership
    start: int = 0
    records: list[Record] = field(default_factory=list)
    snapshot: tuple[int, Membership, bytes] | None = None

    def open(self) -> Durable:
        self.start += 1
        slot, membership, state = self.snapshot or (0, self.membership, b"")
        durable = Durable(self.start, membership, snapshot_slot=slot, snapshot_size=len(state), chosen_upto=slot)
        for record in self.records:
            match record:
                case PromiseRecord(ballot):
                    durable.promised = max(durable.promised, ballot)
                case AcceptedRecord(at, ballot, value):
                    if at > slot:
                        durable.entries[at] = (ballot, value)
                case ChosenRecord(upto):
                    durable.chosen_upto = max(durable.chosen_upto, upto)
        return durable


class Node:
    """One replica: its engine, its disk, and what has come in for its next step."""

    def __init__(self, cell: Cell, replica: int, membership: Membership) -> None:
        self.cell = cell
        self.replica = replica
        self.disk = Disk(membership)
        self.paused = False
        self.disk_held = False
        self.steps = 0
        self.unfinished = False
        self.rewrite: Callable[[Input], Input] = lambda item: item  # what a driver may make of an input
        self.wishes: list[TakeSnapshot] | None = None  # where given, snapshots are only noted here, not taken
        self.start()

    def start(self) -> None:
        durable = self.disk.open()
        saved = self.disk.snapshot
        machine = Machine(self.cell.name) if saved is None else Machine.restore(saved[2])
        self.engine = Engine(self.cell.settings(self.replica), durable, machine, self.cell.now_ms)
        self.alive = True
        self.inbox: list[Input] = []
        self.unsynced: list[Effects] = []
        self.incoming = b""
        self.stopped: str | None = None
        self.diverged: str | None = None
        self.doubts: list[str] = []
        self.left = False
        self.memberships: list[Membership] = []
        self.last = Effects()
        self._summary = paxos_invariants.check(self.engine.replica)
        self._machine_summary = machine_invariants.summarize(self.engine.machine)

    def crash(self) -> None:
        self.alive = self.unfinished = False

    def step(self, *inputs: Input) -> Effects:
        """One turn of the driver, without its sync."""
        taken, self.inbox = [self.rewrite(item) for item in (*self.inbox, *inputs)], []
        self.steps += 1
        entropy = sha256(f"{self.cell.seed} {self.replica} {self.disk.start} {self.steps}".encode()).digest()
        effects = self.engine.step(taken, self.cell.now_ms, self.cell.now_ms + 1_700_000_000_000, entropy)
        self._check()
        for to, message in effects.send_now:
            self.cell.send(self.replica, to, message)
        if effects.differs is not None:
            self.doubts.append(effects.differs)
        if effects.diverged is not None:
            self.diverged = effects.diverged
            self.crash()
            return effects
        for transfer in effects.transfers:
            self._transfer(transfer)
        self.unfinished = effects.unfinished
        for answer in effects.answers:
            if isinstance(answer, Push):
                self._pushed(answer)
                continue
            assert answer.request not in self.cell.answers, "one answer for one request"
            self.cell.answers[answer.request] = answer.result
        if effects.snapshot is not None and self.wishes is not None:
            self.wishes.append(effects.snapshot)
        elif effects.snapshot is not None:
            state = self.engine.snapshot_state()
            self.disk.snapshot = (effects.snapshot.slot, effects.snapshot.membership, state)
            self.cell.snapshots[effects.snapshot.slot] = effects.snapshot.membership
            self.inbox.append(SnapshotTaken(effects.snapshot.slot, len(state)))
        if effects.cut is not None:
            upto = effects.cut.upto
            assert self.disk.snapshot is not None and self.disk.snapshot[0] >= upto, "only what a snapshot holds is cut"
            self.disk.records = [r for r in self.disk.records if not (isinstance(r, AcceptedRecord) and r.slot <= upto)]
        if effects.persist_number:
            self.unsynced.append(effects)
        else:
            assert not effects.send_after_persist
        self.stopped = self.stopped or effects.stop
        self.left |= effects.left
        if effects.membership is not None:
            self.memberships.append(effects.membership)
        self.last = effects
        return effects

    def _pushed(self, push: Push) -> None:
        for request in push.requests:
            assert request not in self.cell.answers, "nothing comes behind the last answer"
            self.cell.pushed.setdefault(request, []).append(push.body)

    def sync(self) -> bool:
        """Make durable what was written, report it and say what depended on it."""
        if not self.unsynced or self.disk_held or not self.alive:
            return False
        done, self.unsynced = self.unsynced, []
        for effects in done:
            self.disk.records += effects.persist
        self.step(Persisted(done[-1].persist_number))
        for effects in done:
            for to, message in effects.send_after_persist:
                self.cell.send(self.replica, to, message)
        return True

    def _transfer(self, transfer: SendSnapshotChunk | StoreSnapshotChunk) -> None:
        if isinstance(transfer, SendSnapshotChunk):
            saved, chunk = self.disk.snapshot, transfer.chunk
            if saved is not None and saved[0] == chunk.slot:
                data = saved[2][chunk.offset : chunk.offset + 100_000]
                header = (chunk.sender, chunk.start, chunk.ballot)
                filled = SnapshotChunk(*header, slot=chunk.slot, size=chunk.size, offset=chunk.offset, data=data)
                self.cell.send(self.replica, transfer.to, filled)
            return
        assert transfer.offset in (0, len(self.incoming))
        self.incoming = self.incoming[: transfer.offset] + transfer.data
        if len(self.incoming) == transfer.size:
            membership = self.cell.snapshots[transfer.slot]
            self.disk.snapshot = (transfer.slot, membership, self.incoming)
            self.inbox.append(SnapshotReceived(transfer.slot, transfer.size, membership, self.incoming))

    def _check(self) -> None:
        engine = self.engine
        assert engine.machine.applied_upto == engine.replica.chosen_upto
        summary = paxos_invariants.check(engine.replica)
        paxos_invariants.check_delta(self._summary, summary)
        self._summary = summary
        machine_invariants.check(engine.machine)
        machine_invariants.check_delta(self._machine_summary, engine.machine)
        self._machine_summary = machine_invariants.summarize(engine.machine)


class Cell:
    """`replicas` engines; settings by keyword. `answers` maps requests to what they were answered last."""

    def __init__(self, replicas: int = 1, seed: int = 0, lease_ms: int = 1_500, **numbers: Any) -> None:
        self.name = "test"
        self.seed = seed
        self.now_ms = 1_000_000
        self.numbers = numbers
        self.answers: dict[int, Any] = {}
        self.pushed: dict[int, list[dict[str, Any]]] = {}  # what came before the last answer
        self.cut: set[tuple[int, int]] = set()
        self.dropped: Callable[[int, int, Message], bool] = lambda sender, to, message: False
        self.snapshots: dict[int, Membership] = {}  # the membership of every snapshot, by slot
        self._requests = 0
        voters = tuple(range(1, replicas + 1))
        self.voters, self.lease_ms = voters, lease_ms
        membership = Membership(1, voters, lease_ms=lease_ms)
        self.nodes = {replica: Node(self, replica, membership) for replica in voters}

    def join(self, replica: int) -> Node:
        """A new replica with an empty disk; its file names the first members and itself."""
        first = Membership(0, self.voters, (replica,), lease_ms=self.lease_ms)
        self.nodes[replica] = Node(self, replica, first)
        return self.nodes[replica]

    def settings(self, replica: int) -> EngineSettings:
        return EngineSettings(PaxosSettings(replica), **self.numbers)

    # ---- network and time ----

    def send(self, sender: int, to: int, message: Message) -> None:
        node = self.nodes.get(to)
        if node is not None and node.alive and (sender, to) not in self.cut and not self.dropped(sender, to, message):
            node.inbox.append(PeerMessage(message))

    def isolate(self, replica: int) -> None:
        """Nothing goes in or out any more."""
        self.cut |= {(a, b) for a in self.nodes for b in self.nodes if replica in (a, b)}

    def heal(self) -> None:
        self.cut.clear()

    def settle(self) -> None:
        """Deliver and sync until nothing moves, without time passing."""
        for _ in range(2_000):
            moved = False
            for node in self.nodes.values():
                if node.alive and not node.paused and (node.inbox or node.unfinished):
                    node.step()
                    moved = True
                moved |= not node.paused and node.sync()
            if not moved:
                return
        raise AssertionError("the cell never comes to rest")

    def run(self, ms: int, tick_ms: int = TICK_MS) -> None:
        """Let time pass, with a step of everybody at each tick."""
        end = self.now_ms + ms
        while self.now_ms < end:
            self.now_ms = min(end, self.now_ms + tick_ms)
            for node in self.nodes.values():
                if node.alive and not node.paused:
                    node.step()
            self.settle()

    def until(self, condition: Callable[[], bool], limit_ms: int = 60_000) -> None:
        end = self.now_ms + limit_ms
        while not condition():
            assert self.now_ms < end, f"not within {limit_ms} ms"
            self.run(TICK_MS)

    def master(self) -> Node:
        """The one that serves inside its lease, once there is one."""
        found: list[Node] = []

        def look() -> bool:
            found[:] = [
                node
                for node in self.nodes.values()
                if node.alive and not node.paused and node.engine.replica.lease_valid(self.now_ms)
            ]
            assert len(found) <= 1, "two masters inside their leases"
            return bool(found)

        self.until(look)
        return found[0]

    # ---- clients ----

    def call(self, operation: str, node: Node | None = None, about: dict[str, Any] | None = None, **fields: Any) -> int:
        """Hand one call to a replica's next step; returns its request.

        `about` are fields of Call that are no argument; so is what else stands here and the operation does not know.
        """
        row = find_operation(operation)
        known = {name: fields.pop(name) for name in _ABOUT if name in fields and name not in row.by_name}
        self._requests += 1
        call = Call(self._requests, operation, check_arguments(row, fields), **(about or {}), **known)
        (node or self.master()).inbox.append(call)
        return self._requests

    def do(self, operation: str, node: Node | None = None, **fields: Any) -> Any:
        """Call and settle; the answer, which must be there without time passing."""
        request = self.call(operation, node, **fields)
        self.settle()
        assert request in self.answers, f"{operation} was not answered"
        return self.answers[request]

    def refused(self, operation: str, node: Node | None = None, **fields: Any) -> str:
        """The code of the refusal that `do` must get."""
        answer = self.do(operation, node, **fields)
        assert isinstance(answer, Refusal), answer
        return answer.code

    def open(self, lease_ms: int = 12_000) -> Client:
        """A client with a session, attached."""
        opened = self.do("open_session", lease_ms=lease_ms)
        return Client(self, opened["session"], opened["secret"])


class Client:
    """A session's calls, numbered; on a channel of its own (`attachment`)."""

    def __init__(self, cell: Cell, session: int, secret: str) -> None:
        self.cell = cell
        self.session = session
        self.secret = secret
        self.number = 0
        self.attachment = 0
        self.incarnation = 1
        self.attach()

    def attach(self) -> Any:
        self.attachment += 1
        about: dict[str, Any] = {"session": self.session, "secret": self.secret, "attachment": self.attachment}
        answer = self.cell.do("attach", **about)
        if isinstance(answer, dict):
            self.incarnation = answer["incarnation"]
        return answer

    def next(self) -> int:
        self.number += 1
        return self.number

    def call(self, operation: str, node: Node | None = None, number: int | None = None, **fields: Any) -> int:
        return self.cell.call(operation, node, self._about(number or self.next()), **fields)

    def send(self, operation: str, node: Node | None = None, **arguments: Any) -> int:
        """As `call`, for operations with an argument `number`; the request."""
        return self.cell.call(operation, node, self._about(self.next()), **arguments)

    def _about(self, number: int) -> dict[str, Any]:
        """What a frame of the present channel says."""
        channel = {"attachment": self.attachment, "incarnation": self.incarnation}
        return {"session": self.session, "call": number, **channel}

    def do(self, operation: str, node: Node | None = None, number: int | None = None, **fields: Any) -> Any:
        request = self.call(operation, node, number, **fields)
        self.cell.settle()
        assert request in self.cell.answers, f"{operation} was not answered"
        return self.cell.answers[request]

    def keep_alive(self, node: Node | None = None, hold_ms: int = 0) -> int:
        number = self.next()
        return self.cell.call("keep_alive", node, self._about(number), number=number, hold_ms=hold_ms)
