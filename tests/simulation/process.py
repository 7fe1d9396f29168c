"""One replica process on its machine: turns, syncs, pauses, crashes, restarts around a real engine and a real store.

A turn is what the daemon's driver does: take the inbox, read the clock (perhaps after a pause), step, perform. Whatever
belongs to a process that has died carries its `life` and is ignored afterwards; what it had sent stays on its way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from coordd.engine.effects import Effects, Push, Reply
from coordd.engine.inputs import Input, PeerMessage, Persisted
from tests.simulation.network import Network
from tests.simulation.performing import Performing
from tests.simulation.ports import Kit, LostDisk, RotAccepted, Watcher, brief
from tests.simulation.swarm import Swarm
from tests.simulation.world import Clock, Violation, World

CRASH_POINTS = ("before append", "after append", "after sending", "while syncing")


class Process(Performing):
    """A replica's machine and, while `up`, the process on it."""

    def __init__(self, world: World, swarm: Swarm, network: Network, kit: Kit, name: int, watcher: Watcher) -> None:
        self.world, self.swarm, self.network, self.kit, self.name = world, swarm, network, kit, name
        self.watcher = watcher
        self._chance = world.chance(f"process {name}")
        self._random = self._chance.random
        self._entropy = world.chance(f"entropy {name}")
        most = swarm.clock_ppm
        self.clock = Clock(world, self._chance.randrange(10**9), self._chance.choice((-most, -most, 0, most, most)))
        self.on_reply: Callable[[Reply], None] = lambda reply: None
        self.on_push: Callable[[Push], None] = lambda push: None
        self.on_client: Callable[[Any, Any], None] = lambda source, message: None
        self.on_arrival: Callable[[Any, Any], None] = lambda source, message: None  # of a client's, read or not
        self.on_nobody: Callable[[Any, Any], None] = lambda source, message: None  # a client, while the process is down
        self.on_end: Callable[[], None] = lambda: None  # the doors' side of the process dies with it
        self.on_runs: Callable[[], None] = lambda: None  # it stood still, and runs again
        self.on_down: Callable[[Process], None] = lambda process: None  # somebody may start it again
        self.on_left: Callable[[Process], None] = lambda process: None  # it was removed and has ended, for good
        self.on_lost: Callable[[Process], None] = lambda process: None  # its disk is lost, and it has ended for good
        self.directory_lost = False  # and an empty one in its place: its peers have to refuse it
        self.up = self.paused = self._blocked = self._turn_due = self._syncing = False
        self.life = 0
        self.gap_rate = swarm.gap_rate
        self.slow_sync_until_us = 0
        self.crash_point: str | None = None  # die at this place of the next turn that persists something
        self.crash_power = False
        self.inbox: list[Input] = []
        self.engine: Any = None
        self.store: Any = None
        self._reset()
        network.join(name, self._message)

    # ---- life and death ----

    def _reset(self) -> None:
        self.inbox = []
        self._unsynced: list[tuple[int, list[tuple[int, Any]]]] = []
        self._syncing_group: list[tuple[int, list[tuple[int, Any]]]] = []
        self._synced_meanwhile: tuple[bool, ...] = ()
        self._taken: list[Input] | None = None  # inputs in hand when the process was stopped
        self._in_gap = False
        self._unread: list[tuple[Any, Any]] = []  # what clients sent while the process stood still
        self._backlog: list[Effects] = []
        self._retry_at_us = 0
        self._blocked = self._turn_due = self._syncing = self.paused = False
        self._snapshotting = self.met_full_disk = False
        self.crash_point = None

    def start(self) -> None:
        """The process begins: recovery, then its first turn. A disk that does not allow it ends it at once."""
        assert not self.up
        self.life += 1
        self._reset()
        self.up = True
        if self.world.tracing:
            self.world.tell(self.name, f"starts (life {self.life})")
        self._guard(self._start)

    def _start(self) -> None:
        try:
            self.engine, self.store = self.kit.open(self.name, self.clock.now_ms())
        except self.kit.disk_full:
            return self._end("no room to start")
        except LostDisk as error:
            if self.world.tracing:
                self.world.tell(self.name, f"does not start: {error}")
            self.retire("lost disk")
            return self.on_lost(self)
        except RotAccepted as error:
            raise self.world.violation("rot", f"replica {self.name}: {error}") from error
        except self.kit.refused as error:
            raise self.world.violation("start refused", f"replica {self.name}: {error!r}") from error
        self.watcher.started(self)
        self._wake()
        return self.world.after(self._tick_us(), self._tick, self.life)

    def _guard(self, action: Callable[..., None], *arguments: Any) -> None:
        """Run a piece of the process, which ends with whatever the disk does to it."""
        try:
            action(*arguments)
        except self.kit.power_cut:
            self.crash(power=self.kit.lost_power(self.name))
        except self.kit.disk_failed as error:
            if self.world.tracing:
                self.world.tell(self.name, f"its disk fails: {error}")
            self._end("failed disk")

    def crash(self, *, power: bool) -> None:
        """The process ends in the middle of whatever it does."""
        if self.world.tracing:
            self.world.tell(self.name, "loses power" if power else "is killed with -9")
        if self.up:
            self._end("power" if power else "kill", power=power)
        elif power:
            self.kit.crash(self.name, self._chance, power=True)
        if power:  # the machine boots anew: its clock begins somewhere else, its rate is another
            most = self.swarm.clock_ppm
            self.clock = Clock(self.world, self._chance.randrange(10**9), self._chance.randint(-most, most))

    def retire(self, how: str) -> None:
        """The process ends, and nobody starts it again."""
        self.on_down = lambda process: None
        self.life += 1  # nor does who is about to
        if self.up:
            self._end(how)

    def _end(self, how: str, *, power: bool = False) -> None:
        self.up = False
        self.life += 1
        self.on_end()
        self.watcher.ended(self, how)
        self._reset()
        self.engine = self.store = None
        self.kit.crash(self.name, self._chance, power=power)
        self.on_down(self)

    @property
    def stands_still(self) -> bool:
        """Nothing of it runs now, and everything piles up."""
        return self.paused or self._in_gap

    def pause(self, for_us: int) -> None:
        """SIGSTOP; messages pile up in the inbox."""
        if self.up and not self.paused:
            if self.world.tracing:
                self.world.tell(self.name, f"is stopped for {for_us / 1e6:.3f} s")
            self.paused = True
            self.world.after(for_us, self._resume, self.life)

    def _resume(self, life: int) -> None:
        if life == self.life:
            self.resume()

    def resume(self) -> None:
        """SIGCONT."""
        if not self.paused:
            return
        self.paused = False
        if self._taken is not None:
            taken, self._taken = self._taken, None
            self._step_after_gap(self.life, taken)
        elif not self._in_gap:
            self._catch_up()

    def _catch_up(self) -> None:
        """The process runs again: first what the disk has done meanwhile."""
        self.on_runs()
        if self._synced_meanwhile and self.up:
            (early,), self._synced_meanwhile = self._synced_meanwhile, ()
            self._guard(self._after_sync, early)
        unread, self._unread = self._unread, []
        if unread:  # whether a turn or the sockets come first is chance
            self.world.after(self._chance.randrange(150), self._read, self.life, unread)
        self._wake()

    def _read(self, life: int, unread: list[tuple[Any, Any]]) -> None:
        for source, message in unread if life == self.life else ():
            self.on_client(source, message)

    # ---- turns ----

    def put(self, item: Input) -> None:
        """Something for the next turn."""
        if self.up:
            self.inbox.append(item)
            self._wake()

    def _message(self, source: Any, message: Any) -> None:
        if isinstance(source, int):
            self.put(PeerMessage(message))
        elif self.up and self.stands_still:
            self.on_arrival(source, message)
            self._unread.append((source, message))
        elif self.up:
            self.on_arrival(source, message)
            self.on_client(source, message)
        else:
            self.on_nobody(source, message)

    def _tick_us(self) -> int:
        return self.swarm.tick_ms * 1000 + self._chance.randrange(2_000)

    def _tick(self, life: int) -> None:
        if life == self.life:
            self._wake()
            self.world.after(self._tick_us(), self._tick, life)

    def _wake(self, busy_us: int = 0) -> None:
        if self.up and not (self._turn_due or self.paused or self._blocked or self._in_gap):
            self._turn_due = True
            self.world.after(20 + self._chance.randrange(80) + busy_us, self._turn, self.life)

    def _turn(self, life: int) -> None:
        if life != self.life:
            return
        self._turn_due = False
        if self.paused or self._blocked or self._in_gap:
            return
        inputs, self.inbox = self.inbox, []
        if self.gap_rate and self._random() < self.gap_rate:
            self._in_gap = True
            gap_us = int(self._random() ** 3 * 3_000_000)
            self.world.after(gap_us, self._step_after_gap, life, inputs)
        else:
            self._guard(self._step, inputs)

    def _step_after_gap(self, life: int, inputs: list[Input]) -> None:
        if life != self.life:
            return
        if self.paused:
            self._taken = inputs
            return
        self._in_gap = False
        self._guard(self._step, inputs)
        self._catch_up()

    def _step(self, inputs: list[Input]) -> None:
        now_ms = self.clock.now_ms()
        try:
            effects = self.engine.step(inputs, now_ms, self.clock.wall_ms(), self._entropy.randbytes(32))
        except Violation:
            raise
        except Exception as error:  # whatever it is, it would end the daemon
            kind = "assertion" if isinstance(error, AssertionError) else "exception"
            raise self.world.violation(kind, f"replica {self.name}: {error!r}") from error
        self.watcher.stepped(self, inputs, effects, now_ms)
        if effects.stop is not None and self.directory_lost:
            if self.world.tracing:
                self.world.tell(self.name, f"is refused: {effects.stop}")
            self.retire("refused")
            self.on_lost(self)
            return
        if effects.stop is not None:
            raise self.world.violation("stop", f"replica {self.name} stops: {effects.stop}")
        if effects.diverged is not None:
            self._send(effects.send_now)
            self.retire("diverged")
            return
        if any(type(item) is Persisted for item in inputs):
            self._syncing = False
            self._begin_sync()
        self._perform(effects)
        if effects.unfinished:
            self._wake(self._chance.randrange(self.swarm.busy_us) if self.swarm.busy_us else 0)
        if effects.left and self.up:
            self.retire("left")
            self.on_left(self)

    def _synced(self, number: int) -> None:
        self.watcher.synced(self, number)

    def _send(self, messages: Sequence[tuple[int, Any]]) -> None:
        if not messages:
            return
        self.watcher.spoke(self, messages)
        for target, message in messages:
            if self.world.tracing:
                self.world.tell(self.name, f"-> {target} {brief(message)}")
            self.network.send(self.name, target, message)
