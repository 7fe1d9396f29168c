"""Checkers for the plain engine: appended tokens stay, reads see what was acknowledged before them, replicas agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from coordclient.protocol.codec import decode
from coordd.engine.effects import Effects
from coordd.engine.inputs import Input
from coordd.paxos.effects import ValueKind
from tests.simulation.checkers.agreement import ChosenValues
from tests.simulation.checkers.panel import Checker
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.process import Process


class PlainDigests(Checker):
    """Equal states at equal slots; feeds `ChosenValues`."""

    name = "digests"

    def __init__(self, world: World, chosen: ChosenValues) -> None:
        super().__init__(world)
        self._chosen = chosen
        self._states: dict[int, tuple[int, bytes]] = {}

    def stepped(self, process: Process, inputs: Sequence[Input], effects: Effects, now_ms: int) -> None:
        engine = process.engine
        if not engine.applied and not any(item.__class__.__name__ == "SnapshotReceived" for item in inputs):
            return
        for chosen in engine.applied:
            self._chosen.applied(process.name, chosen)
        state = engine.state
        assert state.upto == engine.replica.chosen_upto, "everything chosen is applied in the same step"
        known = self._states.setdefault(state.upto, (state.count, state.chain))
        if known != (state.count, state.chain):
            raise self.broken(f"replica {process.name} differs at slot {state.upto}")


class PlainHistory(Checker):
    """Acknowledged tokens are in the log for ever; a read counts every token acknowledged before it began."""

    name = "history"

    def __init__(self, world: World, chosen: ChosenValues, clocks_kept: bool) -> None:
        super().__init__(world)
        self._chosen = chosen
        self._clocks_kept = clocks_kept  # if not, a read may be stale
        self.appended = 0
        self.read = 0
        self.floor = 0  # no read that begins now may count less

    def append_answered(self, token: str, place: int, slot: int) -> None:
        """The client has the reply in hands."""
        kind, payload = self._chosen.values[slot]
        if kind is not ValueKind.BATCH or token not in decode(payload):
            raise self.broken(f"{token} was acknowledged in slot {slot}, which holds something else")
        self.appended += 1
        self.floor = max(self.floor, place)

    def read_answered(self, floor: int, count: int) -> None:
        """A read that began when `floor` held has answered `count`."""
        if count < floor and self._clocks_kept:
            raise self.broken(f"a read answered {count}, but {floor} were acknowledged or read before it began")
        self.read += 1
        self.floor = max(self.floor, count)
