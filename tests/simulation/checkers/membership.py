"""Checkers of changes of the membership: one at a time, drained on both sides, settled before the next one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from coordd.engine.effects import Effects
from coordd.engine.inputs import Input
from coordd.paxos.ballot import Ballot
from coordd.paxos.effects import ValueKind
from coordd.paxos.membership import Membership
from coordd.paxos.messages import Accept, Accepted, HeartbeatAnswer, Promise, Removed
from tests.simulation.checkers.panel import Checker
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.process import Process

_MEMBERSHIP, _EPOCH = ValueKind.MEMBERSHIP.value, ValueKind.EPOCH.value


class OneChangeAtATime(Checker):
    """A change is proposed when all before it is chosen, alone, and when the one before it has been felt by a majority.

    "Felt": the new voters have answered the proposing master, in true time, after it had applied the last change. Who
    recovers proposes nothing but what a majority of the present voters promised to; and a removed replica is sent away
    only when a majority of the present voters knows durably that it is out.
    """

    name = "membership"

    def __init__(self, world: World, first: Membership) -> None:
        super().__init__(world)
        self._memberships: dict[int, Membership] = {first.version: first}
        self._slots: dict[int, int] = {first.version: 0}  # version -> where it was applied first
        self.newest = first
        self._proposed: set[tuple[int, int, int]] = set()  # replica, start, slot: changes seen in an Accept
        self._known: dict[tuple[int, int], tuple[int, int]] = {}  # replica, start -> version, when it was applied here
        self._answered_us: dict[tuple[int, int], int] = {}  # (voter, master) -> when it answered last
        self._promised: dict[Ballot, set[int]] = {}
        self._durable: dict[int, int] = {}  # replica -> the version that it durably knows to be chosen
        self.changes = 0

    def was_member(self, replica: int) -> bool:
        """Whether it ever was one."""
        return any(replica in membership for membership in self._memberships.values())

    def stepped(self, process: Process, inputs: Sequence[Input], effects: Effects, now_ms: int) -> None:
        state = process.engine.replica.state
        version = state.membership.version
        if version and self._memberships.get(version) is not state.membership:
            self._see(process, state.membership, state.membership_slot)
        if state.persist_done >= state.membership_number:
            self._durable[process.name] = max(version, self._durable.get(process.name, 0))

    def _see(self, process: Process, membership: Membership, slot: int) -> None:
        """A replica has applied a change: the same one as everybody, and one of one replica."""
        known = self._memberships.get(membership.version)
        if known is None:
            if not membership.follows(self.newest):
                raise self.broken(f"replica {process.name}: {membership} is not one change from {self.newest}")
            self.newest = self._memberships[membership.version] = membership
            self._slots[membership.version] = slot
            self.changes += 1
            if self.world.tracing:
                words = f"voters {membership.voters}, learners {membership.learners}"
                self.world.tell("--", f"slot {slot}, version {membership.version}: {words}")
        elif known != membership:
            raise self.broken(f"replica {process.name} has {membership}, others have {known}")

    def spoke(self, process: Process, messages: Sequence[tuple[int, Any]]) -> None:
        core = process.engine.replica
        me = (process.name, core.state.start)
        version = core.membership.version
        if self._known.get(me, (-1, 0))[0] != version:
            self._known[me] = (version, self.world.now_us)
        for target, message in messages:
            kind = type(message)
            if kind is Accept and message.entries:
                self._check_drained(process, message)
            elif kind is Promise:
                self._promised.setdefault(message.ballot, set()).add(process.name)
            elif kind is Removed:
                self._check_needless(process, message, target)
            elif (kind is HeartbeatAnswer or kind is Accepted) and message.number:
                self._answered_us[process.name, target] = self.world.now_us
            if kind is HeartbeatAnswer or kind is Accepted:
                self._reports(process.name, message.chosen_upto)

    def _reports(self, replica: int, chosen_upto: int) -> None:
        """An answer leaves behind the sync of what it says, and before the engine hears of that sync."""
        for version, slot in self._slots.items():
            if slot <= chosen_upto and version > self._durable.get(replica, 0):
                self._durable[replica] = version

    def _check_needless(self, process: Process, message: Removed, target: int) -> None:
        present = self._memberships[message.version]
        know = [voter for voter in present.voters if self._durable.get(voter, 0) >= message.version]
        if not present.is_majority(know):
            raise self.broken(f"replica {process.name} sends {target} away, but of {present.voters} only {know} know")

    def _check_drained(self, process: Process, message: Accept) -> None:
        core = process.engine.replica
        begins = any(value[0] == _EPOCH for _, value in message.entries)
        if core.proposer is not None and (core.proposer.recovering or begins):
            promised = {process.name, *self._promised.get(message.ballot, ())}
            if not core.membership.is_majority(promised):
                voters = core.membership.voters
                raise self.broken(f"replica {process.name} recovers by the promises of {promised}, voters: {voters}")
        for slot, value in message.entries:
            if value[0] != _MEMBERSHIP:
                continue
            if core.chosen_upto < slot - 1:
                raise self.broken(
                    f"replica {process.name} proposes a change in slot {slot}, chosen is {core.chosen_upto}"
                )
            if core.chosen_upto < slot < message.entries[-1][0]:
                raise self.broken(f"replica {process.name} proposes slots behind a change in slot {slot} at once")
            seen = (process.name, core.state.start, slot)
            if seen not in self._proposed:
                self._proposed.add(seen)
                if core.serving and core.chosen_upto == slot - 1:
                    self._check_settled(process, slot)
        first = message.entries[0][0]
        behind = core.state.log.entries.get(core.chosen_upto + 1)
        if behind is not None and behind[1][0] == _MEMBERSHIP and first > core.chosen_upto + 1:
            raise self.broken(
                f"replica {process.name} proposes slot {first} behind the change in {core.chosen_upto + 1}"
            )

    def _check_settled(self, process: Process, slot: int) -> None:
        core = process.engine.replica
        _, since_us = self._known[process.name, core.state.start]
        felt = [
            voter
            for voter in core.membership.voters
            if voter == process.name or self._answered_us.get((voter, process.name), -1) > since_us
        ]
        if not core.membership.is_majority(felt):
            raise self.broken(
                f"replica {process.name} proposes a change in slot {slot}, but of the last one only {felt} can know"
            )
