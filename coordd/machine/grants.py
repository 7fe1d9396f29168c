"""Holds: how a grant is made, what its acquire is answered, and how it ends. Who comes next is said in `locks`.

A grant of `acquire` is one hold. One of `acquire_all` is a group of holds, one for each lock, under one call number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from coordclient.protocol.errors import Refusal
from coordd.machine.losses import record
from coordd.machine.sequencer import sequencer_of
from coordd.machine.state import Hold, Lock, Reply, Session, State, Waiter, token_of


def has_room(state: State, lock: Lock, mode: str, permits: int) -> bool:
    """Whether a request goes with those who hold the lock now. Who waits there is another question."""
    holders = lock.holders
    if not holders:
        return True
    if mode != lock.mode or mode == "exclusive" or len(holders) >= state.limits.holders_per_node:
        return False
    return mode == "shared" or (permits == lock.permits and len(holders) < permits)


def differs(lock: Lock, mode: str, permits: int) -> Refusal | None:
    """Why a request for a semaphore can never join the present period: it is one of another number of permits."""
    if mode == lock.mode == "semaphore" and permits != lock.permits:
        text = f"{lock.node.path} is held as a semaphore of {lock.permits} permits, not {permits}"
        return Refusal("permits_differ", text, permits=lock.permits, asked=permits)
    return None


def grant(
    state: State, lock: Lock, session: Session, call: int, mode: str, permits: int, actor: str, lock_delay_ms: int
) -> Hold:
    """Makes the hold, in the present revision. Whether it may be made was looked at before."""
    if not lock.holders:
        lock.mode = mode
        lock.permits = permits
        lock.token = lock.node.lock_generation = state.revision
    else:
        assert lock.mode == mode != "exclusive", "only shared holders, and those of a semaphore, join a period"
    hold = Hold(lock, session.id, call, actor, lock_delay_ms, state.wall_ms, session.client, session.principal)
    if permits:
        newest = next(reversed(lock.holders.values()), None)
        if newest is not None and newest.token == state.revision:
            state.revision += 1  # granted in one step, and still each has a token of its own
        hold.token = state.revision
    lock.holders[session.id, call] = session.holds[call] = hold
    return hold


def grant_place(state: State, session: Session, place: Waiter) -> Hold:
    """The grant of a request that waits in no queue any more."""
    hold = grant(state, place.lock, session, place.call, place.mode, place.permits, place.actor, place.lock_delay_ms)
    hold.part = place.part
    return hold


def grant_places(state: State, session: Session, places: Iterable[Waiter]) -> dict[str, object]:
    """The grant of all parts of an `acquire_all`, which wait in no queue any more, and its answer."""
    holds = [grant_place(state, session, place) for place in places]
    for hold in holds:
        hold.group = holds
    session.holds[holds[0].call] = holds[0]
    return grant_reply(state, holds[0])


def recall(state: State, session: Session, call: int) -> Reply | None:
    """The answer that was given to this call, if its session remembers it or a hold that it made is still there."""
    remembered = session.replies.get(call)
    if remembered is not None:
        return remembered[0]
    hold = session.holds.get(call)
    return None if hold is None else grant_reply(state, hold)


def grant_reply(state: State, hold: Hold) -> dict[str, object]:
    """The answer to the acquire that made this hold; to an `acquire_all`, with what is still held of it."""
    if hold.group is not None:
        return {"hold": hold.call, "locks": [_part_reply(state, part) for part in hold.group]}
    lock = hold.lock
    return {
        "path": lock.node.path,
        "mode": lock.mode,
        "token": hold.token or lock.token,
        "hold": hold.call,
        "sequencer": sequencer_of(state, hold),
    }


def _part_reply(state: State, hold: Hold) -> dict[str, object]:
    lock = hold.lock
    return {
        "path": lock.node.path,
        "mode": lock.mode,
        "permits": lock.permits,
        "token": token_of(hold),
        "sequencer": sequencer_of(state, hold),
    }


# ---- leaving ----


def parts_of(hold: Hold) -> list[Hold]:
    """All holds of the same acquire that are still there, in the order of its list."""
    return [hold] if hold.group is None else list(hold.group)


def each_hold(session: Session) -> Iterator[Hold]:
    """All holds of the session, in the order of its calls."""
    for call in sorted(session.holds):
        yield from parts_of(session.holds[call])


def take_away(state: State, session: Session, hold: Hold, cause: str, reason: str = "") -> None:
    """The hold ends here and now. Its lock is not settled yet."""
    del hold.lock.holders[hold.session, hold.call]
    lose(state, session, hold, cause, reason)


def delay(state: State, session: Session, hold: Hold, cause: str, reason: str = "") -> None:
    """The session loses the hold, which goes when its lock-delay is over, or now if it has none. Not settled yet."""
    if hold.lock_delay_ms:
        hold.delayed = True
        state.delayed[hold.lock.node.path, hold.session, hold.call] = hold
    else:
        del hold.lock.holders[hold.session, hold.call]
    lose(state, session, hold, cause, reason)


def lose(state: State, session: Session, hold: Hold, cause: str, reason: str) -> None:
    """The session has this hold no more."""
    record(state, session, hold, cause, reason)
    if hold.revoked:
        key = (hold.lock.node.path, hold.call)
        del state.revoked[key[0], session.id, hold.call]
        del session.notices[key]
        hold.revoked = ""
    group, hold.group = hold.group, None
    if group is None or len(group) == 1:
        del session.holds[hold.call]
        return
    group.remove(hold)
    session.holds[hold.call] = group[0]
    session.more -= 1
