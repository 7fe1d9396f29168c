"""What a master decides by time, as logged commands; each names what it saw, so that a stale one does nothing."""

from __future__ import annotations

from collections.abc import Mapping

from coordd.engine.lessor import Leased, Lessor
from coordd.engine.pending import Expiry, WaitEnd
from coordd.machine.commands import pack_command


def decide(
    lessor: Lessor, sessions: Mapping[int, Leased], epoch: int, limit: int
) -> list[tuple[bytes, Expiry | WaitEnd]]:
    """At most `limit` expiries and ends of waits that are due now. The caller is inside its master lease."""
    decided: list[tuple[bytes, Expiry | WaitEnd]] = []
    for session, incarnation in lessor.overdue(sessions, limit):
        names = {"session": session, "incarnation": incarnation, "epoch": epoch}
        decided.append((pack_command("expire_session", 0, 0, 0, "", names), Expiry(session)))
    for wait in lessor.ended(limit - len(decided)):
        seen = {"path": wait.path, "session": wait.session, "hold": wait.hold, "epoch": epoch}
        decided.append((pack_command(wait.command, 0, 0, 0, "", seen), WaitEnd(wait)))
    return decided
