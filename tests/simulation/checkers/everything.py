"""Which checkers watch a run. A feature with checkers of its own adds them here, and nowhere else.

What needs clocks is left out of a run whose clocks differ by more than the bound: there only the log, the revisions,
the tokens and the state are promised, and that everything converges.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

from tests.simulation.checkers.agreement import ChosenValues, CoreInvariants, MasterLease, Promises
from tests.simulation.checkers.beliefs import LockBeliefs, NotServed, OneProcess, SessionBeliefs, Told
from tests.simulation.checkers.caches import CacheWaits
from tests.simulation.checkers.chosen import Choosing
from tests.simulation.checkers.deadlock import Deadlocks
from tests.simulation.checkers.expiry import JustExpiry
from tests.simulation.checkers.guards import Guards
from tests.simulation.checkers.held import HeldKeepAlives
from tests.simulation.checkers.losses import Losses
from tests.simulation.checkers.memory import MemoryBounds
from tests.simulation.checkers.panel import Checker
from tests.simulation.checkers.plain import PlainDigests
from tests.simulation.checkers.queue import Queue
from tests.simulation.checkers.reign import AskedFirst, LaterEpoch, LeaseIsBacked, SilentReign
from tests.simulation.checkers.starts import AnyStart, Refused
from tests.simulation.checkers.state import EachCallOnce, Ephemerals, LockDelays, Tokens
from tests.simulation.checkers.story import LockStory
from tests.simulation.checkers.transactions import Handles, Transactions
from tests.simulation.checkers.tree import TreeStory
from tests.simulation.checkers.witness import StateChecker
from tests.simulation.client import ClientProcess
from tests.simulation.doors import Doors
from tests.simulation.kit import CellKit
from tests.simulation.process import Process
from tests.simulation.swarm import Swarm
from tests.simulation.world import World

Kind = TypeVar("Kind", bound=Checker)


class Agreement(Protocol):
    """What checkers may see of any run."""

    world: World
    swarm: Swarm
    chosen: ChosenValues
    mastership: MasterLease
    promises: Promises
    processes: dict[int, Process]


class WholeCell(Agreement, Protocol):
    """What they may see of a run with clients."""

    kit: CellKit

    @property
    def doors(self) -> Mapping[int, Doors]:
        """The doors of each replica."""
        ...

    @property
    def story(self) -> LockStory:
        """Of all locks."""
        ...

    @property
    def tree(self) -> TreeStory:
        """Of all nodes."""
        ...

    def living_clients(self) -> Iterator[ClientProcess]:
        """The client processes that are alive."""
        ...


def of_agreement(run: Agreement) -> list[Checker]:
    """Of every replica, in every run."""
    world = run.world
    return kept(
        run.swarm,
        [
            run.chosen,
            Choosing(world, run.swarm.membership()),
            run.promises,
            run.mastership,
            LeaseIsBacked(world, lambda: run.processes),
            SilentReign(world, run.swarm.drift_ppm),
            LaterEpoch(world, run.chosen),
            AskedFirst(world),
        ],
    )


def of_plain(run: Agreement) -> list[Checker]:
    """Of the replicas of agreement alone."""
    return [PlainDigests(run.world, run.chosen), CoreInvariants(run.world, 7)]


def of_cell(run: WholeCell) -> list[Checker]:
    """Of the replicas of a whole cell."""
    world = run.world
    return kept(
        run.swarm,
        [
            JustExpiry(world, run.doors),
            HeldKeepAlives(world, run.doors),
            CoreInvariants(world, 11),
            AnyStart(world, run.promises, lambda: run.kit),
            Refused(world, lambda: run.processes),
            CacheWaits(world, run.swarm.lease_ms, run.swarm.caches > 0),
            MemoryBounds(world, lambda: run.processes, run.doors),
        ],
    )


def of_state(run: WholeCell) -> list[StateChecker]:
    """Of the cell's one history."""
    world = run.world
    story = run.story
    return kept(
        run.swarm,
        [
            EachCallOnce(world),
            story,
            run.tree,
            Tokens(world, story),
            Queue(world, story),
            LockDelays(world, story),
            Guards(world, story),
            Losses(world, story),
            Ephemerals(world),
            Transactions(world, story, run.tree),
            Handles(world, run.tree),
            Deadlocks(world),
            LockBeliefs(world, story, run.living_clients),
            OneProcess(world, run.living_clients),
            SessionBeliefs(world, run.living_clients),
            NotServed(world, run.living_clients),
            Told(world, run.living_clients),
        ],
    )


def kept(swarm: Swarm, checkers: Sequence[Kind]) -> list[Kind]:
    """Those whose promise holds in this run."""
    return [one for one in checkers if swarm.clocks_kept or not one.needs_clocks]
