"""One caching client and a master in one small world: what a cache may show is checked against what was written.

The master keeps its half of the rules in the plainest way. Frames travel in order in both directions and take as long
as they take; an answer is looked at later than it arrives, as a task is; a read is made in two steps, as a thread makes
it, with anything in between. The client's clocks run faster or slower than the master's, within the bound.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Any

from coordclient.cached import Cached, Kept
from coordclient.session import DRIFT_PPM, Reading

PATHS = ("/a", "/b", "/c")
LEASE_MS = 100
NEVER_OVER: tuple[Reading, int] = ((0, 0), 2**40)
NS = 1_000_000


class Stale(AssertionError):
    """A read showed a value that was over before the read began."""


class World:
    """`client`: its half of the rules. `ack_first`: it acknowledges before it has dropped anything; `drops_early`: the
    master forgets what a client holds when that owes an acknowledgement, though its lease still runs."""

    def __init__(
        self, seed: int, client: Callable[[], Cached], *, ack_first: bool = False, drops_early: bool = False
    ) -> None:
        self.chance = random.Random(seed)
        self.cached = client()
        self.ack_first = ack_first
        self.drops_early = drops_early
        self.now = 0  # the master's clock, in us
        # Percent of the bound: to be seen within a short history the world's drift is 10 times what the library allows.
        self.rate = self.chance.choice((1_000_000 - 10 * DRIFT_PPM, 1_000_000, 1_000_000 + 10 * DRIFT_PPM))
        self.up: deque[tuple[Any, ...]] = deque()
        self.down: deque[tuple[Any, ...]] = deque()
        self.laid: list[tuple[Any, ...]] = []  # answers that have arrived and were not looked at
        self.reads: list[tuple[str, int, Kept[Any] | None]] = []
        self.hits = 0
        # the master
        self.applied = dict.fromkeys(PATHS, 0)
        self.acknowledged = dict.fromkeys(PATHS, 0)  # to the writer, or seen by any reader
        self.registered: set[str] = set()
        self.writing: tuple[str, int] | None = None  # the path, and the number that is to be acknowledged
        self.number = 0
        self.told = 0  # the number of the last invalidation
        self.heard = 0
        self.asked: int | None = None  # a request for a lease that waits
        self.lease_until = 0
        self.forgotten = False  # what the client holds, by a new reign
        self.epoch = 1
        self.cached.open(1)

    def reading(self) -> Reading:
        ms = 1_000_000 + self.now * self.rate // 1_000_000 // 1_000
        return (ms, ms)

    def run(self, steps: int) -> None:
        moves = (
            *(
                (self.pass_time, 4),
                (self.send_get, 3),
                (self.send_lease, 3),
                (self.start_write, 3),
                (self.end_write, 6),
            ),
            *((self.arrive_up, 6), (self.arrive_down, 6), (self.look, 6), (self.begin_read, 9), (self.end_read, 9)),
            *((self.new_reign, 0.1),),
        )
        names, weights = [move for move, _ in moves], [weight for _, weight in moves]
        for _ in range(steps):
            self.chance.choices(names, weights)[0]()

    def pass_time(self) -> None:
        self.now += self.chance.choice((100, 1_000, 1_000, 5_000, 30_000))

    # --- the client

    def send_get(self) -> None:
        if len(self.up) < 20:
            self.up.append(("get", self.chance.choice(PATHS), self.cached.generation))

    def send_lease(self) -> None:
        if not self.cached.asking:
            self.up.append(("lease", self.cached.ask(self.reading())))

    def arrive_down(self) -> None:
        if not self.down:
            return
        kind, *what = self.down.popleft()
        if kind == "invalidate":
            path, number = what
            if self.ack_first:
                self.heard = number  # the frame is quicker than the rest of this step
                self.laid.append(("late", path, number))
            else:
                self.cached.invalidate([path], number)
                self.up.append(("acknowledge", number))
        elif kind == "lease":
            asked, epoch, lease_ms, drop = what
            self.cached.granted(asked, epoch, lease_ms, drop, NEVER_OVER)
        else:
            self.laid.append((kind, *what))

    def look(self) -> None:
        if not self.laid:
            return
        kind, *what = self.laid.pop(self.chance.randrange(len(self.laid)))
        if kind == "late":
            self.cached.invalidate([what[0]], what[1])
        else:
            path, value, number, generation = what
            self.cached.fill("get", path, value, 1, number, generation)

    def begin_read(self) -> None:
        path = self.chance.choice(PATHS)
        self.reads.append((path, self.acknowledged[path], self.cached.files.get(path)))

    def end_read(self) -> None:
        if not self.reads:
            return
        path, least, kept = self.reads.pop(self.chance.randrange(len(self.reads)))
        first, second = self.reading()
        if kept is None or not self.cached.believed(kept, (first * NS, second * NS)):
            return
        self.hits += 1
        if kept.value < least:
            raise Stale(f"{path}: {kept.value} was shown, {least} was there before")
        assert kept.value <= self.applied[path]
        self.acknowledged[path] = max(self.acknowledged[path], kept.value)

    # --- the master

    def arrive_up(self) -> None:
        if not self.up:
            return
        kind, *what = self.up.popleft()
        if kind == "get":
            path, generation = what
            if self.writing is None or self.writing[0] != path:  # otherwise it is not cachable
                self.number += 1
                self.registered.add(path)
                self.down.append(("fill", path, self.applied[path], self.number, generation))
        elif kind == "acknowledge":
            self.heard = max(self.heard, what[0])
            if self.asked is not None and not self.owes():
                asked, self.asked = self.asked, None
                self.grant(asked)
        elif self.forgotten or (self.drops_early and self.owes()):
            self.registered.clear()
            self.forgotten = False
            self.grant(what[0], 0 if self.owes() else LEASE_MS, drop=True)
        elif self.owes():
            # Who owes an acknowledgement gets no lease before it is there. It is not told to drop all: while the lease
            # of before runs it may show what it holds, so the master must go on knowing all that.
            self.asked = what[0]
        else:
            self.grant(what[0])

    def grant(self, asked: int, lease_ms: int = LEASE_MS, *, drop: bool = False) -> None:
        self.lease_until = max(self.lease_until, self.now + lease_ms * 1_000)
        self.down.append(("lease", asked, self.epoch, lease_ms, drop))

    def owes(self) -> bool:
        return self.heard < self.told

    def start_write(self) -> None:
        """Nothing is skipped: also a client whose lease is over is told, though the write does not wait for it."""
        if self.writing is not None:
            return
        path = self.chance.choice(PATHS)
        self.writing = (path, 0)
        if path in self.registered:
            self.number += 1
            self.told = self.number
            self.registered.discard(path)
            self.down.append(("invalidate", path, self.number))
            self.writing = (path, self.number)

    def end_write(self) -> None:
        if self.writing is None:
            return
        path, number = self.writing
        if self.heard < number and self.now < self.lease_until:
            return
        self.writing = None
        self.applied[path] += 1
        self.acknowledged[path] = self.applied[path]

    def new_reign(self) -> None:
        """The same replica is elected again, when every lease is over. The channel stays; nobody is registered."""
        if self.now < self.lease_until or self.writing is not None:
            return
        self.epoch += 1
        self.registered.clear()
        self.forgotten, self.asked, self.heard = True, None, self.told
