"""Agreement while the cell itself changes: replicas are added, promoted and removed, disks are lost and replaced.

What is asked for is a walk between sizes, often several changes at once and with a blow to the master right behind
them. A new replica's file names the members that somebody knew at that time. A disk is lost only where the cell can
bear it; whoever lost it is replaced under a new id.
"""

from __future__ import annotations

from coordd.engine.inputs import Call
from coordd.paxos.effects import ValueKind
from coordd.paxos.membership import VOTERS_MAX, Membership
from coordd.paxos.replica import Role
from tests.simulation.checkers.membership import LeaseIsBacked, OneChangeAtATime
from tests.simulation.checkers.panel import Checker, Panel
from tests.simulation.consensus import Consensus, PlainDoor, settings_of
from tests.simulation.process import CRASH_POINTS, Process
from tests.simulation.swarm import Swarm
from tests.simulation.world import Trace

NEW_REPLICAS_MAX = 9
SIZES = (1, 2, 3, 3, 4, 5, 5)
QUIET_US = 9_000_000  # longer than a replica is stopped and a change waits


class ChangingConsensus(Consensus):
    """One run: `Consensus` with a surgeon."""

    may_stand = False

    def __init__(self, seed: int, trace: Trace | None = None, swarm: Swarm | None = None) -> None:
        super().__init__(seed, trace, swarm)
        self._chance = self.world.chance("changes")
        self._mean_us = self._chance.choice((150_000, 500_000, 1_500_000))
        self._size = self._chance.choice(SIZES)
        self._next_id = max(self.processes) + 1
        self._eager = self._chance.choice((0.8, 0.8, 0.15))  # to promote who learns
        self._quiet = False
        self._rests = False
        self._lost: int | None = None
        self.removed: set[int] = set()  # processes that ended because they were told to

    def make_panel(self, *more: Checker) -> Panel:
        first = Membership(1, tuple(range(1, self.swarm.replicas + 1)), lease_ms=self.swarm.lease_ms)
        self.changes = OneChangeAtATime(self.world, self.chosen, first)
        self.chosen.on_first = self.changes.applied
        return super().make_panel(*more, self.changes, LeaseIsBacked(self.world, lambda: self.processes))

    def begin_faults(self) -> None:
        super().begin_faults()
        for process in self.processes.values():
            process.on_left = self._left
        self.world.after(self._pause_us(), self._operate)
        if self._chance.random() < 0.4:
            self.world.after(self._chance.randrange(1_000_000, 7_000_000), self._rest)

    def end_faults(self) -> None:
        self._quiet = True
        super().end_faults()

    # ---- the surgeon ----

    def _pause_us(self) -> int:
        return int(self._chance.expovariate(1) * self._mean_us)

    def _operate(self) -> None:
        if self._quiet:
            return
        if self._chance.random() < 0.1:
            self._size = self._chance.choice(SIZES)
        for _ in range(self._chance.choice((1, 1, 1, 2, 3))):
            self._ask()
        if self._chance.random() < 0.25:
            self._strike_master()
        if self._chance.random() < 0.05:
            self._send_to_sleep()
        self.world.after(self._pause_us(), self._operate)

    def _ask(self) -> None:
        """Ask whoever seems to be master for one more step on the way."""
        if self._rests:
            return
        present = self.changes.newest
        target = self._target()
        if target is None or not target.up:
            return
        wanted = self._wanted(present)
        if wanted is None:
            return
        operation, replica = wanted
        if operation == "add_member" and replica not in self.processes:
            self._add(replica, target.engine.replica.membership)
        arguments: dict[str, object] = {"replica": replica, "address": f"http://replica-{replica}:7420"}
        if self.world.tracing:
            self.world.tell("--", f"{operation} {replica} is asked of {target.name}")
        self.nemesis.counts[operation] += 1
        target.put(Call(0, operation, arguments))

    def _wanted(self, present: Membership) -> tuple[str, int] | None:
        chance = self._chance
        if self._lost is not None and self._lost in present:
            return "remove_member", self._lost
        self._lost = None
        if present.learners and chance.random() < self._eager:
            return chance.choice(("promote_member",) * 4 + ("remove_member",)), chance.choice(present.learners)
        if len(present.voters) + len(present.learners) < self._size:
            if present.highest >= self._next_id - 1 and self._next_id <= self.swarm.replicas + NEW_REPLICAS_MAX:
                self._next_id += 1
            return ("add_member", self._next_id - 1) if self._next_id - 1 > present.highest else None
        if len(present.voters) > self._size and len(present.voters) < VOTERS_MAX:
            return "remove_member", chance.choice(present.voters)
        self._size = chance.choice(SIZES)
        return None

    def _target(self) -> Process | None:
        processes = [process for process in self.processes.values() if process.up]
        masters = [process for process in processes if process.engine.replica.role is Role.MASTER]
        return self._chance.choice(masters or processes) if processes else None

    def _add(self, replica: int, seen: Membership) -> None:
        """A new machine whose file names the members of somebody's present view, and itself."""
        voters = seen.voters if replica not in seen.voters else tuple(v for v in seen.voters if v != replica)
        first = Membership(0, voters, (replica,), lease_ms=self.swarm.lease_ms)
        self.kit.add(replica, first, settings_of(self.swarm, replica))
        process = Process(self.world, self.swarm, self.network, self.kit, replica, self.panel)
        process.on_down = self.nemesis.restart_later
        process.on_left = self._left
        PlainDoor(process, self.network)
        self.processes[replica] = process
        self.replicas.append(replica)
        self.world.after(self._chance.randrange(2_000_000), self._start, process, process.life)

    def _start(self, process: Process, life: int) -> None:
        if process.life == life and not process.up:
            process.start()

    def _left(self, process: Process) -> None:
        """Told to end: only who is out may be."""
        if process.name in self.changes.newest:
            raise self.world.violation("membership", f"replica {process.name} was sent away and is a member")
        self.removed.add(process.name)
        self._forget(process.name)

    def _forget(self, replica: int) -> None:
        del self.processes[replica]
        self.replicas.remove(replica)

    def _strike_master(self) -> None:
        target = self._target()
        if target is not None and target.up:
            if self._chance.random() < 0.7:
                target.crash_point, target.crash_power = self._chance.choice(CRASH_POINTS), self._chance.random() < 0.5
            else:
                target.pause(int(self._chance.random() * 2 * self.swarm.lease_ms * 1000))

    def _send_to_sleep(self) -> None:
        """A replica is away for so long that it may find nobody whom it knew."""
        process = self._chance.choice(list(self.processes.values()))
        if not process.up:
            return
        process.on_down = lambda process: None
        process.crash(power=self._chance.random() < 0.5)
        process.on_down = self.nemesis.restart_later
        self.world.after(self._chance.randrange(4_000_000, 12_000_000), self._start, process, process.life)

    # ---- disks that are lost ----

    def _rest(self) -> None:
        """Nothing is asked for, for so long that whatever was asked has begun, or was refused or forgotten."""
        self._rests = True
        self._size = max(3, self._size)
        self.world.after(QUIET_US, self._lose_a_disk)

    def _lose_a_disk(self) -> None:
        self._rests = False
        if not self._quiet and self._can_lose_a_disk():
            self._lose(self._chance.choice(self.changes.newest.voters))

    def _can_lose_a_disk(self) -> bool:
        """Everybody knows the same membership of at least three, and no change is under way anywhere."""
        present = self.changes.newest
        if len(present.voters) < 3:
            return False
        members = [self.processes.get(voter) for voter in present.voters]
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
        if self.world.tracing:
            self.world.tell("--", f"the disk of {replica} is lost")
        self.nemesis.counts["lost_disk"] += 1
        self._lost = replica
        self.processes[replica].retire("lost disk")
        self._forget(replica)

    # ---- the end ----

    def is_settled(self, quiet_us: int) -> bool:
        """As without changes; and who was removed has ended, who was added is there."""
        present = self.changes.newest
        for replica, process in self.processes.items():
            if present.has_removed(replica) and (not process.up or self._can_hear_of_it(process)):
                return False
        return super().is_settled(quiet_us)

    def _can_hear_of_it(self, process: Process) -> bool:
        """Somebody that this replica knows is a member still; where all are gone, nobody can tell it."""
        known = process.engine.replica.membership
        return any(peer in known for peer in self.changes.newest.voters)

    def members(self) -> list[Process]:
        present = self.changes.newest
        return [process for name, process in self.processes.items() if name in present]
