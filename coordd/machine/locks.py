"""Locks: acquire, release, cancel, the queue, and what happens to locks when a session ends [Chubby 2.4].

- The owner of a hold is the lock object that made the acquire: `(session, call)`. Two of one session exclude each
  other.
- A request is granted at once only if nobody waits and its mode goes with the holders'; otherwise it queues. So a
  shared request behind a waiting exclusive one waits.
- Whatever makes a holder or a waiter leave calls `settle` in the same command: everyone who can now be granted is.
- A *period* goes from free to held until free again; its token is the revision of its beginning, and all holders of a
  shared period carry it. Delayed holds (their session expired, the lock-delay runs) belong to the period: they let
  shared requests join a shared period and keep everything else out, until the master logs `end_lock_delay`.
"""

from __future__ import annotations

from coordclient.protocol.errors import Refusal
from coordclient.protocol.paths import is_below
from coordd.machine import namespace
from coordd.machine.calls import CANCELLED, RELEASED, call_window, forget_hold
from coordd.machine.deadlock import find_cycle
from coordd.machine.limits import CALL_WINDOW
from coordd.machine.sequencer import sequencer_of
from coordd.machine.state import (
    Arguments,
    Hold,
    Lock,
    Reply,
    Session,
    State,
    Waiter,
    Woken,
    check_answer,
    client_bytes,
    describe_hold,
    holder_of,
    refuse_limit,
)


def acquire(
    state: State, session: Session | None, call: int, principal: str, arguments: Arguments, woken: list[Woken]
) -> dict[str, object] | None:
    """Grants (the reply), queues (None) or refuses."""
    assert session is not None
    if call == 0:
        raise Refusal("bad_request", "acquire: it needs a call number, which names the hold")
    if state.keyed is None:
        raise Refusal("unavailable", "acquire: the cell has no sequencer key yet; its first master is making one")
    limits = state.limits
    if len(session.holds) + len(session.waiters) >= limits.holds_per_session:
        refuse_limit("holds_per_session", limits.holds_per_session)
    path: str = arguments["path"]
    mode: str = arguments["mode"]
    lock = state.locks.get(path)
    if lock is None:
        lock = _lock_free_node(state, path, principal)
    elif lock.waiters or mode != "shared" or lock.mode != "shared" or len(lock.holders) >= limits.holders_per_node:
        _wait(state, session, call, lock, mode, arguments)
        return None
    else:
        state.revision += 1
    hold = _grant(state, lock, session, call, mode, arguments["actor"], arguments["lock_delay_ms"])
    return grant_reply(state, hold)


def _lock_free_node(state: State, path: str, principal: str) -> Lock:
    node = state.nodes.get(path)
    if node is None:
        node = namespace.make_temporary(state, path, principal)
    else:
        state.revision += 1
    lock = state.locks[path] = Lock(node)
    return lock


def _grant(state: State, lock: Lock, session: Session, call: int, mode: str, actor: str, lock_delay_ms: int) -> Hold:
    if not lock.holders:
        lock.mode = mode
        lock.token = lock.node.lock_generation = state.revision
    else:
        assert lock.mode == mode == "shared", "only shared holders join a period"
    hold = Hold(lock, session.id, call, actor, lock_delay_ms, state.wall_ms, session.client)
    lock.holders[session.id, call] = session.holds[call] = hold
    return hold


def recall(state: State, session: Session, call: int) -> Reply | None:
    """The answer that was given to this call, if its session remembers it or a hold that it made is still there."""
    remembered = session.replies.get(call)
    if remembered is not None:
        return remembered[0]
    hold = session.holds.get(call)
    return None if hold is None else grant_reply(state, hold)


def grant_reply(state: State, hold: Hold) -> dict[str, object]:
    """The answer to the acquire that made this hold."""
    lock = hold.lock
    return {
        "path": lock.node.path,
        "mode": lock.mode,
        "token": lock.token,
        "hold": hold.call,
        "sequencer": sequencer_of(state, hold),
    }


def _wait(state: State, session: Session, call: int, lock: Lock, mode: str, arguments: Arguments) -> None:
    path, actor = lock.node.path, arguments["actor"]
    if not arguments["wait"]:
        raise Refusal(
            "not_acquired", f"{path} is held or waited for", holder=holder_of(lock), waiters=len(lock.waiters)
        )
    limits = state.limits
    if len(lock.waiters) >= limits.waiters_per_node:
        refuse_limit("waiters_per_node", limits.waiters_per_node)
    if len(session.waiters) >= limits.waiters_per_session:
        refuse_limit("waiters_per_session", limits.waiters_per_session)
    if actor:
        cycle = find_cycle(state, session, actor, lock, mode)
        if cycle is not None:
            raise Refusal("deadlock", f"waiting for {path} would never end", cycle=cycle)
    state.revision += 1
    waiter = Waiter(lock, session.id, call, mode, actor, arguments["lock_delay_ms"], state.wall_ms)
    lock.waiters[session.id, call] = session.waiters[call] = waiter


# ---- leaving ----


def release(
    state: State, session: Session | None, call: int, principal: str, arguments: Arguments, woken: list[Woken]
) -> dict[str, object]:
    """Ends a hold of this session; the lock passes on at once."""
    assert session is not None
    hold = session.holds.get(arguments["hold"])
    if hold is None or hold.lock.node.path != arguments["path"]:
        raise Refusal("not_held", f"this session has no hold {arguments['hold']} on {arguments['path']}")
    state.revision += 1
    _drop(state, session, hold, woken)
    forget_hold(session, hold.call, RELEASED)
    return {"revision": state.revision}


def _drop(state: State, session: Session, hold: Hold, woken: list[Woken]) -> None:
    lock = hold.lock
    del session.holds[hold.call]
    del lock.holders[session.id, hold.call]
    settle(state, lock, woken)


def cancel(
    state: State, session: Session | None, call: int, principal: str, arguments: Arguments, woken: list[Woken]
) -> dict[str, object]:
    """Makes sure that the acquire `target` of this session neither holds nor waits nor ever will."""
    assert session is not None
    target: int = arguments["target"]
    waiter, hold = session.waiters.get(target), session.holds.get(target)
    if waiter is not None:
        state.revision += 1
        del session.waiters[target]
        del waiter.lock.waiters[session.id, target]
        woken.append(Woken(session.id, target, CANCELLED))
        settle(state, waiter.lock, woken)
        did = "withdrew"
    elif hold is not None:
        state.revision += 1
        _drop(state, session, hold, woken)
        did = "released"
    elif target < session.acked or target in session.replies or target == call:
        return {"did": "nothing"}
    elif target >= session.acked + CALL_WINDOW:
        raise call_window(session)
    else:
        state.revision += 1
        did = "marked"
    forget_hold(session, target, CANCELLED)
    return {"did": did}


def settle(state: State, lock: Lock, woken: list[Woken]) -> None:
    """A holder or a waiter has left: grants everyone who can be granted now, and takes a free lock away."""
    waiters, holders = lock.waiters, lock.holders
    while waiters:
        first = next(iter(waiters.values()))
        if holders and (first.mode != "shared" or lock.mode != "shared"):
            return
        if len(holders) >= state.limits.holders_per_node:
            return
        session = state.sessions[first.session]
        del waiters[first.session, first.call]
        del session.waiters[first.call]
        hold = _grant(state, lock, session, first.call, first.mode, first.actor, first.lock_delay_ms)
        woken.append(Woken(session.id, first.call, grant_reply(state, hold)))
    if not holders:
        del state.locks[lock.node.path]
        namespace.collect(state, lock.node)


def end_session_locks(state: State, session: Session, expired: bool, woken: list[Woken]) -> None:
    """The session's waiters leave first, then its holds: freed, or delayed where the session expired."""
    touched: dict[str, Lock] = {}
    gone = Refusal("session_expired", "the session ended while this call waited")
    for call in sorted(session.waiters):
        waiter = session.waiters[call]
        del waiter.lock.waiters[session.id, call]
        touched[waiter.lock.node.path] = waiter.lock
        woken.append(Woken(session.id, call, gone))
    for call in sorted(session.holds):
        hold = session.holds[call]
        path = hold.lock.node.path
        if expired and hold.lock_delay_ms:
            hold.delayed = True
            state.delayed[path, session.id, call] = hold
        else:
            del hold.lock.holders[session.id, call]
        touched[path] = hold.lock
    session.waiters.clear()
    session.holds.clear()
    for lock in touched.values():
        settle(state, lock, woken)


def end_lock_delay(
    state: State, session: Session | None, call: int, principal: str, arguments: Arguments, woken: list[Woken]
) -> dict[str, object]:
    """The master's decision that a lock-delay is over; does nothing if the master or the hold has gone since."""
    key = (arguments["path"], arguments["session"], arguments["hold"])
    hold = state.delayed.get(key) if arguments["epoch"] == state.epoch else None
    if hold is None:
        return {"ended": False}
    state.revision += 1
    del state.delayed[key]
    del hold.lock.holders[hold.session, hold.call]
    settle(state, hold.lock, woken)
    return {"ended": True}


# ---- reading ----


def list_locks(state: State, arguments: Arguments) -> dict[str, object]:
    """All locks of the subtree that are held, delayed or waited for, sorted by path."""
    top = arguments["path"]
    chosen = [state.locks[path] for path in sorted(state.locks) if is_below(path, top)]
    check_answer(state, sum(_answer_bytes(state, lock) for lock in chosen), f"the list of locks below {top}")
    return {"revision": state.revision, "locks": [_describe(state, lock) for lock in chosen]}


def _answer_bytes(state: State, lock: Lock) -> int:
    size = 128 + len(lock.node.path)
    for hold in lock.holders.values():
        size += 128 + len(hold.actor) + client_bytes(hold.client)
    for waiter in lock.waiters.values():
        size += 128 + len(waiter.actor) + client_bytes(state.sessions[waiter.session].client)
    return size


def _describe(state: State, lock: Lock) -> dict[str, object]:
    waiters = [
        {
            "session": waiter.session,
            "call": waiter.call,
            "actor": waiter.actor,
            "mode": waiter.mode,
            "since_ms": waiter.since_ms,
            "place": place,
            "client": state.sessions[waiter.session].client,
        }
        for place, waiter in enumerate(lock.waiters.values(), 1)
    ]
    holders = [describe_hold(hold) for hold in lock.holders.values()]
    return {"path": lock.node.path, "mode": lock.mode, "token": lock.token, "holders": holders, "waiters": waiters}
