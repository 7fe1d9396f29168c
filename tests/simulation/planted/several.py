"""Bugs of semaphores, of several locks at once, of guarded writes and of what is told of losses."""

from __future__ import annotations

from typing import Any

from coordclient.protocol.errors import Refusal
from coordd.engine.effects import Reply
from coordd.engine.mastership import Mastership
from coordd.machine import locks as locks_module
from coordd.machine import namespace, snapshot
from coordd.machine import several as several_module
from tests.simulation.planted import Bug
from tests.simulation.planted.sessions import row


def _everywhere(name: str, make: Any) -> list[tuple[Any, str, Any]]:
    """One function, wherever it was imported to."""
    return [(module, name, make) for module in (locks_module, several_module)]


def _delayed_have_no_permit(right: Any) -> Any:
    def has_room(state: Any, lock: Any, mode: str, permits: int) -> bool:
        if mode == lock.mode == "semaphore" and permits == lock.permits:
            return sum(not hold.delayed for hold in lock.holders.values()) < permits
        return bool(right(state, lock, mode, permits))

    return has_room


def _one_permit_more(right: Any) -> Any:
    def has_room(state: Any, lock: Any, mode: str, permits: int) -> bool:
        return bool(right(state, lock, mode, permits)) or (
            mode == lock.mode == "semaphore" and permits == lock.permits == len(lock.holders)
        )

    return has_room


def _any_number_of_permits(right: Any) -> Any:
    def has_room(state: Any, lock: Any, mode: str, permits: int) -> bool:
        return bool(right(state, lock, mode, lock.permits if mode == lock.mode == "semaphore" else permits))

    return has_room


def _past_the_queue(paths: Any) -> Any:
    """An acquire for which `paths` names paths does not look at who waits there."""

    def make(right: Any) -> Any:
        def acquire(state: Any, session: Any, call: int, principal: str, arguments: Any, woken: Any) -> Any:
            found = [lock for path in paths(arguments) if (lock := state.locks.get(path)) is not None]
            waiting = [(lock, lock.waiters) for lock in found]
            for lock in found:
                lock.waiters = {}
            try:
                return right(state, session, call, principal, arguments, woken)
            finally:
                for lock, waiters in waiting:
                    lock.waiters = {**waiters, **lock.waiters}

        return acquire

    return make


def _of_semaphores(arguments: Any) -> list[str]:
    return [arguments["path"]] if arguments["mode"] == "semaphore" else []


def _of_several(arguments: Any) -> list[str]:
    return [one["path"] for one in arguments["locks"]]


def _first_part_decides(right: Any) -> Any:
    def has_its_turn(state: Any, place: Any) -> bool:
        return place.part > 1 or bool(right(state, place))

    return has_its_turn


def _others_forgotten(right: Any) -> Any:
    def go_along(state: Any, lock: Any, woken: Any, pending: Any) -> None:
        right(state, lock, woken, [])

    return go_along


def _only_its_first_part(right: Any) -> Any:
    return lambda hold: [hold]


def _nothing(right: Any) -> Any:
    return lambda *arguments: None


def _guard_at_the_door(right: Any) -> Any:
    def on_write(self: Any, call: Any, since_ms: int, sure: bool) -> None:
        sequencer = call.arguments.get("if_sequencer")
        if sequencer and sure:
            answer = self.machine.query("check_sequencer", {"sequencer": sequencer, "stale": False})
            if not answer["valid"]:
                self.replies.append(Reply(call.request, Refusal("guard_failed", "not valid", reason=answer["reason"])))
                return
        right(self, call, since_ms, sure)

    return on_write


def _newest_loss_only(right: Any) -> Any:
    """A snapshot keeps the newest loss of each path; so say all replicas."""

    def describe(state: Any, path: str) -> list[Any]:
        return [path, state.losses[path][-1:]]

    return describe


BUGS = (
    Bug("delayed holds have no permit", "semaphores", "cell", _everywhere("has_room", _delayed_have_no_permit)),
    Bug("one permit too many", "semaphores", "cell", _everywhere("has_room", _one_permit_more)),
    Bug("any number of permits joins", "semaphores", "cell", _everywhere("has_room", _any_number_of_permits)),
    Bug("semaphore overtakes the queue", "semaphores", "cell", [row("acquire", _past_the_queue(_of_semaphores))]),
    Bug("several overtake the queues", "several", "cell", [row("acquire_all", _past_the_queue(_of_several))]),
    Bug(
        "several granted when their first part is free",
        "several",
        "cell",
        [(locks_module, "_has_its_turn", _first_part_decides)],
    ),
    Bug("the other queues of several forgotten", "several", "cell", [(locks_module, "_go_along", _others_forgotten)]),
    Bug(
        "release of several frees the first part", "several", "cell", [(locks_module, "parts_of", _only_its_first_part)]
    ),
    Bug(
        "guard checked at the door and not in apply",
        "guards",
        "cell",
        [(namespace, "guard", _nothing), (Mastership, "_on_write", _guard_at_the_door)],
    ),
    Bug("snapshot forgets losses", "losses", "cell", [(snapshot, "describe_losses", _newest_loss_only)]),
)
