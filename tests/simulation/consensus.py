"""Agreement alone: `coordd.paxos` under the plain engine, with clients that append tokens and read.

Half the cost of a whole cell, so many more faults a second; what breaks here never needs to be looked for there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from coordclient.protocol.errors import Refusal
from coordd.engine.effects import Reply
from coordd.engine.inputs import Call
from coordd.paxos.state import PaxosSettings
from tests.simulation import faults
from tests.simulation.checkers import everything
from tests.simulation.checkers.agreement import ChosenValues, MasterLease, Promises
from tests.simulation.checkers.panel import Checker, Panel
from tests.simulation.checkers.plain import PlainHistory
from tests.simulation.draw import draw
from tests.simulation.faults.nemesis import Nemesis
from tests.simulation.faults.standing import stand
from tests.simulation.network import Network
from tests.simulation.plain import PlainKit
from tests.simulation.process import Process
from tests.simulation.report import Report
from tests.simulation.swarm import Swarm
from tests.simulation.tuning import tuned
from tests.simulation.world import Trace, World

ANSWER_MS_MAX = 1_500
CONVERGE_MS_MAX = 40_000
SLICE_US = 50_000


@dataclass(slots=True)
class Asked:
    """A call of a client that is under way."""

    number: int
    operation: str
    token: str
    floor: int


class PlainClient:
    """One call at a time: an append of a new token, or a read."""

    def __init__(self, world: World, name: str, network: Network, history: PlainHistory, replicas: list[int]) -> None:
        self._world, self._network, self._history, self._replicas = world, network, history, replicas
        self.name = name
        self._chance = world.chance(f"client {name}")
        self._target = self._chance.choice(replicas)
        self._number = 0
        self._asked: Asked | None = None
        self.appended_at_us = -1  # when the last acknowledged append was begun
        network.join(name, self._answer)

    def think(self) -> None:
        """Begin the next call."""
        self._number += 1
        operation = "append" if self._chance.random() < 0.7 else "read"
        self._asked = Asked(self._number, operation, f"{self.name}.{self._number}", self._history.floor)
        self._network.send(self.name, self._target, (self._number, operation, self._asked.token, self._world.now_us))
        self._world.after(ANSWER_MS_MAX * 1000, self._give_up, self._number)

    def _give_up(self, number: int) -> None:
        if self._asked is not None and self._asked.number == number:
            self._asked = None
            self._target = self._chance.choice(self._replicas)
            self.think()

    def _answer(self, source: Any, message: tuple[int, int, dict[str, int] | Refusal]) -> None:
        number, began_us, result = message
        asked = self._asked
        if asked is None or asked.number != number:
            return
        self._asked = None
        pause_us = 1_000 + self._chance.randrange(100_000)
        if isinstance(result, Refusal):
            master = result.details.get("master")
            self._target = master if isinstance(master, int) else self._chance.choice(self._replicas)
            pause_us += 50_000
        elif asked.operation == "append":
            self._history.append_answered(asked.token, result["place"], result["slot"])
            self.appended_at_us = max(self.appended_at_us, began_us)
        else:
            self._history.read_answered(asked.floor, result["count"])
        self._world.after(pause_us, self._next, number)

    def _next(self, number: int) -> None:
        if self._number == number:
            self.think()


class PlainDoor:
    """Hands client messages to the process and replies back."""

    def __init__(self, process: Process, network: Network) -> None:
        self._process, self._network = process, network
        self._requests: dict[int, tuple[Any, int, int]] = {}
        self._number = 0
        process.on_client = self._message
        process.on_reply = self._reply
        process.on_end = self._requests.clear

    def _message(self, source: Any, message: tuple[int, str, str, int]) -> None:
        number, operation, token, began_us = message
        self._number += 1
        self._requests[self._number] = (source, number, began_us)
        self._process.put(Call(self._number, operation, {"token": token}))

    def _reply(self, reply: Reply) -> None:
        if reply.request == 0:
            return  # nobody waits for it
        source, number, began_us = self._requests.pop(reply.request)
        self._network.send(self._process.name, source, (number, began_us, reply.result))


class Consensus:
    """One run: a safety phase with faults, then service while a minority is faulty, then convergence of all."""

    safety_events = 14_000
    processes: dict[int, Process]

    def __init__(self, seed: int, trace: Trace | None = None, swarm: Swarm | None = None) -> None:
        self.world = World(seed, trace)
        self.swarm = swarm or draw(self.world.chance("swarm"), safety_events=self.safety_events, plain=True)
        self.network = Network(self.world, self.swarm)
        self.replicas = replicas = list(range(1, self.swarm.replicas + 1))
        self.chosen = ChosenValues(self.world)
        self.history = PlainHistory(self.world, self.chosen, self.swarm.clocks_kept)
        self.promises = Promises(self.world)
        self.mastership = MasterLease(self.world, self.swarm.clocks_kept)
        self.panel = Panel([*everything.of_agreement(self), *everything.of_plain(self), *self.more_checkers()])
        settings = {replica: settings_of(self.swarm, replica) for replica in replicas}
        self.kit = PlainKit(self.swarm.membership(), settings, self.swarm.snapshot_bytes)
        self.processes = {
            replica: Process(self.world, self.swarm, self.network, self.kit, replica, self.panel)
            for replica in replicas
        }
        for process in self.processes.values():
            PlainDoor(process, self.network)
        self.clients = [
            PlainClient(self.world, f"c{index}", self.network, self.history, replicas)
            for index in range(1, self.swarm.clients + 1)
        ]
        self.nemesis = Nemesis(self.world, self.swarm, faults.ALL, self.network, self.processes, self.kit, [])
        self.nemesis.forget = self.replicas.remove

    def more_checkers(self) -> list[Checker]:
        """Of replicas, in this kind of run."""
        return []

    def begin_faults(self) -> None:
        """From now on anything may happen."""
        self.nemesis.begin()

    def end_faults(self) -> None:
        """From now on nothing breaks any more."""
        self.nemesis.end()

    def run(self) -> Report:
        """Both phases; raises `Violation`."""
        with tuned(self.swarm):
            return self._run()

    def _run(self) -> Report:
        for process in self.processes.values():
            self.world.after(self.world.chance("begin").randrange(300_000), process.start)
        for client in self.clients:
            self.world.after(50_000, client.think)
        self.world.run(400_000)
        self.begin_faults()
        while not self.swarm.faults_over(self.world.now_us, self.world.events):
            self.world.run(self.world.now_us + SLICE_US)
        self.end_faults()
        if (standing := stand(self.nemesis, self.voters())) is not None:
            self._wait_until(self.is_serving, f"while this stands: {standing.words()}")
            self.nemesis.lift()
        self._wait_until(self.is_settled, "after the last fault")
        return Report.of(self)

    def answers(self) -> int:
        """How many answers were checked."""
        return self.history.appended + self.history.read

    def _wait_until(self, is_right: Callable[[int], bool], when: str) -> None:
        world = self.world
        quiet_us = world.now_us
        while not is_right(quiet_us):
            if world.now_us > quiet_us + CONVERGE_MS_MAX * 1000:
                raise world.violation("convergence", f"{CONVERGE_MS_MAX} ms {when}: {self._state(quiet_us)}")
            world.run(world.now_us + 100_000)

    def members(self) -> list[Process]:
        """The replicas that have to agree at the end."""
        return list(self.processes.values())

    def voters(self) -> Sequence[int]:
        """Who counts, when the faults have ended."""
        return range(1, self.swarm.replicas + 1)

    def is_serving(self, quiet_us: int) -> bool:
        """Every client has got a new write."""
        return all(client.appended_at_us >= quiet_us for client in self.clients)

    def is_settled(self, quiet_us: int) -> bool:
        """Every client has got a new write, every replica is there and knows nearly everything."""
        if not self.is_serving(quiet_us):
            return False
        if not all(process.up for process in self.members()):
            return False
        states = [process.engine.state for process in self.members()]
        upto = max(state.upto for state in states)
        return all(state.upto >= upto - 8 for state in states)

    def _state(self, quiet_us: int) -> str:
        words = [
            f"{process.name}: {process.engine.replica.role.value} upto {process.engine.state.upto}"
            if process.up
            else f"{process.name}: down"
            for process in self.processes.values()
        ]
        late = [client.name for client in self.clients if client.appended_at_us < quiet_us]
        return f"{'; '.join(words)}; without a new write: {late}"


def settings_of(swarm: Swarm, replica: int) -> PaxosSettings:
    """The core's settings that go with the lease of this seed."""
    return PaxosSettings(
        replica=replica,
        drift_ppm=swarm.drift_ppm,
        heartbeat_ms=swarm.lease_ms // 5,
        retransmit_ms=swarm.lease_ms // 7,
        election_jitter_ms=swarm.lease_ms // 5,
    )
