"""Locks: acquire, release, cancel, the queue, and what happens to locks when a session ends [Chubby 2.4].

- The owner of a hold is the lock object that made the acquire: `(session, call)`. Two of one session exclude each
  other.
- A request is granted at once only if nobody waits and its mode goes with the holders'; otherwise it queues. So a
  shared request behind a waiting exclusive one waits.
- Whatever makes a holder or a waiter leave calls `settle` in the same command: everyone who can now be granted is.
- A *period* goes from free to held until free again; its token is the revision of its beginning, and all holders of a
  shared period carry it. Those of a semaphore carry the revision of their own grants; the first of a period says how
  many permits there are. Delayed holds (their session has lost them, the lock-delay runs) belong to the period: they
  let others join a shared or semaphore period that has room and keep everything else out, until the master logs
  `end_lock_delay`.
- Who waits for several (`coordd.machine.several`) has a place in each queue and is granted when he is the first of all
  of them and every lock goes with him. Nobody overtakes him, also where the lock is free.
"""

from __future__ import annotations

from collections.abc import Sequence

from coordclient.protocol.errors import Refusal
from coordclient.protocol.operations import check_permits
from coordd.machine import namespace
from coordd.machine.calls import CANCELLED, RELEASED, call_window, forget_hold
from coordd.machine.deadlock import find_cycle, in_words, places_of
from coordd.machine.grants import (
    delay,
    differs,
    each_hold,
    grant,
    grant_place,
    grant_places,
    grant_reply,
    has_room,
    parts_of,
    take_away,
)
from coordd.machine.limits import CALL_WINDOW
from coordd.machine.state import Arguments, Hold, Lock, Session, State, Waiter, Woken, holder_of, refuse_limit


def acquire(
    state: State, session: Session | None, call: int, principal: str, arguments: Arguments, woken: list[Woken]
) -> dict[str, object] | None:
    """Grants (the reply), queues (None) or refuses."""
    assert session is not None
    check_may_acquire(state, session, call, "acquire", 1)
    path: str = arguments["path"]
    if arguments["if_instance"] is not None:
        namespace.check_instance(state, path, arguments["if_instance"])
    mode: str = arguments["mode"]
    permits: int = arguments["permits"]
    if permits or mode == "semaphore":
        check_permits("acquire", mode, permits)
    lock = state.locks.get(path)
    if lock is None:
        lock = _lock_free_node(state, path, principal)
    elif lock.waiters or not has_room(state, lock, mode, permits):
        _wait(state, session, call, lock, mode, permits, arguments)
        return None
    else:
        state.revision += 1
    hold = grant(state, lock, session, call, mode, permits, arguments["actor"], arguments["lock_delay_ms"])
    return grant_reply(state, hold)


def check_may_acquire(state: State, session: Session, call: int, operation: str, count: int) -> None:
    """Refuses whatever this session may not hold or wait for now."""
    if call == 0:
        raise Refusal("bad_request", f"{operation}: it needs a call number, which names the hold")
    if state.keyed is None:
        raise Refusal("unavailable", f"{operation}: the cell has no sequencer key yet; its first master is making one")
    bound = state.limits.holds_per_session
    if len(session.holds) + len(session.waiters) + session.more + count > bound:
        refuse_limit("holds_per_session", bound)


def _lock_free_node(state: State, path: str, principal: str) -> Lock:
    node = state.nodes.get(path)
    if node is None:
        node = namespace.make_temporary(state, path, principal)
    else:
        state.revision += 1
    lock = state.locks[path] = Lock(node)
    return lock


def _wait(state: State, session: Session, call: int, lock: Lock, mode: str, permits: int, arguments: Arguments) -> None:
    who = (arguments["actor"], arguments["limited"])
    place = Waiter(lock, session.id, call, mode, permits, *who, arguments["lock_delay_ms"], state.wall_ms)
    check_may_wait(state, session, [place], arguments["wait"])
    state.revision += 1
    lock.waiters[session.id, call] = session.waiters[call] = place


def check_may_wait(state: State, session: Session, places: list[Waiter], wait: bool) -> None:
    """Refuses what cannot or need not wait in these queues. A lock without node is one that has still to be made."""
    for place in places:
        refusal = differs(place.lock, place.mode, place.permits) if place.permits else None
        if refusal is not None:
            raise refusal
    limits = state.limits
    if not wait:
        lock = next(p.lock for p in places if p.lock.waiters or not has_room(state, p.lock, p.mode, p.permits))
        text = f"{lock.node.path} is held or waited for"
        raise Refusal("not_acquired", text, holder=holder_of(lock), waiters=len(lock.waiters))
    for place in places:
        if len(place.lock.waiters) >= limits.waiters_per_node:
            refuse_limit("waiters_per_node", limits.waiters_per_node)
    if len(session.waiters) >= limits.waiters_per_session:
        refuse_limit("waiters_per_session", limits.waiters_per_session)
    if places[0].actor and not places[0].limited:
        cycle = find_cycle(state, session, places)
        if cycle is not None:
            paths = ", ".join(place.lock.node.path for place in places[:3])
            raise Refusal("deadlock", f"waiting for {paths} would never end: {in_words(cycle)}", cycle=cycle)


# ---- leaving ----


def release(
    state: State, session: Session | None, call: int, principal: str, arguments: Arguments, woken: list[Woken]
) -> dict[str, object]:
    """Ends a hold of this session, or all that one acquire holds; the locks pass on at once."""
    assert session is not None
    number, path = arguments["hold"], arguments["path"]
    hold = session.holds.get(number)
    if hold is None:
        raise _not_held(session, number, path)
    parts: Sequence[Hold] = (hold,) if hold.group is None else tuple(hold.group)
    if path and (len(parts) > 1 or hold.lock.node.path != path):
        parts = [part for part in parts if part.lock.node.path == path]
        if not parts:
            raise _not_held(session, number, path)
    state.revision += 1
    _give_back(state, session, number, parts, RELEASED, woken)
    return {"revision": state.revision}


def _not_held(session: Session, number: int, path: str) -> Refusal:
    """What the session has not; if an operator took it, the session has been told of that herewith."""
    reasons = [session.notices.pop(key) for key in list(session.notices) if key[1] == number and path in ("", key[0])]
    where = f" on {path}" if path else ""
    if reasons:
        text = f"hold {number}{where} of this session was taken by an operator: {reasons[0]}"
        return Refusal("not_held", text, reason=reasons[0])
    return Refusal("not_held", f"this session has no hold {number}{where}")


def _give_back(
    state: State, session: Session, call: int, parts: Sequence[Hold], reply: Refusal, woken: list[Woken]
) -> None:
    """These holds of one acquire go, all before anybody is granted one of their locks."""
    for part in parts:
        take_away(state, session, part, "released")
    for part in parts:
        settle(state, part.lock, woken)
    if call not in session.holds:
        forget_hold(session, call, reply)


def cancel(
    state: State, session: Session | None, call: int, principal: str, arguments: Arguments, woken: list[Woken]
) -> dict[str, object]:
    """Makes sure that the acquire `target` of this session neither holds nor waits nor ever will."""
    assert session is not None
    target: int = arguments["target"]
    waiter, hold = session.waiters.get(target), session.holds.get(target)
    if waiter is not None:
        state.revision += 1
        withdraw(session, waiter)
        woken.append(Woken(session.id, target, CANCELLED))
        for place in places_of(waiter):
            settle(state, place.lock, woken)
        forget_hold(session, target, CANCELLED)
        return {"did": "withdrew"}
    if hold is not None:
        state.revision += 1
        _give_back(state, session, target, parts_of(hold), CANCELLED, woken)
        return {"did": "released"}
    if target < session.acked or target in session.replies or target == call:
        return {"did": "nothing"}
    if target >= session.acked + CALL_WINDOW:
        raise call_window(session)
    state.revision += 1
    forget_hold(session, target, CANCELLED)
    return {"did": "marked"}


def withdraw(session: Session, waiter: Waiter) -> None:
    """Takes a request out of all its queues. Their locks are not settled yet."""
    places = places_of(waiter)
    for place in places:
        del place.lock.waiters[session.id, place.call]
    del session.waiters[waiter.call]
    session.more -= len(places) - 1


def settle(state: State, lock: Lock, woken: list[Woken]) -> None:
    """A holder or a waiter has left: grants everyone who can be granted now, and takes free locks away.

    Who leaves the queues of several locks may let others go on there, so those locks are looked at too, until nothing
    more follows. Each look costs what it grants, and the places of one request that it cannot grant.
    """
    pending: list[Lock] = []
    while True:
        if lock.waiters:
            _go_along(state, lock, woken, pending)
        if not lock.holders and lock.waiters:
            lock.mode, lock.permits, lock.token = "", 0, 0
        elif not lock.holders and state.locks.get(lock.node.path) is lock:  # else it went with another part
            del state.locks[lock.node.path]
            namespace.collect(state, lock.node)
        if not pending:
            return
        lock = pending.pop()


def _go_along(state: State, lock: Lock, woken: list[Woken], pending: list[Lock]) -> None:
    """Goes along this queue as far as it can; `pending` gets the other locks whose queues have moved with it."""
    waiters = lock.waiters
    while waiters:
        first = next(iter(waiters.values()))
        if first.group is not None:
            if not all(_has_its_turn(state, place) for place in first.group):
                return
            pending += [place.lock for place in first.group if place is not first]
            woken.append(_grant_several(state, first.group))
            continue
        refusal = None
        if lock.holders and not has_room(state, lock, first.mode, first.permits):
            refusal = differs(lock, first.mode, first.permits)
            if refusal is None:
                return
        session, call = state.sessions[first.session], first.call
        del waiters[first.session, call]
        del session.waiters[call]
        if refusal is None:
            woken.append(Woken(session.id, call, grant_reply(state, grant_place(state, session, first))))
        else:
            forget_hold(session, call, refusal)
            woken.append(Woken(session.id, call, refusal))


def _grant_several(state: State, places: list[Waiter]) -> Woken:
    """Their turn has come: they are granted, or refused where one is for a semaphore of another number of permits."""
    session, call = state.sessions[places[0].session], places[0].call
    refusals = [differs(place.lock, place.mode, place.permits) for place in places]
    withdraw(session, places[0])
    for refusal in refusals:
        if refusal is not None:
            forget_hold(session, call, refusal)
            return Woken(session.id, call, refusal)
    session.more += len(places) - 1
    return Woken(session.id, call, grant_places(state, session, places))


def _has_its_turn(state: State, place: Waiter) -> bool:
    """Whether it is the first of its queue, and the lock goes with it, or never will in the present period."""
    lock = place.lock
    if next(iter(lock.waiters.values())) is not place:
        return False
    return has_room(state, lock, place.mode, place.permits) or differs(lock, place.mode, place.permits) is not None


def end_session_locks(state: State, session: Session, expired: bool, woken: list[Woken]) -> None:
    """The session's waiters leave first, then its holds: freed, or delayed where the session expired."""
    gone = Refusal("session_expired", "the session ended while this call waited")
    touched = {place.lock.node.path: place.lock for place in withdraw_all(session, gone, woken)}
    cause = "closed" if not expired else "killed" if session.killed else "expired"
    for hold in list(each_hold(session)):
        touched[hold.lock.node.path] = hold.lock
        if expired:
            delay(state, session, hold, cause, session.killed)
        else:
            take_away(state, session, hold, cause)
    for lock in touched.values():
        settle(state, lock, woken)


def withdraw_all(session: Session, reply: Refusal, woken: list[Woken]) -> list[Waiter]:
    """Takes every request of the session out of its queues, and wakes it with `reply`. Their locks are not settled."""
    left: list[Waiter] = []
    for call in sorted(session.waiters):
        waiter = session.waiters[call]
        left += places_of(waiter)
        withdraw(session, waiter)
        woken.append(Woken(session.id, call, reply))
    return left
