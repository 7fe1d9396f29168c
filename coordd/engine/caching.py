"""Caches joined to a mastership: which call opens, fills, acknowledges or renews, what a change has to wait for, and
when the state may be seen again. `caches` keeps who holds what, `view` what may not be seen yet.

A change goes two ways through here. *Before it is proposed* the paths that it may touch are taken from the command and
the present state; who holds them is asked, and meanwhile the call waits outside the queue, so that no other change
waits for a dead reader. When it goes on it is looked at as if it had just come: its session may have ended, another
process may have the session. *When it was applied* the paths that it did touch are known exactly; where somebody holds
one of them nevertheless (the state has changed in between, or a batch has worked on what it made itself), a veil lies
over the state until he was asked too.

What costs a client that uses no cache: one look at `in_use` for a change, and one for a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from coordclient.protocol.errors import Refusal
from coordclient.protocol.paths import parent_of
from coordd.engine.caches import Caches, Queue
from coordd.engine.doors import session_expired
from coordd.engine.effects import Push, Reply
from coordd.engine.inputs import Call
from coordd.engine.pending import Entry, Expiry, PendingCalls, WaitEnd
from coordd.engine.places import lineage
from coordd.engine.reads import WaitingCall
from coordd.engine.settings import EngineSettings
from coordd.engine.visibility import Visibility
from coordd.machine.machine import Machine, Session
from coordd.paxos.replica import Replica

_AT_PATH = ("put", "create", "mkdir", "delete")  # they change their path, and with it what is above it
Handler = Callable[[Call, int, bool], None]  # of a call that came at that time; whether the state is sure


class Decision:
    """A decision of the master's own that waits."""

    __slots__ = ("command", "entry")

    def __init__(self, command: bytes, entry: Expiry | WaitEnd) -> None:
        self.command = command
        self.entry = entry


class Caching:
    """See the module docstring. All of it belongs to one reign. `wait`: a call for which the state is not sure."""

    def __init__(
        self,
        settings: EngineSettings,
        replica: Replica,
        calls: PendingCalls,
        replies: list[Reply | Push],
        wait: Callable[[Call, int], None],
    ) -> None:
        self._settings = settings
        self._replica = replica
        self._calls = calls
        self._replies = replies
        self._wait = wait
        self.caches = Caches(settings.cached_paths_per_session_max, settings.cached_paths_max, replies.append)
        self.view = Visibility(settings, replica)
        self._revision = 0  # up to which it is known who holds what was changed
        self._held = 0  # changes that wait, and their bytes
        self._held_bytes = 0
        self._decisions: dict[Decision, None] = {}
        self._decided: list[Decision] = []  # that wait no more
        self._asking: dict[Queue, None] = {}
        self.round_due = False  # the grants are to know of caches without delay
        self._ending = False
        self._now_ms = 0
        self._sessions: Mapping[int, Session] = {}
        self.handlers: dict[str, Handler] = {
            "cache": self.when_clear(self._on_cache),
            "invalidated": self._on_invalidated,
            "cache_lease": self._on_lease,
        }

    def begin(self, now_ms: int, sessions: Mapping[int, Session]) -> None:
        """A step begins."""
        self._sessions = sessions
        self._now_ms = self.view.now_ms = now_ms
        self.caches.tick(now_ms)

    def end_reign(self) -> None:
        """Told to everybody who waits for a result; all else that waits is among the open calls."""
        self._replies += self.view.clear_all()
        self.caches.clear()
        self._held = self._held_bytes = 0
        self._decisions, self._decided, self._asking = {}, [], {}
        self.round_due = self._ending = False

    def _say(self, call: Call, result: dict[str, object] | Refusal) -> None:
        self._replies.append(Reply(call.request, result))

    # ---- reads ----

    def when_clear(self, handler: Handler) -> Handler:
        """The handler of an operation that shows the state: where that may not be seen the call waits."""

        def take(call: Call, since_ms: int, sure: bool) -> None:
            if sure and not self.view.clear:
                self.wait_until_clear(call, since_ms)
            else:
                handler(call, since_ms, sure)

        return take

    def wait_until_clear(self, call: Call, since_ms: int) -> None:
        """It is looked at again as soon as the state may be seen."""
        waiting = WaitingCall(call, since_ms)
        limit = self._calls.full() or self.view.full(waiting)
        if limit is not None:
            self._say(call, Refusal("overloaded", limit))
            return
        self._calls.open[call.request] = waiting
        self.view.wait(waiting)

    def answered(self, call: Call, result: dict[str, Any] | Refusal) -> dict[str, Any] | Refusal:
        """The answer to a read; to one with `cache` without the state of locks, and numbered where it may be kept."""
        if not call.arguments.get("cache"):
            return result
        if isinstance(result, dict):
            result = _without_locks(result)
        queue = self.caches.find(call)
        if queue is None or self._ending or not _may_be_kept(call, result):
            return result
        number = self.caches.fill(queue, str(call.arguments["path"]))
        if number is None:
            return result
        if isinstance(result, Refusal):
            return Refusal(result.code, result.message, **{**result.details, "cached": number})
        return {**result, "cached": number}

    # ---- changes, before they are proposed ----

    def touched(
        self, machine: Machine, operation: str, session: int, arguments: Mapping[str, object], principal: str
    ) -> frozenset[str]:
        """The paths that this command may change, as far as anybody may hold them; none where no cache is in use.

        Most changes are where nobody holds anything. Then it does not matter what they change exactly, only that nobody
        begins to hold the likely part of it meanwhile; what was unlikely is found when they are applied.
        """
        if not self.caches.in_use:
            return frozenset()
        if operation in _AT_PATH:
            path = str(arguments["path"])
            above = lineage(path)
            reach = above if operation == "delete" or arguments["parents"] else above[:2]
            if not self.caches.knows((path, *reach)):
                return frozenset((path, *above[:1]))
        return paths_of(machine.touches(operation, session, arguments, principal))

    def holds(self, call: Call, paths: frozenset[str]) -> bool:
        """Ask who holds these; True when the call has to wait, or was refused because too many do."""
        if not self.caches.knows(paths):
            return False
        held = WaitingCall(call, self._now_ms)
        limit = self._calls.full(call.operation) or self._held_full(held)
        # What is refused is asked for all the same, because it may not have to wait at all; but nothing of it is kept.
        if self.caches.ask(paths, held if limit is None else None) is None:
            return False
        if limit is not None:
            self._say(call, Refusal("overloaded", limit))
            return True
        self._held += 1
        self._held_bytes += held.size
        self._calls.open[call.request] = held
        self.caches.mark(held, paths)
        return True

    def _held_full(self, held: WaitingCall) -> str | None:
        """Which limit forbids one more change that waits, if any."""
        if self._held >= self._settings.waiting_calls_max:
            return f"{self._held} changes wait for caches; the limit is {self._settings.waiting_calls_max}"
        if self._held_bytes + held.size > self._settings.waiting_bytes_max:
            return f"{self._held_bytes} bytes of changes wait; the limit is {self._settings.waiting_bytes_max}"
        return None

    def holds_decision(self, command: bytes, entry: Expiry | WaitEnd, paths: frozenset[str]) -> bool:
        """The same for a decision of the master's own, which is in decision meanwhile."""
        decision = Decision(command, entry)
        if not paths or self.caches.ask(paths, decision) is None:
            return False
        self.caches.mark(entry, paths)
        self._decisions[decision] = None
        return True

    def take_decided(self, limit: int) -> list[tuple[bytes, Expiry | WaitEnd]]:
        """At most `limit` decisions that wait no more. Many may have waited for the same reader."""
        decided, self._decided = self._decided[:limit], self._decided[limit:]
        return [(decision.command, decision.entry) for decision in decided]

    def drop_decisions(self) -> list[Expiry | WaitEnd]:
        """The lease was lost before these could be proposed: whoever they are about begins whole, like all others."""
        dropped = [*self._decisions, *self._decided]
        self._decisions, self._decided = {}, []
        for decision in dropped:
            self.caches.unmark(decision.entry)
        return [decision.entry for decision in dropped]

    # ---- changes, when they are applied ----

    def applied(self, machine: Machine) -> list[Reply | Push]:
        """A batch was applied: where its results go."""
        revision, self._revision = self._revision, machine.revision
        if self.caches.in_use and revision != self._revision:
            if revision < machine.changes_after:
                wait = self.caches.ask_all(self.view)
            else:
                changes = machine.changes_since(revision)
                wait = self.caches.ask(paths_of(keys_of(changes)), self.view)
            if wait is not None:
                self.view.veil()
        return self.view.results(self._replies)

    def begins(self, entry: Entry, paths: frozenset[str]) -> None:
        """That change is on its way to the log: nobody holds these anew before it was applied."""
        if paths:
            self.caches.mark(entry, paths)

    def ends(self, entry: Entry) -> None:
        """It was applied, or will never be."""
        self.caches.unmark(entry)

    # ---- queues and leases ----

    def _on_cache(self, call: Call, since_ms: int, sure: bool) -> None:
        limit = self._calls.full(call.operation)
        if call.attachment == 0:
            self._say(call, Refusal("bad_request", "cache: invalidations need a channel that speaks for the session"))
        elif not sure:
            self._wait(call, since_ms)
        elif call.session not in self._sessions:
            self._say(call, session_expired(call.session))
        elif limit is not None:
            self._say(call, Refusal("overloaded", limit))
        else:
            earlier = self.caches.open(call, self._replica.epoch)
            if earlier is not None:
                self._conclude(earlier, 0)
                self._close(earlier, {})
            self._calls.open[call.request] = self.caches.queues[call.session]

    def _on_invalidated(self, call: Call, since_ms: int, sure: bool) -> None:
        queue, number = self.caches.find(call), call.arguments["number"]
        assert isinstance(number, int)
        if queue is not None:
            self.caches.acknowledge(queue, number)
        self._say(call, {})

    def _on_lease(self, call: Call, since_ms: int, sure: bool) -> None:
        """Answered when a lease can be given."""
        if not self._replica.lease_valid(self._now_ms):
            self._wait(call, since_ms)
            return
        queue = self.caches.find(call)
        limit = self._calls.full()
        if queue is None:
            self._say_lease(call, 0, drop=True)
        elif limit is not None:
            self._say(call, Refusal("overloaded", limit))
        else:
            self._conclude(queue, 0)
            queue.asked = self._calls.open[call.request] = WaitingCall(call, since_ms)
            self._asking[queue] = None

    def session_ended(self, session: int, incarnation: int = 0) -> None:
        """It has ended, or has gone over to the process of that incarnation: its channel may never notice."""
        queue = self.caches.queues.get(session)
        if queue is None or queue.incarnation == incarnation:
            return
        self.caches.end(queue)
        self._conclude(queue, session_expired(session))
        self._close(queue, session_expired(session))

    def _close(self, queue: Queue, last: dict[str, object] | Refusal) -> None:
        """The last answer of its stream, if somebody still listens."""
        if self._calls.open.pop(queue.call.request, None) is not None:
            self._say(queue.call, last)

    def _say_lease(self, call: Call, lease_ms: int, *, drop: bool = False) -> None:
        said = {"number": call.arguments["number"], "epoch": self._replica.epoch, "lease_ms": lease_ms, "drop": drop}
        self._say(call, said)

    def _conclude(self, queue: Queue, answer: int | Refusal) -> None:
        """Answer the request for a lease that waits there, if one does: with a lease of so many ms, or that refusal."""
        asked, queue.asked = queue.asked, None
        self._asking.pop(queue, None)
        if asked is None or asked.gone:
            return
        del self._calls.open[asked.call.request]
        if isinstance(answer, Refusal):
            self._say(asked.call, answer)
        else:
            self._say_lease(asked.call, answer)

    def _give_leases(self, until_ms: int) -> None:
        """Answer the requests that can be answered: a lease until then, or none for who has gone."""
        for queue in list(self._asking):
            if queue.gone:
                self._conclude(queue, 0)
            elif self._sessions[queue.call.session].mute is not None:
                self._conclude(queue, session_expired(queue.call.session))
            elif self.caches.lease(queue, until_ms):
                # Less one: the request may have left when this clock, read in whole ms, was about to show the next one.
                self._conclude(queue, until_ms - self._now_ms - 1)

    # ---- the turn ----

    def turn(self) -> list[WaitingCall]:
        """After all that came in: what waits no more goes on. Returns the calls that are to be looked at anew."""
        leases = self._replica.caching
        assert leases is not None, "only a master has caches"
        self._say_whether_in_use()
        if self._asking:
            self._give_leases(leases.until_ms)
        on: list[WaitingCall] = []
        ready, self.caches.ready = self.caches.ready, []
        for wait in ready:
            match wait.then:
                case Visibility():
                    self.view.lift()
                case Decision() as decision:
                    if self._decisions.pop(decision, False) is None:  # else it was dropped
                        self._decided.append(decision)
                case WaitingCall() as held:
                    self._held -= 1
                    self._held_bytes -= held.size
                    self.caches.unmark(held)
                    if not held.gone:
                        on.append(held)
        results, reads = self.view.take()
        self._replies += results
        on += reads
        for waiting in on:
            del self._calls.open[waiting.call.request]
        return on

    def _say_whether_in_use(self) -> None:
        leases = self._replica.caching
        assert leases is not None
        if self._replica.leaving and not self._ending:
            self._ending = True
            self.caches.ask_all(None)
        wanted = self.caches.believed if self._ending else self.caches.in_use
        if wanted != leases.wanted:
            leases.want(wanted)
            self.round_due = wanted


def keys_of(changes: Iterable[Any]) -> Iterable[tuple[str, str]]:
    """What changes of the machine say of nodes, and of the lists of their parents."""
    for change in changes:
        yield "node", change.path
        if change.kind != "changed":
            yield "children", parent_of(change.path)


def paths_of(keys: Iterable[tuple[str, str]]) -> frozenset[str]:
    """The paths of which somebody may hold what these keys touch: a listing shows the stat of each child, and a stat
    the number of children."""
    paths: set[str] = set()
    for _, path in keys:
        paths.add(path)
        if path != "/":
            paths.add(parent_of(path))
    return frozenset(paths)


def _may_be_kept(call: Call, result: dict[str, Any] | Refusal) -> bool:
    """Whether it is all that there is to say of the path at present."""
    if call.arguments.get("revision"):
        return False  # of an earlier time, and so is that there was nothing
    if isinstance(result, Refusal):
        return result.code == "not_found"
    return not (result.get("more") or call.arguments.get("after") or call.arguments.get("contents"))


def _without_locks(result: dict[str, Any]) -> dict[str, Any]:
    """A cache knows nothing of locks, and neither does what it is filled with."""
    if "entries" in result:
        entries = [{**entry, "stat": {**entry["stat"], "lock_generation": None}} for entry in result["entries"]]
        return {**result, "entries": entries}
    return {**result, "stat": {**result["stat"], "lock_generation": None}}
