"""What clients believe, against what the cell has decided, at the same true instant."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from coordd.machine.machine import Machine
from tests.simulation.checkers.witness import Done, StateChecker
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.client import ClientProcess


class LockBeliefs(StateChecker):
    """No lock is held by two: when the cell grants it, no other client's `safe` is True for a mode that excludes it.

    This is stronger than comparing beliefs: a client believes only after the cell has granted.
    """

    name = "two holders"
    needs_clocks = True

    def __init__(self, world: World, clients: Callable[[], Iterable[ClientProcess]]) -> None:
        super().__init__(world)
        self._clients = clients

    def done(self, command: Done, machine: Machine) -> None:
        if command.operation == "acquire" and isinstance(command.reply, dict) and command.changed:
            self._granted(command.session, command.call, command.reply)
        for woken in command.woken:
            if isinstance(woken.reply, dict):
                self._granted(woken.session, woken.call, woken.reply)

    def _granted(self, session: int, call: int, grant: dict[str, Any]) -> None:
        for process in self._clients():
            for hold in process.safe_holds():
                if hold.path != grant["path"] or (hold.session.id, hold.number) == (session, call):
                    continue
                if not hold.mode == grant["mode"] == "shared":
                    raise self.broken(
                        f"{hold.path} is granted to {session}.{call} ({grant['mode']}, token {grant['token']}) while "
                        f"{process.name} ({hold.session.id}.{hold.number}, {hold.mode}, token {hold.token}) is safe"
                    )


class SessionBeliefs(StateChecker):
    """No client believes in its session after the cell has ended it."""

    name = "session belief"
    needs_clocks = True

    def __init__(self, world: World, clients: Callable[[], Iterable[ClientProcess]]) -> None:
        super().__init__(world)
        self._clients = clients
        self.expired: dict[int, int] = {}

    def done(self, command: Done, machine: Machine) -> None:
        if command.operation != "expire_session" or not command.changed:
            return
        session, epoch = command.arguments["session"], command.arguments["epoch"]
        if epoch != machine.epoch:
            raise self.broken(f"session {session} is ended in epoch {machine.epoch} by a decision of epoch {epoch}")
        self.expired[session] = self.world.now_us
        for process in self._clients():
            own = process.session()
            if own is not None and own.id == session and process.believes_session():
                left_ms = own.left_ms(process.seat.reading())
                raise self.broken(f"{process.name} believes in session {session} for {left_ms} ms more; it has expired")

    def look(self) -> None:
        """An expired session has not come back to life in a client."""
        for process in self._clients():
            own = process.session()
            if own is not None and own.id in self.expired and process.believes_session():
                raise self.broken(f"{process.name} believes again in session {own.id}, which has expired")
