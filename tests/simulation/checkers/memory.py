"""Memory bounds: no limit is exceeded, and when nobody is left, hardly anything is held for anybody.

What a replica holds is counted without knowing what is there: every container that can be reached from its engine and
its doors, but the machine and its state (whose limits are part of the state's invariants), the log, and what resyncs
have gathered (looked at here). So a table of a later feature that is never emptied is found, too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from coordclient.protocol.arguments import STEPS_MAX
from coordd.engine import places
from coordd.engine.digests import RECENT_SLOTS
from coordd.engine.effects import Effects
from coordd.engine.inputs import Input
from coordd.engine.resyncing import RESYNCS_MAX
from coordd.engine.resyncs import Resync
from coordd.paxos import log as paxos_log
from coordd.paxos.log import SlotLog
from coordd.paxos.state import SLOTS_AHEAD_MAX
from tests.simulation.checkers.panel import Checker
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.doors import Doors
    from tests.simulation.process import Process

LIMITS_EVERY, ALL_EVERY = 7, 400
HELD_MAX = 4_000  # at any time, by a replica with a handful of clients
LEFT_MAX = 300  # without any client
REMOVED_MAX = 100  # nodes, while a resync is told
BOUNDED = ("._digests._histories", "._watches._places")  # looked at by themselves

_CONTAINERS = (dict, list, set, tuple, deque, frozenset)


class MemoryBounds(Checker):
    """See the module docstring."""

    name = "memory bounds"

    def __init__(
        self, world: World, processes: Callable[[], Mapping[int, Process]], doors: Mapping[int, Doors]
    ) -> None:
        super().__init__(world)
        self._processes = processes
        self._doors = doors
        self._steps = 0

    def stepped(self, process: Process, inputs: Sequence[Input], effects: Effects, now_ms: int) -> None:
        self._steps += 1
        if self._steps % LIMITS_EVERY == 0:
            self._check_limits(process)
        if self._steps % ALL_EVERY == 0 and (held := held_by(process.engine)) > HELD_MAX:
            raise self.broken(f"replica {process.name} holds {held} things: {largest(process.engine)}")

    def _check_limits(self, process: Process) -> None:
        engine = process.engine
        settings, mastership, log = engine.settings, engine._mastership, engine.replica.state.log
        proposer = engine.replica.proposer
        sizes: tuple[tuple[str, int, int], ...] = (
            ("requests", len(mastership.calls.open), settings.requests_max),
            ("queued commands", len(mastership.calls.queue), settings.queue_commands_max),
            ("queued bytes", mastership.calls.queue_bytes, settings.queue_bytes_max),
            ("waiting calls", len(mastership.waiting), settings.waiting_calls_max),
            ("slots not chosen", log.upto - log.chosen_upto, SLOTS_AHEAD_MAX),
            ("slots in flight", len(proposer.in_flight) if proposer is not None else 0, SLOTS_AHEAD_MAX),
            ("slots below the snapshot", log.snapshot_slot + 1 - log.first_slot, paxos_log.KEPT_SLOTS),
            ("histories", len(engine._digests._histories), RECENT_SLOTS),
            ("slots in memory", len(log.entries), log.upto + 1 - log.first_slot),
        )
        sizes += _of_watches(engine)
        for what, size, most in sizes:
            if size > most:
                raise self.broken(f"replica {process.name} has {size} {what}; the limit is {most}")

    def left_behind(self) -> str | None:
        for name, process in self._processes().items():
            if not process.up:
                continue
            unanswered = len(process.engine._mastership.calls.open)
            waiting = len(self._doors[name])
            held = held_by(process.engine) + held_by(self._doors[name]._connections)
            if unanswered or waiting or held > LEFT_MAX:
                words = f"{held} things, {unanswered} requests, {waiting} that wait for an answer"
                return f"replica {name} still holds {words}: {largest(process.engine)}"
        return None


def _of_watches(engine: Any) -> tuple[tuple[str, int, int], ...]:
    """Changes by place: those that the state keeps, and a segment of which it may keep a part. Resyncs: each as many
    nodes as there are; those that were removed since are few."""
    known, state, resyncs = engine._watches._places, engine.machine.state, engine._watches._resyncs._running
    if known is None:
        return ()
    count = sum(segment.count for segment in known._segments)
    gathered = max((len(resync._found) + len(resync._rest) for resync in resyncs), default=0)
    return (
        ("changes by place", count, len(state.changes) + 2 * places.SEGMENT_CHANGES + 2 * STEPS_MAX),
        ("resyncs at once", len(resyncs), RESYNCS_MAX),
        ("nodes in a resync", gathered, 2 * len(state.nodes) + REMOVED_MAX),
    )


def held_by(root: Any) -> int:
    """How many elements all containers below `root` have."""
    return sum(len(container) for _, container in _containers(root))


def largest(root: Any) -> str:
    """The fullest containers, by name."""
    found = sorted(_containers(root), key=lambda pair: -len(pair[1]))[:4]
    return ", ".join(f"{path} {len(container)}" for path, container in found)


def _containers(root: Any) -> list[tuple[str, Any]]:
    found, seen, waiting = [], {id(root)}, [("", root)]
    while waiting:
        path, thing = waiting.pop()
        if path in BOUNDED:
            continue
        if isinstance(thing, _CONTAINERS):
            found.append((path, thing))
            parts = thing.values() if isinstance(thing, dict) else thing
            inner = [(path, part) for part in parts]
        else:
            inner = [(f"{path}.{name}", value) for name, value in _fields(thing)]
        for name, part in inner:
            if id(part) not in seen and _is_looked_into(part):
                seen.add(id(part))
                waiting.append((name, part))
    return found


def _fields(thing: Any) -> list[tuple[str, Any]]:
    names = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    fields = [(name, getattr(thing, name)) for name in names if hasattr(thing, name)]
    return fields + list(getattr(thing, "__dict__", {}).items())


def _is_looked_into(thing: Any) -> bool:
    if isinstance(thing, _CONTAINERS):
        return True
    module = type(thing).__module__
    if not module.startswith("coordd.") or module.startswith("coordd.machine."):  # others refer to parts of its state
        return False
    return not isinstance(thing, SlotLog | Resync | type)
