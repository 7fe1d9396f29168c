"""The nemesis: strikes at the drawn rates during the safety phase, then undoes everything.

A fault of kind K comes at exponentially distributed times with the mean that the seed drew; each kind has a chance of
its own, so that one kind less leaves the blows of the others where they were. Half of the blows that need a victim go
for the master, because most rules are about it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from random import Random
from typing import Protocol

from coordd.paxos.replica import Role
from tests.simulation.faults.fault import Fault
from tests.simulation.network import Name, Network
from tests.simulation.process import Process
from tests.simulation.swarm import Swarm
from tests.simulation.world import Clock, World


class Disks(Protocol):
    """What the nemesis can do to disks. `how`: power, kill or fail."""

    def fill(self, replica: int, room: int | None) -> None: ...
    def fail_next_sync(self, replica: int) -> None: ...
    def cut_call(self, replica: int, call: int, *, power: bool) -> None: ...
    def fail_call(self, replica: int, call: int) -> None: ...
    def strike_start(self, replica: int, how: str, call: int) -> None: ...
    def strike_snapshot(self, replica: int, how: str, call: int) -> None: ...
    def rot(self, replica: int, chance: Random, *, settled: bool) -> bool: ...
    def mend(self, replica: int) -> None: ...
    def empty(self, replica: int) -> None: ...


class Victim(Protocol):
    """What the nemesis can do to a client."""

    name: str
    clock: Clock

    def pause(self, for_us: int) -> None: ...
    def sleep(self, for_us: int) -> None: ...
    def break_channel(self, how: str = "") -> None: ...
    def cached_ms(self) -> int: ...
    def vanish(self) -> None: ...
    def close(self) -> None: ...
    def mute(self, for_us: int) -> None: ...
    def hold_frames(self, break_after_us: int, late_after_us: int) -> None: ...
    def hand_on(self, how: str, for_us: int) -> Name | None: ...
    def pause_former(self, for_us: int) -> None: ...
    def resume(self) -> None: ...


class Nemesis:
    """Draws and performs the faults of one run; `counts` says how many of which kind."""

    def __init__(
        self,
        world: World,
        swarm: Swarm,
        kinds: Mapping[str, Fault],
        network: Network,
        processes: MutableMapping[int, Process],
        disks: Disks,
        clients: Sequence[Victim],
    ) -> None:
        self.world, self.swarm, self.network = world, swarm, network
        self.processes, self.disks, self.clients = processes, disks, clients
        self._kinds = kinds
        self._chance: Random = world.chance("faults")
        self._over = False
        self.stays_down: set[int] = set()
        self.counts: Counter[str] = Counter()
        self.rotten: set[int] = set()  # whose disk has rotted; many a one is lost thereby
        self.lost: set[int] = set()
        self.may_lose: Callable[[int], bool] = self._leaves_a_majority
        self.forget: Callable[[int], None] = lambda replica: None  # the run's own part of it

    def begin(self) -> None:
        """Faults may come from now on."""
        for process in self.processes.values():
            process.on_down, process.on_lost = self.restart_later, self.lose
        for name in self.swarm.faults:
            fault = self._kinds[name]
            if self.clients or not fault.of_clients:
                self._again(fault, self.world.chance(f"fault {name}"))

    def end(self) -> None:
        """No more faults, every replica up, every link whole, every disk with room."""
        self._over = True
        self.network.heal_all()
        for client in self.clients:
            client.resume()
        for process in list(self.processes.values()):
            self.has_room(process, self._chance)
            self.disks.mend(process.name)
            process.gap_rate = 0.0
            process.slow_sync_until_us = 0
            process.crash_point = None
            process.resume()
            if process.up and process.name in self.rotten:
                process.crash(power=False)  # whether it is lost is seen now
            if not process.up:
                process.start()

    def lift(self) -> None:
        """What stood is over."""
        self.stays_down.clear()
        self.end()

    # ---- rhythm ----

    def _again(self, fault: Fault, chance: Random) -> None:
        mean_us = self.swarm.faults[fault.name] * 1000
        self.world.after(int(chance.expovariate(1) * mean_us), self._strike, fault, chance)

    def _strike(self, fault: Fault, chance: Random) -> None:
        if self._over:
            return
        if fault.strike(self, chance) is not False:
            self.counts[fault.name] += 1
        self._again(fault, chance)

    # ---- for the faults ----

    def victim(self, chance: Random) -> Process:
        """A replica; often the master."""
        masters = self.masters()
        return chance.choice(masters if masters and chance.random() < 0.5 else list(self.processes.values()))

    def masters(self) -> list[Process]:
        """Who takes himself for the master."""
        return [one for one in self.processes.values() if one.up and one.engine.replica.role is Role.MASTER]

    def client(self, chance: Random) -> Victim:
        """A client."""
        return chance.choice(list(self.clients))

    def has(self, process: Process) -> bool:
        """Whether the machine is still a part of the run."""
        return self.processes.get(process.name) is process

    def later(self, delay_us: int, action: Callable[[], None]) -> None:
        """The second part of a blow; dropped when the faults are over."""
        self.world.after(delay_us, self._unless_over, action)

    def _unless_over(self, action: Callable[[], None]) -> None:
        if not self._over:
            action()

    def _leaves_a_majority(self, replica: int) -> bool:
        """Whatever was lost, and may be: a minority of the members that the run began with."""
        return 2 * len(self.lost | self.rotten | {replica}) < self.swarm.replicas

    def lose(self, process: Process) -> None:
        """It has ended, and nobody has its disk any more."""
        self.lost.add(process.name)
        del self.processes[process.name]
        self.forget(process.name)

    def restart_later(self, process: Process) -> None:
        """A process has ended; it comes back after a while."""
        if process.name in self.stays_down:
            return
        low_ms, high_ms = self.swarm.down_ms
        delay_us = long_us(self._chance, low_ms * 1000, high_ms * 1000)
        self.world.after(delay_us, self._restart, process, process.life)

    @staticmethod
    def _restart(process: Process, life: int) -> None:
        if not process.up and process.life == life:
            process.start()

    def has_room(self, process: Process, chance: Random) -> None:
        """Somebody made room; sometimes the replica is restarted too."""
        self.disks.fill(process.name, None)
        if process.met_full_disk and chance.random() < 0.2:
            process.crash(power=False)

    def heal(self, links: list[tuple[Name, Name]]) -> None:
        """What one cut had cut."""
        for source, target in links:
            if self.network.is_cut(source, target):
                self.network.heal(source, target)


def long_us(chance: Random, low_us: int, high_us: int) -> int:
    """Evenly spread over the orders of magnitude, so that short and long ones are both common."""
    return int(low_us * (high_us / low_us) ** chance.random())
