"""One replica = paxos + machine + what only a master keeps. Pure: no I/O, no clock, no randomness; all of it comes in.

A step feeds paxos, lets its timers run, applies at once and in order whatever is chosen, answers clients, and proposes
what has queued, until nothing more follows. So after every step `machine.applied_upto == replica.chosen_upto`.
The duties of whoever performs the effects are told in `coordd.engine.effects`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from coordclient.protocol.errors import Refusal
from coordd.engine.digests import Digests
from coordd.engine.effects import CutLog, Effects, Reply, RoleChange, TakeSnapshot
from coordd.engine.inputs import (
    Call,
    Congested,
    DiskFull,
    DiskHasRoom,
    Gone,
    HandOverRequest,
    Input,
    PeerMessage,
    Persisted,
    SnapshotDropped,
    SnapshotFailed,
    SnapshotReceived,
    SnapshotTaken,
)
from coordd.engine.mastership import Mastership
from coordd.engine.settings import EngineSettings
from coordd.engine.watches import Watches
from coordd.machine.machine import Machine
from coordd.paxos.effects import Chosen, Durable, ValueKind
from coordd.paxos.replica import Replica

_SLOT_BYTES = 64  # reckoned for a slot in the log besides its payload


class Engine:
    """See the module docstring. `replica` and `machine` are for reading."""

    def __init__(self, settings: EngineSettings, durable: Durable, machine: Machine, now_ms: int) -> None:
        assert machine.applied_upto == durable.snapshot_slot, "the machine stands where its snapshot was taken"
        self.settings = settings
        self.machine = machine
        self.replica = Replica(settings.paxos, durable, now_ms)
        self._mastership = Mastership(settings, self.replica, machine, now_ms)
        self._digests = Digests(self.replica, settings.paxos.replica, machine.applied_upto, machine.history, now_ms)
        mastership = self._mastership
        self._watches = Watches(settings, machine, mastership.replies, mastership.wait, mastership.caching)
        mastership.handlers |= self._watches.handlers
        self._effects = Effects()
        self._now_ms = now_ms
        self._log_bytes = 0  # applied since the last snapshot
        self._snapshot_slot: int | None = None  # the own snapshot that is being written
        self._membership_version: int | None = None  # of the last one that was told
        self._role: tuple[str, int | None, int] | None = None

    def step(self, inputs: Sequence[Input], now_ms: int, wall_ms: int, entropy: bytes) -> Effects:
        """One turn. `now_ms` was read after the last input was taken; `entropy` is 32 fresh random bytes."""
        assert now_ms >= self._now_ms, "the clock never goes back"
        assert len(entropy) == 32
        self._now_ms = now_ms
        mastership = self._mastership
        mastership.begin(now_ms, entropy)
        clients: list[Call | Gone] = []
        for item in inputs:
            self._feed(item, clients)
        self.replica.tick(now_ms, int.from_bytes(entropy[:8], "big"))
        self._effects.diverged = self._digests.look(now_ms)
        self._settle()
        mastership.let_through()
        for client in clients:
            self._serve(client)
        mastership.go_on()
        if mastership.ask_for_round():
            self._settle()
            mastership.let_through()
        while self._change() or self._propose(wall_ms):
            self._settle()
        mastership.changes.answer_settled(now_ms)
        mastership.refuse_late()
        self._effects.unfinished = self._watches.work(now_ms, mastership.lessor.ruling)
        self._take_snapshot_if_due()
        return self._finish()

    def snapshot_state(self) -> bytes:
        """The machine's state as of now; may be called in a forked child."""
        return self.machine.snapshot()

    def status(self, now_ms: int) -> dict[str, object]:
        """What the operation `status` tells of this replica, as far as the engine knows."""
        replica, mastership = self.replica, self._mastership
        return {
            "replica": self.settings.paxos.replica,
            "role": replica.role.value,
            "serving": replica.serving,
            "lease": replica.lease_valid(now_ms),
            "master": replica.master,
            "epoch": self.machine.epoch,
            "ballot": str(replica.ballot),
            "revision": self.machine.revision,
            "chosen_upto": replica.chosen_upto,
            "log_first_slot": replica.log_first_slot,
            "snapshot_slot": replica.snapshot_slot,
            "membership_version": replica.membership.version,
            "standing": self._standing(),
            "differs_from": list(self._digests.differing),
            "disk_full": replica.state.mute,
            "sessions": len(self.machine.sessions),
            "unanswered": len(mastership.calls.open),
            "queued": len(mastership.calls.queue),
            "watches": len(self._watches),
        }

    def _standing(self) -> str:
        """What this replica is to the cell, as far as it knows."""
        own, membership = self.settings.paxos.replica, self.replica.membership
        if self.replica.state.left:
            return "removed"
        if membership.version == 0 or own not in membership:
            return "joining"
        return "voter" if own in membership.voters else "learner"

    # ---- inputs ----

    def _feed(self, item: Input, clients: list[Call | Gone]) -> None:
        match item:
            case Call() | Gone():
                clients.append(item)
            case PeerMessage(message):
                self.replica.receive(message, self._now_ms)
            case Persisted(number):
                self.replica.persisted(number, self._now_ms)
            case SnapshotTaken():
                self._snapshot_taken(item)
            case SnapshotFailed():
                self._snapshot_slot = None  # the log is kept; as much of it again, and another is tried
            case SnapshotReceived():
                self._snapshot_received(item)
            case SnapshotDropped():
                self.replica.forget_snapshot()
            case DiskFull():
                self.replica.disk_full(self._now_ms)
            case DiskHasRoom():
                self.replica.disk_has_room(self._now_ms)
            case Congested(channel, full):
                self._watches.congested(channel, full)
            case HandOverRequest(to):
                self.replica.hand_over(self._now_ms, to)
            case _:
                assert_never(item)

    def _serve(self, client: Call | Gone) -> None:
        if isinstance(client, Gone):
            self._mastership.gone(client.requests)
            self._watches.gone(client.requests)
        elif client.operation == "status":
            self._effects.answers.append(Reply(client.request, self.status(self._now_ms)))
        elif client.operation == "check_sequencer" and client.arguments["stale"]:
            self._effects.answers.append(Reply(client.request, self._stale_check(client)))
        else:
            self._mastership.take(client)

    def _stale_check(self, call: Call) -> dict[str, object] | Refusal:
        """From the own state, whoever is master; the answer says which revision that is."""
        if not self.machine.has_key:
            return Refusal("unavailable", "this replica knows nothing of the cell's locks yet")
        return self.machine.query(call.operation, call.arguments)

    # ---- paxos and machine ----

    def _settle(self) -> None:
        """Take what paxos wants done; apply what is chosen, under the reign that paxos now says there is."""
        taken = self.replica.take_effects()
        for chosen in taken.chosen:
            if chosen.kind is ValueKind.MEMBERSHIP:  # its reign may end with it, but its outcome is known
                self._mastership.changes.chosen(chosen.slot, chosen.payload, self._now_ms)
        self._mastership.notice()
        self._watches.notice(self._mastership.reign, self._mastership.not_master)
        for chosen in taken.chosen:
            self._apply(chosen)
        assert self.machine.applied_upto == self.replica.chosen_upto, "everything chosen is applied at once"
        self._mastership.look_at_lease()
        effects = self._effects
        effects.persist += taken.persist
        if taken.persist_number:
            assert taken.persist_number >= effects.persist_number
            effects.persist_number = taken.persist_number
        effects.send_now += taken.send_now
        effects.send_after_persist += taken.send_after_persist
        effects.transfers += taken.snapshot_transfers
        for digest in taken.digests:
            self._digests.heard(digest)
        effects.stop = effects.stop or taken.stop
        effects.left |= taken.left

    def _apply(self, chosen: Chosen) -> None:
        machine, slot, payload = self.machine, chosen.slot, chosen.payload
        assert slot == machine.applied_upto + 1
        self._log_bytes += len(payload) + _SLOT_BYTES
        match chosen.kind:
            case ValueKind.BATCH:
                self._mastership.applied(slot, payload, machine.apply_batch(slot, payload))
            case ValueKind.EPOCH:
                assert slot not in self._mastership.calls.proposed
                machine.begin_epoch(slot, int.from_bytes(payload, "big"))
            case ValueKind.NO_OP | ValueKind.MEMBERSHIP:
                assert slot not in self._mastership.calls.proposed
                machine.skip(slot, payload)
            case _:
                assert_never(chosen.kind)
        self._digests.applied(slot, machine.history)

    def _change(self) -> bool:
        """Propose the change of the membership that is next, if there is one and nothing is in flight."""
        changes = self._mastership.changes
        if not (changes and self.replica.can_change()):
            return False
        found = changes.next(self._now_ms)
        if found is None:
            return False
        change, membership = found
        changes.proposed(change, self.replica.change(membership, self._now_ms), membership)
        return True

    def _propose(self, wall_ms: int) -> bool:
        """Propose one batch, if there is room and something to propose."""
        if not self.replica.can_propose():
            return False
        if self._mastership.changes and self.replica.may_drain():
            return False  # what is in flight lands first, then the change that waits, and nothing in between
        batch = self._mastership.next_batch(wall_ms)
        if batch is None:
            return False
        slot = self.replica.propose(batch.payload, self._now_ms)
        self._mastership.calls.proposed[slot] = batch
        return True

    # ---- snapshots ----

    def _take_snapshot_if_due(self) -> None:
        slot, membership = self.replica.chosen_upto, self.replica.membership
        due = self._log_bytes > self.settings.snapshot_log_bytes and slot > self.replica.snapshot_slot
        # A joining replica does not know the members before the first change that it applies, so it takes none there:
        # whoever got such a snapshot from it would forget them.
        if due and self._snapshot_slot is None and membership.version:
            self._snapshot_slot = slot
            self._log_bytes = 0
            self._effects.snapshot = TakeSnapshot(slot, membership)

    def _snapshot_taken(self, taken: SnapshotTaken) -> None:
        assert taken.slot == self._snapshot_slot, "one snapshot at a time"
        self._snapshot_slot = None
        self._stands_at(taken.slot, taken.size)

    def _stands_at(self, slot: int, size: int) -> None:
        """A snapshot of `slot`, which is applied here, is the durable one now."""
        assert slot > self.replica.snapshot_slot, "the store takes no older snapshot, neither an own nor a peer's"
        self.replica.compact(slot, size)
        self._cut(slot)

    def _snapshot_received(self, received: SnapshotReceived) -> None:
        self._settle()  # what was chosen before it comes first
        if received.slot <= self.replica.chosen_upto:
            self.replica.forget_snapshot()  # overtaken on its way
            self._stands_at(received.slot, received.size)  # but it has taken the older one's place on the disk
            return
        self.machine = self._mastership.machine = self._watches.machine = type(self.machine).restore(received.state)
        assert self.machine.applied_upto == received.slot
        self._digests.restored(received.slot, self.machine.history)
        self.replica.install(received.slot, received.size, received.membership, self._now_ms)
        self._log_bytes = 0
        self._cut(received.slot)
        self._settle()

    def _cut(self, upto: int) -> None:
        earlier = self._effects.cut
        self._effects.cut = CutLog(upto if earlier is None else max(upto, earlier.upto))

    # ---- the end of a step ----

    def _finish(self) -> Effects:
        role = (self.replica.role.value, self.replica.master, self.replica.epoch)
        effects, self._effects = self._effects, Effects()
        if role != self._role:
            self._role = role
            effects.role = RoleChange(*role)
        membership = self.replica.membership
        if membership.version != self._membership_version:
            self._membership_version = membership.version
            effects.membership = membership
        effects.differs, self._digests.doubt = self._digests.doubt, None
        mastership = self._mastership
        effects.answers += mastership.replies
        mastership.replies.clear()
        return effects
