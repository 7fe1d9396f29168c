"""Cycles of actors that wait for each other. An actor is `(session, actor)`: the task or thread that asked.

A waiting actor waits for every holder whose mode shuts it out and for everyone ahead of it in the queue: each of these
must leave before it can go on, so a cycle of such edges never resolves by itself. Who waits for several locks waits for
all these at each of them. Never invented: no edge leads to a delayed or revoked hold (it ends by itself), from a
request for a semaphore to one of several who hold it (any other may leave), to or from anybody without an actor, or who
waits for a limited time (it may give up by itself), or from an actor that waits in two calls at once (some other task
of that name may go on). A cycle may go unseen: beyond `Limits.deadlock_steps`, and wherever an edge is missing.

A cycle is closed only when somebody starts to wait, so looking then is enough, and the youngest of the cycle is the one
who is told. A grant turns an edge to a waiter ahead into one to a holder; that of a limited wait makes new ones, to
somebody who waits no more, and so does a transfer, which lets a waiter pass others: neither closes a cycle.
"""

from __future__ import annotations

from collections.abc import Iterator

from coordd.machine.grants import parts_of
from coordd.machine.state import Lock, Session, State, Waiter

Actor = tuple[int, str]


def find_cycle(state: State, session: Session, places: list[Waiter]) -> list[dict[str, object]] | None:
    """The cycle that would close if `places`, all of one request, went to the ends of their queues.

    Each entry waits for the next at `path`.
    """
    if not session.holds:
        return None  # nobody can wait for an actor that holds nothing
    actor = places[0].actor
    firsts = (hold for hold in session.holds.values() if hold.actor == actor)
    own = {part.lock for first in firsts for part in parts_of(first) if not part.revoked}
    if not own:
        return None
    start = (session.id, actor)
    for place in places:
        if place.lock in own and _waits_for_holders(place):
            return [_entry(start, place.lock)]
    if any(waiter.actor == actor for waiter in session.waiters.values()):
        return None
    return _Search(state, start).run(places)


def in_words(cycle: list[dict[str, object]]) -> str:
    """Why that wait has no end, for the message of the refusal; of a long cycle the beginning."""
    if len(cycle) == 1:
        return "who asks for it holds it"
    waits = [f"{entry['actor']} of session {entry['session']} for {entry['path']}" for entry in cycle[:3]]
    return f"in a cycle of {len(cycle)} each waits for the next: {', '.join(waits)}{', ...' if len(cycle) > 3 else ''}"


class _Search:
    """One walk over the graph, depth first; `came_from` says who waits for an actor, and at which lock."""

    def __init__(self, state: State, start: Actor) -> None:
        self.state = state
        self.start = start
        self.came_from: dict[Actor, tuple[Actor, Lock]] = {}
        self.waiting: dict[int, dict[str, Waiter | None]] = {}  # per session: an actor's only waiter; None: it has more
        self.steps = state.limits.deadlock_steps

    def run(self, places: list[Waiter]) -> list[dict[str, object]] | None:
        pending = [(self.start, place) for place in places]
        while pending:
            waiting, place = pending.pop()
            at = place.lock
            # What those ahead wait for, this one waits for too, except where they wait for holders that it goes with,
            # or at other locks. So of those ahead that are here alone one is followed at most, and a long queue costs
            # little.
            follow_ahead = not _waits_for_holders(place)
            for blocker, ahead in _blockers(place):
                self.steps -= 1
                if self.steps < 0:
                    return None
                if blocker is None:
                    continue
                if blocker == self.start:
                    return self.cycle(waiting, at)
                if blocker in self.came_from:
                    continue
                self.came_from[blocker] = (waiting, at)
                needed = ahead is None or ahead.group is not None
                if ahead is not None and not needed and not (follow_ahead and _waits_for_holders(ahead)):
                    continue
                waiter = self.only_waiter(blocker)
                if waiter is not None:
                    follow_ahead = follow_ahead and needed
                    pending += [(blocker, other) for other in places_of(waiter)]
        return None

    def only_waiter(self, actor: Actor) -> Waiter | None:
        """The request of the actor, if it waits in exactly one call, and for ever."""
        session, name = actor
        known = self.waiting.get(session)
        if known is None:
            known = self.waiting[session] = {}
            waiters = self.state.sessions[session].waiters
            self.steps -= len(waiters)
            for waiter in waiters.values():
                known[waiter.actor] = None if waiter.actor in known or waiter.limited else waiter
        return known.get(name)

    def cycle(self, last: Actor, at: Lock) -> list[dict[str, object]]:
        entries = [_entry(last, at)]
        while last != self.start:
            last, at = self.came_from[last]
            entries.append(_entry(last, at))
        entries.reverse()
        return entries


def places_of(waiter: Waiter) -> list[Waiter]:
    """All places of the same request."""
    return [waiter] if waiter.group is None else waiter.group


def _waits_for_holders(place: Waiter) -> bool:
    """Whether each of those who hold the lock now must leave before this request can be granted.

    A request for a semaphore of another number of permits waits for none of them: it is refused in its turn.
    """
    lock = place.lock
    if place.mode == "semaphore" == lock.mode:
        return place.permits == lock.permits == 1
    return place.mode != "shared" or lock.mode != "shared"


def _blockers(place: Waiter) -> Iterator[tuple[Actor | None, Waiter | None]]:
    """Who must leave before this place can be granted: holders, then those ahead of it (all, where it is not there).

    None stands for one to whom no edge leads: it is looked at all the same, and so it counts.
    """
    if _waits_for_holders(place):
        for hold in place.lock.holders.values():
            seen = hold.actor and not hold.delayed and not hold.revoked
            yield (hold.session, hold.actor) if seen else None, None
    for waiter in place.lock.waiters.values():
        if waiter is place:
            return
        yield (waiter.session, waiter.actor) if waiter.actor and not waiter.limited else None, waiter


def _entry(actor: Actor, lock: Lock) -> dict[str, object]:
    return {"session": actor[0], "actor": actor[1], "path": lock.node.path}
