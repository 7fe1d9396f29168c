"""The replicated state machine of a cell: batches of commands go in, replies and wakings come out, that is all.

Deterministic: the same batches give the same state, replies, snapshot bytes and digest on every replica, also on one
that was restored from a snapshot on the way. It reads no clock and draws no chance: wall-clock times and random values
come with the commands. A refusal is a value, and a refused command changes nothing but what its session remembers.

`HANDLERS` is the whole list of what can be logged. A command that it does not have was written by a newer build: then
the replica stops (AssertionError), because guessing would make replicas differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coordclient.protocol.errors import Refusal
from coordd.machine import (
    calls,
    changes,
    grants,
    history,
    locks,
    namespace,
    reading,
    revoking,
    sequencer,
    sessions,
    several,
    snapshot,
    touches,
    transactions,
    views,
)
from coordd.machine.commands import decode_batch_fields
from coordd.machine.limits import CALL_WINDOW, LIMITS, Limits
from coordd.machine.state import Applied, Arguments, Change, Reply, Session, State, Woken

__all__ = ["CALL_WINDOW", "LIMITS", "Applied", "Change", "Limits", "Machine", "Reply", "Session", "Woken"]

Handler = Callable[[State, Session | None, int, str, Arguments, list[Woken]], dict[str, object] | None]


@dataclass(frozen=True, slots=True)
class Row:
    """How one logged operation is applied.

    `remembered`: its reply is kept; a grant is kept by its hold instead. `from_mute`: a session that was killed, or
    whose process has said goodbye, may do it too: it only gives back.
    """

    handler: Handler
    needs_session: bool
    remembered: bool = True
    from_mute: bool = False


HANDLERS: Mapping[str, Row] = {
    "open_session": Row(sessions.open_session, False),
    "close_session": Row(sessions.close_session, True, remembered=False, from_mute=True),
    "leave_session": Row(sessions.leave_session, True, from_mute=True),
    "resume_session": Row(sessions.resume_session, False),
    "kill_session": Row(sessions.kill_session, False),
    "acknowledge_kill": Row(sessions.acknowledge_kill, True, remembered=False, from_mute=True),
    "put": Row(namespace.put, False),
    "create": Row(namespace.create, False),
    "open": Row(namespace.open_node, True),
    "close": Row(namespace.close_node, True, from_mute=True),
    "mkdir": Row(namespace.mkdir, False),
    "delete": Row(namespace.delete, False),
    "txn": Row(transactions.txn, False),
    "acquire": Row(locks.acquire, True, remembered=False),
    "acquire_all": Row(several.acquire_all, True, remembered=False),
    "release": Row(locks.release, True, from_mute=True),
    "cancel": Row(locks.cancel, True, from_mute=True),
    "transfer": Row(revoking.transfer, True),
    "unlock": Row(revoking.unlock, False),
    "give_up": Row(revoking.give_up, True, from_mute=True),
    "expire_session": Row(sessions.expire_session, False),
    "end_lock_delay": Row(revoking.end_lock_delay, False),
    "end_revoked": Row(revoking.end_revoked, False),
    "set_sequencer_key": Row(sessions.set_sequencer_key, False),
}

_EXPIRED = Refusal("session_expired", "the session has ended, or never was")
_REQUIRED = Refusal("session_required", "this operation needs a session")


class Machine:
    """One replica's copy of the state. Whoever owns it calls it from one task."""

    __slots__ = ("state",)

    def __init__(self, cell: str, limits: Limits = LIMITS) -> None:
        self.state = State(cell, limits)

    # ---- the log ----

    def apply_batch(self, slot: int, payload: bytes) -> list[Applied]:
        """Applies the batch chosen for `slot`, the one after `applied_upto`: one answer per command, in order."""
        wall_ms, commands = decode_batch_fields(payload)
        self._advance(slot)
        self.state.wall_ms = wall_ms
        applied = [self._apply(*fields) for fields in commands]
        changes.trim(self.state)
        history.extend(self.state, payload, applied)
        return applied

    def begin_epoch(self, slot: int, epoch: int) -> None:
        """A master's first entry was chosen. One of an older candidate may be adopted late: it does nothing."""
        self._advance(slot)
        self.state.epoch = max(self.state.epoch, epoch)
        history.extend(self.state, b"")

    def skip(self, slot: int, payload: bytes = b"") -> None:
        """What was chosen for `slot` is nothing to this machine: a no-op, or a change of the members."""
        self._advance(slot)
        history.extend(self.state, payload)

    def _advance(self, slot: int) -> None:
        assert slot == self.state.applied_upto + 1, f"slot {slot} applied after {self.state.applied_upto}"
        self.state.applied_upto = slot

    def _apply(
        self, operation: str, session_id: int, call: int, acked: int, principal: str, arguments: Mapping[str, Any]
    ) -> Applied:
        row = HANDLERS.get(operation)
        assert row is not None, f"this build does not know the logged operation {operation!r}; a newer one wrote it"
        state = self.state
        session: Session | None = None
        if session_id:
            session = state.sessions.get(session_id)
            if session is None:
                return Applied(_EXPIRED)
            if acked > session.acked:
                calls.acknowledge(session, acked)
            if call and not calls.is_new(session, call, state.limits.remembered_bytes_per_session):
                if call in session.waiters:
                    return Applied(None)
                known = grants.recall(state, session, call)
                if known is not None:
                    return Applied(known, again=True)
                return Applied(calls.refusal_of(session, call, state.limits))
            if session.mute is not None and not row.from_mute:
                return Applied(session.mute)
        elif row.needs_session:
            return Applied(_REQUIRED)
        woken: list[Woken] = []
        state.by = (session_id, principal, operation)
        reply: Reply | None
        try:
            reply = row.handler(state, session, call, principal, arguments, woken)
        except Refusal as refusal:
            reply = refusal.with_traceback(None)
            if session is not None and call:
                calls.remember(session, call, reply)
        else:
            # A session that resumes itself has, in doing so, acknowledged this very call.
            if session is not None and call >= max(1, session.acked) and row.remembered:
                assert reply is not None
                calls.remember(session, call, reply)
        return Applied(reply, woken)

    # ---- what the engine looks at ----

    def recall(self, session: int, call: int, acked: int = 0) -> Reply | None:
        """What a call that comes again, with `acked`, is answered without being logged; None: log it (or it waits).

        The same answer that apply would give, except for want of room (`call_window`, `limit`): whether there is room
        depends on acknowledgements that may still be on their way through the log, so there apply alone decides.
        """
        found = self.state.sessions.get(session)
        if found is None:
            return _EXPIRED
        if call == 0 or call in found.waiters:
            return None
        known = grants.recall(self.state, found, call)
        if known is None and call < max(acked, found.acked):
            return calls.FORGOTTEN
        return known

    def waiting(self, session: int, call: int) -> bool:
        """True while that acquire is in a queue."""
        found = self.state.sessions.get(session)
        return found is not None and call in found.waiters

    @property
    def sessions(self) -> Mapping[int, Session]:
        """Every live session by its id."""
        return self.state.sessions

    def delayed_holds(self) -> Iterator[tuple[str, int, int, int]]:
        """`(path, session, hold, lock_delay_ms)` of every hold whose lock-delay runs.

        Here the newest is the first, but in what came with a snapshot.
        """
        for (path, session, call), hold in reversed(self.state.delayed.items()):
            yield path, session, call, hold.lock_delay_ms

    def revoked_holds(self) -> Iterator[tuple[str, int, int, int]]:
        """`(path, session, hold, lease_ms)` of every hold that an operator wants back from a living session; as above,
        the newest is the first."""
        for path, session, call in reversed(self.state.revoked):
            yield path, session, call, self.state.sessions[session].lease_ms

    def is_delayed(self, path: str, session: int, hold: int) -> bool:
        """Whether it is one of `delayed_holds`."""
        return (path, session, hold) in self.state.delayed

    def is_revoked(self, path: str, session: int, hold: int) -> bool:
        """Whether it is one of `revoked_holds`."""
        return (path, session, hold) in self.state.revoked

    def notices(self, session: int) -> list[list[object]]:
        """`[path, hold, reason]` for the answers to the KeepAlives of that session; empty where there is none."""
        found = self.state.sessions.get(session)
        return [] if found is None or not found.notices else views.notices_of(found)

    @property
    def has_key(self) -> bool:
        """Whether sequencers, and so grants, can be made."""
        return self.state.keyed is not None

    @property
    def revision(self) -> int:
        """Raised by every command that changed something."""
        return self.state.revision

    @property
    def epoch(self) -> int:
        """That of the latest mastership that began: the number of its first ballot."""
        return self.state.epoch

    @property
    def applied_upto(self) -> int:
        """The last slot applied."""
        return self.state.applied_upto

    @property
    def changes_after(self) -> int:
        """Every change with a larger revision is still kept."""
        return self.state.changes_after

    def changes_since(self, revision: int) -> Sequence[Change]:
        """All changes with a larger revision, in their order; `revision` is not below `changes_after`."""
        return changes.since(self.state, revision)

    def touches(self, operation: str, session: int, arguments: Arguments, principal: str) -> touches.Keys:
        """What applying this command now may change of all that caches can hold; see `machine.touches`."""
        return touches.touches(self.state, operation, session, arguments, principal)

    @property
    def history(self) -> bytes:
        """16 bytes that are equal where everything up to `applied_upto` was applied alike; see `machine.history`."""
        return self.state.history

    # ---- reading ----

    def query(self, operation: str, arguments: Arguments, session: int = 0) -> dict[str, object]:
        """The result of a read of the table of operations, as of now; raises `Refusal`."""
        return QUERIES[operation](self.state, arguments, session)

    # ---- snapshots ----

    def snapshot(self) -> bytes:
        """The whole state in canonical bytes."""
        return snapshot.encode_state(self.state)

    @classmethod
    def restore(cls, data: bytes, limits: Limits = LIMITS) -> Machine:
        """The machine that made `data`; raises `snapshot.BadSnapshot` when these are not its bytes."""
        machine = cls.__new__(cls)
        machine.state = snapshot.decode_state(data, limits)
        return machine

    def digest(self) -> bytes:
        """16 bytes that are equal where the states are."""
        return snapshot.digest_of(self.state)


Query = Callable[[State, Arguments, int], dict[str, object]]


def _check_sequencer(state: State, arguments: Arguments, session: int) -> dict[str, object]:
    reason = sequencer.check(state, arguments["sequencer"])
    found: dict[str, object] = {"valid": not reason, "reason": reason, "revision": state.revision}
    return {**found, "stale": True} if arguments["stale"] else found


QUERIES: Mapping[str, Query] = {
    "get": reading.get,
    "stat": reading.stat,
    "ls": reading.ls,
    "get_many": reading.get_many,
    "plan_txn": transactions.plan_txn,
    "history": reading.list_changes,
    "locks": views.list_locks,
    "why": views.why,
    "list_sessions": views.list_sessions,
    "session_info": views.session_info,
    "check_sequencer": _check_sequencer,
}
