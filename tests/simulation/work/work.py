"""The workers of a run. One goes on until its process ends or `Work.stop` is set.

Errors that the library documents are part of life; any other exception is a violation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from random import Random

from coordclient.errors import (
    ClientClosed,
    CoordError,
    InternalError,
    LockLost,
    LockTimeout,
    OutcomeUnknown,
    SessionExpired,
    Unavailable,
)
from tests.histories.hold import Hold
from tests.histories.recorder import Question
from tests.simulation.checkers.fresh import Fresh
from tests.simulation.checkers.history import Acknowledged, Orders
from tests.simulation.checkers.story import Key, LockStory
from tests.simulation.checkers.tree import TreeStory
from tests.simulation.checkers.watching import Watching
from tests.simulation.client import ClientProcess
from tests.simulation.swarm import Swarm
from tests.simulation.world import Violation, World

HEIR = "heirs"  # whom every process has that resumes a session, whatever the seed drew
Body = Callable[["Work", ClientProcess, Random], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Worker:
    """One kind of worker. `body` does its thing once."""

    name: str
    weight: int  # in the draw of a seed
    body: Body
    of_locks: bool = False  # every client has at least one of these


class Fences:
    """The protected things outside: each remembers the highest token that it has seen."""

    def __init__(self) -> None:
        self.highest: dict[str, int] = {}
        self.passed = self.refused = 0

    def use(self, path: str, token: int) -> None:
        """Somebody comes with a token."""
        if token >= self.highest.get(path, 0):
            self.highest[path] = token
            self.passed += 1
        else:
            self.refused += 1


class Work:
    """The workers of all client processes of a run, and what they found."""

    def __init__(self, world: World, swarm: Swarm, workers: Mapping[str, Worker]) -> None:
        self.world, self.swarm = world, swarm
        self._workers = workers
        self.story = LockStory(world, swarm.drift_ppm, swarm.clocks_kept)
        self.tree = TreeStory(world)
        self.fresh = Fresh(world, self.tree)
        self.orders = Orders(world, self.fresh.saw)
        self.watching = Watching(world, self.tree, self.fresh)
        self.acknowledged = Acknowledged(world)
        self.fences = Fences()
        self.stop = False
        self.failure: Violation | None = None
        self.done: dict[str, int] = {}  # seat -> when its last acknowledged write of the final kind was begun
        self.records: dict[Key, Hold] = {}  # of every grant that somebody has entered
        self.entered = self.lost = self.timeouts = self.deadlocks = self.handed_over = self.adopted = 0
        self.left_behind: dict[str, str] = {}
        self.busy: dict[str, int] = {}  # client process -> workers that are not done
        self.ephemerals: list[str] = []  # some that were made of late
        self._names = 0

    def begin(self, process: ClientProcess) -> None:
        """All workers of one client process."""
        if process.works:
            self.busy[process.name] = 1
            process.loop.run_soon(self._work(process, 0, process.works))
            return
        if process.ticket is not None:
            self.busy[process.name] = 1
            process.loop.run_soon(self._work(process, len(self.swarm.workers), HEIR))
        for index, kind in enumerate(self.swarm.workers):
            self.busy[process.name] = self.busy.get(process.name, 0) + 1
            process.loop.run_soon(self._work(process, index, kind))

    async def _work(self, process: ClientProcess, index: int, kind: str) -> None:
        chance = self.world.chance(f"work {process.name} {index} {kind}")
        body = self._workers[kind].body
        try:
            while not self.stop:
                await process.loop.rest(chance.expovariate(1) * self.swarm.think_ms / 1_000)
                try:
                    await body(self, process, chance)
                except InternalError as error:
                    raise self.world.violation("internal error", f"{process.name} ({kind}): {error}") from error
                except (Unavailable, OutcomeUnknown, SessionExpired, LockTimeout):
                    await process.loop.rest(chance.random() * 0.5)
                except LockLost:
                    self.lost += 1
        except asyncio.CancelledError:
            raise
        except ClientClosed:
            if not process.closing:
                self.failure = self.failure or self.world.violation("unexpected error", f"{process.name} is closed")
        except Violation as violation:
            self.failure = self.failure or violation
        except Exception as error:
            words = f"{process.name} ({kind}): {error!r}"
            self.failure = self.failure or self.world.violation("unexpected error", words)
            self.failure.__cause__ = error
        finally:
            self.busy[process.name] -= 1

    def mark_broken(self) -> None:
        """In the history of holds, those that operators have broken at once."""
        for path, session, call in self.story.smashed:
            if (hold := self.records.get((session, call))) is not None and path in hold.tokens:
                hold.broken = True

    def new_name(self) -> str:
        """A name, or a value, that is used once in a run."""
        self._names += 1
        return f"v{self._names}"


def without_answer(question: Question, error: CoordError) -> CoordError:
    """The error goes on; where it says that nothing was done, nobody may ever see the effect."""
    if not isinstance(error, OutcomeUnknown | ClientClosed):  # closing, one does not wait for answers
        question.nothing()
    return error
