"""What a master decides by time, as logged commands; each names what it saw, so that a stale one does nothing."""

from __future__ import annotations

from coordd.engine.lessor import Lessor, Wait
from coordd.engine.pending import Expiry, WaitEnd
from coordd.machine.commands import pack_command
from coordd.machine.machine import Machine


def decide(lessor: Lessor, machine: Machine, epoch: int, limit: int) -> list[tuple[bytes, Expiry | WaitEnd]]:
    """At most `limit` expiries and ends of waits that are due now. The caller is inside its master lease."""
    decided: list[tuple[bytes, Expiry | WaitEnd]] = []
    for session, incarnation in lessor.overdue(machine.sessions, limit):
        names = {"session": session, "incarnation": incarnation, "epoch": epoch}
        decided.append((pack_command("expire_session", 0, 0, 0, "", names), Expiry(session)))

    def is_there(wait: Wait) -> bool:
        look = machine.is_delayed if wait.command == "end_lock_delay" else machine.is_revoked
        return look(wait.path, wait.session, wait.hold)

    for wait in lessor.ended(is_there, limit - len(decided)):
        seen = {"path": wait.path, "session": wait.session, "hold": wait.hold, "epoch": epoch}
        decided.append((pack_command(wait.command, 0, 0, 0, "", seen), WaitEnd(wait)))
    return decided
