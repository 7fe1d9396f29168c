"""The nemesis: strikes at the drawn rates during the safety phase, then undoes everything.

A fault of kind K comes at exponentially distributed times with the mean that the seed drew; half of the blows that need
a victim go for the master, because most rules are about it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from coordd.engine.inputs import HandOverRequest
from coordd.paxos.replica import Role
from tests.simulation.network import DROP, HOLD, Name, Network
from tests.simulation.process import CRASH_POINTS, Process
from tests.simulation.swarm import Swarm
from tests.simulation.world import Clock, World


class Disks(Protocol):
    """What the nemesis can do to disks."""

    def set_full(self, replica: int, full: bool) -> None: ...
    def fail_next_sync(self, replica: int) -> None: ...
    def cut_call(self, replica: int, call: int) -> None: ...
    def fail_call(self, replica: int, call: int) -> None: ...
    def mend(self, replica: int) -> None: ...


class Victim(Protocol):
    """What the nemesis can do to a client."""

    name: str
    clock: Clock

    def pause(self, for_us: int) -> None: ...
    def break_channel(self) -> None: ...
    def vanish(self) -> None: ...
    def close(self) -> None: ...
    def hold_frames(self, break_after_us: int, late_after_us: int) -> None: ...
    def resume(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Standing:
    """A fault that stays while the others have to serve."""

    how: str
    victims: tuple[int, ...]

    def words(self) -> str:
        """For the story."""
        return f"{self.how}: {', '.join(map(str, self.victims))}"


class Nemesis:
    """Draws and performs the faults of one run; `counts` says how many of which kind."""

    def __init__(
        self,
        world: World,
        swarm: Swarm,
        network: Network,
        processes: Mapping[int, Process],
        disks: Disks,
        clients: Sequence[Victim],
    ) -> None:
        self._world, self._swarm, self._network = world, swarm, network
        self._processes, self._disks, self._clients = processes, disks, clients
        self._chance: Random = world.chance("faults")
        self._over = False
        self._stays_down: set[int] = set()
        self.counts: Counter[str] = Counter()
        self._blows: dict[str, Callable[[], None]] = {
            "kill": lambda: self._crash(power=False),
            "power": lambda: self._crash(power=True),
            "power_all": self._power_all,
            "kill_power": self._kill_power,
            "pause": lambda: self._victim().pause(self._long_us(5_000, 4_000_000)),
            "cut": self._cut,
            "replay": lambda: self._network.replay(self._chance.randint(1, 6)),
            "slow_sync": self._slow_sync,
            "failed_sync": lambda: self._disks.fail_next_sync(self._victim().name),
            "cut_call": lambda: self._disks.cut_call(self._victim().name, self._chance.randint(1, 40)),
            "fail_call": lambda: self._disks.fail_call(self._victim().name, self._chance.randint(1, 40)),
            "failed_sync_power": self._failed_sync_power,
            "full": self._full,
            "rate": self._rate,
            "wall": self._wall,
            "hand_over": self._hand_over,
            "client_pause": lambda: self._client().pause(self._long_us(50_000, 20_000_000)),
            "client_break": lambda: self._client().break_channel(),
            "client_gone": lambda: self._client().vanish(),
            "client_close": lambda: self._client().close(),
            "client_cut": self._client_cut,
            "client_late_frames": self._late_frames,
        }

    def begin(self) -> None:
        """Faults may come from now on."""
        for process in self._processes.values():
            process.on_down = self.restart_later
        for kind in self._swarm.faults:
            if self._clients or not kind.startswith("client_"):
                self._again(kind)

    def end(self) -> None:
        """No more faults, every replica up, every link whole, every disk with room."""
        self._over = True
        self._network.heal_all()
        for client in self._clients:
            client.resume()
        for process in self._processes.values():
            self._has_room(process)
            self._disks.mend(process.name)
            process.gap_rate = 0.0
            process.slow_sync_until_us = 0
            process.crash_point = None
            process.resume()
            if not process.up:
                process.start()

    # ---- what stands ----

    def stand(self, voters: Sequence[int]) -> Standing | None:
        """After the end, perhaps: a fault of a minority of the voters that the others, mutually connected, live with.

        Voters without a machine are lost; they are a part of that minority.
        """
        lost = [name for name in voters if name not in self._processes]
        names = [name for name in voters if name not in lost]
        victims_max = (len(voters) - 1) // 2 - len(lost)
        if victims_max < 1 or self._chance.random() < 0.5:
            return None
        victims = self._chance.sample(names, self._chance.randint(1, victims_max))
        rest = [name for name in self._processes if name not in victims]
        how = self._chance.choice(("down", "alone", "deaf", "dumb", "pair", "full"))
        for victim in victims:
            if how == "down":
                self._stays_down.add(victim)
                self._processes[victim].crash(power=False)
            elif how == "alone":
                self._network.cut_between([victim], rest, DROP)
            elif how == "deaf":
                self._network.cut_between(rest, [victim], DROP, both=False)
            elif how == "dumb":
                self._network.cut_between([victim], rest, DROP, both=False)
            elif how == "pair":
                self._network.cut_between([victim], [self._chance.choice(rest)], DROP)
            else:
                self._disks.set_full(victim, True)
        standing = Standing(how, tuple(victims))
        if self._world.tracing:
            self._world.tell("--", f"this stands: {standing.words()}")
        return standing

    def lift(self) -> None:
        """What stood is over."""
        self._stays_down.clear()
        self.end()

    # ---- rhythm ----

    def _again(self, kind: str) -> None:
        mean_us = self._swarm.faults[kind] * 1000
        self._world.after(int(self._chance.expovariate(1) * mean_us), self._strike, kind)

    def _strike(self, kind: str) -> None:
        if self._over:
            return
        self.counts[kind] += 1
        self._blows[kind]()
        self._again(kind)

    def _long_us(self, low_us: int, high_us: int) -> int:
        """Evenly spread over the orders of magnitude, so that short and long ones are both common."""
        return int(low_us * (high_us / low_us) ** self._chance.random())

    def _victim(self) -> Process:
        processes = list(self._processes.values())
        masters = [one for one in processes if one.up and one.engine.replica.role is Role.MASTER]
        return self._chance.choice(masters if masters and self._chance.random() < 0.5 else processes)

    def _client(self) -> Victim:
        return self._chance.choice(list(self._clients))

    # ---- processes and machines ----

    def _crash(self, *, power: bool) -> None:
        process = self._victim()
        if process.up and self._chance.random() < 0.6:
            process.crash_point, process.crash_power = self._chance.choice(CRASH_POINTS), power
        else:
            process.crash(power=power)

    def _power_all(self) -> None:
        for process in self._processes.values():
            process.crash(power=True)

    def _kill_power(self) -> None:
        process = self._victim()
        process.crash(power=False)
        delay_us = self._long_us(1_000, 3_000_000)
        self._world.after(delay_us, self._power_after_kill, process)

    def _failed_sync_power(self) -> None:
        process = self._victim()
        self._disks.fail_next_sync(process.name)
        self._world.after(self._long_us(100_000, 4_000_000), self._power_after_kill, process)

    def _power_after_kill(self, process: Process) -> None:
        if not self._over:
            process.crash(power=True)

    def restart_later(self, process: Process) -> None:
        """A process has ended; it comes back after a while."""
        if process.name in self._stays_down:
            return
        low_ms, high_ms = self._swarm.down_ms
        self._world.after(self._long_us(low_ms * 1000, high_ms * 1000), self._restart, process, process.life)

    @staticmethod
    def _restart(process: Process, life: int) -> None:
        if not process.up and process.life == life:
            process.start()

    def _slow_sync(self) -> None:
        self._victim().slow_sync_until_us = self._world.now_us + self._long_us(100_000, 8_000_000)

    def _full(self) -> None:
        process = self._victim()
        self._disks.set_full(process.name, True)
        self._world.after(self._long_us(10_000, 4_000_000), self._has_room, process)

    def _has_room(self, process: Process) -> None:
        """Somebody made room; sometimes the replica is restarted too."""
        self._disks.set_full(process.name, False)
        if process.met_full_disk and self._chance.random() < 0.2:
            process.crash(power=False)

    def _rate(self) -> None:
        bound = self._swarm.drift_ppm // 2
        self._clock().set_rate(self._chance.choice((-bound, 0, bound)))

    def _clock(self) -> Clock:
        clocks = [process.clock for process in self._processes.values()]
        return self._chance.choice(clocks + [client.clock for client in self._clients])

    def _wall(self) -> None:
        self._clock().step_wall(self._chance.choice((-(10**9), -5_000, 700, 10**8)))

    def _hand_over(self) -> None:
        to = self._chance.choice((None, *self._processes))
        self._victim().put(HandOverRequest(to))

    # ---- links ----

    def _cut(self) -> None:
        names: list[Name] = list(self._processes)
        if len(names) < 2:
            return
        how = self._chance.choice((DROP, HOLD))
        one: Name = self._victim().name
        rest = [name for name in names if name != one]
        shape = self._chance.choice(
            ("alone", "halves", "deaf", "dumb", "pair", "one way", "no clients", "some clients")
        )
        both = True
        if shape == "alone":
            left, right = [one], rest
        elif shape == "halves":
            self._chance.shuffle(rest)
            left, right = [one, *rest[: len(rest) // 2]], rest[len(rest) // 2 :]
        elif shape == "deaf":
            left, right, both = rest, [one], False
        elif shape == "dumb":
            left, right, both = [one], rest, False
        elif shape == "no clients":
            left, right = [one], [*rest, *(client.name for client in self._clients)]
        elif shape == "some clients":
            here = [client.name for client in self._clients if self._chance.random() < 0.5]
            left, right = [one, *here], [*rest, *(one.name for one in self._clients if one.name not in here)]
        else:
            left, right, both = [one], [self._chance.choice(rest)], shape == "pair"
        links = self._network.cut_between(left, right, how, both)
        if self._world.tracing:
            self._world.tell("--", f"cut ({shape}, {how}): {left} | {right}")
        self._world.after(self._long_us(50_000, 6_000_000), self._heal, links)

    def _heal(self, links: list[tuple[Name, Name]]) -> None:
        for source, target in links:
            if self._network.is_cut(source, target):
                self._network.heal(source, target)

    def _client_cut(self) -> None:
        name = self._client().name
        replicas: list[Name] = list(self._processes)
        some = self._chance.sample(replicas, self._chance.randint(1, len(replicas)))
        links = self._network.cut_between([name], some, self._chance.choice((DROP, HOLD)), self._chance.random() < 0.6)
        self._world.after(self._long_us(100_000, 15_000_000), self._heal, links)

    def _late_frames(self) -> None:
        """A client's frames wait in the buffer of a connection that it gives up, and come much later."""
        self._client().hold_frames(self._long_us(20_000, 500_000), self._long_us(500_000, 15_000_000))
