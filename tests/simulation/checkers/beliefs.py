"""What clients believe, against what the cell has decided, at the same true instant."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from coordclient.holds import Hold, Part
from coordclient.session import Reading
from coordd.machine.machine import Machine
from tests.simulation.checkers.story import Held, LockStory
from tests.simulation.checkers.witness import Done, StateChecker
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.client import ClientProcess

ENDS = ("expire_session", "acknowledge_kill", "close_session")


class LockBeliefs(StateChecker):
    """No lock is held by two: when the cell grants it, no other client's `safe` is True for a hold that excludes it.

    Of a semaphore no more believe than it has permits. Whose lock an operator has broken at once may believe on: there
    he bends the promise. This is stronger than comparing beliefs: a client believes only after the cell has
    granted.
    """

    name = "two holders"
    needs_clocks = True

    def __init__(self, world: World, story: LockStory, clients: Callable[[], Iterable[ClientProcess]]) -> None:
        super().__init__(world)
        self._story = story
        self._clients = clients

    def done(self, command: Done, machine: Machine) -> None:
        if not self._story.granted:
            return
        believed = [
            (process, hold, part) for process in self._clients() for hold in process.safe_holds() for part in hold.parts
        ]
        for granted in self._story.granted:
            self._granted(granted, believed)

    def _granted(self, granted: Held, believed: list[tuple[ClientProcess, Hold, Part]]) -> None:
        others: set[tuple[int, int]] = set()
        for process, hold, part in believed:
            key = hold.session.id, hold.number
            if part.path != granted.path or key == granted.key or (part.path, *key) in self._story.smashed:
                continue
            others.add(key)
            if not part.mode == granted.mode != "exclusive":
                raise self.broken(
                    f"{part.path} is granted to {granted.key} ({granted.mode}, token {granted.token}) while "
                    f"{process.name} ({key}, {part.mode}, token {part.token}) is safe"
                )
        if granted.permits and len(others) >= granted.permits:
            raise self.broken(
                f"{granted.path} is granted to {granted.key} while {sorted(others)} are safe: more than"
                f" {granted.permits} have a permit"
            )


class OneProcess(StateChecker):
    """One hold is believed by one process: who resumes a session waits until the one before him has stopped."""

    name = "two processes"
    needs_clocks = True

    def __init__(self, world: World, clients: Callable[[], Iterable[ClientProcess]]) -> None:
        super().__init__(world)
        self._clients = clients

    def look(self) -> None:
        believers: dict[tuple[int, int], str] = {}
        for process in self._clients():
            for hold in process.safe_holds():
                key = hold.session.id, hold.number
                other = believers.setdefault(key, process.name)
                if other != process.name:
                    raise self.broken(f"{hold.path} ({key}) is believed by {other} and by {process.name}")


class SessionBeliefs(StateChecker):
    """No client believes in its session after the cell has ended it."""

    name = "session belief"
    needs_clocks = True

    def __init__(self, world: World, clients: Callable[[], Iterable[ClientProcess]]) -> None:
        super().__init__(world)
        self._clients = clients
        self.over: dict[int, int] = {}

    def done(self, command: Done, machine: Machine) -> None:
        if command.operation not in ENDS or not command.changed:
            return
        session = command.arguments.get("session", command.session)
        if command.operation == "expire_session" and command.arguments["epoch"] != machine.epoch:
            epoch = command.arguments["epoch"]
            raise self.broken(f"session {session} is ended in epoch {machine.epoch} by a decision of epoch {epoch}")
        self.over[session] = self.world.now_us
        for process in self._clients():
            own = process.session()
            if own is None or own.id != session or not process.believes_session():
                continue
            if command.operation == "expire_session":
                left_ms = own.left_ms(process.seat.reading())
                raise self.broken(f"{process.name} believes in session {session} for {left_ms} ms more; it has expired")
            if process.safe_holds() and not process.closing:
                raise self.broken(f"{process.name} believes in locks of session {session}, which it has ended itself")

    def look(self) -> None:
        """An expired session has not come back to life in a client."""
        for process in self._clients():
            own = process.session()
            if own is not None and own.id in self.over and process.believes_session() and process.safe_holds():
                raise self.broken(f"{process.name} believes again in session {own.id}, which has ended")


class NotServed(StateChecker):
    """Who was killed by an operator, or whose session another process has resumed, is told so and nothing else.

    No KeepAlive that he sends from then on renews his lease, so what he believes ends with the lease that he has.
    """

    name = "not served"

    def __init__(self, world: World, clients: Callable[[], Iterable[ClientProcess]]) -> None:
        super().__init__(world)
        self._clients = clients
        self._since: dict[ClientProcess, tuple[int, Reading, str]] = {}
        self._next_call: dict[int, int] = {}

    def done(self, command: Done, machine: Machine) -> None:
        if command.session and 0 < command.call < self._next_call.get(command.session, 0) and command.changed:
            raise self.broken(f"{command.operation} {command.session}.{command.call} is of a process that was replaced")
        if not command.changed or not isinstance(command.reply, dict):
            return
        if command.operation == "resume_session":
            self._next_call[command.reply["session"]] = command.reply["next_call"]
            self._lost(command.reply["session"], "was resumed by another process")
        elif command.operation == "kill_session":
            self._lost(command.arguments["session"], "was killed")

    def _lost(self, session: int, how: str) -> None:
        for process in self._clients():
            own = process.session()
            if own is not None and own.id == session:
                self._since.setdefault(process, (session, process.seat.reading(), how))

    def look(self) -> None:
        for process, (session, reading, how) in self._since.items():
            own = process.session()
            if own is not None and own.id == session and own.lease[0][0] > reading[0]:
                late_ms = own.lease[0][0] - reading[0]
                raise self.broken(f"{process.name}: session {session} {how}, and renewed {late_ms} ms later")


class Told(StateChecker):
    """Who has renewed his session since an operator took a lock from him was told so, and does not believe in it."""

    name = "told"

    def __init__(self, world: World, clients: Callable[[], Iterable[ClientProcess]]) -> None:
        super().__init__(world)
        self._clients = clients
        self._taken: list[tuple[ClientProcess, Reading, str, tuple[int, int]]] = []

    def done(self, command: Done, machine: Machine) -> None:
        if command.operation != "unlock" or not isinstance(command.reply, dict) or not command.changed:
            return
        for holder in command.reply["holds"]:
            key = holder["session"], holder["hold"]
            for process in self._clients():
                own = process.session()
                if own is not None and own.id == key[0]:
                    self._taken.append((process, process.seat.reading(), command.arguments["path"], key))

    def look(self) -> None:
        if self._taken:
            self._taken = [one for one in self._taken if self._waits_on(*one)]

    def _waits_on(self, process: ClientProcess, reading: Reading, path: str, key: tuple[int, int]) -> bool:
        """Not told yet."""
        own = process.session()
        if own is None or own.id != key[0]:
            return False
        if own.lease[0][0] <= reading[0]:
            return True
        for hold in process.safe_holds():
            if (hold.session.id, hold.number) == key and any(part.path == path for part in hold.parts):
                raise self.broken(f"{process.name} has renewed its session since {path} ({key}) was taken, and is safe")
        return False
