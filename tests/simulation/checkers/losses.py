"""What `why` tells of losses: the newest of each path, in order, with their causes; no snapshot loses any."""

from __future__ import annotations

from coordd.machine.machine import Machine
from tests.simulation.checkers.story import LockStory
from tests.simulation.checkers.witness import Done, StateChecker
from tests.simulation.world import World

KEPT = 8


class Losses(StateChecker):
    """See the module docstring."""

    name = "why"

    def __init__(self, world: World, story: LockStory) -> None:
        super().__init__(world)
        self._story = story
        self._losses: dict[str, list[tuple[int, int, int]]] = {}  # path -> session, hold, token; the newest last

    def done(self, command: Done, machine: Machine) -> None:
        for path in dict.fromkeys(held.path for held, _ in self._story.over):
            losses = self._losses.setdefault(path, [])
            at_once = [(*held.key, held.token) for held, _ in self._story.over if held.path == path]
            self._compare(path, machine, losses, at_once)

    def _compare(
        self, path: str, machine: Machine, losses: list[tuple[int, int, int]], at_once: list[tuple[int, int, int]]
    ) -> None:
        told = machine.query("why", {"path": path})["losses"]
        assert isinstance(told, list)
        found = [(loss["session"], loss["hold"], loss["token"]) for loss in reversed(told)]
        newest = found[-len(at_once) :]
        if sorted(newest) == sorted(at_once):
            at_once = newest  # what one command ends has no order
        losses += at_once
        del losses[:-KEPT]
        if found != losses:
            raise self.broken(f"{path}: lost were {losses}, and told is {found}")
        for loss in told:
            causes = self._story.causes[path, loss["session"], loss["hold"]]
            if loss["cause"] not in causes:
                raise self.broken(f"{path}: {loss} is told, and the causes were {sorted(causes)}")
