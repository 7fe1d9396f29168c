"""What the master adds to answers about sessions and locks: times that only it knows, in milliseconds.

A session that has ended has no lease left, and one that this mastership has not heard yet was not heard: None. All of
it is for people; nothing is decided by it.
"""

from __future__ import annotations

from typing import Any

from coordd.engine.keepalives import KeepAlives
from coordd.engine.lessor import Lessor, Wait
from coordd.machine.machine import Machine


class Times:
    """See the module docstring."""

    def __init__(self, lessor: Lessor, keepalives: KeepAlives) -> None:
        self._lessor = lessor
        self._keepalives = keepalives

    def complete(self, operation: str, result: dict[str, Any], machine: Machine, now_ms: int) -> dict[str, Any]:
        """The result of a read, with what this mastership knows of it."""
        if operation == "list_sessions":
            return {**result, "sessions": [self._of_session(row, now_ms) for row in result["sessions"]]}
        if operation == "session_info":
            return self._of_session(result, now_ms)
        if operation == "why" and result["lock"] is not None:
            lock = result["lock"]
            holders = [self._of_holder(lock["path"], row, machine, now_ms) for row in lock["holders"]]
            return {**result, "lock": {**lock, "holders": holders}}
        return result

    def _of_session(self, row: dict[str, Any], now_ms: int) -> dict[str, Any]:
        session = row["session"]
        heard_ms_ago = self._keepalives.heard_ms_ago(session, now_ms)
        return {**row, "left_ms": self._lessor.left_ms(session), "heard_ms_ago": heard_ms_ago}

    def _of_holder(self, path: str, row: dict[str, Any], machine: Machine, now_ms: int) -> dict[str, Any]:
        session = machine.sessions.get(row["session"])
        delay = Wait("end_lock_delay", path, row["session"], row["hold"])
        crash_wait_ms = None
        if session is not None and not row["delayed"]:
            # The lease, the tenth within which its expiry comes, and the lock-delay: the most that others wait.
            crash_wait_ms = session.lease_ms + session.lease_ms // 10 + row["lock_delay_ms"]
        return {
            **self._of_session(row, now_ms),
            "delay_left_ms": self._lessor.wait_left_ms(delay) if row["delayed"] else None,
            "crash_wait_ms": crash_wait_ms,
        }
