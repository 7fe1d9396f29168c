"""The panel: passes on what processes do to whichever checker wants to know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from coordd.engine.effects import Effects
from coordd.engine.inputs import Input
from tests.simulation.world import Violation, World

if TYPE_CHECKING:
    from tests.simulation.process import Process


class Checker:
    """A promise with a name. Subclasses override what they want to be told."""

    name = ""
    needs_clocks = False  # the promise holds only while the rates of clocks keep the bound

    def __init__(self, world: World) -> None:
        self.world = world

    def broken(self, text: str) -> Violation:
        """The exception to raise."""
        return self.world.violation(self.name, text)

    def started(self, process: Process) -> None:
        """The process has recovered and is about to take its first turn."""

    def stepped(self, process: Process, inputs: Sequence[Input], effects: Effects, now_ms: int) -> None:
        """One turn of the engine; nothing of `effects` is performed yet."""

    def synced(self, process: Process, number: int) -> None:
        """Everything up to the effects numbered `number` is on the disk."""

    def spoke(self, process: Process, messages: Sequence[tuple[int, Any]]) -> None:
        """These messages leave now."""

    def ended(self, process: Process, how: str) -> None:
        """The process is gone: "kill", "power" or "failed sync"."""

    def look(self) -> None:
        """Now and then."""

    def left_behind(self) -> str | None:
        """Long after the last fault: what is not as it should be, or None."""
        return None


class Panel:
    """All checkers of a run, as one `process.Watcher`."""

    def __init__(self, checkers: Sequence[Checker]) -> None:
        self._started = _who(checkers, "started")
        self._stepped = _who(checkers, "stepped")
        self._synced = _who(checkers, "synced")
        self._spoke = _who(checkers, "spoke")
        self._ended = _who(checkers, "ended")

    def started(self, process: Process) -> None:
        for tell in self._started:
            tell(process)

    def stepped(self, process: Process, inputs: Sequence[Input], effects: Effects, now_ms: int) -> None:
        for tell in self._stepped:
            tell(process, inputs, effects, now_ms)

    def synced(self, process: Process, number: int) -> None:
        for tell in self._synced:
            tell(process, number)

    def spoke(self, process: Process, messages: Sequence[tuple[int, Any]]) -> None:
        for tell in self._spoke:
            tell(process, messages)

    def ended(self, process: Process, how: str) -> None:
        for tell in self._ended:
            tell(process, how)


def _who(checkers: Sequence[Checker], event: str) -> list[Callable[..., None]]:
    return [getattr(one, event) for one in checkers if getattr(type(one), event) is not getattr(Checker, event)]
