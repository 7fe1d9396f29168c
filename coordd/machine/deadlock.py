"""Cycles of actors that wait for each other. An actor is `(session, actor)`: the task or thread that asked.

A waiting actor waits for every holder whose mode shuts it out and for everyone ahead of it in the queue: each of these
must leave before it can go on, so a cycle of such edges never resolves by itself. Never invented: no edge leads to a
delayed hold (it ends by itself), to or from anybody without an actor (it may give up by itself), or from an actor that
waits at two places at once (some other task of that name may go on). A cycle may go unseen: beyond
`Limits.deadlock_steps`, and wherever an edge is missing.

Edges appear only when somebody starts to wait (a grant turns an edge to a waiter ahead into one to a holder), so
looking then is enough, and the youngest of the cycle is the one who is told.
"""

from __future__ import annotations

from collections.abc import Iterator

from coordd.machine.state import Lock, Session, State, Waiter

Actor = tuple[int, str]


def find_cycle(state: State, session: Session, actor: str, lock: Lock, mode: str) -> list[dict[str, object]] | None:
    """The cycle that would close if this actor waited for `lock` in `mode`: each entry waits for the next at `path`."""
    if not any(hold.actor == actor for hold in session.holds.values()):
        return None  # nobody can wait for an actor that holds nothing
    start = (session.id, actor)
    if _shuts_out(lock, mode) and any((hold.session, hold.actor) == start for hold in lock.holders.values()):
        return [_entry(start, lock)]
    if any(waiter.actor == actor for waiter in session.waiters.values()):
        return None
    return _Search(state, start).run(lock, mode)


class _Search:
    """One walk over the graph, depth first; `came_from` says who waits for an actor, and at which lock."""

    def __init__(self, state: State, start: Actor) -> None:
        self.state = state
        self.start = start
        self.came_from: dict[Actor, tuple[Actor, Lock]] = {}
        self.waiting: dict[int, dict[str, Waiter | None]] = {}  # per session: an actor's only waiter; None: it has more
        self.steps = state.limits.deadlock_steps

    def run(self, lock: Lock, mode: str) -> list[dict[str, object]] | None:
        pending: list[tuple[Actor, Lock, str, Waiter | None]] = [(self.start, lock, mode, None)]
        while pending:
            waiting, at, wanted, place = pending.pop()
            # What those ahead wait for, this one waits for too, except where an exclusive request keeps a shared one
            # from its shared co-holders. So of those ahead one is followed at most, and a long queue costs little.
            follow_ahead = not _shuts_out(at, wanted)
            for blocker, ahead in _blockers(at, wanted, place):
                self.steps -= 1
                if self.steps < 0:
                    return None
                if blocker == self.start:
                    return self.cycle(waiting, at)
                if blocker in self.came_from:
                    continue
                self.came_from[blocker] = (waiting, at)
                if ahead is not None and not (follow_ahead and ahead.mode == "exclusive"):
                    continue
                waiter = self.only_waiter(blocker)
                if waiter is not None:
                    follow_ahead = follow_ahead and ahead is None
                    pending.append((blocker, waiter.lock, waiter.mode, waiter))
        return None

    def only_waiter(self, actor: Actor) -> Waiter | None:
        """Where the actor waits, if it waits at exactly one place."""
        session, name = actor
        known = self.waiting.get(session)
        if known is None:
            known = self.waiting[session] = {}
            waiters = self.state.sessions[session].waiters
            self.steps -= len(waiters)
            for waiter in waiters.values():
                known[waiter.actor] = None if waiter.actor in known else waiter
        return known.get(name)

    def cycle(self, last: Actor, at: Lock) -> list[dict[str, object]]:
        entries = [_entry(last, at)]
        while last != self.start:
            last, at = self.came_from[last]
            entries.append(_entry(last, at))
        entries.reverse()
        return entries


def _shuts_out(lock: Lock, mode: str) -> bool:
    return lock.mode != "shared" or mode != "shared"


def _blockers(lock: Lock, mode: str, place: Waiter | None) -> Iterator[tuple[Actor, Waiter | None]]:
    """Who must leave before this request can be granted: holders, then those ahead of `place` (None: of the end)."""
    if _shuts_out(lock, mode):
        for hold in lock.holders.values():
            if hold.actor and not hold.delayed:
                yield (hold.session, hold.actor), None
    for waiter in lock.waiters.values():
        if waiter is place:
            return
        if waiter.actor:
            yield (waiter.session, waiter.actor), waiter


def _entry(actor: Actor, lock: Lock) -> dict[str, object]:
    return {"session": actor[0], "actor": actor[1], "path": lock.node.path}
