"""What people and programs can read about locks and sessions. What only the master knows (leases), the engine adds."""

from __future__ import annotations

from functools import partial

from coordclient.protocol.errors import Refusal
from coordclient.protocol.paths import is_below
from coordd.machine.deadlock import places_of
from coordd.machine.grants import each_hold
from coordd.machine.losses import describe
from coordd.machine.pages import page
from coordd.machine.state import (
    Arguments,
    Hold,
    Lock,
    Session,
    State,
    check_answer,
    client_bytes,
    describe_hold,
    refuse_limit,
    text_bytes,
    token_of,
)


def list_locks(state: State, arguments: Arguments, session: int) -> dict[str, object]:
    """A page of the locks of the subtree that are held, delayed or waited for, sorted by path."""
    top, after = arguments["path"], arguments["after"]
    paths = sorted(path for path in state.locks if path > after and is_below(path, top))
    what = f"the first lock below {top} after {after or 'nothing'}"
    size_of = partial(_answer_bytes, state)
    chosen, more = page(state, map(state.locks.__getitem__, paths), size_of, arguments["count"], what)
    return {"revision": state.revision, "locks": [_lock_row(state, lock) for lock in chosen], "more": more}


def why(state: State, arguments: Arguments, session: int) -> dict[str, object]:
    """Who has this lock, who waits for it, and how the last ones lost it."""
    path = arguments["path"]
    lock = state.locks.get(path)
    losses = state.losses.get(path, ())
    size = 0 if lock is None else _answer_bytes(state, lock)
    size += sum(256 + client_bytes(loss[2]) + text_bytes(loss[3]) + text_bytes(loss[9]) for loss in losses)
    check_answer(state, size, f"all about the lock {path}")
    return {
        "revision": state.revision,
        "path": path,
        "exists": path in state.nodes,
        "lock": None if lock is None else _lock_row(state, lock),
        "losses": [describe(loss) for loss in reversed(losses)],
    }


def _answer_bytes(state: State, lock: Lock) -> int:
    size = 128 + text_bytes(lock.node.path)
    for hold in lock.holders.values():
        texts = text_bytes(hold.actor) + text_bytes(hold.revoked) + text_bytes(hold.principal)
        size += 192 + texts + client_bytes(hold.client)
    for waiter in lock.waiters.values():
        session = state.sessions[waiter.session]
        size += 160 + text_bytes(waiter.actor) + text_bytes(session.principal) + client_bytes(session.client)
    return size


def _lock_row(state: State, lock: Lock) -> dict[str, object]:
    waiters = [
        {
            "session": waiter.session,
            "call": waiter.call,
            "actor": waiter.actor,
            "mode": waiter.mode,
            "permits": waiter.permits,
            "several": waiter.group is not None,
            "since_ms": waiter.since_ms,
            "place": place,
            "client": state.sessions[waiter.session].client,
            "principal": state.sessions[waiter.session].principal,
        }
        for place, waiter in enumerate(lock.waiters.values(), 1)
    ]
    return {
        "path": lock.node.path,
        "mode": lock.mode,
        "token": lock.token,
        "permits": lock.permits,
        "holders": [describe_hold(hold) for hold in lock.holders.values()],
        "waiters": waiters,
    }


def list_sessions(state: State, arguments: Arguments, session: int) -> dict[str, object]:
    """A page of all sessions, oldest first."""
    after = arguments["after"]
    rows = (state.sessions[number] for number in sorted(state.sessions) if number > after)
    chosen, more = page(state, rows, _session_bytes, arguments["count"], "a session")
    return {"revision": state.revision, "sessions": [_session_row(one) for one in chosen], "more": more}


def session_info(state: State, arguments: Arguments, session: int) -> dict[str, object]:
    """All about one session: its row of the list, and what it holds, waits for and keeps alive."""
    number = arguments["session"] or session
    found = state.sessions.get(number)
    if found is None:
        raise Refusal("not_found", f"there is no session {number}" if number else "session_info: of which session?")
    holds = list(each_hold(found))
    places = [place for call in sorted(found.waiters) for place in places_of(found.waiters[call])]
    size = _session_bytes(found) + sum(map(text_bytes, found.ephemerals))
    size += sum(256 + text_bytes(hold.lock.node.path) + text_bytes(hold.revoked) for hold in holds)
    size += sum(128 + text_bytes(place.lock.node.path) for place in places)
    check_answer(state, size, f"all about session {number}")
    queues = {place.lock.node.path: place.lock for place in places}
    if sum(len(lock.waiters) for lock in queues.values()) > state.limits.places_steps:
        refuse_limit("places_steps", state.limits.places_steps)
    numbers = {
        (path, key[1]): at
        for path, lock in queues.items()
        for at, key in enumerate(lock.waiters, 1)
        if key[0] == number
    }
    return {
        "revision": state.revision,
        **_session_row(found),
        "holds": [_hold_row(hold) for hold in holds],
        "waiting": [
            {
                "path": place.lock.node.path,
                "mode": place.mode,
                "place": numbers[place.lock.node.path, place.call],
                "since_ms": place.since_ms,
                "call": place.call,
            }
            for place in places
        ],
        "ephemeral_paths": sorted(found.ephemerals),
    }


def _hold_row(hold: Hold) -> dict[str, object]:
    return {
        "path": hold.lock.node.path,
        "mode": hold.lock.mode,
        "permits": hold.lock.permits,
        "token": token_of(hold),
        "hold": hold.call,
        "since_ms": hold.since_ms,
        "lock_delay_ms": hold.lock_delay_ms,
        "revoked": hold.revoked or None,
    }


def _session_bytes(session: Session) -> int:
    return 256 + text_bytes(session.principal) + text_bytes(session.killed) + client_bytes(session.client)


def _session_row(session: Session) -> dict[str, object]:
    return {
        "session": session.id,
        "lease_ms": session.lease_ms,
        "client": session.client,
        "principal": session.principal,
        "incarnation": session.incarnation,
        "killed": session.killed or None,
        "opened_ms": session.opened_ms,
        "holds": sum(1 for _ in each_hold(session)),
        "waiters": len(session.waiters),
        "ephemerals": len(session.ephemerals),
    }


def notices_of(session: Session) -> list[list[object]]:
    """`revoked` of the answer to a KeepAlive: [path, hold, reason] of each hold wanted back or taken, oldest first."""
    return [[path, hold, reason] for (path, hold), reason in session.notices.items()]
