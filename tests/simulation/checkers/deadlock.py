"""Deadlocks are seen and never invented: another look at who waits for whom, plain and without short cuts."""

from __future__ import annotations

from collections.abc import Iterator

from coordclient.protocol.errors import Refusal
from coordd.machine.machine import Machine
from coordd.machine.state import Lock, State
from tests.simulation.checkers.witness import Done, StateChecker

Actor = tuple[int, str]


class Deadlocks(StateChecker):
    """An acquire that begins to wait closes no cycle of actors; one that is refused as a deadlock would have."""

    name = "deadlock"

    def done(self, command: Done, machine: Machine) -> None:
        actor = command.arguments["actor"] if command.operation == "acquire" else ""
        if not actor or not command.arguments["wait"]:
            return
        refused = isinstance(command.reply, Refusal) and command.reply.code == "deadlock"
        if not refused and not (command.reply is None and command.changed):
            return
        state, me = machine.state, (command.session, actor)
        lock = state.locks[command.arguments["path"]]
        closes = _closes_a_cycle(state, me, lock, command.arguments["mode"], command.call)
        if closes and not refused:
            raise self.broken(f"{me} waits for {lock.node.path}, and for itself: {list(lock.waiters)}")
        if refused and not closes:
            raise self.broken(f"{me} is told of a deadlock at {lock.node.path}, and there is none: {command.reply!r}")


def _closes_a_cycle(state: State, me: Actor, lock: Lock, mode: str, call: int) -> bool:
    """Would `me` wait for itself, if it asked for `lock` in `mode` behind everybody who waits there but itself?"""
    ahead = [key for key in lock.waiters if key != (me[0], call)]
    reached = set(_blockers(lock, mode, ahead))
    own = [waiter for waiter in state.sessions[me[0]].waiters.values() if waiter.actor == me[1] and waiter.call != call]
    if own:  # it waits elsewhere too: then only what it holds here itself is surely never released
        return me in set(_blockers(lock, mode, []))
    pending = sorted(reached)
    while pending:
        for other in _waits_for(state, pending.pop()):
            if other not in reached:
                reached.add(other)
                pending.append(other)
    return me in reached


def _waits_for(state: State, actor: Actor) -> Iterator[Actor]:
    """Nobody, if it waits at more places than one: some other task of that name may go on."""
    waiters = [waiter for waiter in state.sessions[actor[0]].waiters.values() if waiter.actor == actor[1]]
    if len(waiters) == 1:
        waiter = waiters[0]
        keys = list(waiter.lock.waiters)
        yield from _blockers(waiter.lock, waiter.mode, keys[: keys.index((waiter.session, waiter.call))])


def _blockers(lock: Lock, mode: str, ahead: list[tuple[int, int]]) -> Iterator[Actor]:
    """The holders whose mode shuts a request out, and everybody ahead of it; only those who say who they are."""
    if not lock.mode == mode == "shared":
        for hold in lock.holders.values():
            if hold.actor and not hold.delayed:
                yield hold.session, hold.actor
    for key in ahead:
        if lock.waiters[key].actor:
            yield key[0], lock.waiters[key].actor
