"""The lock of the asyncio flavour: a context manager whose body is cancelled when the lock cannot surely be held."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal

from coordclient.aio.keeper import Keeper
from coordclient.aio.lockstate import LockState, OnLost
from coordclient.errors import CoordError, LockLost, LockTimeout
from coordclient.holds import HoldState
from coordclient.values import LockInfo

log = logging.getLogger("coordclient")
Mode = Literal["exclusive", "shared"]


class Lock:
    """A lock of the cell, made by `Client.lock`; an asynchronous context manager.

    The body of `async with` is cancelled at `deadline - stop_margin`, or when the session is lost, and `LockLost` is
    raised at its end; the cell grants the lock to nobody else before `deadline`. A body that awaits nothing cannot be
    cancelled: let it call `check()`. One object has one holder at a time.

    >>> async with client.lock("/billing/nightly", timeout=5) as lock:
    ...     await write_report(fencing_token=lock.token)
    """

    def __init__(
        self,
        keeper: Keeper,
        actor: Callable[[], str],
        path: str,
        mode: Mode,
        timeout: float | None,
        lock_delay: float,
        on_lost: OnLost | None,
        stop_margin: float,
    ) -> None:
        self._state = LockState(keeper, path, mode, timeout, lock_delay, stop_margin, on_lost)
        self._state.interrupt = self._interrupt  # type: ignore[method-assign]
        self._actor = actor
        self._timeout = timeout
        self._task: asyncio.Task[Any] | None = None  # that runs the body
        self._cancelling = 0  # of that task, when it entered
        self._cancelled = False  # the body, by us

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

    async def verify(self) -> None:
        """Ask the master; raises LockLost when the cell does not regard this lock as held, or it is not `safe`."""
        await self._state.ask_master()

    async def info(self) -> LockInfo | None:
        """Who holds this path and who waits for it, as the cell sees it; None when nobody does."""
        return await self._state.look_up()

    async def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """As `threading.Lock.acquire`: True when it is held, False when it was not free in time (seconds; -1: no end).

        Raises Unavailable when the cell could not be asked. After False, an error or a cancellation nothing is left
        behind in the queue.
        """
        if not blocking and timeout != -1:
            raise ValueError("a time-out makes no sense without blocking")
        if timeout < 0 and timeout != -1:
            raise ValueError(f"timeout must be -1 or at least 0 seconds, not {timeout}")
        try:
            await self._acquire(None if timeout == -1 else timeout, blocking and timeout != 0)
        except LockTimeout:
            return False
        return True

    async def release(self) -> None:
        """Free it at once. Raises LockLost when it was lost before, RuntimeError when it was not held at all.

        When the cell cannot be reached, OutcomeUnknown or Unavailable is raised after the request time-out; the release
        is retried all the same until it is answered or the session has ended.
        """
        await self._state.give_back()

    async def __aenter__(self) -> Lock:
        await self._acquire(self._timeout, self._timeout != 0)
        self._task = asyncio.current_task()
        self._cancelling = self._task.cancelling() if self._task is not None else 0
        self._cancelled = False
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        ours = False
        if self._cancelled and task is not None:
            ours = task.uncancel() <= self._cancelling and isinstance(error, asyncio.CancelledError)
        lost = await self._leave(error)
        if lost is None:
            return
        if ours or error is None:
            raise lost from error
        if not isinstance(error, LockLost):
            error.add_note(f"{type(lost).__name__}: {lost}")

    async def _leave(self, error: BaseException | None) -> CoordError | None:
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
            log.warning("the release of %s is not confirmed yet and goes on: %s", self.path, failed)
        return None

    async def _acquire(self, timeout: float | None, wait: bool) -> None:
        timeout_ms = None if timeout is None else max(0, round(timeout * 1_000))
        await self._state.take(wait, timeout_ms, self._actor())

    def _interrupt(self) -> None:
        """Cancel the body: from outside of it, so never while it runs."""
        asyncio.get_running_loop().call_soon(self._cancel_body)

    def _cancel_body(self) -> None:
        if self._task is not None and not self._task.done() and not self._cancelled:
            self._cancelled = True
            self._task.cancel(f"lock {self.path} was lost")
