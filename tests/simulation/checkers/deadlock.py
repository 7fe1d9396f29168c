"""Deadlocks are seen and never invented: another look at who waits for whom, plain and without short cuts."""

from __future__ import annotations

from collections.abc import Iterator

from coordclient.protocol.errors import Refusal
from coordd.machine.machine import Machine
from coordd.machine.state import Lock, State, Waiter
from tests.simulation.checkers.story import ACQUIRES, Ask, Key
from tests.simulation.checkers.witness import Done, StateChecker
from tests.simulation.world import World

Actor = tuple[int, str]


class Deadlocks(StateChecker):
    """An acquire that begins to wait closes no cycle of actors; one that is refused as a deadlock would have."""

    name = "deadlock"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._told: set[tuple[int, int]] = set()  # session, call; by then it may be over, and a retry is told the same

    def done(self, command: Done, machine: Machine) -> None:
        actor = command.arguments["actor"] if command.operation in ACQUIRES else ""
        if not actor or not command.arguments["wait"]:
            return
        if command.arguments["limited"]:
            if isinstance(command.reply, Refusal) and command.reply.code == "deadlock":
                raise self.broken(f"{(command.session, actor)} waits for a limited time and is told of a deadlock")
            return
        refused = isinstance(command.reply, Refusal) and command.reply.code == "deadlock"
        if not refused and not (command.reply is None and command.changed):
            return
        ask = Ask.of(command.operation, command.arguments)
        closes = _closes_a_cycle(machine.state, (command.session, actor), ask, command.call)
        if closes and not refused:
            raise self.broken(f"{(command.session, actor)} waits for {ask.parts}, and for itself")
        if refused and not closes and (command.session, command.call) not in self._told:
            raise self.broken(f"{(command.session, actor)} is told of a deadlock, and there is none: {command.reply!r}")
        if refused:
            self._told.add((command.session, command.call))


def _closes_a_cycle(state: State, me: Actor, ask: Ask, call: int) -> bool:
    """Would `me` wait for itself, if it asked for this behind everybody who waits there but itself?"""
    here = [(state.locks[path], mode) for path, mode, _ in ask.parts if path in state.locks]
    holders = {actor for lock, mode in here for actor in _holders(lock, mode)}
    others = [waiter for waiter in state.sessions[me[0]].waiters.values() if waiter.actor == me[1]]
    if any(waiter.call != call for waiter in others):  # it waits elsewhere too: then only what it holds here itself is
        return me in holders  # surely never released
    reached = set(holders)
    for lock, _ in here:
        reached.update(_ahead(lock, (me[0], call)))
    pending = sorted(reached)
    while pending:
        for other in _waits_for(state, pending.pop()):
            if other not in reached:
                reached.add(other)
                pending.append(other)
    return me in reached


def _waits_for(state: State, actor: Actor) -> Iterator[Actor]:
    """Nobody, if it waits in more calls than one, as some other task of that name may go on, or for a limited time."""
    waiters = [waiter for waiter in state.sessions[actor[0]].waiters.values() if waiter.actor == actor[1]]
    if len(waiters) == 1 and not waiters[0].limited:
        places: list[Waiter] = waiters[0].group or waiters
        for place in places:
            yield from _holders(place.lock, place.mode)
            yield from _ahead(place.lock, (place.session, place.call))


def _holders(lock: Lock, mode: str) -> Iterator[Actor]:
    """All of whom must leave; only those who say who they are, and do not leave by themselves."""
    if lock.mode == mode == "shared" or (lock.mode == mode == "semaphore" and lock.permits > 1):
        return
    for hold in lock.holders.values():
        if hold.actor and not hold.delayed and not hold.revoked:
            yield hold.session, hold.actor


def _ahead(lock: Lock, place: Key) -> Iterator[Actor]:
    """Everybody ahead of that place, or, where it is not in the queue, everybody."""
    for key, waiter in lock.waiters.items():
        if key == place:
            return
        if waiter.actor and not waiter.limited:
            yield waiter.session, waiter.actor
