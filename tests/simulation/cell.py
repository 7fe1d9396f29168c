"""Whole cells: the real engine, machine, paxos and store of every replica, the daemon's channels, the real client.

First a safety phase under faults. Then the faults end, and within bounded virtual time every client must get a new
write and a lock, sessions of vanished clients must end, no lock, waiter or session may be left, and all replicas must
stand at the same slot with the same digest.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from coordd.engine.settings import EngineSettings
from coordd.machine.limits import LIMITS
from tests.simulation import faults, work
from tests.simulation.checkers import everything
from tests.simulation.checkers.agreement import ChosenValues, MasterLease, Promises
from tests.simulation.checkers.panel import Checker, Panel
from tests.simulation.checkers.story import LockStory
from tests.simulation.checkers.tree import TreeStory
from tests.simulation.checkers.witness import Witness
from tests.simulation.client import ClientProcess, Seat
from tests.simulation.consensus import settings_of
from tests.simulation.doors import CELL, Doors
from tests.simulation.draw import draw
from tests.simulation.faults.nemesis import Nemesis
from tests.simulation.faults.standing import stand
from tests.simulation.kit import CellKit
from tests.simulation.network import Network
from tests.simulation.poster import PostSeat
from tests.simulation.process import Process
from tests.simulation.report import Report
from tests.simulation.swarm import Swarm
from tests.simulation.tuning import tuned
from tests.simulation.watcher import WatchSeat
from tests.simulation.work.ending import last_things
from tests.simulation.work.posting import last_posts
from tests.simulation.work.watchers import last_watches
from tests.simulation.work.work import Work
from tests.simulation.world import Trace, World

CONVERGE_MS_MAX = 60_000
SLICE_US = 50_000
LAST_THINGS = {PostSeat: last_posts, WatchSeat: last_watches}


class Cell:
    """One run of one seed."""

    kit_class = CellKit
    safety_events = 11_000
    kit: CellKit
    processes: dict[int, Process]

    def __init__(self, seed: int, trace: Trace | None = None, swarm: Swarm | None = None) -> None:
        self.world = World(seed, trace)
        self.swarm = swarm or draw(self.world.chance("swarm"), safety_events=self.safety_events)
        self.network = Network(self.world, self.swarm)
        self.work = Work(self.world, self.swarm, work.ALL)
        self.doors: dict[int, Doors] = {}
        self.chosen = ChosenValues(self.world)
        self.promises = Promises(self.world)
        self.mastership = MasterLease(self.world, self.swarm.clocks_kept)
        of_state = everything.of_state(self)
        self.witness = Witness(self.world, self.chosen, of_state)
        kept, kept_bytes = self.swarm.changes_kept, self.swarm.changes_bytes
        self.witness.limits = replace(LIMITS, changes=kept, changes_bytes=kept_bytes)
        of_replicas = [*everything.of_agreement(self), self.witness, *everything.of_cell(self), *self.more_checkers()]
        self.checkers: list[Checker] = [*of_state, *of_replicas]
        self.panel = Panel(of_replicas)
        self._make_replicas()
        self._make_clients()
        self.nemesis = Nemesis(self.world, self.swarm, faults.ALL, self.network, self.processes, self.kit, self.seats)

    def more_checkers(self) -> list[Checker]:
        """Of replicas, in this kind of run."""
        return []

    def _make_replicas(self) -> None:
        replicas = list(range(1, self.swarm.replicas + 1))
        settings = {replica: engine_settings(self.swarm, replica) for replica in replicas}
        self.kit = self.kit_class(CELL, self.swarm.membership(), settings, self.witness.machine_class)
        self.processes = {
            replica: Process(self.world, self.swarm, self.network, self.kit, replica, self.panel)
            for replica in replicas
        }
        for replica, process in self.processes.items():
            self.doors[replica] = Doors(self.world, self.network, process)

    def begin_faults(self) -> None:
        """From now on anything may happen."""
        self.nemesis.begin()

    def end_faults(self) -> None:
        """From now on nothing breaks any more."""
        self.nemesis.end()

    def members(self) -> list[Process]:
        """The replicas that have to agree at the end."""
        return list(self.processes.values())

    def voters(self) -> Sequence[int]:
        """Who counts, when the faults have ended."""
        return range(1, self.swarm.replicas + 1)

    def keep_reachable(self, victims: Sequence[int]) -> None:
        """Every client has the address of a voter that is none of these: any majority has one."""

    def _make_clients(self) -> None:
        self.seats = [
            Seat(self.world, self.swarm, self.network, f"c{index}", self.doors, self.work.begin)
            for index in range(1, self.swarm.clients + 1)
        ]
        self.seats += [
            PostSeat(self.world, self.swarm, self.network, f"p{index}", self.doors, self.work.begin)
            for index in range(1, self.swarm.posters + 1)
        ]
        self.seats += [
            WatchSeat(self.world, self.swarm, self.network, f"w{index}", self.doors, self.work.begin)
            for index in range(1, self.swarm.watchers + 1)
        ]

    def living_clients(self) -> Iterator[ClientProcess]:
        """The client processes that are alive."""
        for seat in self.seats:
            yield from seat.processes()

    @property
    def story(self) -> LockStory:
        """What all checkers of locks go by."""
        return self.work.story

    @property
    def tree(self) -> TreeStory:
        """What all watchers are judged by."""
        return self.work.tree

    # ---- the run ----

    def run(self) -> Report:
        """All phases; raises `Violation`."""
        chance = self.world.chance("begin")
        for process in self.processes.values():
            self.world.after(chance.randrange(300_000), process.start)
        for seat in self.seats:
            self.world.after(chance.randrange(600_000), seat.sit_down)
        log = logging.getLogger("coordclient")
        spoke = not log.disabled
        log.disabled = True
        try:
            with tuned(self.swarm):
                self._phases()
        finally:
            for client in self.living_clients():
                client.kill()
            for doors in self.doors.values():
                doors.posts.end()
            log.disabled = not spoke
        self._check_history()
        return Report.of(self)

    def _phases(self) -> None:
        self._run_until(400_000)
        self.begin_faults()
        while not self.swarm.faults_over(self.world.now_us, self.world.events):
            self._run_until(self.world.now_us + SLICE_US)
        if self.world.tracing:
            self.world.tell("--", "the faults end")
        self.end_faults()
        if (standing := stand(self.nemesis, self.voters())) is not None:
            self.keep_reachable(standing.victims)
        self._begin_last_things()
        if standing is not None:
            self._wait_until(self._not_served, f"while this stands: {standing.words()}")
            self.nemesis.lift()
        self._wait_until(self.left_behind, "after the last fault")

    def answers(self) -> int:
        """How many answers were checked."""
        return self.work.orders.count() + len(self.work.acknowledged.contents) + self.work.entered

    def _run_until(self, until_us: int) -> None:
        world = self.world
        while world.now_us < until_us:
            world.run(min(until_us, world.now_us + SLICE_US))
            self._look_around()

    def _look_around(self) -> None:
        for checker in self.checkers:
            checker.look()
        if self.work.failure is not None:
            raise self.work.failure
        for client in self.living_clients():
            if client.loop.errors:
                error = client.loop.errors[0]
                raise self.world.violation("client", f"{client.name}: {error}") from error.get("exception")

    def _notice_dead_connections(self) -> None:
        """The kernels do so, at last: whose client has gone or has given it up is over at the replica, too."""
        alive = {(one.port.name, number) for one in self.living_clients() for number in one.port.sockets}
        for doors in self.doors.values():
            doors.drop_all_but(alive)

    def _begin_last_things(self) -> None:
        self.work.stop = True
        for seat in self.seats:
            if seat.process is not None and seat.process.closing:
                seat.vanish()
            seat.sit_down()
            assert seat.process is not None
            seat.closed = True
            last = LAST_THINGS.get(type(seat), last_things)
            seat.process.loop.run_soon(last(self.work, seat.process, self.world.now_us))

    def _wait_until(self, what_is_wrong: Callable[[], str | None], when: str) -> None:
        world = self.world
        quiet_us = world.now_us
        while (wrong := what_is_wrong()) is not None:
            if world.now_us > quiet_us + CONVERGE_MS_MAX * 1000:
                raise world.violation("convergence", f"{CONVERGE_MS_MAX} ms {when}: {wrong}")
            self._notice_dead_connections()
            self._run_until(world.now_us + 200_000)

    def _not_served(self) -> str | None:
        """Which clients got no new write and lock, if any."""
        waiting = [seat.name for seat in self.seats if seat.name not in self.work.done]
        if waiting:
            behind = {one: left for one, left in self.work.left_behind.items() if one.split(".")[0] in waiting}
            return f"clients {waiting} got no new write and lock, or left behind {behind} ({self._roles()})"
        return None

    def left_behind(self) -> str | None:
        """What is not as it should be at the end, if anything."""
        down = [process.name for process in self.members() if not process.up]
        if down:
            return f"replicas {down} are down"
        if (wrong := self._not_served()) is not None:
            return wrong
        engines = [process.engine for process in self.members()]
        slots = {engine.replica.chosen_upto for engine in engines}
        if len(slots) > 1:
            return f"the replicas stand at different slots: {sorted(slots)} ({self._roles()})"
        state = engines[0].machine.state
        if state.sessions or state.locks or state.delayed:
            return f"left over: sessions {list(state.sessions)}, locks {list(state.locks)} ({self._roles()})"
        return next(filter(None, (checker.left_behind() for checker in self.checkers)), None)

    def _roles(self) -> str:
        return ", ".join(
            f"{process.name} {process.engine.replica.role.value} {process.engine.replica.chosen_upto}"
            for process in self.processes.values()
            if process.up
        )

    def _check_history(self) -> None:
        for process in self.members():
            engine = process.engine
            self.witness.compare(process.name, -engine.replica.chosen_upto, engine.machine.digest())
            self.work.acknowledged.check(engine.machine)
        self.work.mark_broken()
        self.work.orders.check(clocks_kept=self.swarm.clocks_kept)


def engine_settings(swarm: Swarm, replica: int) -> EngineSettings:
    """The engine's settings in this seed. The queue of each cache is a request that stays open: there is room for it
    beside the acquires that wait."""
    requests_max = swarm.requests_max + (4 * swarm.clients if swarm.caches else 0)
    return EngineSettings(
        settings_of(swarm, replica),
        tick_ms=swarm.tick_ms,
        stall_ms=max(300, 3 * swarm.tick_ms),
        snapshot_log_bytes=swarm.snapshot_bytes,
        requests_max=requests_max,
        queue_commands_max=swarm.requests_max // 2,
        waiting_calls_max=swarm.requests_max // 2,
    )
