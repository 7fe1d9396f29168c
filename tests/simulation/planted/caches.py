"""Bugs of the consistent cache: each breaks one of its rules (their numbers are the design's)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from coordclient.aio.cache import Cache
from coordclient.cached import Cached
from coordd.engine import caching as caching_module
from coordd.engine.caches import Caches
from coordd.engine.caching import Caching
from coordd.engine.reads import WaitingCall
from coordd.engine.visibility import Visibility
from coordd.engine.watches import Watches
from coordd.machine import touches
from coordd.paxos.caching import CacheLeases
from coordd.paxos.lease import Grants
from tests.simulation.planted import Bug

LONG_NS = 3_000_000_000


# ---- 1: masterships ----


def _nothing_to_wait_for(right: Any) -> Any:
    return lambda self, until_ms: None


def _grant_says_nothing(right: Any) -> Any:
    return lambda self, now_ms: 0


def _hands_over_without_a_word(right: Any) -> Any:
    return lambda self, now_ms: False


# ---- 2: the lease ----


def _beyond_the_master_lease(right: Any) -> Any:
    return property(lambda self: right.fget(self) + 1_000 if right.fget(self) else 0)


def _believed_too_long(right: Any) -> Any:
    def granted(self: Any, *arguments: Any) -> None:
        right(self, *arguments)
        first, wall = self.lease.ends
        if first:
            self.lease.ends = (first + LONG_NS, wall + LONG_NS)

    return granted


# ---- 3: what may be kept ----


def _kept_while_it_changes(right: Any) -> Any:
    return lambda self, change, paths: self._marked.setdefault(change, ())


# ---- 4: one queue ----


def _overtaken_answers_kept(right: Any) -> Any:
    def fill(self: Any, table: str, path: str, value: Any, size: int, number: int, generation: int) -> Any:
        return right(self, table, path, value, size, 2**60, generation)

    return fill


# ---- 5: who owes, and other epochs ----


def _renewed_though_it_owes(right: Any) -> Any:
    def lease(self: Any, queue: Any, until_ms: int) -> bool:
        owed, queue.owed = queue.owed, ()
        try:
            return bool(right(self, queue, until_ms))
        finally:
            queue.owed = owed

    return lease


def _keeps_over_masters(right: Any) -> Any:
    def stop(self: Any) -> None:
        self.held.drop, drop = (lambda: None), self.held.drop
        try:
            right(self)
        finally:
            self.held.drop = drop

    return stop


def _goes_on_in_a_new_epoch(right: Any) -> Any:
    def opened(self: Any, epoch: int) -> None:
        self._epoch = epoch

    return opened


# ---- 6: what ends a wait ----


def _gone_is_acknowledged(right: Any) -> Any:
    return lambda self, queue: self._forget(queue)


def _writer_not_asked(right: Any) -> Any:
    def ask(self: Any, paths: Any, then: Any) -> Any:
        own = self.queues.get(then.call.session) if isinstance(then, WaitingCall) else None
        if own is not None:
            for path in [path for path in paths if self._holders.get(path, {}).get(own) == 0]:
                own.keys.pop(path)
                self._drop(path, own)
        return right(self, paths, then)

    return ask


# ---- 7: which paths ----


def _not_awaited(right: Any) -> Any:
    def ask(self: Any, paths: Any, then: Any) -> None:
        wait = right(self, paths, then)
        if wait is not None:
            for queue in list(self._waited):
                left = ((number, [one for one in waits if one is not wait]) for number, waits in queue.waits.items())
                queue.waits = {number: waits for number, waits in left if waits}
                if not queue.waits:
                    del self._waited[queue]

    return ask


def _no_look_when_applied(right: Any) -> Any:
    return lambda self, machine: self.view.results(self._replies)


def _no_path_foreseen(right: Any) -> Any:
    return lambda self, machine, operation, session, arguments, principal: frozenset()


def _only_itself(right: Any) -> Any:
    return lambda keys: frozenset(path for _, path in keys)


def _hides_nothing(right: Any) -> Any:
    return lambda self: None


def _told_under_a_veil(right: Any) -> Any:
    def work(self: Any, now_ms: int, ruling: bool) -> bool:
        caching, self._caching = self._caching, SimpleNamespace(view=SimpleNamespace(clear=True))
        try:
            return bool(right(self, now_ms, ruling))
        finally:
            self._caching = caching

    return work


# ---- 8: locks ----


def _locks_and_all(right: Any) -> Any:
    return lambda result: result


def _changes_its_node(right: Any) -> Any:
    def of_acquire(state: Any, session: Any, arguments: Any) -> Any:
        return right["acquire"](state, session, arguments) | {("node", arguments["path"])}

    return {**right, "acquire": of_acquire}


# Rule 7 has two looks. The second makes up for all that the first one misses, and for a refill too: without the first
# alone everybody waits longer and no promise is broken, so it is taken away together with the second.
BUGS = (
    Bug("new master waits for no cache", "caches", "cell", [(CacheLeases, "wait_for", _nothing_to_wait_for)]),
    Bug("promise forgets cache leases", "caches", "cell", [(Grants, "cached_ms", _grant_says_nothing)]),
    Bug(
        "hand-over forgets cache leases",
        "caches",
        "cell",
        [(CacheLeases, "may_be_out", _hands_over_without_a_word)],
    ),
    Bug(
        "cache lease longer than the master's", "caches", "cell", [(CacheLeases, "until_ms", _beyond_the_master_lease)]
    ),
    Bug("client believes after its cache lease", "caches", "cell", [(Cached, "granted", _believed_too_long)]),
    Bug(
        "refill while a write is pending",
        "caches",
        "cell",
        [(Caches, "mark", _kept_while_it_changes), (Caching, "applied", _no_look_when_applied)],
    ),
    Bug("overtaken answer is kept", "caches", "cell", [(Cached, "fill", _overtaken_answers_kept)]),
    Bug("cache lease for one who owes", "caches", "cell", [(Caches, "lease", _renewed_though_it_owes)]),
    Bug(
        "cache kept over masters",
        "caches",
        "cell",
        [(Cache, "_stop", _keeps_over_masters), (Cached, "open", _goes_on_in_a_new_epoch)],
    ),
    Bug("broken channel taken for an acknowledgement", "caches", "cell", [(Caches, "_end", _gone_is_acknowledged)]),
    Bug("writer's own cache is not asked", "caches", "cell", [(Caches, "ask", _writer_not_asked)]),
    Bug("invalidation not awaited", "caches", "cell", [(Caches, "ask", _not_awaited)]),
    Bug(
        "no path foreseen, none found when applied",
        "caches",
        "cell",
        [(Caching, "touched", _no_path_foreseen), (Caching, "applied", _no_look_when_applied)],
    ),
    Bug("parents are not asked", "caches", "cell", [(caching_module, "paths_of", _only_itself)]),
    Bug("no look when applied", "caches", "cell", [(Caching, "applied", _no_look_when_applied)]),
    Bug(
        "veil hides nothing",
        "caches",
        "cell",
        [(Visibility, "veil", _hides_nothing), (Visibility, "lift", _hides_nothing)],
    ),
    Bug("watchers are told under a veil", "caches", "cell", [(Watches, "work", _told_under_a_veil)]),
    Bug("state of locks is kept", "caches", "cell", [(caching_module, "_without_locks", _locks_and_all)]),
    Bug("lock asks caches", "caches", "cell", [(touches, "_FINDERS", _changes_its_node)]),
)
