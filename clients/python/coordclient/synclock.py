"""The locks of the thread flavour."""

from __future__ import annotations

import itertools
import logging
import os
import threading
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, Self

from coordclient.aio.lockstate import LockState
from coordclient.aio.terms import OnJeopardy, OnLost, Terms, time_limit
from coordclient.errors import ClientForked, CoordError, LockLost, LockTimeout
from coordclient.holds import Hold, HoldState
from coordclient.values import LockInfo
from coordclient.worker import Worker, call_safely

log = logging.getLogger("coordclient")
_this_thread = threading.local()
_thread_numbers = itertools.count(1)


class AnyLock:
    """What `Lock` and `LockSet` have in common."""

    def __init__(self, state: LockState, worker: Worker) -> None:
        self._state = state
        self._worker = worker

    def __del__(self) -> None:
        if (state := getattr(self, "_state", None)) is not None:
            state.forgotten()

    @property
    def held(self) -> bool:
        """Granted to this object, and neither released nor known to be lost."""
        return self._state.held

    @property
    def safe(self) -> bool:
        """Held, and before `deadline - stop_margin`, by the clocks at this very moment. No network.

        An adopted lock is not safe before the process that had it can believe in it no more.
        """
        return self._state.safe

    @property
    def deadline(self) -> float:
        """Until when the cell surely grants it to nobody else, in seconds of `coordclient.clock.now()`. It moves on
        with every KeepAlive; 0.0 when nothing is held."""
        return self._state.deadline

    @property
    def remaining(self) -> float:
        """Seconds until the deadline, by the least favourable clock; 0.0 when nothing is held. No network."""
        return self._state.remaining

    def check(self) -> None:
        """Raises LockLost unless `safe`. No network.

        >>> for row in rows:
        ...     lock.check()
        ...     write(row)
        """
        self._state.check()

    def verify(self) -> None:
        """Ask the master; raises LockLost when the cell does not regard it as held, or it is not `safe`.

        >>> lock.verify()
        """
        self._worker.run(self._state.ask_master)

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """As `threading.Lock.acquire`: True when it is held, False when it was not free in time (seconds; -1: no end).

        Raises Unavailable when the cell could not be asked, Deadlock, PermitsDiffer. After False, an error or Ctrl-C
        nothing is left behind in the queue. An adopted lock is held already: this waits until it is safe.

        >>> if lock.acquire(timeout=5):
        ...     lock.release()
        """
        timeout_ms, wait = time_limit(blocking, timeout)
        try:
            self._acquire(timeout_ms, wait)
        except LockTimeout:
            return False
        return True

    def release(self) -> None:
        """Free it at once. Raises LockLost when it was lost before, RuntimeError when it was not held at all.

        When the cell cannot be reached, OutcomeUnknown or Unavailable is raised after the request time-out; the release
        is retried all the same until it is answered or the session has ended.

        >>> lock.release()
        """
        hold = self._state.hold
        try:
            self._worker.run(self._state.give_back)
        except BaseException:
            self._drop(hold)
            raise

    def __enter__(self) -> Self:
        timeout, me = self._state.terms.timeout, threading.get_ident()
        self._acquire(None if timeout is None else round(timeout * 1_000), timeout != 0)
        self._state.worker = me  # no call stands between the grant and the body: Ctrl-C comes at calls
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        hold = self._state.hold
        try:
            self._state.worker = None
            lost = self._leave()
        except BaseException:
            self._drop(hold)
            raise
        if lost is None or isinstance(error, type(lost)):
            return
        if error is None:
            raise lost
        error.add_note(f"{type(lost).__name__}: {lost}")

    def _leave(self) -> CoordError | None:
        """Release at the end of the body; what there is to say about it, if anything."""
        hold = self._state.hold
        if hold is not None and hold.state is HoldState.RELEASED:
            return None  # the body did it
        try:
            self._worker.run(self._state.give_back)
        except (LockLost, ClientForked) as lost:
            return lost
        except CoordError as failed:
            log.warning("the release of %s is not confirmed yet and goes on: %s", self._state.name, failed)
        return None

    def _acquire(self, timeout_ms: int | None, wait: bool) -> None:
        actor = f"{self._state.keeper.labels.get('host', '')[:64]}:{os.getpid()}:t{_thread_number()}"
        taken: list[Hold | None] = []

        async def take() -> None:
            await self._state.take(wait, timeout_ms, actor)
            taken.append(self._state.hold)

        def give_back() -> None:
            for hold in taken:
                self._state.drop(hold)

        try:
            self._worker.run(take)
        except BaseException:
            # Ctrl-C, perhaps, which cancels what runs; it may have come when the lock was taken already.
            self._worker.post(give_back)
            raise

    def _drop(self, hold: Hold | None) -> None:
        """After Ctrl-C, perhaps before the release has begun in the loop; does nothing if it has."""
        self._worker.post(lambda: self._state.drop(hold))


class Lock(AnyLock):
    """A lock of the cell, made by `Client.lock` or `Client.semaphore`; a context manager.

    A thread cannot be interrupted from outside: when the lock cannot surely be held any more (`deadline - stop_margin`,
    the session was lost, an operator took the lock away), `on_lost` is called in a thread of its own, `safe` is False,
    `check()` raises, and the `with` ends in LockLost, or adds it as a note to what the body raised. One object has one
    holder at a time.

    >>> with client.lock("/billing/nightly", timeout=5) as lock:
    ...     write_report(fencing_token=lock.token)
    """

    def __repr__(self) -> str:
        return f"<Lock {self.path} {self.mode} {'held' if self.held else 'not held'}>"

    @property
    def path(self) -> str:
        """The path as it was given."""
        return self._state.asks[0].path

    @property
    def mode(self) -> str:
        """`exclusive`, `shared` or `semaphore`."""
        return self._state.asks[0].mode

    @property
    def permits(self) -> int:
        """How many may hold a semaphore at once; 0 in the other modes."""
        return self._state.asks[0].permits

    @property
    def token(self) -> int:
        """The fencing token of the present grant, or of the last; raises LockLost before the first."""
        return self._state.granted().token

    @property
    def sequencer(self) -> str:
        """Name, mode, token, hold and an authentication code as text, for `check_sequencer`; as `token` otherwise."""
        return self._state.granted().sequencer

    def info(self) -> LockInfo | None:
        """Who holds this path and who waits for it, as the cell sees it; None when nobody does.

        >>> info = lock.info()
        """
        return self._worker.run(self._state.look_up)

    def transfer(self, to: int) -> None:
        """Hand it to session `to`, which must wait for this path in the same mode: it gets the lock at once, past the
        queue, with a larger token. This object holds nothing afterwards, and believes nothing while it asks.

        Raises NotWaiting (it is held as before), LockLost. When that is interrupted, or no answer comes
        (OutcomeUnknown), the lock is with the other one or free. Tell whatever runs under it here to stop before.

        >>> lock.transfer(successor.session_id)
        """
        self._worker.run(self._state.hand_over, to)


class LockSet(AnyLock):
    """Several locks that are taken in one atomic step, made by `Client.locks`; a context manager as `Lock` is. All of
    them are held, or none; losing one is losing all.

    >>> with client.locks(["/accounts/1", "/accounts/2"], timeout=5) as both:
    ...     move_money(fencing_tokens=both.tokens)
    """

    def __repr__(self) -> str:
        return f"<LockSet {self._state.name} {'held' if self.held else 'not held'}>"

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths as they were given."""
        return tuple(ask.path for ask in self._state.asks)

    @property
    def tokens(self) -> dict[str, int]:
        """Path -> fencing token of the present grant, or of the last; raises LockLost before the first."""
        return {path: part.token for path, part in self._state.parts().items()}

    @property
    def sequencers(self) -> dict[str, str]:
        """Path -> sequencer, for `check_sequencer`; as `tokens` otherwise."""
        return {path: part.sequencer for path, part in self._state.parts().items()}


def _thread_number() -> int:
    """Of this thread alone: what the system calls a thread is given to another one as soon as it has ended, and a lock
    that an ended thread has left to others would look like a lock of the new one."""
    number: int | None = getattr(_this_thread, "number", None)
    if number is None:
        number = _this_thread.number = next(_thread_numbers)
    return number


def terms_in_threads(
    timeout: float | None,
    lock_delay: float,
    on_lost: OnLost | None,
    on_jeopardy: OnJeopardy | None,
    stop_margin: float,
) -> Terms:
    """What calls back does so in a thread of its own: it may block, and others are told meanwhile."""
    lost = None if on_lost is None else partial(_in_a_thread, "coordclient on_lost", on_lost)
    jeopardy = None if on_jeopardy is None else partial(_in_a_thread, "coordclient on_jeopardy", on_jeopardy)
    return Terms(timeout, lock_delay, lost, jeopardy, stop_margin)


def _in_a_thread(name: str, function: Callable[[Any], object], argument: object) -> None:
    threading.Thread(target=call_safely, args=(partial(function, argument),), name=name, daemon=True).start()
