"""What clients asked and were told: a history for the search for an order, files that must stay."""

from __future__ import annotations

from collections.abc import Callable

from coordd.machine.machine import Machine
from tests.histories.check import check
from tests.histories.operation import Operation
from tests.histories.recorder import Recorder
from tests.simulation.checkers.panel import Checker
from tests.simulation.world import World

READS = ("get", "has", "list")


class _Telling(Recorder):
    """Says which revisions people were told of."""

    def __init__(self, world: World, saw: Callable[[int], None]) -> None:
        super().__init__(lambda: world.now_us)
        self._saw = saw

    def told(self, op: Operation) -> None:
        self._saw(max(op.result.get("generation") or 0, op.result.get("revision") or 0))


class Orders(Checker):
    """Registers, counters, directories and locks: each has an order that explains what everybody was told of it."""

    name = "linearizability"

    def __init__(self, world: World, saw: Callable[[int], None]) -> None:
        super().__init__(world)
        self.recorder = _Telling(world, saw)

    def check(self, *, clocks_kept: bool) -> None:
        """At the end of the run; where clocks are not kept only what was changed, and what was said of that."""
        history = self.recorder.history()
        verdict = check(op for op in history if clocks_kept or _without_clocks(op))
        if not verdict.ok:
            raise self.broken(str(verdict))

    def count(self) -> int:
        """How many operations were answered."""
        return sum(op.known for op in self.recorder.history())


def _without_clocks(op: Operation) -> bool:
    return op.model != "lock" and op.name not in READS


class Acknowledged(Checker):
    """Files with names of their own: made once, and there for ever once that was acknowledged."""

    name = "acknowledged writes"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.contents: dict[str, bytes] = {}

    def made(self, path: str, contents: bytes) -> None:
        """The creation of `path` was acknowledged."""
        self.contents[path] = contents

    def existed(self, path: str) -> None:
        """The only client that ever creates `path`, and only once, is told that it exists."""
        raise self.world.violation("each call once", f"{path}: its one creation was refused: it exists already")

    def check(self, machine: Machine) -> None:
        """At the end of the run."""
        for path, contents in self.contents.items():
            node = machine.state.nodes.get(path)
            if node is None or node.contents != contents:
                raise self.broken(f"{path} was acknowledged and is {'gone' if node is None else 'different'}")
