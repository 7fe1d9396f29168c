"""Checkers of the consensus: chosen values, promises over crashes, the master lease, the core's own invariants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from coordd.engine.effects import Effects
from coordd.engine.inputs import Input
from coordd.paxos.ballot import ZERO, Ballot
from coordd.paxos.effects import Chosen
from coordd.paxos.messages import Accepted, Prepare, Promise
from coordd.paxos.replica import Role
from tests.simulation.checkers.panel import Checker
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.process import Process


class ChosenValues(Checker):
    """A chosen value never changes, whoever hands it out, and each replica hands out every slot once a life."""

    name = "chosen value"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.values: dict[int, tuple[object, bytes]] = {}
        self.first_us: dict[int, int] = {}

    def applied(self, process_name: int, chosen: Chosen) -> None:
        """`chosen` has been handed out by a replica."""
        value = (chosen.kind, chosen.payload)
        known = self.values.setdefault(chosen.slot, value)
        self.first_us.setdefault(chosen.slot, self.world.now_us)
        if known != value:
            raise self.broken(
                f"slot {chosen.slot}: {known!r:.120} was chosen, replica {process_name} has {value!r:.120}"
            )


class Promises(Checker):
    """Promises never go back, and what was spoken of is found on the disk again."""

    name = "promises"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._promised: dict[int, Ballot] = {}  # the highest spoken of, by replica; over all its lives
        self._accepted: dict[int, dict[int, Ballot]] = {}
        self._in_memory: dict[int, Ballot] = {}

    def started(self, process: Process) -> None:
        name, core = process.name, process.engine.replica
        if process.directory_lost:
            self._promised.pop(name, None)
            self._accepted.pop(name, None)
        self.compare(name, core.ballot, core.chosen_upto, core.state.log.entries)
        self._in_memory[name] = core.ballot

    def compare(self, name: int, promised: Ballot, upto: int, entries: Mapping[int, tuple[Ballot, bytes]]) -> None:
        """A replica finds this on its disk; whatever it spoke of has to be among it."""
        spoken = self._promised.get(name, ZERO)
        if promised < spoken:
            raise self.broken(f"replica {name} spoke of ballot {spoken} and has {promised} after a restart")
        for slot, ballot in self._accepted.get(name, {}).items():
            if slot <= upto:
                continue
            entry = entries.get(slot)
            if entry is None or entry[0] < ballot:
                raise self.broken(
                    f"replica {name} said it accepted slot {slot} in {ballot}; its disk has {entry!r:.80}"
                )

    def stepped(self, process: Process, inputs: Sequence[Input], effects: Effects, now_ms: int) -> None:
        promised = process.engine.replica.ballot
        before = self._in_memory[process.name]
        if promised < before:
            raise self.broken(f"replica {process.name} went back from ballot {before} to {promised}")
        self._in_memory[process.name] = promised

    def spoke(self, process: Process, messages: Sequence[tuple[int, Any]]) -> None:
        name = process.name
        for _, message in messages:
            kind = type(message)
            if kind is Promise or kind is Accepted or kind is Prepare:
                if message.ballot > self._promised.get(name, ZERO):
                    self._promised[name] = message.ballot
                if kind is Accepted and message.slots:
                    self._remember(name, message)

    def _remember(self, name: int, message: Accepted) -> None:
        accepted = self._accepted.setdefault(name, {})
        for slot in message.slots:
            if message.ballot > accepted.get(slot, ZERO):
                accepted[slot] = message.ballot
        if len(accepted) > 512:
            for slot in sorted(accepted)[:256]:
                del accepted[slot]


class MasterLease(Checker):
    """At most one replica holds the master lease at any true instant, and no two masterships share an epoch."""

    name = "master lease"

    def __init__(self, world: World, clocks_kept: bool) -> None:
        super().__init__(world)
        self._clocks_kept = clocks_kept  # if not, two may believe that they are master: what each one decides is safe
        self._masters: dict[int, Process] = {}
        self._epochs: dict[int, tuple[int, int]] = {}
        self.reigns = 0
        self._last: tuple[int, int] = (0, 0)

    def stepped(self, process: Process, inputs: Sequence[Input], effects: Effects, now_ms: int) -> None:
        core = process.engine.replica
        masters = self._masters
        if core.role is not Role.MASTER:
            masters.pop(process.name, None)
            return
        masters[process.name] = process
        reign = (process.name, process.life)
        if self._epochs.setdefault(core.epoch, reign) != reign:
            raise self.broken(
                f"epoch {core.epoch} is that of {reign} and of {self._epochs[core.epoch]} (replica, life)"
            )
        if core.lease_valid(process.clock.now_ms()):
            if (process.name, core.epoch) != self._last:
                self._last = (process.name, core.epoch)
                self.reigns += 1
            if len(masters) > 1 and self._clocks_kept:
                self._compare(process)

    def _compare(self, process: Process) -> None:
        for other in self._masters.values():
            if other is process or not other.up:
                continue
            core = other.engine.replica
            if core.role is Role.MASTER and core.lease_valid(other.clock.now_ms()):
                raise self.broken(
                    f"replica {process.name} (epoch {process.engine.replica.epoch}) and replica {other.name} "
                    f"(epoch {core.epoch}) both hold it"
                )

    def ended(self, process: Process, how: str) -> None:
        self._masters.pop(process.name, None)


class CoreInvariants(Checker):
    """`coordd.paxos.invariants` after every n-th step of each replica."""

    name = "paxos invariants"

    def __init__(self, world: World, every: int) -> None:
        super().__init__(world)
        self._every = every
        self._steps = 0

    def stepped(self, process: Process, inputs: Sequence[Input], effects: Effects, now_ms: int) -> None:
        from coordd.paxos import invariants

        self._steps += 1
        if self._steps % self._every == 0:
            invariants.check(process.engine.replica)
