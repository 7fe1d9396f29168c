"""Bugs of watches and of the changes that they live on, at the master and in the library; and bugs of transactions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from coordclient.watching import Watching
from coordd.engine import deliveries
from coordd.engine.places import Places
from coordd.engine.resyncs import Resync
from coordd.engine.watches import Watches
from coordd.machine import namespace, transactions
from coordd.machine.machine import Machine
from coordd.machine.shadow import shadow_of
from tests.simulation.planted import Bug

# ---- what has changed ----


def _removals_forgotten(right: Any) -> Any:
    def record(state: Any, node: Any, kind: str, before: Any, after: Any) -> None:
        if kind != "deleted":
            right(state, node, kind, before, after)

    return record


def _lost_in_the_snapshot(right: Any) -> Any:
    def restore(cls: Any, data: bytes, *rest: Any) -> Any:
        machine = right.__func__(cls, data, *rest)
        machine.state.changes.clear()
        machine.state.changes_bytes = 0
        return machine

    return classmethod(restore)


# ---- who is told of it ----


def _registers_at_the_present(right: Any) -> Any:
    """Whoever goes on from a revision misses what came between."""

    def register(self: Any, call: Any, since_ms: int) -> None:
        since = call.arguments["since"]
        if since is not None and self.machine.changes_after <= since <= self.machine.revision:
            call = replace(call, arguments={**call.arguments, "since": self.machine.revision})
        right(self, call, since_ms)

    return register


def _trimmed_is_as_good_as_known(right: Any) -> Any:
    """What is kept no more is passed over in silence."""

    def register(self: Any, call: Any, since_ms: int) -> None:
        since = call.arguments["since"]
        if since is not None and since < self.machine.changes_after:
            call = replace(call, arguments={**call.arguments, "since": self.machine.changes_after})
        right(self, call, since_ms)

    return register


def _one_revision_too_early(right: Any) -> Any:
    def after(self: Any, scope: str, path: str, revision: int) -> Any:
        return right(self, scope, path, max(self.floor, revision - 1))

    return after


def _marked_ahead(right: Any) -> Any:
    """A mark that overtakes events: whoever waits for room is marked like those who have been told everything."""

    def look(self: Any, group: Any, places: Any, looks_max: int, room: int) -> Any:
        looks = right(self, group, places, looks_max, room)
        for watch in list(self._list.watches.values()):
            if watch.held and watch.group is group and watch.line is not None and not watch.line.full:
                self._tell(watch, deliveries.mark(places.upto))
        return looks

    return look


def _cut_anywhere(right: Any) -> Any:
    def events(changes: Any, values: str, upto: int) -> Any:
        made = right(changes, values, upto)
        if made is None or made.events < 2:
            return made
        rows = made.body["events"][:-1]
        return deliveries.Delivery({**made.body, "events": rows}, made.upto, made.size, made.events - 1)

    return events


def _not_looked_at_again(right: Any) -> Any:
    def look_again(self: Any, machine: Any, places: Any) -> None:
        self._seen_upto = places.upto

    return look_again


def _old_values(right: Any) -> Any:
    def row(change: Any, values: str) -> Any:
        return right(change._replace(after=change.before or change.after), values)

    return row


# ---- the library ----


def _goes_on_from_what_was_given(right: Any) -> Any:
    """What was received, and not taken yet, is asked for again."""

    def register(self: Any) -> Any:
        arguments = right(self)
        return arguments if self.revision is None else {**arguments, "since": self.revision}

    return register


def _is_told_too_much(right: Any) -> Any:
    def take(self: Any) -> Any:
        item = right(self)
        if self._queue and item is not None:
            self.revision = self._queue[-1].revision
        return item

    return take


# ---- transactions ----


def _any_guard_will_do(right: Any) -> Any:
    def choose(state: Any, arguments: Any) -> Any:
        held, branch, steps = right(state, arguments)
        return ([True], "then", arguments["then"]) if any(held) and not all(held) else (held, branch, steps)

    return choose


def _not_tried(right: Any) -> Any:
    return lambda state, session, principal, branch, steps: shadow_of(state)


def _reads_before_the_writes(right: Any) -> Any:
    def run(state: Any, session: Any, principal: str, branch: str, steps: Any) -> Any:
        reads = [step for step in steps if step["do"] == "get"]
        if len(reads) in (0, len(steps)):
            return right(state, session, principal, branch, steps)
        order = sorted(range(len(steps)), key=lambda place: steps[place]["do"] != "get")
        results = right(state, session, principal, branch, [steps[place] for place in order])
        return [results[order.index(place)] for place in range(len(steps))]

    return run


def _a_revision_for_each_step(right: Any) -> Any:
    def run(state: Any, session: Any, principal: str, branch: str, steps: Any) -> Any:
        results: list[Any] = []
        for step in steps:
            results += right(state, session, principal, branch, [step])
        return results

    return run


BUGS = (
    Bug("removals are no changes", "watches", "cell", [(namespace, "record", _removals_forgotten)]),
    Bug("changes lost in the snapshot", "watches", "cell", [(Machine, "restore", _lost_in_the_snapshot)]),
    Bug("events lost at fail-over", "watches", "cell", [(Watches, "_register", _registers_at_the_present)]),
    Bug("trimmed changes passed over", "watches", "cell", [(Watches, "_register", _trimmed_is_as_good_as_known)]),
    Bug("events twice", "watches", "cell", [(Places, "after", _one_revision_too_early)]),
    Bug("mark overtakes events", "watches", "cell", [(Watches, "_look", _marked_ahead)]),
    Bug("a revision told by half", "watches", "cell", [(deliveries, "events", _cut_anywhere)]),
    Bug("resync of no one revision", "watches", "cell", [(Resync, "_look_again", _not_looked_at_again)]),
    Bug("events with the old value", "watches", "cell", [(deliveries, "_row", _old_values)]),
    Bug("client asks again for what it has", "watches", "cell", [(Watching, "register", _goes_on_from_what_was_given)]),
    Bug("client is further than it has told", "watches", "cell", [(Watching, "take", _is_told_too_much)]),
    Bug("one guard that holds is enough", "txn", "cell", [(transactions, "choose", _any_guard_will_do)]),
    Bug("half of a transaction is done", "txn", "cell", [(transactions, "attempt", _not_tried)]),
    Bug(
        "reads in a transaction see what was before", "txn", "cell", [(transactions, "_run", _reads_before_the_writes)]
    ),
    Bug("each step has a revision of its own", "txn", "cell", [(transactions, "_run", _a_revision_for_each_step)]),
)
