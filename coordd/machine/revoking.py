"""Holds that end before their session does: asked back or broken by an operator, handed on, and the end of lock-delays.

An operator's `unlock` marks holds as *revoked*, and their holder reads it in the answer to its next KeepAlive. The hold
stays, and its sequencer stays valid, until the holder says that it has stopped believing (`give_up`, or a release), or
the master logs that one whole lease is over in which the holder was told or has lost its session (`end_revoked`). Then
the hold is delayed like that of an expired session. `unlock` with `now` waits for nobody: it bends the promise.
"""

from __future__ import annotations

from coordclient.protocol.errors import Refusal
from coordd.machine.calls import REVOKED, TRANSFERRED, forget_hold
from coordd.machine.changes import caused_by
from coordd.machine.grants import delay, grant_place, grant_reply, take_away
from coordd.machine.locks import settle, withdraw
from coordd.machine.losses import amend
from coordd.machine.state import Arguments, Hold, Session, State, Waiter, Woken, refuse_limit


def unlock(
    state: State, session: Session | None, call: int, principal: str, arguments: Arguments, woken: list[Woken]
) -> dict[str, object]:
    """An operator takes holds back: asks for them, or breaks them now."""
    path, reason, now = arguments["path"], arguments["reason"], arguments["now"]
    owner, number = arguments["session"], arguments["hold"]
    lock = state.locks.get(path)
    chosen = [
        hold
        for hold in (lock.holders.values() if lock is not None else ())
        if owner in (0, hold.session) and number in (0, hold.call) and (now or not hold.delayed)
    ]
    if lock is None or not chosen:
        raise Refusal("not_held", f"{path}: there is no such hold that could be taken back")
    _check_notices(state, chosen)
    if now:
        state.revision += 1
        for hold in chosen:
            _break(state, hold, reason)
        settle(state, lock, woken)
    else:
        fresh = [hold for hold in chosen if not hold.revoked]
        state.revision += bool(fresh)
        for hold in fresh:
            hold.revoked = reason
            state.revoked[path, hold.session, hold.call] = hold
            state.sessions[hold.session].notices[path, hold.call] = reason
    return {"path": path, "holds": [{"session": hold.session, "hold": hold.call} for hold in chosen], "now": now}


def _check_notices(state: State, chosen: list[Hold]) -> None:
    """All that a session must be told fits into the answer to one KeepAlive, so there is a limit to it."""
    bound = state.limits.notices_per_session
    more: dict[int, int] = {}
    for hold in chosen:
        if not hold.delayed and not hold.revoked:
            more[hold.session] = more.get(hold.session, 0) + 1
    if any(len(state.sessions[number].notices) + count > bound for number, count in more.items()):
        refuse_limit("notices_per_session", bound)


def _break(state: State, hold: Hold, reason: str) -> None:
    path = hold.lock.node.path
    if hold.delayed:
        amend(state, hold, "broken", reason)
        del state.delayed[path, hold.session, hold.call]
        del hold.lock.holders[hold.session, hold.call]
        return
    owner = state.sessions[hold.session]
    take_away(state, owner, hold, "broken", reason)
    owner.notices[path, hold.call] = reason
    if hold.call not in owner.holds:
        forget_hold(owner, hold.call, REVOKED)


def give_up(
    state: State, session: Session | None, call: int, principal: str, arguments: Arguments, woken: list[Woken]
) -> dict[str, object]:
    """The holder has stopped believing in a hold that an operator wants back, or has taken."""
    assert session is not None
    key = (arguments["path"], arguments["hold"])
    hold = state.revoked.get((key[0], session.id, key[1]))
    if hold is not None:
        state.revision += 1
        delayed = _end_revoked(state, session, hold, woken)
        return {"did": "delayed" if delayed else "freed"}
    if key not in session.notices:
        raise Refusal("not_held", f"no operator wants hold {key[1]} on {key[0]} back from this session")
    state.revision += 1
    del session.notices[key]
    return {"did": "noted"}


def end_revoked(
    state: State, session: Session | None, call: int, principal: str, arguments: Arguments, woken: list[Woken]
) -> dict[str, object]:
    """The master's decision that the holder has been told, or has lost its session; a stale one does nothing."""
    key = (arguments["path"], arguments["session"], arguments["hold"])
    hold = state.revoked.get(key) if arguments["epoch"] == state.epoch else None
    if hold is None:
        return {"ended": False}
    caused_by(state, hold.session, hold.principal)
    state.revision += 1
    owner, reason = state.sessions[hold.session], hold.revoked
    _end_revoked(state, owner, hold, woken)
    owner.notices[key[0], key[2]] = reason  # its holder may not have answered yet, and is told on
    return {"ended": True}


def _end_revoked(state: State, owner: Session, hold: Hold, woken: list[Woken]) -> bool:
    """Whether its lock-delay runs now."""
    delay(state, owner, hold, "revoked", hold.revoked)
    if hold.call not in owner.holds:
        forget_hold(owner, hold.call, REVOKED)
    settle(state, hold.lock, woken)
    return hold.delayed


def end_lock_delay(
    state: State, session: Session | None, call: int, principal: str, arguments: Arguments, woken: list[Woken]
) -> dict[str, object]:
    """The master's decision that a lock-delay is over; does nothing if the master or the hold has gone since."""
    key = (arguments["path"], arguments["session"], arguments["hold"])
    hold = state.delayed.get(key) if arguments["epoch"] == state.epoch else None
    if hold is None:
        return {"ended": False}
    caused_by(state, hold.session, hold.principal)
    state.revision += 1
    del state.delayed[key]
    del hold.lock.holders[hold.session, hold.call]
    settle(state, hold.lock, woken)
    return {"ended": True}


def transfer(
    state: State, session: Session | None, call: int, principal: str, arguments: Arguments, woken: list[Woken]
) -> dict[str, object]:
    """Hands a held lock to a waiter of another session, past the queue; it is never free in between."""
    assert session is not None
    path, number, to = arguments["path"], arguments["hold"], arguments["to"]
    hold = session.holds.get(number)
    if hold is None or hold.lock.node.path != path:
        raise Refusal("not_held", f"this session has no hold {number} on {path}")
    if hold.group is not None:
        raise Refusal("bad_request", "transfer: a hold of an acquire_all is not handed on by itself")
    if hold.revoked:
        raise Refusal("not_held", f"an operator wants {path} back: {hold.revoked}", reason=hold.revoked)
    heir = _heir(hold, to)
    if heir is None:
        raise Refusal("not_waiting", f"session {to} does not wait for {path} in the mode of this hold")
    state.revision += 1
    taker = state.sessions[to]
    withdraw(taker, heir)
    if hold.lock.mode == "exclusive":
        take_away(state, session, hold, "transferred", f"to session {to}")
        given = grant_place(state, taker, heir)  # a new period, so a larger token
    else:
        given = grant_place(state, taker, heir)  # the period goes on
        take_away(state, session, hold, "transferred", f"to session {to}")
    forget_hold(session, number, TRANSFERRED)
    woken.append(Woken(to, heir.call, grant_reply(state, given)))
    settle(state, hold.lock, woken)
    return {"revision": state.revision, "to": to, "hold": heir.call}


def _heir(hold: Hold, to: int) -> Waiter | None:
    lock = hold.lock
    for waiter in lock.waiters.values():
        alike = (waiter.mode, waiter.permits) == (lock.mode, lock.permits)
        if waiter.session == to and waiter.group is None and alike:
            return waiter
    return None
