"""Bugs of sessions that another process resumes."""

from __future__ import annotations

from typing import Any

from coordclient.session import Session
from coordd.engine.doors import Doors
from coordd.machine import sessions as sessions_module
from tests.simulation.planted import Bug
from tests.simulation.planted.sessions import row


def _old_secret(right: Any) -> Any:
    def begin(state: Any, session: Any, secret: str, client: Any, woken: Any) -> None:
        right(state, session, session.secret, client, woken)

    return begin


def _nothing(right: Any) -> Any:
    return lambda *arguments: None


def _no_doubt(right: Any) -> Any:
    return lambda self, delay_ms, now: 0


def _lease_without_delay(right: Any) -> Any:
    def doubt_ms(self: Any, delay_ms: int, now: Any) -> int:
        return int(right(self, 0, now))

    return doubt_ms


def _always_left(right: Any) -> Any:
    def resume(state: Any, session: Any, call: int, principal: str, arguments: Any, woken: Any) -> Any:
        return {**right(state, session, call, principal, arguments, woken), "left": True}

    return resume


def _any_incarnation(right: Any) -> Any:
    def objection(self: Any, call: Any, info: Any) -> Any:
        if call.secret is None and info is not None and call.operation != "attach":
            return None
        return right(self, call, info)

    return objection


def _nobody_leaves(right: Any) -> Any:
    return lambda state, session, reply, woken: []


BUGS = (
    Bug("resume keeps the old secret", "heirs", "cell", [(sessions_module, "_begin_incarnation", _old_secret)]),
    Bug("resume lets calls of the old process run", "heirs", "cell", [(sessions_module, "acknowledge", _nothing)]),
    Bug("adopted hold is safe at once", "heirs", "cell", [(Session, "doubt_ms", _no_doubt)]),
    Bug("adopted hold is safe after the lease", "heirs", "cell", [(Session, "doubt_ms", _lease_without_delay)]),
    Bug("goodbye of a process that said none", "heirs", "cell", [row("resume_session", _always_left)]),
    Bug("channel of the old process still speaks", "heirs", "cell", [(Doors, "objection", _any_incarnation)]),
    Bug(
        "resume leaves the waiters of the old process",
        "heirs",
        "cell",
        [(sessions_module, "_withdraw_and_settle", _nobody_leaves)],
    ),
)
