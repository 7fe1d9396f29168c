"""The witness: sees every slot applied by every replica, and tells the checkers of the state what it means.

`machine_class(replica)` makes the machine of one replica: the real one, which reports after each slot. The first
replica to apply a slot tells the story of the cell (the log is one, so any replica tells the same); for the others
only the digests are compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coordclient.protocol.errors import Refusal
from coordd.machine import invariants
from coordd.machine.limits import LIMITS, Limits
from coordd.machine.machine import Machine
from coordd.machine.state import Applied, Woken
from coordd.paxos.effects import Chosen, ValueKind
from tests.simulation.checkers.agreement import ChosenValues
from tests.simulation.checkers.panel import Checker
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.process import Process

DIGEST_EVERY = 4
INVARIANTS_EVERY = 9


@dataclass(frozen=True, slots=True)
class Done:
    """One command of the cell's one history, when it was first applied anywhere."""

    slot: int
    now_us: int
    operation: str
    session: int
    call: int
    arguments: Mapping[str, Any]
    reply: dict[str, Any] | Refusal | None
    woken: Sequence[Woken]
    changed: bool  # the revision rose


class StateChecker(Checker):
    """A checker of the replicated state; `done` comes once per command of the history."""

    def done(self, command: Done, machine: Machine) -> None:
        """One command was applied."""


class Witness(Checker):
    """See the module docstring."""

    name = "digests"

    def __init__(self, world: World, chosen: ChosenValues, checkers: Sequence[StateChecker]) -> None:
        super().__init__(world)
        self._chosen = chosen
        self._checkers = checkers
        self.upto = 0
        self._digests: dict[int, bytes] = {}
        self._summary: invariants.Summary | None = None
        self.commands = 0
        self.limits = LIMITS  # of every machine in this run
        self.crooked: int | None = None  # whose state is made wrong on purpose: production has to find it

    def machine_class(self, replica: int) -> type[Machine]:
        """The class of the machine of one replica."""
        witness = self

        class Witnessed(Machine):
            """Reports what it applies."""

            __slots__ = ()

            def __init__(self, cell: str) -> None:
                super().__init__(cell, witness.limits)

            @classmethod
            def restore(cls, data: bytes, limits: Limits = LIMITS) -> Machine:
                return super().restore(data, witness.limits)

            def apply_batch(self, slot: int, payload: bytes) -> list[Applied]:
                applied = super().apply_batch(slot, payload)
                witness.applied(replica, Chosen(slot, ValueKind.BATCH, payload), self)
                return applied

            def begin_epoch(self, slot: int, epoch: int) -> None:
                super().begin_epoch(slot, epoch)
                witness.applied(replica, Chosen(slot, ValueKind.EPOCH, epoch.to_bytes(8, "big")), self)

            def skip(self, slot: int, payload: bytes = b"") -> None:
                super().skip(slot, payload)
                witness.applied(replica, Chosen(slot, ValueKind.NO_OP, b""), self)

            def _apply(
                self, operation: str, session_id: int, call: int, acked: int, principal: str, arguments: Any
            ) -> Applied:
                before = self.state.revision
                slot = self.state.applied_upto
                applied = super()._apply(operation, session_id, call, acked, principal, arguments)
                if slot > witness.upto:
                    changed = self.state.revision > before
                    reply, woken = applied.reply, applied.woken
                    now_us = witness.world.now_us
                    done = Done(slot, now_us, operation, session_id, call, arguments, reply, woken, changed)
                    witness.first(replica, done, self)
                return applied

        return Witnessed

    def first(self, replica: int, command: Done, machine: Machine) -> None:
        """A command was applied for the first time anywhere."""
        self.commands += 1
        if self.world.tracing:
            self.world.tell(replica, f"slot {command.slot}: {_words(command)}")
        for checker in self._checkers:
            checker.done(command, machine)

    def applied(self, replica: int, chosen: Chosen, machine: Machine) -> None:
        """A replica has applied a slot."""
        slot = chosen.slot
        self._chosen.applied(replica, chosen)
        if slot > self.upto:
            if slot != self.upto + 1:
                raise self.broken(f"slot {slot} was applied before slot {self.upto + 1} was applied anywhere")
            self.upto = slot
            if slot % INVARIANTS_EVERY == 0:
                self._check_invariants(machine)
        self.compare(replica, slot, machine.digest() if slot % DIGEST_EVERY == 0 else machine.history)

    def ended(self, process: Process, how: str) -> None:
        """A replica stops for its state, and rightly so only where this run has made it wrong."""
        if how == "diverged" and process.name != self.crooked:
            raise self.broken(f"replica {process.name} stops as if its state were not that of the others")

    def compare(self, replica: int, slot: int, digest: bytes) -> None:
        """Equal digests at equal slots."""
        if replica == self.crooked:
            return
        known = self._digests.setdefault(slot, digest)
        if known != digest:
            raise self.broken(f"replica {replica} differs from the others at slot {slot}")

    def _check_invariants(self, machine: Machine) -> None:
        try:
            invariants.check(machine)
            if self._summary is not None:
                invariants.check_delta(self._summary, machine)
        except AssertionError as error:
            raise self.world.violation("machine invariants", f"slot {machine.applied_upto}: {error}") from error
        self._summary = invariants.summarize(machine)


def _words(command: Done) -> str:
    arguments = {name: value for name, value in command.arguments.items() if value not in (None, False, "", b"")}
    reply = repr(command.reply) if command.reply is not None else "waits"
    woken = "".join(f"; wakes {one.session}.{one.call}" for one in command.woken)
    return f"{command.operation} {command.session}.{command.call} {arguments} -> {reply:.120}{woken}"
