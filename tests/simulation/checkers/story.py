"""The story of all locks, told a second time: who holds, who waits, what has ended and why, from what was applied.

It is plain, and shares nothing with the machine but the words of commands and answers. The checkers of locks read it;
it comes before them in the table of checkers, so that `granted` and `over` are those of the command at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from coordclient.protocol.errors import Refusal
from coordd.machine.machine import Machine
from tests.simulation.checkers.witness import Done, StateChecker
from tests.simulation.world import World

Key = tuple[int, int]  # session, call of the acquire
Part = tuple[str, int, int]  # path, session, call
ACQUIRES = ("acquire", "acquire_all")


@dataclass(slots=True)
class Held:
    """One path of one hold."""

    path: str
    key: Key
    mode: str
    permits: int
    token: int
    delay_ms: int
    several: bool
    granted_us: int
    revoked_us: int | None = None
    reason: str = ""  # of the operator
    over_us: int = 0  # the lock-delay keeps others out until then, at least

    def goes_with(self, mode: str, permits: int) -> bool:
        """May the two hold at once? Whether there are permits enough is another question."""
        return self.mode == mode != "exclusive" and self.permits == permits


@dataclass(frozen=True, slots=True)
class Ask:
    """What an acquire asks for."""

    parts: tuple[tuple[str, str, int], ...]  # path, mode, permits
    delay_ms: int
    several: bool

    @classmethod
    def of(cls, operation: str, arguments: Mapping[str, Any]) -> Ask:
        """Of one or of several paths."""
        several = operation == "acquire_all"
        rows = arguments["locks"] if several else [arguments]
        parts = tuple((row["path"], row["mode"], row.get("permits") or 0) for row in rows)
        return cls(parts, arguments["lock_delay_ms"], several)


@dataclass(slots=True)
class SessionStory:
    """What is known of a session."""

    lease_ms: int
    killed_us: int | None = None
    kill_reason: str = ""
    left: bool = False
    next_call: int = 0  # of the newest process; what has a smaller number belongs to an older one


class LockStory(StateChecker):
    """See the module docstring. Grants that cannot be are told by itself."""

    name = "lock table"

    def __init__(self, world: World, drift_ppm: int, clocks_kept: bool) -> None:
        super().__init__(world)
        self._sure = 1_000_000 - drift_ppm if clocks_kept else 0  # with rates beyond the bound no time is sure
        self.held: dict[str, dict[Key, Held]] = {}
        self.delayed: dict[str, dict[Key, Held]] = {}
        self.asked: dict[Key, Ask] = {}
        self.waiting: dict[Key, Ask] = {}
        self.queues: dict[str, list[Key]] = {}
        self.sessions: dict[int, SessionStory] = {}
        self.smashed: set[Part] = set()  # by operators, at once: their holders may go on to believe
        self.granted: list[Held] = []
        self.over: list[tuple[Held, str]] = []
        self.left: list[tuple[Key, Ask, dict[str, Any] | Refusal]] = []  # who waits no more, and what they were told
        self.began_to_wait: Key | None = None
        self.to_session: int | None = None  # a transfer to it
        self.causes: dict[Part, set[str]] = {}  # of every loss
        self.grants: dict[Key, int] = {}  # when each was made
        self._table: Mapping[str, Callable[[Done, Machine], None]] = {
            "open_session": self._open_session,
            "resume_session": self._resume_session,
            "leave_session": self._leave_session,
            "kill_session": self._kill_session,
            "close_session": self._close_session,
            "expire_session": self._expire_session,
            "acknowledge_kill": self._acknowledge_kill,
            "acquire": self._acquire,
            "acquire_all": self._acquire,
            "release": self._release,
            "cancel": self._cancel,
            "unlock": self._unlock,
            "give_up": self._give_up,
            "end_revoked": self._end_revoked,
            "end_lock_delay": self._end_lock_delay,
            "transfer": self._transfer,
        }

    def least_us(self, duration_ms: int) -> int:
        """How much true time has passed at least when a master's clock has counted this."""
        return duration_ms * self._sure // 1_000 - 5_000

    def done(self, command: Done, machine: Machine) -> None:
        self.granted, self.over, self.left = [], [], []
        self.began_to_wait = self.to_session = None
        take = self._table.get(command.operation)
        if take is not None and command.changed and not isinstance(command.reply, Refusal):
            take(command, machine)
        for woken in command.woken:
            self._wake((woken.session, woken.call), woken.reply)

    # ---- sessions ----

    def _open_session(self, command: Done, machine: Machine) -> None:
        assert isinstance(command.reply, dict)
        self.sessions[command.reply["session"]] = SessionStory(command.reply["lease_ms"])

    def _resume_session(self, command: Done, machine: Machine) -> None:
        assert isinstance(command.reply, dict)
        session = self.sessions[command.reply["session"]]
        session.next_call, session.left = command.reply["next_call"], False

    def _leave_session(self, command: Done, machine: Machine) -> None:
        self.sessions[command.session].left = True

    def _kill_session(self, command: Done, machine: Machine) -> None:
        session = self.sessions[command.arguments["session"]]
        if session.killed_us is None:
            session.killed_us, session.kill_reason = command.now_us, command.arguments["reason"]

    def _close_session(self, command: Done, machine: Machine) -> None:
        for held in list(self.of_session(command.session)):
            self._end(held, "closed")

    def _acknowledge_kill(self, command: Done, machine: Machine) -> None:
        self._lose_all(command.session, "killed")

    def _expire_session(self, command: Done, machine: Machine) -> None:
        session = command.arguments["session"]
        self._lose_all(session, "expired" if self.sessions[session].killed_us is None else "killed")

    def _lose_all(self, session: int, cause: str) -> None:
        for held in list(self.of_session(session)):
            self._delay(held, cause)

    def of_session(self, session: int) -> Iterator[Held]:
        """What it holds."""
        for holders in self.held.values():
            for key, held in holders.items():
                if key[0] == session:
                    yield held

    # ---- locks ----

    def _acquire(self, command: Done, machine: Machine) -> None:
        key, ask = (command.session, command.call), Ask.of(command.operation, command.arguments)
        self.asked[key] = ask
        if command.reply is not None:
            assert isinstance(command.reply, dict)
            self._grant(key, ask, command.reply)
            return
        self.began_to_wait = key
        self.waiting[key] = ask
        for path, _, _ in ask.parts:
            self.queues.setdefault(path, []).append(key)

    def _wake(self, key: Key, reply: dict[str, Any] | Refusal) -> None:
        ask = self.waiting.pop(key, None)
        if ask is None:
            raise self.broken(f"{key} was woken and had not been waiting")
        self.left.append((key, ask, reply))
        if isinstance(reply, dict):
            self._grant(key, ask, reply)

    def _grant(self, key: Key, ask: Ask, reply: dict[str, Any]) -> None:
        rows = {row["path"]: row for row in (reply["locks"] if ask.several else [reply])}
        if reply["hold"] != key[1] or rows.keys() != {path for path, _, _ in ask.parts}:
            raise self.broken(f"{key} asked for {ask.parts} and is granted {reply}")
        for path, mode, permits in ask.parts:
            if (reason := self.why_not(path, mode, permits)) is not None:
                raise self.broken(f"{path} is granted to {key} ({mode}) although {reason}")
            held = Held(path, key, mode, permits, rows[path]["token"], ask.delay_ms, ask.several, self.world.now_us)
            self.granted.append(held)
        for held in self.granted:
            self.held.setdefault(held.path, {})[held.key] = held
        self.grants[key] = self.world.now_us

    def why_not(self, path: str, mode: str, permits: int) -> str | None:
        """Why nobody can be granted this now, by who holds and by the lock-delays that run; None: he can."""
        holders = [*self.held.get(path, {}).values(), *self.delayed.get(path, {}).values()]
        for held in holders:
            if not held.goes_with(mode, permits):
                return f"{held.key} holds it ({held.mode}{f' of {held.permits}' if held.permits else ''})"
        if permits and len(holders) >= permits:
            return f"{[held.key for held in holders]} have all {permits} permits"
        return None

    def _end(self, held: Held, cause: str) -> None:
        """Free at once."""
        del self.held[held.path][held.key]
        self.over.append((held, cause))
        self.causes[held.path, *held.key] = {cause}

    def _delay(self, held: Held, cause: str) -> None:
        """Free after the lock-delay."""
        self._end(held, cause)
        held.over_us = self.world.now_us + self.least_us(held.delay_ms)
        if held.delay_ms:
            self.delayed.setdefault(held.path, {})[held.key] = held

    def _own(self, session: int, call: int, path: str | None) -> list[Held]:
        paths = list(self.held) if not path else [path]
        return [held for one in paths if (held := self.held.get(one, {}).get((session, call))) is not None]

    def _release(self, command: Done, machine: Machine) -> None:
        for held in self._own(command.session, command.arguments["hold"], command.arguments.get("path")):
            self._end(held, "released")

    def _cancel(self, command: Done, machine: Machine) -> None:
        for held in self._own(command.session, command.arguments["target"], None):
            self._end(held, "released")

    def _transfer(self, command: Done, machine: Machine) -> None:
        (held,) = self._own(command.session, command.arguments["hold"], command.arguments["path"])
        if held.several:
            raise self.broken(f"{held.path}: a part of several is handed over by {held.key}")
        self.to_session = command.arguments["to"]
        self._end(held, "transferred")

    def _unlock(self, command: Done, machine: Machine) -> None:
        assert isinstance(command.reply, dict)
        path, now = command.arguments["path"], command.arguments["now"]
        for row in command.reply["holds"]:
            key = row["session"], row["hold"]
            held = self.held.get(path, {}).get(key)
            if now:
                self.smashed.add((path, *key))
                if self.delayed.get(path, {}).pop(key, None) is not None:
                    self.causes[path, *key].add("broken")
            if held is not None:
                held.reason = command.arguments["reason"]
                if now:
                    self._end(held, "broken")
                elif held.revoked_us is None:
                    held.revoked_us = command.now_us

    def _give_up(self, command: Done, machine: Machine) -> None:
        for held in self._own(command.session, command.arguments["hold"], command.arguments["path"]):
            if held.revoked_us is None:
                raise self.broken(f"{held.path} of {held.key} is given up, and nobody had revoked it")
            self._delay(held, "revoked")

    def _end_revoked(self, command: Done, machine: Machine) -> None:
        arguments = command.arguments
        if arguments["epoch"] != machine.epoch:
            raise self.broken(f"{arguments['path']}: revoked by epoch {arguments['epoch']} in {machine.epoch}")
        for held in self._own(arguments["session"], arguments["hold"], arguments["path"]):
            lease_ms = self.sessions[held.key[0]].lease_ms
            if held.revoked_us is None or command.now_us < held.revoked_us + self.least_us(lease_ms):
                raise self.broken(f"{held.path} is taken from {held.key} before a lease of {lease_ms} ms is over")
            self._delay(held, "revoked")

    def _end_lock_delay(self, command: Done, machine: Machine) -> None:
        arguments = command.arguments
        if arguments["epoch"] != machine.epoch:
            raise self.broken(f"{arguments['path']}: epoch {arguments['epoch']} ended a delay in {machine.epoch}")
        self.delayed.get(arguments["path"], {}).pop((arguments["session"], arguments["hold"]), None)
