"""The lock of the thread flavour."""

from __future__ import annotations

import itertools
import logging
import os
import threading
from functools import partial
from types import TracebackType
from typing import Literal

from coordclient.aio.keeper import Keeper
from coordclient.aio.lockstate import LockState, OnLost
from coordclient.errors import ClientForked, CoordError, LockLost, LockTimeout
from coordclient.holds import Hold, HoldState
from coordclient.values import LockInfo
from coordclient.worker import Worker, call_safely

log = logging.getLogger("coordclient")
Mode = Literal["exclusive", "shared"]
_this_thread = threading.local()
_thread_numbers = itertools.count(1)


class Lock:
    """A lock of the cell, made by `Client.lock`; a context manager.

    A thread cannot be interrupted from outside: when the lock cannot surely be held any more (`deadline - stop_margin`,
    or the session was lost), `on_lost` is called in a thread of its own, `safe` is False, `check()` raises, and the
    `with` ends in LockLost, or adds it as a note to what the body raised. One object has one holder at a time.

    >>> with client.lock("/billing/nightly", timeout=5) as lock:
    ...     write_report(fencing_token=lock.token)
    """

    def __init__(
        self,
        keeper: Keeper,
        worker: Worker,
        path: str,
        mode: Mode,
        timeout: float | None,
        lock_delay: float,
        on_lost: OnLost | None,
        stop_margin: float,
    ) -> None:
        tell = None if on_lost is None else partial(_tell, on_lost)
        self._state = LockState(keeper, path, mode, timeout, lock_delay, stop_margin, tell)
        self._worker = worker
        self._timeout = timeout

    def __repr__(self) -> str:
        return f"<Lock {self.path} {self.mode} {'held' if self.held else 'not held'}>"

    @property
    def path(self) -> str:
        """The path as it was given."""
        return self._state.path

    @property
    def mode(self) -> str:
        """`exclusive` or `shared`."""
        return self._state.mode

    @property
    def token(self) -> int:
        """The fencing token of the present grant, or of the last; raises LockLost before the first."""
        return self._state.granted().token

    @property
    def sequencer(self) -> str:
        """Name, mode, token, hold and an authentication code as text, for `check_sequencer`; as `token` otherwise."""
        return self._state.granted().sequencer

    @property
    def held(self) -> bool:
        """Granted to this object, and neither released nor known to be lost."""
        return self._state.held

    @property
    def safe(self) -> bool:
        """Held, and before `deadline - stop_margin`, by the clocks at this very moment. No network."""
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
        """Ask the master; raises LockLost when the cell does not regard this lock as held, or it is not `safe`."""
        self._worker.run(self._state.ask_master)

    def info(self) -> LockInfo | None:
        """Who holds this path and who waits for it, as the cell sees it; None when nobody does."""
        return self._worker.run(self._state.look_up)

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """As `threading.Lock.acquire`: True when it is held, False when it was not free in time (seconds; -1: no end).

        Raises Unavailable when the cell could not be asked. After False, an error or Ctrl-C nothing is left behind in
        the queue.
        """
        if not blocking and timeout != -1:
            raise ValueError("a time-out makes no sense without blocking")
        if timeout < 0 and timeout != -1:
            raise ValueError(f"timeout must be -1 or at least 0 seconds, not {timeout}")
        try:
            self._acquire(None if timeout == -1 else timeout, blocking and timeout != 0)
        except LockTimeout:
            return False
        return True

    def release(self) -> None:
        """Free it at once. Raises LockLost when it was lost before, RuntimeError when it was not held at all.

        When the cell cannot be reached, OutcomeUnknown or Unavailable is raised after the request time-out; the release
        is retried all the same until it is answered or the session has ended.
        """
        self._worker.run(self._state.give_back)

    def __enter__(self) -> Lock:
        self._acquire(self._timeout, self._timeout != 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        lost = self._leave()
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
            log.warning("the release of %s is not confirmed yet and goes on: %s", self.path, failed)
        return None

    def _acquire(self, timeout: float | None, wait: bool) -> None:
        timeout_ms = None if timeout is None else max(0, round(timeout * 1_000))
        actor = f"{self._state.keeper.labels.get('host', '')[:64]}:{os.getpid()}:t{_thread_number()}"
        interrupted = threading.Event()

        taken: list[Hold | None] = []

        async def take() -> None:
            await self._state.take(wait, timeout_ms, actor)
            taken.append(self._state.hold)
            give_back()

        def give_back() -> None:
            if interrupted.is_set() and taken and taken[0] is self._state.hold:
                self._state.drop()

        future = self._worker.begin(take)
        try:
            future.result()
        except BaseException as error:
            if future.done() and not future.cancelled() and future.exception() is error:
                raise
            # Ctrl-C, somewhere between the wait and its result: whatever comes of the acquire is given back. It may
            # have ended in the loop without the future knowing yet, so `give_back` looks in any case.
            interrupted.set()
            future.cancel()
            self._worker.post(give_back)
            raise


def _thread_number() -> int:
    """Of this thread alone: what the system calls a thread is given to another one as soon as it has ended, and a lock
    that an ended thread has left to others would look like a lock of the new one."""
    number: int | None = getattr(_this_thread, "number", None)
    if number is None:
        number = _this_thread.number = next(_thread_numbers)
    return number


def _tell(on_lost: OnLost, lost: LockLost) -> None:
    """In a thread of its own: it may block, and other losses are told meanwhile."""
    threading.Thread(
        target=call_safely, args=(partial(on_lost, lost),), name="coordclient on_lost", daemon=True
    ).start()
