"""What a master's books of caches must say of each other at any time, whatever has happened."""

from __future__ import annotations

from collections import Counter
from itertools import chain

from coordd.engine.caches import Caches, Queue
from coordd.engine.caching import Decision
from coordd.engine.engine import Engine
from coordd.engine.reads import WaitingCall
from coordd.engine.visibility import Visibility


def check_books(engine: Engine) -> None:
    """Who holds what, who owes what, what is marked, and what waits; each is written in two places."""
    mastership = engine._mastership
    caching, calls = mastership.caching, mastership.calls
    caches = caching.caches
    queues = [*caches.queues.values(), *chain.from_iterable(caches._ended.values())]
    _check_holders(caches, queues)
    waits = chain.from_iterable(chain.from_iterable(queue.waits.values()) for queue in queues)
    waiting = [wait.then for wait in {id(wait): wait for wait in (*waits, *caches.ready)}.values()]
    kinds = Counter(map(type, waiting))
    assert caching._held == kinds[WaitingCall], "changes that wait are counted"
    assert caching.view._veils == kinds[Visibility], "every veil waits for somebody"
    marks = Counter(chain.from_iterable(caches._marked.values()))
    assert marks == caches._marks
    entries = list(chain.from_iterable(batch.entries for batch in calls.proposed.values()))
    decisions = [decision.entry for decision in (*caching._decisions, *caching._decided)]
    assert {type(then) for then in waiting} <= {WaitingCall, Visibility, Decision, type(None)}
    under_way = {id(owner) for owner in (*calls.queue, *calls.open.values(), *waiting, *entries)}
    for owner in caches._marked:
        assert id(owner) in under_way or owner in (*entries, *decisions), f"the mark of {owner} was left behind"


def _check_holders(caches: Caches, queues: list[Queue]) -> None:
    assert caches._total == sum(map(len, caches._holders.values())) <= caches._total_max
    for path, holders in caches._holders.items():
        assert holders and all(queue in queues for queue in holders), f"{path} is held by a queue that is over"
    for queue in queues:
        assert queue.owing == sum(len(paths) for _, paths in queue.owed)
        assert (queue in caches._waited) == bool(queue.waits)
        assert all(caches._holders[path][queue] == 0 for path in queue.keys)
        for _, paths in queue.owed:
            assert all(queue in caches._holders[path] for path in paths), "what is owed is held"
