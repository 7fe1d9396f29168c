"""Several locks in one step: `acquire_all` grants all of them in one log entry, or waits for all and holds none.

A request that waits has a place in the queue of each of its locks, and everybody behind it waits for it, also where the
lock is free: so nobody can keep it from its turn. All places are taken in one log entry, so two such requests stand in
the same order wherever they meet, and never wait for each other.
"""

from __future__ import annotations

from collections.abc import Iterable

from coordclient.protocol.errors import Refusal
from coordd.machine import changes, namespace
from coordd.machine.grants import grant_places, has_room
from coordd.machine.locks import check_may_acquire, check_may_wait
from coordd.machine.state import Arguments, Lock, Node, Session, State, Waiter, Woken


def acquire_all(
    state: State, session: Session | None, call: int, principal: str, arguments: Arguments, woken: list[Woken]
) -> dict[str, object] | None:
    """Grants all (the reply), queues (None) or refuses."""
    assert session is not None
    wanted = arguments["locks"]
    check_may_acquire(state, session, call, "acquire_all", len(wanted))
    places: list[Waiter] = []  # only where there is a lock already: elsewhere nothing is in the way
    for one in wanted:
        lock = state.locks.get(one["path"])
        if lock is not None:
            places.append(_place(state, session, call, lock, one, arguments))
    free = all(not place.lock.waiters and has_room(state, place.lock, place.mode, place.permits) for place in places)
    if not free:
        check_may_wait(state, session, places, arguments["wait"])
    _make_locks(state, [one["path"] for one in wanted], principal)
    places = [_place(state, session, call, state.locks[one["path"]], one, arguments) for one in wanted]
    for part, place in enumerate(places, 1):
        place.part = part
        place.group = places
    session.more += len(places) - 1
    if free:
        return grant_places(state, session, places)
    for place in places:
        place.lock.waiters[session.id, call] = place
    session.waiters[call] = places[0]
    return None


def _place(
    state: State, session: Session, call: int, lock: Lock, one: dict[str, object], arguments: Arguments
) -> Waiter:
    mode, permits = one["mode"], one["permits"]
    assert isinstance(mode, str) and isinstance(permits, int)
    who = (arguments["actor"], arguments["limited"])
    return Waiter(lock, session.id, call, mode, permits, *who, arguments["lock_delay_ms"], state.wall_ms)


def _make_locks(state: State, paths: Iterable[str], principal: str) -> None:
    """In the next revision each path has a lock, though nobody holds it or waits there yet; or nothing has changed.

    What is deeper is made first, so that a path above it becomes a directory.
    """
    mark = changes.mark(state)
    state.revision += 1
    made: list[Lock] = []
    try:
        for path in sorted(paths, reverse=True):
            if path not in state.locks:
                lock = state.locks[path] = Lock(_node(state, path, principal))
                made.append(lock)
    except Refusal:
        state.revision -= 1
        for lock in reversed(made):
            del state.locks[lock.node.path]
            namespace.collect(state, lock.node)
        changes.take_back(state, mark)
        raise


def _node(state: State, path: str, principal: str) -> Node:
    node = state.nodes.get(path)
    if node is not None:
        return node
    missing = namespace.check_room(state, path, 0, True)
    return namespace.make(state, path, b"", missing, principal, True)
