"""Sessions: opening, closing, expiring [Chubby 2.8]. Deadlines are the lessor's business; here nothing knows the time.

A session's id is the revision of its opening, so an id is never given twice and an old id or secret is never valid
again. Closing frees everything at once; expiry is one command that lets the session's waiters go first, then turns its
holds into delayed ones, then removes its ephemerals.
"""

from __future__ import annotations

from coordclient.protocol.errors import Refusal
from coordd.machine.locks import end_session_locks
from coordd.machine.namespace import collect
from coordd.machine.sequencer import set_key
from coordd.machine.state import Arguments, Session, State, Woken, check_answer, client_bytes, refuse_limit


def open_session(
    state: State, session: Session | None, call: int, principal: str, arguments: Arguments, woken: list[Woken]
) -> dict[str, object]:
    """A new session; its secret was drawn by the master and came with the command."""
    if len(state.sessions) >= state.limits.sessions:
        refuse_limit("sessions", state.limits.sessions)
    state.revision += 1
    lease_ms, secret = arguments["lease_ms"], arguments["secret"]
    opened = Session(state.revision, secret, lease_ms, principal, state.wall_ms, dict(arguments["client"]))
    state.sessions[opened.id] = opened
    return {"session": opened.id, "secret": secret, "lease_ms": lease_ms, "epoch": state.epoch}


def close_session(
    state: State, session: Session | None, call: int, principal: str, arguments: Arguments, woken: list[Woken]
) -> dict[str, object]:
    """The client says goodbye: everything of the session is free at once."""
    assert session is not None
    state.revision += 1
    _end(state, session, False, woken)
    return {}


def expire_session(
    state: State, session: Session | None, call: int, principal: str, arguments: Arguments, woken: list[Woken]
) -> dict[str, object]:
    """The master's decision that a session's time is over; does nothing if it was taken in another epoch."""
    ended = state.sessions.get(arguments["session"])
    if ended is None or arguments["epoch"] != state.epoch or arguments["incarnation"] != ended.incarnation:
        return {"expired": False}
    state.revision += 1
    _end(state, ended, True, woken)
    return {"expired": True}


def _end(state: State, session: Session, expired: bool, woken: list[Woken]) -> None:
    end_session_locks(state, session, expired, woken)
    del state.sessions[session.id]
    for path in sorted(session.ephemerals):
        node = session.ephemerals[path]
        assert node.openers is not None
        del node.openers[session.id]
        # Without openers it goes now or, while somebody holds or waits for it, when its lock is free.
        collect(state, node)
    assert not session.holds and not session.waiters


def set_sequencer_key(
    state: State, session: Session | None, call: int, principal: str, arguments: Arguments, woken: list[Woken]
) -> dict[str, object]:
    """A key drawn by the master; the one before stays good for checking."""
    if arguments["epoch"] != state.epoch:
        return {"set": False}
    if len(arguments["key"]) != 32:
        raise Refusal("bad_request", "set_sequencer_key: a key has 32 bytes")
    state.revision += 1
    set_key(state, arguments["key"], state.key)
    return {"set": True}


def list_sessions(state: State, arguments: Arguments) -> dict[str, object]:
    """All sessions, oldest first; what is left of a lease only the master knows and adds."""
    chosen = [state.sessions[number] for number in sorted(state.sessions)]
    size = sum(192 + len(session.principal) + client_bytes(session.client) for session in chosen)
    check_answer(state, size, "the list of sessions")
    return {"revision": state.revision, "sessions": [_describe(session) for session in chosen]}


def _describe(session: Session) -> dict[str, object]:
    return {
        "session": session.id,
        "lease_ms": session.lease_ms,
        "client": session.client,
        "principal": session.principal,
        "opened_ms": session.opened_ms,
        "holds": len(session.holds),
        "waiters": len(session.waiters),
        "ephemerals": len(session.ephemerals),
    }
