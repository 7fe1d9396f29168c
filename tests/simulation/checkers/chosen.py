"""Checkers of choosing, stronger than "a chosen value never changes": what makes that so is looked at where it happens.

A value is chosen when a majority has it *on its disks*; from then on every proposal of a higher ballot has that value,
and no replica that counts the slot to its chosen prefix accepts anything there again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from coordd.engine.effects import Effects
from coordd.engine.inputs import Input
from coordd.paxos.ballot import CHOSEN, Ballot
from coordd.paxos.effects import AcceptedRecord, ValueKind
from coordd.paxos.membership import Membership
from coordd.paxos.messages import Accept
from tests.simulation.checkers.panel import Checker
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.process import Process

_MEMBERSHIP = ValueKind.MEMBERSHIP.value


class Choosing(Checker):
    """See the module docstring; `names` of what is broken: "majority on disk", "proposed value", "accepted again"."""

    name = "majority on disk"

    def __init__(self, world: World, first: Membership) -> None:
        super().__init__(world)
        self._voters = first  # those that choose the next slot
        self._upto = 0
        self._chosen: dict[int, tuple[Ballot, bytes]] = {}
        self._proposed: dict[int, dict[Ballot, bytes]] = {}
        self._writing: dict[int, list[tuple[int, int, bytes]]] = {}  # replica -> (persist number, slot, value)
        self._on_disk: dict[int, dict[int, bytes]] = {}
        self._prefix: dict[int, int] = {}  # replica -> its chosen prefix a turn ago

    def started(self, process: Process) -> None:
        name, core = process.name, process.engine.replica
        self._writing[name] = []
        self._on_disk[name] = {slot: value for slot, (_, value) in core.state.log.entries.items() if slot > self._upto}
        self._prefix[name] = core.chosen_upto

    def synced(self, process: Process, number: int) -> None:
        writing, on_disk = self._writing[process.name], self._on_disk[process.name]
        done = 0
        for of, slot, value in writing:
            if of > number:
                break
            on_disk[slot] = value
            done += 1
        del writing[:done]

    def stepped(self, process: Process, inputs: Sequence[Input], effects: Effects, now_ms: int) -> None:
        name, core = process.name, process.engine.replica
        for record in effects.persist:
            if type(record) is AcceptedRecord:
                if record.slot <= self._prefix[name]:
                    words = f"replica {name} accepts slot {record.slot}, which it knows to be chosen"
                    raise self.world.violation("accepted again", words)
                self._writing[name].append((effects.persist_number, record.slot, record.value))
        self._prefix[name] = core.chosen_upto
        while self._upto < core.chosen_upto:
            self._choose(process, self._upto + 1)

    def _choose(self, process: Process, slot: int) -> None:
        """A slot is counted to the chosen prefix somewhere for the first time."""
        ballot, value = process.engine.replica.state.log.entries.get(slot, (CHOSEN, b""))
        have = [voter for voter in self._voters.voters if self._on_disk.get(voter, {}).get(slot) == value]
        if not self._voters.is_majority(have):
            raise self.broken(
                f"replica {process.name} takes slot {slot} for chosen; of {self._voters.voters} only {have} have it "
                "on their disks"
            )
        for other, proposed in self._proposed.pop(slot, {}).items():
            self._compare(slot, (ballot, value), other, proposed)
        self._chosen[slot] = ballot, value
        self._upto = slot
        if value[0] == _MEMBERSHIP:
            self._voters = Membership.from_bytes(value[1:])
        for on_disk in self._on_disk.values():
            on_disk.pop(slot, None)

    def spoke(self, process: Process, messages: Sequence[tuple[int, Any]]) -> None:
        for _, message in messages:
            if type(message) is Accept:
                for slot, value in message.entries:
                    chosen = self._chosen.get(slot)
                    if chosen is not None:
                        self._compare(slot, chosen, message.ballot, value)
                    elif slot > self._upto:
                        self._proposed.setdefault(slot, {})[message.ballot] = value

    def _compare(self, slot: int, chosen: tuple[Ballot, bytes], ballot: Ballot, value: bytes) -> None:
        if CHOSEN > ballot > chosen[0] and value != chosen[1]:
            words = (
                f"slot {slot}: {chosen[1]!r:.60} was chosen in ballot {chosen[0]}, and {ballot} proposes {value!r:.60}"
            )
            raise self.world.violation("proposed value", words)
