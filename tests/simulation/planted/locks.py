"""Bugs of locks and ephemeral files."""

from __future__ import annotations

import itertools
from typing import Any
from urllib.parse import unquote

from coordclient.aio.keeper import Keeper
from coordd.engine.lessor import Lessor
from coordd.engine.mastership import Mastership
from coordd.machine import deadlock, namespace, snapshot
from coordd.machine import grants as grants_module
from coordd.machine import locks as locks_module
from coordd.machine import sequencer as sequencer_module
from coordd.machine import sessions as sessions_module
from tests.simulation.planted import Bug
from tests.simulation.planted.sessions import row


def _dead_waiters_stay(right: Any) -> Any:
    def end(state: Any, session: Any, expired: bool, woken: Any) -> None:
        session.waiters.clear()
        right(state, session, expired, woken)

    return end


def _delayed_do_not_count(right: Any) -> Any:
    def settle(state: Any, lock: Any, woken: Any) -> None:
        delayed = {key: hold for key, hold in lock.holders.items() if hold.delayed}
        if lock.waiters and len(delayed) == len(lock.holders):
            for key in delayed:
                del lock.holders[key]
        right(state, lock, woken)
        lock.holders.update(delayed)
        if delayed and lock.node.path not in state.locks:
            state.locks[lock.node.path] = lock

    return settle


def _no_delay_after_regain(right: Any) -> Any:
    def regain(self: Any, sessions: Any, waits: Any) -> None:
        right(self, sessions, [(wait, 0) for wait, _ in waits])

    return regain


def _half_the_delay(right: Any) -> Any:
    def watch(self: Any, waits: Any) -> None:
        right(self, [(wait, wait_ms // 2) for wait, wait_ms in waits])

    return watch


def _token_of_the_node(right: Any) -> Any:
    def grant(state: Any, lock: Any, *rest: Any) -> Any:
        before, free = lock.node.lock_generation, not lock.holders
        hold = right(state, lock, *rest)
        if free:
            lock.token = lock.node.lock_generation = before + 1
        return hold

    return grant


def _token_kept(right: Any) -> Any:
    """The token is that of the making of the node, not of the grant."""

    def grant(state: Any, lock: Any, *rest: Any) -> Any:
        hold = right(state, lock, *rest)
        lock.token = lock.node.lock_generation = lock.node.instance
        return hold

    return grant


def _last_comes_first(right: Any) -> Any:
    def settle(state: Any, lock: Any, woken: Any) -> None:
        turned = dict(reversed(lock.waiters.items()))
        lock.waiters.clear()
        lock.waiters.update(turned)
        right(state, lock, woken)

    return settle


def _shared_overtakes(right: Any) -> Any:
    def acquire(state: Any, session: Any, call: int, principal: str, arguments: Any, woken: Any) -> Any:
        lock = state.locks.get(arguments["path"])
        if lock is None or arguments["mode"] != "shared":
            return right(state, session, call, principal, arguments, woken)
        waiters = lock.waiters
        lock.waiters = {}
        try:
            return right(state, session, call, principal, arguments, woken)
        finally:
            lock.waiters = {**waiters, **lock.waiters}

    return acquire


def _nobody_woken(right: Any) -> Any:
    """A cancel or an expiry takes a waiter away and does not look who can be granted now."""

    def cancel(state: Any, session: Any, call: int, principal: str, arguments: Any, woken: Any) -> Any:
        settle = locks_module.settle
        waits = arguments["target"] in session.waiters
        if waits:
            locks_module.settle = lambda state, lock, woken: None
        try:
            return right(state, session, call, principal, arguments, woken)
        finally:
            locks_module.settle = settle

    return cancel


def _deletes_locked(right: Any) -> Any:
    def delete(state: Any, session: Any, call: int, principal: str, arguments: Any, woken: Any) -> Any:
        lock = state.locks.pop(arguments["path"], None)
        try:
            return right(state, session, call, principal, arguments, woken)
        finally:
            if lock is not None:
                state.locks[arguments["path"]] = lock

    return delete


def _ephemerals_stay(right: Any) -> Any:
    return lambda state, node: None


def _always_valid(right: Any) -> Any:
    def check(state: Any, text: str) -> str:
        reason: str = right(state, text)
        return reason if "malformed" in reason else ""

    return check


def _answers_without_its_reign(right: Any) -> Any:
    def look(self: Any) -> None:
        right(self)
        self.lessor.ruling = self.lessor.ruling or bool(self.reign and self._replica.serving)

    return look


def _closes_and_believes(right: Any) -> Any:
    async def close(self: Any) -> None:
        life = self.life
        told = self._on_given_up
        self._on_given_up = lambda hold: None
        over = life.holds.session_over if life is not None else None
        if life is not None:
            life.holds.session_over = lambda reason: []
        try:
            await right(self)
        finally:
            self._on_given_up = told
            if life is not None:
                life.holds.session_over = over

    return close


def _release_is_kept_in_mind(right: Any) -> Any:
    """A release frees the lock, and the session goes on to count it among its own."""

    def release(state: Any, session: Any, call: int, principal: str, arguments: Any, woken: Any) -> Any:
        reply = right(state, session, call, principal, arguments, woken)
        session.client["holds " + arguments["path"]] = ""
        return reply

    return release


def _ends_whoever_holds(right: Any) -> Any:
    """The end of a session frees whatever it counts among its own."""

    def end(state: Any, session: Any, expired: bool, woken: Any) -> None:
        for text in sorted(session.client):
            lock = state.locks.get(text.removeprefix("holds "))
            for owner, call in list(lock.holders) if lock is not None else ():
                if owner != session.id and owner in state.sessions:
                    del lock.holders[owner, call], state.sessions[owner].holds[call]
            if lock is not None:
                locks_module.settle(state, lock, woken)
        right(state, session, expired, woken)

    return end


def _own_counter(right: Any) -> Any:
    counter = itertools.count(1)

    def grant(state: Any, lock: Any, *rest: Any) -> Any:
        free = not lock.holders
        hold = right(state, lock, *rest)
        if free:
            lock.token = lock.node.lock_generation = next(counter)
        return hold

    return grant


def _any_of_the_period(right: Any) -> Any:
    """The sequencer of a holder who has left is good as long as others share the lock."""

    def check(state: Any, text: str) -> str:
        reason: str = right(state, text)
        if reason != "the lock was released or lost":
            return reason
        _, _, path, mode, token, *_ = text.split(":")
        lock = state.locks.get(unquote(path))
        return "" if lock is not None and (lock.mode, str(lock.token)) == (mode, token) else reason

    return check


def _only_holders_block(right: Any) -> Any:
    def blockers(place: Any) -> Any:
        return ((actor, ahead) for actor, ahead in right(place) if ahead is None)

    return blockers


def _all_wait_for_ever(right: Any) -> Any:
    def acquire(state: Any, session: Any, call: int, principal: str, arguments: Any, woken: Any) -> Any:
        return right(state, session, call, principal, {**arguments, "limited": False}, woken)

    return acquire


def _openers_lost(right: Any) -> Any:
    def read_node(state: Any, fields: list[Any]) -> None:
        right(state, [*fields[:-1], None if fields[-1] is None else []])

    return read_node


def _first_opener_counts(right: Any) -> Any:
    def opened(state: Any, session: Any, call: int, principal: str, arguments: Any, woken: Any) -> Any:
        node = state.nodes.get(arguments["path"])
        if node is None or node.openers is None or session.id in node.openers:
            return right(state, session, call, principal, arguments, woken)
        state.revision += 1
        return {"stat": namespace.stat_of(node)}

    return opened


def grants_made(make: Any) -> list[Any]:
    """Patches of both ways to a grant: at once, and out of a queue."""
    return [(locks_module, "grant", make), (grants_module, "grant", make)]


BUGS = (
    Bug(
        "two holders after release and expiry meet",
        "locks",
        "cell",
        [row("release", _release_is_kept_in_mind), (sessions_module, "end_session_locks", _ends_whoever_holds)],
    ),
    Bug("token from a counter of the replica's own", "locks", "cell", grants_made(_own_counter)),
    Bug(
        "shared co-holder's sequencer valid after release",
        "locks",
        "cell",
        [(sequencer_module, "check", _any_of_the_period)],
    ),
    Bug("no queue edges in deadlock detection", "locks", "cell", [(deadlock, "_blockers", _only_holders_block)]),
    Bug("who may give up makes a deadlock", "locks", "cell", [row("acquire", _all_wait_for_ever)]),
    Bug("openers forgotten at fail-over", "locks", "cell", [(snapshot, "_read_node", _openers_lost)]),
    Bug("ephemeral goes with its first session", "locks", "cell", [row("open", _first_opener_counts)]),
    Bug(
        "waiters of a dead session stay", "locks", "cell", [(sessions_module, "end_session_locks", _dead_waiters_stay)]
    ),
    Bug("delayed holds do not count", "locks", "cell", [(locks_module, "settle", _delayed_do_not_count)]),
    Bug("lock-delay skipped after fail-over", "locks", "cell", [(Lessor, "regain", _no_delay_after_regain)]),
    Bug("half the lock-delay", "locks", "cell", [(Lessor, "watch", _half_the_delay)]),
    Bug("token counted per node", "locks", "cell", grants_made(_token_of_the_node)),
    Bug("token of the node's making", "locks", "cell", grants_made(_token_kept)),
    Bug("last waiter granted first", "locks", "cell", [(locks_module, "settle", _last_comes_first)]),
    Bug("shared request overtakes the queue", "locks", "cell", [row("acquire", _shared_overtakes)]),
    Bug("nobody is woken by a cancel", "locks", "cell", [row("cancel", _nobody_woken)]),
    Bug("delete under a held lock", "locks", "cell", [row("delete", _deletes_locked)]),
    Bug("ephemerals stay when their session ends", "locks", "cell", [(sessions_module, "collect", _ephemerals_stay)]),
    Bug("every sequencer is valid", "locks", "cell", [(sequencer_module, "check", _always_valid)]),
    Bug(
        "reads and KeepAlives without the lease",
        "locks",
        "cell",
        [(Mastership, "look_at_lease", _answers_without_its_reign)],
    ),
    Bug("client closes and still believes", "locks", "cell", [(Keeper, "close", _closes_and_believes)]),
)
