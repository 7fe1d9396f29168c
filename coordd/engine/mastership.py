"""What only a master keeps, and how it answers clients: calls in, answers out, and what may be proposed next.

A *reign* is one mastership of this replica, named by its epoch. Everything here but the attachment numbers belongs to
one reign and is forgotten when it ends: `notice` compares after every input of paxos, before anything is applied.

The one rule: whatever is decided by time (a KeepAlive answered, a session expired, a lock-delay ended) is decided only
while the master lease is valid at that very moment. Expiries and ends of waits are therefore not queued: they are taken
from the lessor when a batch is made, and proposed in the same breath.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256
from itertools import chain

from coordclient.protocol.errors import Refusal
from coordclient.protocol.operations import OPERATIONS, Way
from coordd.engine.caching import Caching
from coordd.engine.changes import Changes, WaitingChange
from coordd.engine.decisions import Decisions, delays, revocations
from coordd.engine.doors import Doors, session_expired
from coordd.engine.effects import Push, Reply
from coordd.engine.inputs import Call
from coordd.engine.keepalives import KeepAlives
from coordd.engine.lessor import Lessor
from coordd.engine.outcomes import Outcomes
from coordd.engine.pending import WAITS, Batch, Entry, KeySet, Pending, PendingCalls
from coordd.engine.reads import WaitingCall, WaitingCalls
from coordd.engine.resumes import Resumes
from coordd.engine.settings import EngineSettings
from coordd.engine.times import Times
from coordd.machine.commands import encode_batch, pack_command
from coordd.machine.machine import Machine
from coordd.machine.state import Applied
from coordd.paxos.replica import Replica, Role

_LATE_LOOK_MS = 250
_NEEDS_SESSION = frozenset(row.name for row in OPERATIONS.values() if row.session)


class Mastership:
    """See the module docstring. `replies`: the answers of one step, in order; `handlers`: who takes which operation."""

    def __init__(self, settings: EngineSettings, replica: Replica, machine: Machine, now_ms: int) -> None:
        self._settings = settings
        self._replica = replica
        self.machine = machine
        self.replies: list[Reply | Push] = []
        self.reign = 0  # the epoch of this replica's mastership; 0 while it has none
        self.lessor = Lessor(settings.stall_ms, settings.tick_ms, now_ms)
        self.calls = PendingCalls(settings)
        self.waiting = WaitingCalls(settings)
        self.changes = Changes(settings, replica, self._finish_change)
        self._doors = Doors()
        self._keepalives = KeepAlives(replica, self.lessor, self.calls, self._notices, self.replies.append)
        self._resumes = Resumes()
        self.caching = caching = Caching(settings, replica, self.calls, self.replies, self.wait)
        self._outcomes = Outcomes(self.lessor, self._doors, self._keepalives, self._resumes, self.waiting, caching)
        self._times = Times(self.lessor, self._keepalives)
        self._decisions = Decisions(settings, self.lessor, self.caching)
        self._late_look_ms = now_ms
        self._now_ms = now_ms
        self._entropy = b""
        self._draws = 0
        on_read = self.caching.when_clear(self._on_read)
        self.handlers: dict[str, Callable[[Call, int, bool], None]] = {
            row.name: self._on_write if row.way is Way.WRITE else on_read
            for row in OPERATIONS.values()
            if row.way in (Way.WRITE, Way.READ)
        }
        self.handlers |= {row.name: self._on_cell for row in OPERATIONS.values() if row.way is Way.CELL}
        self.handlers |= self.caching.handlers | {
            "open_session": self._on_open_session,
            "resume_session": self._on_resume_session,
            "keep_alive": self._on_keep_alive,
            "attach": self._on_attach,
        }

    # ---- the turn ----

    def begin(self, now_ms: int, entropy: bytes) -> None:
        """A step begins. A lease that lapsed since the last one is noticed before anything can renew it."""
        self._now_ms = now_ms
        self._entropy = entropy
        self._draws = 0
        self._decisions.begin()
        self.caching.begin(now_ms, self.machine.sessions)
        self.lessor.tick(now_ms)
        if self.lessor.ruling and not self._replica.lease_valid(now_ms):
            self._pause()

    def notice(self) -> None:
        """Compare the reign with paxos; before anything is applied, so that no answer comes from a wrong slot."""
        reign = self._replica.epoch if self._replica.role is Role.MASTER else 0
        if reign != self.reign:
            if self.reign:
                self._end_reign()
            self.reign = reign

    def look_at_lease(self) -> None:
        """After everything chosen is applied: is this replica in charge now, and was it before?"""
        replica = self._replica
        if not (self.reign and replica.serving and replica.lease_valid(self._now_ms)):
            self._pause()
            return
        assert self.machine.epoch == self.reign, "a master serves only when its epoch entry is applied"
        if not self.lessor.ruling:
            self.lessor.regain(self.machine.sessions, chain(delays(self.machine), revocations(self.machine)))
            self._doors.keep_only(self.machine.sessions)
        elif self._outcomes.waits_changed:
            self.lessor.watch(delays(self.machine))
            self.lessor.watch(revocations(self.machine))
        self._outcomes.waits_changed = False

    def _pause(self) -> None:
        """The lease is lost. Decisions that are not proposed yet are not made: everybody will begin whole."""
        self.lessor.pause()
        for entry in self.caching.drop_decisions():
            self._outcomes.decided(entry, self.machine)

    def _end_reign(self) -> None:
        """Tell everybody what is true of his call: what was never proposed was not done; the rest is unknown."""
        self.changes.end_reign()
        self.caching.end_reign()
        elsewhere = self.not_master()
        unknown = Refusal("outcome_unknown", "the mastership ended before the outcome was known; retry the same call")
        for request, holder in self.calls.clear().items():
            self.replies.append(Reply(request, unknown if holder.proposed else elsewhere))
        self.waiting.clear()
        self._keepalives.clear()
        self._resumes.clear()
        self.lessor.forget()
        self._decisions.key_proposed = False
        self.reign = 0

    def _notices(self, session: int) -> list[list[object]]:
        return self.machine.notices(session)  # of the present machine: a snapshot brings another

    def not_master(self) -> Refusal:
        """Where to go instead, as far as it is known."""
        master = self._replica.master if self._replica.role is not Role.MASTER else None
        return Refusal("not_master", "this replica is not the master", master=master, address=None)

    # ---- calls in ----

    def take(self, call: Call) -> None:
        """One call of a client, not a LOCAL one."""
        if not self.reign:
            unknown = Refusal("unavailable", "no master is known to this replica; nothing was done")
            self._refuse(call, unknown if self._replica.master is None else self.not_master())
            return
        self._dispatch(call, self._now_ms, self.lessor.ruling)

    def gone(self, requests: tuple[int, ...]) -> None:
        """Nobody waits for these any more. The calls themselves go on."""
        for request in requests:
            holder = self.calls.open.pop(request, None)
            if holder is not None:
                holder.leave(request)

    def _dispatch(self, call: Call, since_ms: int, sure: bool) -> None:
        """`sure`: the state here is the cell's present state. Without it, no refusal is taken from the state."""
        handler = self.handlers.get(call.operation)
        if handler is None:
            self._refuse(call, Refusal("unknown_operation", f"no operation is called {call.operation[:80]!r}"))
            return
        if not call.session and call.operation in _NEEDS_SESSION:
            self._refuse(call, Refusal("session_required", f"{call.operation} needs a session"))
        elif not call.session or self._may_speak(call, since_ms, sure):
            handler(call, since_ms, sure)

    def _may_speak(self, call: Call, since_ms: int, sure: bool) -> bool:
        """Whether the call may go on now, for its session; else it was refused, or waits."""
        objection = self._doors.objection(call, self.machine.sessions.get(call.session))
        if objection is None:
            return True
        refusal, is_final = objection
        if sure or is_final:
            self._refuse(call, refusal)
        else:
            self.wait(call, since_ms)
        return False

    def _refuse(self, call: Call, refusal: Refusal) -> None:
        self.replies.append(Reply(call.request, refusal))

    def _overloaded(self, call: Call, limit: str | None) -> bool:
        """Refuse a call that some limit forbids. What is answered at once (KeepAlives above all) needs no room."""
        if limit is not None:
            self._refuse(call, Refusal("overloaded", limit))
        return limit is not None

    def wait(self, call: Call, since_ms: int) -> None:
        """The call is looked at again, and is sure then, when the lease is valid or a confirming round has ended."""
        waiting = WaitingCall(call, since_ms)
        if not self._overloaded(call, self.calls.full() or self.waiting.full(waiting)):
            self.calls.open[call.request] = waiting
            self.waiting.add(waiting)

    def _on_open_session(self, call: Call, since_ms: int, sure: bool) -> None:
        self._draws += 1
        secret = sha256(b"session secret" + self._entropy + self._draws.to_bytes(4, "big")).hexdigest()[:32]
        self._on_write(replace(call, arguments={**call.arguments, "secret": secret}), since_ms, sure)

    def _on_resume_session(self, call: Call, since_ms: int, sure: bool) -> None:
        session = call.arguments["session"]
        assert isinstance(session, int)
        info = self.machine.sessions.get(session)
        secrets = (call.arguments["secret"], call.arguments["new_secret"])
        if sure and not any(self._doors.proves(str(secret), info) for secret in secrets):
            self._refuse(call, session_expired(session))
        else:
            self._on_write(call, since_ms, sure)

    def _on_write(self, call: Call, since_ms: int, sure: bool) -> None:
        session, number = call.session, call.call
        if session and number:
            first = self.calls.by_call.get((session, number))
            if first is not None:
                if not self._overloaded(call, self.calls.full(call.operation)):
                    self.calls.join(first, call.request)
                return
        elif call.operation in WAITS:
            self._refuse(call, Refusal("bad_request", f"{call.operation} needs a call number"))
            return
        if session and self._resumes.under_way(session):
            if not self._overloaded(call, self.calls.full()):
                held = self.calls.open[call.request] = WaitingCall(call, since_ms)
                self._resumes.wait(held)
            return
        if session and not number and not sure:
            self.wait(call, since_ms)  # nothing in apply would stop it, had another process resumed the session
            return
        if sure and session and self.caching.view.clear:
            # A short cut, safe as a read is; apply decides the same again for what goes the long way.
            remembered = self.machine.recall(session, number, call.acked)
            if remembered is not None:
                self.replies.append(Reply(call.request, remembered))
                return
        self._queue(call, call.arguments)

    def _queue(self, call: Call, arguments: Mapping[str, object]) -> None:
        paths = self.caching.touched(self.machine, call.operation, call.session, arguments, call.principal)
        if paths and self.caching.holds(call, paths):
            return
        command = pack_command(call.operation, call.session, call.call, call.acked, call.principal, arguments)
        if not self._overloaded(call, self.calls.full(call.operation) or self.calls.queue_full(len(command))):
            entry = Pending(call, command, self._now_ms)
            self.calls.enqueue(entry)
            self.caching.begins(entry, paths)
            if entry.resumes:
                self._resumes.begin(entry.resumes)

    def _on_read(self, call: Call, since_ms: int, sure: bool) -> None:
        if not sure:
            self.wait(call, since_ms)
        else:
            self.replies.append(Reply(call.request, self._looked_up(call)))

    def _looked_up(self, call: Call) -> dict[str, object] | Refusal:
        try:
            found = self.machine.query(call.operation, call.arguments, call.session)
        except Refusal as refusal:
            return self.caching.answered(call, refusal)
        return self.caching.answered(call, self._times.complete(call.operation, found, self.machine, self._now_ms))

    def _on_attach(self, call: Call, since_ms: int, sure: bool) -> None:
        if not sure:
            self.wait(call, since_ms)
            return
        info = self.machine.sessions.get(call.arguments["session"])  # type: ignore[call-overload]
        self.replies.append(Reply(call.request, self._doors.attached(call, info, self.reign)))

    def _on_keep_alive(self, call: Call, since_ms: int, sure: bool) -> None:
        if not self.lessor.ruling:
            self.wait(call, since_ms)  # a confirming round renews the lease on its way
            return
        session = call.session
        info = self.machine.sessions.get(session)
        if info is None:
            self._refuse(call, session_expired(session))
        elif self.lessor.in_decision(session):
            if not self._overloaded(call, self.calls.full()):
                self._keepalives.withhold(call, since_ms)
        elif info.mute is not None:
            self._refuse(call, info.mute)
        else:
            self._keepalives.take(call, info, since_ms, self._now_ms)

    def _on_cell(self, call: Call, since_ms: int, sure: bool) -> None:
        if not sure:
            self.wait(call, since_ms)
        elif call.operation == "members":
            self.replies.append(Reply(call.request, self.changes.members(self._now_ms)))
        elif not self._overloaded(call, self.calls.full() or self.changes.full()):
            change = self.calls.open[call.request] = WaitingChange(call, since_ms)
            if call.operation == "transfer_master":
                self.changes.transfer(change, self._now_ms)
            else:
                self.changes.enqueue(change)

    def _finish_change(self, change: WaitingChange, result: dict[str, object] | Refusal) -> None:
        if not change.gone:
            del self.calls.open[change.call.request]
            self.replies.append(Reply(change.call.request, result))

    # ---- calls that wait ----

    def go_on(self) -> None:
        """What waited for caches, or was held long enough, and waits no more."""
        if self.reign:
            for waiting in self.caching.turn():
                self._dispatch(waiting.call, waiting.since_ms, self.lessor.ruling)
            self._keepalives.end_holds(self.machine.sessions, self._now_ms)

    def let_through(self) -> None:
        """Go on with the calls that waited for the lease or for a confirming round."""
        if not (len(self.waiting) and self.reign and self._replica.serving):
            return
        ready = self.waiting.take_all() if self.lessor.ruling else self.waiting.take_confirmed(self._replica.confirmed)
        for waiting in ready:
            del self.calls.open[waiting.call.request]
            self._dispatch(waiting.call, waiting.since_ms, sure=True)

    def ask_for_round(self) -> bool:
        """Begin a confirming round for those that arrived since the last one; True when one was begun."""
        if not (self.reign and self._replica.serving and (self.waiting.needs_round or self.caching.round_due)):
            return False
        number, self.caching.round_due = self._replica.confirm(self._now_ms), False
        if self.waiting.needs_round:
            self.waiting.number(number)
        return True

    def refuse_late(self) -> None:
        """Calls that could not even be begun for too long: nothing was done, and nothing will be."""
        if self._now_ms - self._late_look_ms < _LATE_LOOK_MS or not self.reign:
            return
        self._late_look_ms = self._now_ms
        before_ms = self._now_ms - self._settings.patience_ms
        refusal = Refusal("unavailable", "this master could not reach a majority in time; nothing was done")
        self.changes.refuse_late(before_ms)
        for pending in self.calls.late(before_ms):
            self.calls.finish(pending, refusal, self.replies)
            self.caching.ends(pending)
            self._outcomes.given_up(pending)
        for waiting in (*self.waiting.take_late(before_ms), *self.caching.view.take_late(before_ms)):
            del self.calls.open[waiting.call.request]
            self._refuse(waiting.call, refusal)

    # ---- proposing ----

    def next_batch(self, wall_ms: int) -> Batch | None:
        """What goes into the next slot: the master's own decisions first, then what is queued."""
        commands: list[bytes] = []
        entries: list[Entry] = []
        own = [self._decisions.key(self.machine, self.reign, self._entropy)]
        if self.lessor.ruling:
            assert self._replica.lease_valid(self._now_ms), "the one rule"
            own.append(self._decisions.due(self.machine, self.reign))
        for command, entry in chain.from_iterable(own):
            commands.append(command)
            entries.append(entry)
        self.calls.fill(commands, entries)
        return Batch(encode_batch(wall_ms, commands), entries) if commands else None

    # ---- answers out ----

    def applied(self, slot: int, payload: bytes, results: list[Applied]) -> None:
        """The batch of `slot` was applied; answer those that were proposed with it, and the waiters that it woke."""
        batch = self.calls.proposed.pop(slot, None)
        told = self.caching.applied(self.machine)
        if batch is not None:
            # Within one reign nobody else's value can come to a slot proposed here; a wrong answer would be a lie.
            assert batch.payload == payload, f"slot {slot} holds another batch than was proposed"
            assert len(batch.entries) == len(results)
            self._answer(batch.entries, results, told)
        by_call = self.calls.by_call
        if by_call:
            for result in results:
                for woken in result.woken:
                    waiter = by_call.get((woken.session, woken.call))
                    if waiter is not None:
                        self.calls.finish(waiter, woken.reply, told)

    def _answer(self, entries: list[Entry], results: list[Applied], told: list[Reply | Push]) -> None:
        for entry, result in zip(entries, results, strict=True):
            self.caching.ends(entry)
            if isinstance(entry, KeySet):
                self._decisions.key_proposed = False
            elif not isinstance(entry, Pending):
                self._outcomes.decided(entry, self.machine)
            else:
                if result.reply is not None:
                    self.calls.finish(entry, result.reply, told)
                self._outcomes.applied(entry, result, self.machine, self._now_ms)
