"""What a master decides by itself, as logged commands; each names what it saw, so that a stale one does nothing."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256

from coordd.engine.caching import Caching
from coordd.engine.lessor import Lessor, Wait
from coordd.engine.pending import Entry, Expiry, KeySet, WaitEnd
from coordd.engine.settings import EngineSettings
from coordd.machine.commands import pack_command
from coordd.machine.machine import Machine


class Decisions:
    """The first sequencer key, and what is decided by time: expiries and ends of waits. The latter are taken from the
    lessor when a batch is made, and proposed in the same breath, or when those who hold what they change have been
    asked; while that lasts they are in decision like one that is proposed.
    """

    def __init__(self, settings: EngineSettings, lessor: Lessor, caching: Caching) -> None:
        self._settings = settings
        self._lessor = lessor
        self._caching = caching
        self._left = 0
        self.key_proposed = False

    def begin(self) -> None:
        """A step begins."""
        self._left = self._settings.decisions_per_step_max

    def key(self, machine: Machine, epoch: int, entropy: bytes) -> Iterator[tuple[bytes, Entry]]:
        """The command that brings the first sequencer key, where there is none yet."""
        if not machine.has_key and not self.key_proposed:
            self.key_proposed = True
            key = sha256(b"sequencer key" + entropy).digest()
            yield pack_command("set_sequencer_key", 0, 0, 0, "", {"key": key, "epoch": epoch}), KeySet()

    def due(self, machine: Machine, epoch: int) -> Iterator[tuple[bytes, Entry]]:
        """What is decided now. The caller is inside its master lease."""
        decided = self._caching.take_decided(self._left)
        self._left -= len(decided)
        yield from decided
        if self._left:
            for operation, names, entry in _decide(self._lessor, machine, epoch, self._left):
                self._left -= 1
                command = pack_command(operation, 0, 0, 0, "", names)
                paths = self._caching.touched(machine, operation, 0, names, "")
                if not self._caching.holds_decision(command, entry, paths):
                    self._caching.begins(entry, paths)
                    yield command, entry


def _decide(
    lessor: Lessor, machine: Machine, epoch: int, limit: int
) -> Iterator[tuple[str, dict[str, object], Expiry | WaitEnd]]:
    """At most `limit` expiries and ends of waits that are due now."""
    overdue = lessor.overdue(machine.sessions, limit)
    for session, incarnation in overdue:
        yield "expire_session", {"session": session, "incarnation": incarnation, "epoch": epoch}, Expiry(session)

    def is_there(wait: Wait) -> bool:
        look = machine.is_delayed if wait.command == "end_lock_delay" else machine.is_revoked
        return look(wait.path, wait.session, wait.hold)

    for wait in lessor.ended(is_there, limit - len(overdue)):
        seen = {"path": wait.path, "session": wait.session, "hold": wait.hold, "epoch": epoch}
        yield wait.command, seen, WaitEnd(wait)


def delays(machine: Machine) -> Iterator[tuple[Wait, int]]:
    """The lock-delays that run, and how long each takes."""
    for path, session, hold, delay_ms in machine.delayed_holds():
        yield Wait("end_lock_delay", path, session, hold), delay_ms


def revocations(machine: Machine) -> Iterator[tuple[Wait, int]]:
    """The revoked holds whose holders may believe in them still, and for how long."""
    for path, session, hold, lease_ms in machine.revoked_holds():
        yield Wait("end_revoked", path, session, hold), lease_ms
