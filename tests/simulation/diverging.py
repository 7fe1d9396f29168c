"""Runs in which the machine of one replica is wrong: production has to find it, and to stop it and nobody else.

The witness knows who is crooked and does not compare it; everything else is promised and checked as ever. What is wrong
is nothing that a client would notice before it is found: how things are dated, or a field of the root. There are no
snapshots here, because whoever takes one of a crooked replica is crooked too, and two would outvote one.
"""

from __future__ import annotations

from collections.abc import Sequence, Sized
from dataclasses import replace
from typing import Any

from coordd.machine import history
from coordd.machine.machine import Machine
from coordd.machine.state import Applied, State
from tests.simulation.cell import Cell
from tests.simulation.checkers.panel import Checker
from tests.simulation.draw import draw
from tests.simulation.planted import replaced
from tests.simulation.process import Process
from tests.simulation.report import Report
from tests.simulation.swarm import Swarm
from tests.simulation.world import Trace, World

NO_SNAPSHOTS_BYTES = 10**9
SLOTS = 80  # enough for something to be dated


class DivergingCell(Cell):
    """`Cell` with one crooked replica."""

    def __init__(self, seed: int, trace: Trace | None = None, swarm: Swarm | None = None) -> None:
        swarm = swarm or draw(World(seed).chance("swarm"))
        chance = World(seed).chance("crooked")
        replicas = max(3, swarm.replicas)
        self.crooked, self._from_slot = chance.randint(1, replicas), chance.randrange(1, 60)
        self._make_crooked = chance.choice((_dates_wrongly, _loses_a_bit))
        self._wrong_from: int | None = None  # the first batch that is applied wrongly; a no-op may have its slot
        self._round = range(0)  # of the count of inspections: the one that begins there
        super().__init__(seed, trace, replace(swarm, replicas=replicas, snapshot_bytes=NO_SNAPSHOTS_BYTES))
        self.nemesis.lost.add(self.crooked)  # as good as lost: one less may be

    def _make_replicas(self) -> None:
        machine_class = self.witness.machine_class

        def some_class(replica: int) -> type[Machine]:
            right = machine_class(replica)
            return self._crooked_class(right) if replica == self.crooked else right

        self.witness.crooked, self.witness.machine_class = self.crooked, some_class  # type: ignore[method-assign]
        super()._make_replicas()

    def _crooked_class(self, right: type[Machine]) -> type[Machine]:
        cell, from_slot = self, self._from_slot

        class Watched(self._make_crooked(right, from_slot)):  # type: ignore[misc]
            __slots__ = ()

            def apply_batch(self, slot: int, payload: bytes) -> list[Applied]:
                if slot >= from_slot and cell._wrong_from in (None, slot):  # again after each restart
                    cell._wrong_from = slot
                    begin = self.state.inspected + 1
                    cell._round = range(begin, begin + history.TURNS * max(map(len, _inspected(self.state))))
                applied: list[Applied] = super().apply_batch(slot, payload)
                return applied

        return Watched

    def more_checkers(self) -> list[Checker]:
        return [Stopped(self.world, self)]

    def voters(self) -> Sequence[int]:
        """Nothing stands after the faults: without the crooked one there may be nobody left to lose."""
        return ()

    def forget(self, replica: int) -> None:
        """It has ended, for good."""
        del self.processes[replica]

    def members(self) -> list[Process]:
        return [process for process in super().members() if process.name != self.crooked]

    def run(self) -> Report:
        with replaced(history, "_SHARE", lambda share: 1):  # a round of the state in a few dozen commands
            return super().run()

    def left_behind(self) -> str | None:
        """The crooked one has to have ended, too, if enough was logged to inspect all of its state."""
        crooked = self.processes.get(self.crooked)
        if crooked is not None and crooked.up and self._was_seen(crooked.engine.machine):
            return f"replica {self.crooked} is wrong from slot {self._from_slot} on, and goes on"
        return super().left_behind()

    def _was_seen(self, machine: Machine) -> bool:
        """Whether what is wrong must be in its history by now. A round under way excuses; none at all does not."""
        return machine.applied_upto > self._from_slot + SLOTS and machine.state.inspected not in self._round


class Stopped(Checker):
    """Whoever has stopped for its state is not started again."""

    def __init__(self, world: World, cell: DivergingCell) -> None:
        super().__init__(world)
        self._cell = cell

    def ended(self, process: Process, how: str) -> None:
        if how == "diverged":
            self._cell.nemesis.counts["diverged"] += 1
            self.world.after(0, self._cell.forget, process.name)


def _inspected(state: State) -> tuple[Sized, ...]:
    return state.nodes, state.sessions, state.losses


def _dates_wrongly(right: type[Machine], from_slot: int) -> Any:
    class Crooked(right):  # type: ignore[valid-type, misc]
        __slots__ = ()

        def _apply(self, *fields: Any) -> Applied:
            if self.state.applied_upto >= from_slot:
                self.state.wall_ms += 1
            applied: Applied = super()._apply(*fields)
            return applied

    return Crooked


def _loses_a_bit(right: type[Machine], from_slot: int) -> Any:
    class Crooked(right):  # type: ignore[valid-type, misc]
        __slots__ = ()

        def apply_batch(self, slot: int, payload: bytes) -> list[Applied]:
            self.state.nodes["/"].modified_ms = int(slot >= from_slot)
            applied: list[Applied] = super().apply_batch(slot, payload)
            return applied

    return Crooked
