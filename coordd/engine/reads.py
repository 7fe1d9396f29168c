"""Calls that wait until this replica is known to be the master still: outside the lease, or before it serves.

A confirming round covers only what arrived before it was asked for. So calls are *fresh* until a round is asked for,
then belong to that round's number, and are let through when it is confirmed; who must wait again is fresh again. When
the lease is valid everybody is let through at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from coordd.engine.inputs import Call
from coordd.engine.settings import EngineSettings

_CALL_BYTES = 512  # reckoned for a call besides its contents
_STEP_BYTES = 512  # and for a step or a guard of a transaction


class WaitingCall:
    """One call that waits; `gone` when nobody wants its answer."""

    __slots__ = ("call", "gone", "since_ms", "size")
    proposed = False  # never: at the end of the mastership it may be said that nothing was done

    def __init__(self, call: Call, since_ms: int) -> None:
        self.call = call
        self.since_ms = since_ms
        self.size = _CALL_BYTES + _bytes_of(call.arguments)
        self.gone = False

    def leave(self, request: int) -> None:
        """Nobody waits for `request` any more."""
        assert request == self.call.request
        self.gone = True


def _bytes_of(arguments: Mapping[str, Any]) -> int:
    """What these arguments take besides what every call has: contents, and the steps of a transaction."""
    contents = arguments.get("contents")
    size = len(contents) if isinstance(contents, bytes) else 0
    if "then" in arguments:
        steps = arguments["then"] + arguments["else"]
        size += _STEP_BYTES * (len(steps) + len(arguments["guards"])) + sum(map(_bytes_of, steps))
    return size


class WaitingCalls:
    """See the module docstring."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._fresh: list[WaitingCall] = []
        self._rounds: deque[tuple[int, list[WaitingCall]]] = deque()
        self._count = 0
        self._bytes = 0

    def __len__(self) -> int:
        return self._count

    def full(self, waiting: WaitingCall) -> str | None:
        """Which limit forbids one more, if any."""
        if self._count >= self._settings.waiting_calls_max:
            return f"{self._count} calls wait for a confirming round; the limit is {self._settings.waiting_calls_max}"
        if self._bytes + waiting.size > self._settings.waiting_bytes_max:
            return f"{self._bytes} bytes of calls wait; the limit is {self._settings.waiting_bytes_max}"
        return None

    def add(self, waiting: WaitingCall) -> None:
        """One more, not covered by any round asked for so far."""
        self._fresh.append(waiting)
        self._count += 1
        self._bytes += waiting.size

    @property
    def needs_round(self) -> bool:
        """True when some call belongs to no round."""
        return bool(self._fresh)

    def number(self, number: int) -> None:
        """A round was asked for just now: it covers every fresh call."""
        assert self._fresh
        assert not self._rounds or number > self._rounds[-1][0], "numbered anew each time"
        self._rounds.append((number, self._fresh))
        self._fresh = []

    def take_confirmed(self, confirmed: int) -> list[WaitingCall]:
        """Those whose round is confirmed, in order of arrival."""
        taken: list[WaitingCall] = []
        while self._rounds and self._rounds[0][0] <= confirmed:
            taken += self._rounds.popleft()[1]
        return self._without(taken)

    def take_all(self) -> list[WaitingCall]:
        """Everybody, in order of arrival: inside the lease nobody waits."""
        taken = [waiting for _, group in self._rounds for waiting in group] + self._fresh
        self._rounds.clear()
        self._fresh = []
        return self._without(taken)

    def take_late(self, before_ms: int) -> list[WaitingCall]:
        """Those that came before `before_ms`."""
        late = [waiting for _, group in self._rounds for waiting in group if waiting.since_ms <= before_ms]
        late += [waiting for waiting in self._fresh if waiting.since_ms <= before_ms]
        if not late:
            return late
        kept = [(number, [w for w in group if w.since_ms > before_ms]) for number, group in self._rounds]
        self._rounds = deque((number, group) for number, group in kept if group)
        self._fresh = [waiting for waiting in self._fresh if waiting.since_ms > before_ms]
        return self._without(late)

    def _without(self, taken: list[WaitingCall]) -> list[WaitingCall]:
        self._count -= len(taken)
        self._bytes -= sum(waiting.size for waiting in taken)
        assert self._count >= 0 and self._bytes >= 0
        return [waiting for waiting in taken if not waiting.gone]

    def clear(self) -> None:
        """The mastership is over."""
        self._fresh = []
        self._rounds.clear()
        self._count = self._bytes = 0
