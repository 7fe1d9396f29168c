"""Bugs of "each call once", and of what a client is told."""

from __future__ import annotations

from typing import Any

from coordclient.calls import Calls
from coordd.engine.doors import Doors
from coordd.engine.mastership import Mastership
from coordd.engine.pending import Pending
from coordd.machine import calls as calls_module
from coordd.machine import machine as machine_module
from coordd.machine.machine import Machine
from coordd.machine.state import Applied
from tests.simulation.planted import Bug
from tests.simulation.planted.sessions import row


def _nothing_remembered(right: Any) -> Any:
    return lambda session, call, reply: None


def _forgets_one_too_many(right: Any) -> Any:
    def acknowledge(session: Any, acked: int) -> None:
        right(session, acked)
        kept = session.replies.pop(acked, None)
        if kept is not None:
            session.reply_bytes -= kept[1]

    return acknowledge


def _lost_in_the_snapshot(right: Any) -> Any:
    def restore(cls: Any, data: bytes, *rest: Any) -> Any:
        machine = right.__func__(cls, data, *rest)
        for session in machine.state.sessions.values():
            session.replies, session.reply_bytes = {}, 0
        return machine

    return classmethod(restore)


def _old_calls_run(right: Any) -> Any:
    def is_new(session: Any, call: int, bytes_max: int) -> bool:
        answered = call < session.acked and call not in session.holds and call not in session.waiters
        return answered or bool(right(session, call, bytes_max))

    return is_new


def _old_calls_unknown(right: Any) -> Any:
    def recall(self: Any, session: int, call: int, acked: int = 0) -> Any:
        known = right(self, session, call, acked)
        return None if known is calls_module.FORGOTTEN else known

    return recall


def _old_channels_heard(right: Any) -> Any:
    return lambda self, call: False


def _not_done_it_says(right: Any) -> Any:
    def end_reign(self: Any) -> None:
        for holder in self.calls.open.values():
            if isinstance(holder, Pending):
                holder.proposed = False
        right(self)

    return end_reign


def _unseen_not_marked(right: Any) -> Any:
    def cancel(state: Any, session: Any, call: int, principal: str, arguments: Any, woken: Any) -> Any:
        target = arguments["target"]
        if target in session.waiters or target in session.holds:
            return right(state, session, call, principal, arguments, woken)
        return {"did": "nothing"}

    return cancel


def _cancel_leaves_the_hold(right: Any) -> Any:
    def cancel(state: Any, session: Any, call: int, principal: str, arguments: Any, woken: Any) -> Any:
        if arguments["target"] in session.holds:
            return {"did": "nothing"}
        return right(state, session, call, principal, arguments, woken)

    return cancel


def _waiter_forgotten(right: Any) -> Any:
    """A retry of a waiting acquire queues once more, under the same number."""

    def apply(self: Any, operation: str, session_id: int, call: int, *rest: Any) -> Any:
        session = self.state.sessions.get(session_id)
        if operation == "acquire" and session is not None and call in session.waiters:
            waiter = session.waiters.pop(call)
            del waiter.lock.waiters[session_id, call]
            if not waiter.lock.waiters and not waiter.lock.holders:
                del self.state.locks[waiter.lock.node.path]
        return right(self, operation, session_id, call, *rest)

    return apply


def _acked_too_far(right: Any) -> Any:
    return property(lambda self: self.next_number)


def _new_number_for_each_try(right: Any) -> Any:
    def disconnected(self: Any) -> None:
        right(self)
        for call in list(self._pending.values()):
            if call.operation != "acquire":
                del self._pending[call.number]
                self._idle.pop(call.number, None)
                call.number, self.next_number = self.next_number, self.next_number + 1
                self._pending[call.number] = self._idle[call.number] = call

    return disconnected


def _never_ran_it_says(right: Any) -> Any:
    def no_answer(call: Any, why: str) -> Any:
        call.unknown = call.in_flight = False
        return right(call, why)

    return no_answer


def _client_calls() -> Any:
    import coordclient.calls as module

    return module


def _waiters_trimmed(right: Any) -> Any:
    def apply(self: Any, operation: str, session_id: int, call: int, acked: int, *rest: Any) -> Any:
        session = self.state.sessions.get(session_id)
        if session is not None and call in session.waiters and call < max(acked, session.acked):
            return Applied(calls_module.FORGOTTEN)
        return right(self, operation, session_id, call, acked, *rest)

    return apply


BUGS = (
    Bug("waiting call trimmed", "calls", "cell", [(Machine, "_apply", _waiters_trimmed)]),
    Bug("replies not remembered", "calls", "cell", [(calls_module, "remember", _nothing_remembered)]),
    Bug("reply cache off by one", "calls", "cell", [(calls_module, "acknowledge", _forgets_one_too_many)]),
    Bug("reply cache lost in the snapshot", "calls", "cell", [(Machine, "restore", _lost_in_the_snapshot)]),
    Bug(
        "late frames run answered calls again",
        "calls",
        "cell",
        [
            (calls_module, "is_new", _old_calls_run),
            (machine_module.Machine, "recall", _old_calls_unknown),
            (Doors, "is_stale", _old_channels_heard),
        ],
    ),
    Bug("not_master after it was proposed", "calls", "cell", [(Mastership, "_end_reign", _not_done_it_says)]),
    Bug(
        "cancel does not mark unseen calls",
        "calls",
        "cell",
        [row("cancel", _unseen_not_marked), (Doors, "is_stale", _old_channels_heard)],
    ),
    Bug("cancel leaves the hold", "calls", "cell", [row("cancel", _cancel_leaves_the_hold)]),
    Bug(
        "retry of a waiting call goes to the end",
        "calls",
        "cell",
        [(machine_module.Machine, "_apply", _waiter_forgotten)],
    ),
    Bug("client acknowledges what is not answered", "calls", "cell", [(Calls, "acked", _acked_too_far)]),
    Bug("client retries under a new number", "calls", "cell", [(Calls, "disconnected", _new_number_for_each_try)]),
    Bug("client says that nothing was done", "calls", "cell", [(_client_calls(), "_no_answer", _never_ran_it_says)]),
)
