"""Sessions: opening, closing, expiring [Chubby 2.8]. Deadlines are the lessor's business; here nothing knows the time.

A session's id is the revision of its opening, so an id is never given twice and an old id or secret is never valid
again. Closing frees everything at once; expiry is one command that lets the session's waiters go first, then turns its
holds into delayed ones, then removes its ephemerals.

A session outlives its process when another one resumes it: that raises the *incarnation* and makes a new secret the
only good one. The holds stay, and whoever resumes must let the belief of the process before run out, unless that one
said goodbye (`leave_session`). A session that an operator killed is mute: it ends as an expiry once its client has
acknowledged (`acknowledge_kill`) or its lease is over.
"""

from __future__ import annotations

from hmac import compare_digest

from coordclient.protocol.errors import Refusal
from coordclient.protocol.operations import NUMBER_MAX
from coordd.machine.calls import CANCELLED, acknowledge, forget_hold
from coordd.machine.changes import caused_by
from coordd.machine.grants import each_hold
from coordd.machine.limits import CALL_WINDOW
from coordd.machine.locks import end_session_locks, settle, withdraw_all
from coordd.machine.namespace import collect
from coordd.machine.sequencer import sequencer_of, set_key
from coordd.machine.state import (
    Arguments,
    Session,
    State,
    Woken,
    check_answer,
    killed_by_operator,
    mute_of,
    refuse_limit,
    text_bytes,
    token_of,
)

_CALLS_OF_A_PROCESS = 1 << 32  # no process makes so many; whoever resumes begins beyond all that came before


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
    caused_by(state, ended.id, ended.principal)
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


def kill_session(
    state: State, session: Session | None, call: int, principal: str, arguments: Arguments, woken: list[Woken]
) -> dict[str, object]:
    """An operator ends a session: it gets nothing more, and goes when it cannot believe any more."""
    killed = state.sessions.get(arguments["session"])
    if killed is None:
        raise Refusal("not_found", f"there is no session {arguments['session']}")
    if not killed.killed:
        state.revision += 1
        killed.killed = arguments["reason"]
        killed.mute = killed_by_operator(killed)
        _withdraw_and_settle(state, killed, killed.mute, woken)
    holds = sum(1 for _ in each_hold(killed))
    return {"session": killed.id, "holds": holds, "lease_ms": killed.lease_ms}


def acknowledge_kill(
    state: State, session: Session | None, call: int, principal: str, arguments: Arguments, woken: list[Woken]
) -> dict[str, object]:
    """The client of a killed session has stopped believing in all of it: it ends now, as an expiry."""
    assert session is not None
    if not session.killed:
        raise Refusal("bad_request", "acknowledge_kill: nobody has killed this session")
    state.revision += 1
    _end(state, session, True, woken)
    return {}


def leave_session(
    state: State, session: Session | None, call: int, principal: str, arguments: Arguments, woken: list[Woken]
) -> dict[str, object]:
    """This process says goodbye and leaves everything where it is, for another one to resume."""
    assert session is not None
    if session.mute is None:
        state.revision += 1
        if session.left == session.incarnation - 1:
            session.left = session.incarnation
        session.gone = True
        session.mute = mute_of(session)
        for waiting in _withdraw_and_settle(state, session, CANCELLED, woken):
            forget_hold(session, waiting, CANCELLED)
    return {}


def _withdraw_and_settle(state: State, session: Session, reply: Refusal, woken: list[Woken]) -> list[int]:
    """Nobody waits for this session any more; returns the calls that did."""
    waiting = sorted(session.waiters)
    for place in withdraw_all(session, reply, woken):
        settle(state, place.lock, woken)
    return waiting


def resume_session(
    state: State, session: Session | None, call: int, principal: str, arguments: Arguments, woken: list[Woken]
) -> dict[str, object]:
    """Another process takes the session over; the same again where `new_secret` is the present one already."""
    number, secret, new_secret = arguments["session"], arguments["secret"], arguments["new_secret"]
    resumed = state.sessions.get(number)
    again = resumed is not None and _same(new_secret, resumed.secret)
    if resumed is None or not (again or _same(secret, resumed.secret)):
        raise Refusal("session_expired", f"session {number} has ended, or its id or secret is wrong; open a new one")
    if secret == new_secret:
        raise Refusal("bad_request", "resume_session: new_secret must differ from secret")
    if resumed.killed:
        raise killed_by_operator(resumed)
    holds = _resumed_holds(state, resumed)
    if not again:
        caused_by(state, number, principal)
        state.revision += 1
        _begin_incarnation(state, resumed, new_secret, dict(arguments["client"]), woken)
    return {
        "session": number,
        "lease_ms": resumed.lease_ms,
        "epoch": state.epoch,
        "incarnation": resumed.incarnation,
        "next_call": resumed.acked,
        "left": resumed.left == resumed.incarnation - 1,
        "holds": holds,
    }


def _begin_incarnation(state: State, session: Session, secret: str, client: dict[str, str], woken: list[Woken]) -> None:
    taken = Refusal("session_expired", "another process has resumed this session while this call waited")
    _withdraw_and_settle(state, session, taken, woken)
    session.incarnation += 1
    session.secret = secret
    session.client = client
    session.gone, session.mute = False, None
    for hold in each_hold(session):
        hold.client = client
        hold.actor = ""  # one of the process before; one of this process may have the same name and is another
    # What was taken before is nothing to a process that never believed in it.
    session.notices = {
        key: reason for key, reason in session.notices.items() if (key[0], session.id, key[1]) in state.revoked
    }
    beyond = max(session.incarnation * _CALLS_OF_A_PROCESS, session.acked + CALL_WINDOW)
    acknowledge(session, min(beyond, NUMBER_MAX))


def _resumed_holds(state: State, session: Session) -> list[dict[str, object]]:
    holds = list(each_hold(session))
    size = sum(256 + 4 * text_bytes(hold.lock.node.path) for hold in holds)
    check_answer(state, size, f"the list of the holds of session {session.id}")
    return [
        {
            "path": hold.lock.node.path,
            "mode": hold.lock.mode,
            "permits": hold.lock.permits,
            "token": token_of(hold),
            "hold": hold.call,
            "sequencer": sequencer_of(state, hold),
            "lock_delay_ms": hold.lock_delay_ms,
        }
        for hold in holds
    ]


def _same(secret: str, other: str) -> bool:
    return compare_digest(secret.encode(), other.encode())


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
