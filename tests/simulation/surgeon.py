"""The surgeon: asks for changes of the cell, often several at once and with a blow to the master right behind them.

What is asked for is a walk between sizes, in some seeds with voters that are stuck high meanwhile. A new replica's file
names the members that somebody knew at that time. A disk is lost only where the cell can bear it; whoever lost it is
replaced under a new id. Replicas are sent to sleep for so long that they may find nobody whom they knew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from coordd.paxos.ballot import Ballot
from coordd.paxos.effects import ValueKind
from coordd.paxos.membership import VOTERS_MAX, Membership
from coordd.paxos.replica import Role
from tests.simulation.checkers.membership import OneChangeAtATime
from tests.simulation.faults.nemesis import Nemesis
from tests.simulation.process import CRASH_POINTS, Process
from tests.simulation.swarm import Swarm
from tests.simulation.world import World

NEW_REPLICAS_MAX = 9
SIZES = (1, 2, 3, 3, 4, 5, 5)
QUIET_US = 9_000_000  # longer than a replica is stopped and a change waits


class Patient(Protocol):
    """A run whose cell is changed."""

    world: World
    swarm: Swarm
    processes: dict[int, Process]
    nemesis: Nemesis
    changes: OneChangeAtATime

    def add_machine(self, replica: int, first: Membership) -> Process:
        """A new machine with an empty disk and a file that says `first`."""
        ...

    def forget(self, replica: int) -> None:
        """That machine is gone for good."""
        ...

    def ask(self, process: Process, operation: str, arguments: dict[str, object]) -> None:
        """An operator asks a replica for a change."""
        ...


class Surgeon:
    """See the module docstring. `removed`: who ended because he was told to."""

    def __init__(self, patient: Patient, pace_ms: tuple[int, ...]) -> None:
        self._patient, self._world, self._swarm = patient, patient.world, patient.swarm
        self._chance = self._world.chance("changes")
        self._stuck = self._world.chance("stuck voters")
        self._mean_us = self._chance.choice(pace_ms) * 1000
        self._size = self._chance.choice(SIZES)
        self._eager = self._chance.choice((0.8, 0.8, 0.15))  # to promote who learns
        self._next_id = max(patient.processes) + 1
        self._over = self._rests = False
        self._lost: int | None = None
        self.removed: set[int] = set()

    @property
    def _present(self) -> Membership:
        return self._patient.changes.newest

    def begin(self) -> None:
        """From now on."""
        self._patient.nemesis.may_lose = lambda replica: False  # who can be spared depends on what is under way
        for process in self._patient.processes.values():
            process.on_left, process.on_lost = self._left, self._is_lost
        self._after(self._pause_us(), self._operate)
        if self._chance.random() < 0.4:
            self._after(self._chance.randrange(1_000_000, 7_000_000), self._rest)

    def end(self) -> None:
        """Nothing is asked for any more."""
        self._over = True

    def _after(self, delay_us: int, action: Callable[[], None]) -> None:
        self._world.after(delay_us, self._unless_over, action)

    def _unless_over(self, action: Callable[[], None]) -> None:
        if not self._over:
            action()

    def _pause_us(self) -> int:
        return int(self._chance.expovariate(1) * self._mean_us)

    def _operate(self) -> None:
        if self._chance.random() < 0.1:
            self._size = self._chance.choice(SIZES)
        for _ in range(self._chance.choice((1, 1, 1, 2, 3))):
            self._ask()
        if self._stuck.random() < self._swarm.stuck:
            self._after(self._stuck.randrange(30_000), self._stick)
        if self._chance.random() < 0.25:
            self._strike_master()
        if self._chance.random() < 0.05:
            self._send_to_sleep()
        self._after(self._pause_us(), self._operate)

    def _ask(self) -> None:
        """Ask whoever seems to be master for one more step on the way."""
        if self._rests:
            return
        present = self._present
        target = self._target()
        if target is None or not target.up:
            return
        wanted = self._wanted(present)
        if wanted is None:
            return
        operation, replica = wanted
        if operation == "add_member" and replica not in self._patient.processes:
            self._add(replica, target.engine.replica.membership)
        arguments: dict[str, object] = {"replica": replica, "address": f"http://replica-{replica}:7420"}
        if self._world.tracing:
            self._world.tell("--", f"{operation} {replica} is asked of {target.name}")
        self._patient.nemesis.counts[operation] += 1
        self._patient.ask(target, operation, arguments)

    def _wanted(self, present: Membership) -> tuple[str, int] | None:
        chance = self._chance
        if self._lost is not None and self._lost in present:
            return "remove_member", self._lost
        self._lost = None
        if present.learners and chance.random() < self._eager:
            return chance.choice(("promote_member",) * 4 + ("remove_member",)), chance.choice(present.learners)
        if len(present.voters) + len(present.learners) < self._size:
            if present.highest >= self._next_id - 1 and self._next_id <= self._swarm.replicas + NEW_REPLICAS_MAX:
                self._next_id += 1
            return ("add_member", self._next_id - 1) if self._next_id - 1 > present.highest else None
        if len(present.voters) > self._size and len(present.voters) < VOTERS_MAX:
            return "remove_member", chance.choice(present.voters)
        self._size = chance.choice(SIZES)
        return None

    def _target(self) -> Process | None:
        processes = [process for process in self._patient.processes.values() if process.up]
        masters = [process for process in processes if process.engine.replica.role is Role.MASTER]
        return self._chance.choice(masters or processes) if processes else None

    def _add(self, replica: int, seen: Membership) -> None:
        """A new machine whose file names the members of somebody's present view, and itself."""
        voters = seen.voters if replica not in seen.voters else tuple(v for v in seen.voters if v != replica)
        first = Membership(0, voters, (replica,), lease_ms=self._swarm.lease_ms)
        process = self._patient.add_machine(replica, first)
        process.on_down = self._patient.nemesis.restart_later
        process.on_left, process.on_lost = self._left, self._is_lost
        self._patient.processes[replica] = process
        delay_us = self._chance.randrange(self._chance.choice((2_000, 2_000_000)))  # perhaps before anybody knows of it
        self._world.after(delay_us, self._start, process, process.life)

    def _start(self, process: Process, life: int) -> None:
        if process.life == life and not process.up:
            process.start()

    def _left(self, process: Process) -> None:
        """Told to end: only who was a member and is none may be."""
        if process.name in self._present or not self._patient.changes.was_member(process.name):
            what = "is" if process.name in self._present else "was never"
            raise self._world.violation("membership", f"replica {process.name} was sent away and {what} a member")
        self.removed.add(process.name)
        self._patient.forget(process.name)

    def _stick(self) -> None:
        """A voter is stuck high: it stood in a ballot that nobody has heard of, and refuses its master from now on."""
        cores = [process.engine.replica for process in self._patient.processes.values() if process.up]
        able = [core for core in cores if core.role is Role.FOLLOWER and core.state.is_voter and not core.state.mute]
        if able:
            state = self._stuck.choice(able).state
            state.promise(Ballot(state.round_seen + self._stuck.choice((1, 3)), state.replica))
            self._patient.nemesis.counts["stuck"] += 1

    def _strike_master(self) -> None:
        target = self._target()
        if target is not None and target.up:
            if self._chance.random() < 0.7:
                target.crash_point, target.crash_power = self._chance.choice(CRASH_POINTS), self._chance.random() < 0.5
            else:
                target.pause(int(self._chance.random() * 2 * self._swarm.lease_ms * 1000))

    def _send_to_sleep(self) -> None:
        """A replica is away for so long that it may find nobody whom it knew."""
        process = self._chance.choice(list(self._patient.processes.values()))
        if not process.up:
            return
        process.on_down = lambda process: None
        process.crash(power=self._chance.random() < 0.5)
        process.on_down = self._patient.nemesis.restart_later
        self._world.after(self._chance.randrange(4_000_000, 12_000_000), self._start, process, process.life)

    # ---- disks that are lost ----

    def _rest(self) -> None:
        """Nothing is asked for, for so long that whatever was asked has begun, or was refused or forgotten."""
        self._rests = True
        self._size = max(3, self._size)
        self._after(QUIET_US, self._lose_a_disk)

    def _lose_a_disk(self) -> None:
        self._rests = False
        if self._can_lose_a_disk():
            self._lose(self._chance.choice(self._present.voters))

    def _can_lose_a_disk(self) -> bool:
        """Everybody knows the same membership of at least three, and no change is under way anywhere."""
        present = self._present
        if len(present.voters) < 3:
            return False
        members = [self._patient.processes.get(voter) for voter in present.voters]
        return all(
            process is not None
            and process.up
            and process.engine.replica.membership == present
            and not any(
                value[0] == ValueKind.MEMBERSHIP.value
                for _, _, value in process.engine.replica.state.log.above_chosen()
            )
            for process in members
        )

    def _lose(self, replica: int) -> None:
        process = self._patient.processes[replica]
        rots = self._chance.random() < 0.5
        if rots:
            process.crash(power=self._chance.random() < 0.5)
            rots = self._patient.nemesis.disks.rot(replica, self._chance, settled=False)
        if self._world.tracing:
            self._world.tell("--", f"the disk of {replica} {'rots' if rots else 'is lost'}")
        self._patient.nemesis.counts["rot" if rots else "lost_disk"] += 1
        if rots:
            process.start()
        else:
            process.retire("lost disk")
            self._is_lost(process)

    def _is_lost(self, process: Process) -> None:
        self._lost = process.name
        self._patient.forget(process.name)

    # ---- the end ----

    def lingering(self) -> list[int]:
        """Who was removed and has not ended, though somebody that he knows is a member still and could tell him."""
        present = self._present
        return [
            replica
            for replica, process in self._patient.processes.items()
            if present.has_removed(replica) and (not process.up or self._can_hear_of_it(process))
        ]

    def _can_hear_of_it(self, process: Process) -> bool:
        known = process.engine.replica.membership
        return any(peer in known for peer in self._present.voters)

    def members(self) -> list[Process]:
        """The machines of the present members, but those that are lost."""
        return [process for name, process in self._patient.processes.items() if name in self._present]
