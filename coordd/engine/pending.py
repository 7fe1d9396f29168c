"""Logged calls of one mastership that are not answered yet: queued, proposed, or waiters in the replicated state.

Who waits for what: `open` maps every unanswered request to its holder (a `Pending` here, a `WaitingCall` of `reads`,
a `WaitingChange` of `changes`, a `Queue` of `caches`), so that at the end of the mastership everybody is told what is
true of his call: never proposed, or outcome unknown.
A retry (same session, same call number) finds the first try in `by_call` and waits with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sized
from typing import NamedTuple, Protocol

from coordclient.protocol.errors import Refusal
from coordclient.protocol.operations import OPERATIONS
from coordd.engine.effects import Push, Reply
from coordd.engine.inputs import Call
from coordd.engine.lessor import Wait
from coordd.engine.settings import EngineSettings

WAITS = frozenset(row.name for row in OPERATIONS.values() if row.waits)
_PATIENT = WAITS | {"keep_alive", "cache"}
_STEPS = {"acquire_all": ("locks",), "txn": ("then", "else")}  # the arguments of which each element is a step
CallKey = tuple[int, int]  # session, call number


class Holder(Protocol):
    """What an unanswered request belongs to. `proposed`: it may have taken effect, or may take it yet."""

    @property
    def proposed(self) -> bool: ...

    def leave(self, request: int) -> None:
        """Nobody waits for `request` any more."""


class Pending:
    """One logged call. `requests`: everybody who waits for the answer; nobody where all are gone.

    `resumes` is the session that it resumes, 0 where it does no such thing; `steps` is how much it does when it is
    applied: one, or as many as it takes locks, or as the longer branch of a transaction has.
    """

    __slots__ = ("call", "command", "operation", "proposed", "requests", "resumes", "session", "since_ms", "steps")

    def __init__(self, call: Call, command: bytes, now_ms: int) -> None:
        self.operation = call.operation
        self.session = call.session
        self.call = call.call
        self.requests = [call.request]
        self.command = command
        self.since_ms = now_ms
        self.proposed = False
        resumes = call.arguments["session"] if call.operation == "resume_session" else 0
        assert isinstance(resumes, int)
        self.resumes = resumes
        self.steps = 1
        for name in _STEPS.get(call.operation, ()):
            several = call.arguments[name]
            assert isinstance(several, Sized)
            self.steps = max(self.steps, len(several))

    def leave(self, request: int) -> None:
        """Nobody waits for `request` any more."""
        self.requests.remove(request)


class Expiry(NamedTuple):
    """A command of the master's own: the end of a session."""

    session: int


class WaitEnd(NamedTuple):
    """A command of the master's own: the end of a lock-delay, or of the lease of a revoked hold."""

    wait: Wait


class KeySet(NamedTuple):
    """A command of the master's own: the first sequencer key."""


Entry = Pending | Expiry | WaitEnd | KeySet


class Batch(NamedTuple):
    """What was proposed for one slot: one entry per command, in order."""

    payload: bytes
    entries: list[Entry]


class PendingCalls:
    """See the module docstring. All limits of commands and requests are kept here."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self.open: dict[int, Holder] = {}
        self.by_call: dict[CallKey, Pending] = {}
        self.queue: deque[Pending] = deque()
        self.queue_bytes = 0
        self.proposed: dict[int, Batch] = {}

    def full(self, operation: str = "") -> str | None:
        """Which limit forbids one more request, if any.

        What stays (acquires that wait, KeepAlives that are held, queues of caches) leaves a quarter to what ends the
        waiting: releases, cancels, the end of a session.
        """
        limit = self._settings.requests_max
        limit -= limit // 4 if operation in _PATIENT else 0
        if len(self.open) >= limit:
            return f"{len(self.open)} requests are unanswered; the limit is {limit}"
        return None

    def queue_full(self, size: int) -> str | None:
        """Which limit forbids one more command of `size` bytes, if any."""
        if len(self.queue) >= self._settings.queue_commands_max:
            return f"{len(self.queue)} commands are queued; the limit is {self._settings.queue_commands_max}"
        if self.queue_bytes + size > self._settings.queue_bytes_max:
            return f"{self.queue_bytes} bytes of commands are queued; the limit is {self._settings.queue_bytes_max}"
        return None

    def enqueue(self, entry: Pending) -> None:
        """Queue a command whose limits were checked."""
        assert not entry.proposed and entry.requests
        self.queue.append(entry)
        self.queue_bytes += len(entry.command)
        self.open[entry.requests[0]] = entry
        if entry.session and entry.call:
            assert (entry.session, entry.call) not in self.by_call, "a retry waits with the first try"
            self.by_call[entry.session, entry.call] = entry

    def join(self, entry: Pending, request: int) -> None:
        """A retry waits with the first try."""
        entry.requests.append(request)
        self.open[request] = entry

    def fill(self, commands: list[bytes], entries: list[Entry]) -> None:
        """Move as much of the queue as fits into a batch that begins with `commands`.

        A step of a transaction counts as a command does: a batch is applied in one go, and nobody is heard meanwhile.
        """
        count_max, bytes_max = self._settings.batch_commands_max, self._settings.batch_bytes_max
        queue, size, count = self.queue, sum(map(len, commands)), len(commands)
        while queue and count < count_max:
            entry = queue[0]
            command = entry.command
            size += len(command)
            count += entry.steps
            if (size > bytes_max or count > count_max) and commands:
                break
            queue.popleft()
            self.queue_bytes -= len(command)
            commands.append(command)
            entries.append(entry)
            entry.proposed = True
            entry.command = b""  # from here on the bytes live in the batch
        assert self.queue_bytes >= 0

    def late(self, before_ms: int) -> list[Pending]:
        """Take those out of the queue that came before `before_ms`: they could not even be proposed."""
        late: list[Pending] = []
        while self.queue and self.queue[0].since_ms <= before_ms:
            entry = self.queue.popleft()
            self.queue_bytes -= len(entry.command)
            late.append(entry)
        return late

    def finish(self, entry: Pending, reply: dict[str, object] | Refusal, replies: list[Reply | Push]) -> None:
        """The answer is there: give it to everybody who waits.

        A call may be finished twice: a retry still on its way, whose waiter was granted meanwhile by another command,
        is answered at once and finds nobody when its own turn comes; by then a further retry may have its place.
        """
        for request in entry.requests:
            del self.open[request]
            replies.append(Reply(request, reply))
        entry.requests = []
        key = (entry.session, entry.call)
        if self.by_call.get(key) is entry:
            del self.by_call[key]

    def clear(self) -> dict[int, Holder]:
        """The mastership is over: forget everything, and return who waited for what."""
        left, self.open = self.open, {}
        self.by_call, self.proposed = {}, {}
        self.queue.clear()
        self.queue_bytes = 0
        return left
