"""Runs in which the cell itself changes, under all the faults: agreement alone, and whole cells with clients."""

from __future__ import annotations

from collections.abc import Sequence

from coordd.engine.inputs import Call
from coordd.paxos.membership import Membership
from tests.simulation.cell import Cell, engine_settings
from tests.simulation.checkers.everything import kept
from tests.simulation.checkers.membership import OneChangeAtATime
from tests.simulation.checkers.panel import Checker
from tests.simulation.consensus import Consensus, PlainDoor, settings_of
from tests.simulation.doors import Doors
from tests.simulation.process import Process
from tests.simulation.surgeon import Surgeon
from tests.simulation.swarm import Swarm
from tests.simulation.world import Trace

PENDING_US = 5_000_000  # what was asked for last has begun by then, or was refused


class ChangingConsensus(Consensus):
    """`Consensus` with a surgeon."""

    safety_events = 11_000

    def __init__(self, seed: int, trace: Trace | None = None, swarm: Swarm | None = None) -> None:
        super().__init__(seed, trace, swarm)
        self.surgeon = Surgeon(self, (150, 500, 1_500))

    def more_checkers(self) -> list[Checker]:
        self.changes = OneChangeAtATime(self.world, self.swarm.membership())
        return kept(self.swarm, [self.changes])

    def begin_faults(self) -> None:
        super().begin_faults()
        self.surgeon.begin()

    def end_faults(self) -> None:
        self.surgeon.end()
        super().end_faults()
        self.world.run(self.world.now_us + PENDING_US)

    def voters(self) -> Sequence[int]:
        return self.changes.newest.voters

    def add_machine(self, replica: int, first: Membership) -> Process:
        """See `surgeon.Patient`."""
        self.kit.add(replica, first, settings_of(self.swarm, replica))
        process = Process(self.world, self.swarm, self.network, self.kit, replica, self.panel)
        PlainDoor(process, self.network)
        self.replicas.append(replica)
        return process

    def forget(self, replica: int) -> None:
        """See `surgeon.Patient`."""
        del self.processes[replica]
        self.replicas.remove(replica)

    def ask(self, process: Process, operation: str, arguments: dict[str, object]) -> None:
        """See `surgeon.Patient`."""
        process.put(Call(0, operation, arguments))

    def members(self) -> list[Process]:
        return self.surgeon.members()

    def is_settled(self, quiet_us: int) -> bool:
        return not self.surgeon.lingering() and super().is_settled(quiet_us)


class ChangingCell(Cell):
    """`Cell` with a surgeon; changes are asked for through the doors, as operations.

    A client whose file names only replicas that are gone can find nobody: at the end it is given another one.
    """

    safety_events = 8_000

    def __init__(self, seed: int, trace: Trace | None = None, swarm: Swarm | None = None) -> None:
        super().__init__(seed, trace, swarm)
        self.surgeon = Surgeon(self, (700, 2_000))
        for seat in self.seats:
            seat.replicas = lambda: self.changes.newest.voters

    def more_checkers(self) -> list[Checker]:
        self.changes = OneChangeAtATime(self.world, self.swarm.membership())
        return kept(self.swarm, [self.changes])

    def begin_faults(self) -> None:
        super().begin_faults()
        self.surgeon.begin()

    def end_faults(self) -> None:
        self.surgeon.end()
        super().end_faults()
        self._run_until(self.world.now_us + PENDING_US)
        for seat in self.seats:
            seat.careful = True
        self.keep_reachable(())

    def voters(self) -> Sequence[int]:
        return self.changes.newest.voters

    def keep_reachable(self, victims: Sequence[int]) -> None:
        well = [voter for voter in self.voters() if voter not in victims]
        for seat in self.seats:
            if seat.process is not None and not seat.knows(well):
                seat.vanish()

    def add_machine(self, replica: int, first: Membership) -> Process:
        """See `surgeon.Patient`."""
        self.kit.add(replica, first, engine_settings(self.swarm, replica))
        process = Process(self.world, self.swarm, self.network, self.kit, replica, self.panel)
        self.doors[replica] = Doors(self.world, self.network, process)
        return process

    def forget(self, replica: int) -> None:
        """See `surgeon.Patient`. Its door stays, with nobody behind it."""
        del self.processes[replica]

    def ask(self, process: Process, operation: str, arguments: dict[str, object]) -> None:
        """See `surgeon.Patient`."""
        doors = self.doors[process.name]
        doors.submit(Call(doors.new_request(), operation, arguments), lambda result: None)

    def members(self) -> list[Process]:
        return self.surgeon.members()

    def left_behind(self) -> str | None:
        lingering = self.surgeon.lingering()
        return f"removed replicas {lingering} have not ended" if lingering else super().left_behind()
