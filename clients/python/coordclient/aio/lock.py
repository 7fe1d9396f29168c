"""The locks of the asyncio flavour: context managers whose body is cancelled when the lock cannot surely be held."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from coordclient.aio.lockstate import LockState
from coordclient.aio.terms import time_limit
from coordclient.errors import CoordError, LockLost, LockTimeout
from coordclient.holds import HoldState
from coordclient.values import LockInfo

log = logging.getLogger("coordclient")


class AnyLock:
    """What `Lock` and `LockSet` have in common."""

    def __init__(self, state: LockState, actor: Callable[[], str]) -> None:
        self._state = state
        self._actor = actor
        self._task: asyncio.Task[Any] | None = None  # that runs the body
        self._cancelling = 0  # of that task, when it entered
        self._lost: LockLost | None = None  # why the body was cancelled by us
        me = weakref.ref(self)  # the state outlives a lock object that was forgotten

        def interrupt() -> None:
            if (lock := me()) is not None:  # from outside of the body, so never while it runs
                asyncio.get_running_loop().call_soon(lock._cancel_body, lock._task)

        state.interrupt = interrupt

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

    async def verify(self) -> None:
        """Ask the master; raises LockLost when the cell does not regard it as held, or it is not `safe`.

        >>> await lock.verify()
        """
        await self._state.ask_master()

    async def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """As `threading.Lock.acquire`: True when it is held, False when it was not free in time (seconds; -1: no end).

        Raises Unavailable when the cell could not be asked, Deadlock, PermitsDiffer. After False, an error or a
        cancellation nothing is left behind in the queue. An adopted lock is held already: this waits until it is safe.

        >>> if await lock.acquire(timeout=5):
        ...     await lock.release()
        """
        timeout_ms, wait = time_limit(blocking, timeout)
        try:
            await self._state.take(wait, timeout_ms, self._actor())
        except LockTimeout:
            return False
        return True

    async def release(self) -> None:
        """Free it at once. Raises LockLost when it was lost before, RuntimeError when it was not held at all.

        When the cell cannot be reached, OutcomeUnknown or Unavailable is raised after the request time-out; the release
        is retried all the same until it is answered or the session has ended.

        >>> await lock.release()
        """
        await self._state.give_back()

    async def __aenter__(self) -> Self:
        timeout = self._state.terms.timeout
        await self._state.take(timeout != 0, None if timeout is None else round(timeout * 1_000), self._actor())
        self._task = self._state.worker = asyncio.current_task()
        self._cancelling = self._task.cancelling() if self._task is not None else 0
        self._lost = None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        self._state.worker = None
        ours = False
        if self._lost is not None and task is not None:
            ours = task.uncancel() <= self._cancelling and isinstance(error, asyncio.CancelledError)
        lost: CoordError | None = await self._leave() or self._lost
        if lost is None:
            return
        if ours or error is None:
            raise lost from error
        if not isinstance(error, LockLost):
            error.add_note(f"{type(lost).__name__}: {lost}")

    async def _leave(self) -> CoordError | None:
        """Release at the end of the body; what there is to say about it, if anything."""
        hold = self._state.hold
        if hold is not None and hold.state is HoldState.RELEASED:
            return None  # the body did it
        try:
            await self._state.give_back()
        except LockLost as lost:
            return lost
        except CoordError as failed:
            if not self._state.keeper.guard.at_home():
                return failed
            log.warning("the release of %s is not confirmed yet and goes on: %s", self._state.name, failed)
        return None

    def _cancel_body(self, task: asyncio.Task[Any] | None) -> None:
        """Of the `with` in which it was lost, unless that has ended since."""
        if task is not None and task is self._task and not task.done() and self._lost is None:
            self._lost = self._state.loss()
            task.cancel(f"lock {self._state.name} was lost")


class Lock(AnyLock):
    """A lock of the cell, made by `Client.lock` or `Client.semaphore`; an asynchronous context manager.

    The body of `async with` is cancelled at `deadline - stop_margin`, or when the session is lost or an operator takes
    the lock away, and `LockLost` is raised at its end; the cell grants the lock to nobody else before `deadline`. A
    body that awaits nothing cannot be cancelled: let it call `check()`. One object has one holder at a time.

    >>> async with client.lock("/billing/nightly", timeout=5) as lock:
    ...     await write_report(fencing_token=lock.token)
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

    async def info(self) -> LockInfo | None:
        """Who holds this path and who waits for it, as the cell sees it; None when nobody does.

        >>> info = await lock.info()
        """
        return await self._state.look_up()

    async def transfer(self, to: int) -> None:
        """Hand it to session `to`, which must wait for this path in the same mode: it gets the lock at once, past the
        queue, with a larger token. This object holds nothing afterwards, and believes nothing while it asks.

        Raises NotWaiting (it is held as before), LockLost. When that is cancelled, or no answer comes (OutcomeUnknown),
        the lock is with the other one or free. Tell whatever runs under it here to stop before.

        >>> await lock.transfer(successor.session_id)
        """
        await self._state.hand_over(to)


class LockSet(AnyLock):
    """Several locks that are taken in one atomic step, made by `Client.locks`; an asynchronous context manager as
    `Lock` is. All of them are held, or none; losing one is losing all.

    >>> async with client.locks(["/accounts/1", "/accounts/2"], timeout=5) as both:
    ...     await move_money(fencing_tokens=both.tokens)
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
