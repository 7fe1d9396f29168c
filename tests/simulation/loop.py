"""An asyncio loop on virtual time, so that the library's real asyncio code runs inside the simulation.

One loop is one client process: it can be paused (nothing runs, everything piles up), put to sleep (likewise, and its
timers do not count that time) and killed (nothing runs ever again). Order is that of the heap and of the ready queue,
so it depends on nothing but the seed.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from tests.simulation.world import World

TURN_US = 30
HANDLES_PER_TURN_MAX = 10_000  # more without a moment of time passing is a livelock


class SimLoop(asyncio.AbstractEventLoop):
    """See the module docstring. `errors` holds what nobody handled."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._name = name
        self._ready: deque[asyncio.Handle] = deque()
        self._due = False
        self._paused = False
        self._dead = False
        self._asleep_us = 0  # altogether, so far
        self._slept_at_us: int | None = None
        self._sleeping: list[asyncio.TimerHandle] = []  # would have been due during the sleep
        self._tasks_in_order: dict[asyncio.Task[Any], None] = {}
        self.errors: list[dict[str, Any]] = []

    # ---- what asyncio asks of a loop ----

    def time(self) -> float:
        return self._time_us() / 1e6

    def _time_us(self) -> int:
        at_us = self._world.now_us if self._slept_at_us is None else self._slept_at_us
        return at_us - self._asleep_us

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self._dead

    def is_closed(self) -> bool:
        return self._dead

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: contextvars.Context | None = None
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, name=name or self._name, context=context)
        self._tasks_in_order[task] = None
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks_in_order.pop(task, None)

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        self._wake()
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._world.after(max(0, round(when * 1e6) - self._time_us()), self._timer_due, handle)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """asyncio tells; the entry on the heap is passed over when its time comes."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.errors.append(context)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.errors.append(context)

    # ---- what the simulation does to it ----

    def run_soon(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Begin a task from outside."""
        return self.create_task(coroutine)

    async def rest(self, seconds: float) -> None:
        """Let virtual time pass."""
        future = self.create_future()
        handle = self.call_later(seconds, _ring, future)
        try:
            await future
        finally:
            handle.cancel()

    def pause(self) -> None:
        """SIGSTOP."""
        self._paused = True

    def sleep(self) -> None:
        """The machine is suspended: timers stand still, too."""
        self._paused = True
        self._slept_at_us = self._world.now_us

    def resume(self) -> None:
        """SIGCONT, or the machine wakes up: what piled up runs now."""
        self._paused = False
        if self._slept_at_us is not None:
            self._asleep_us += self._world.now_us - self._slept_at_us
            self._slept_at_us = None
            sleeping, self._sleeping = self._sleeping, []
            for handle in sleeping:
                self._timer_due(handle)
        self._wake()

    @property
    def paused(self) -> bool:
        return self._paused

    def kill(self) -> None:
        """The process is gone. Its tasks are unwound here and now, into a world that does not hear them any more."""
        if self._dead:
            return
        self._paused = False
        for _ in range(100):
            if not self._tasks_in_order:
                break
            for task in list(self._tasks_in_order):
                task.cancel()
            self._run_ready()
        self._dead = True
        self._ready.clear()

    def _timer_due(self, handle: asyncio.TimerHandle) -> None:
        if self._dead or handle._cancelled:
            return
        early_us = round(handle.when() * 1e6) - self._time_us()
        if early_us > 0 and self._slept_at_us is not None:
            self._sleeping.append(handle)
        elif early_us > 0:  # the machine has slept meanwhile
            self._world.after(early_us, self._timer_due, handle)
        else:
            self._ready.append(handle)
            self._wake()

    def _wake(self) -> None:
        if not self._due and not self._paused and not self._dead and self._ready:
            self._due = True
            self._world.after(TURN_US, self._turn)

    def _turn(self) -> None:
        self._due = False
        if not self._paused and not self._dead:
            self._run_ready()

    def _run_ready(self) -> None:
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        ready = self._ready
        try:
            for _ in range(HANDLES_PER_TURN_MAX):
                if not ready:
                    return
                handle = ready.popleft()
                if not handle._cancelled:
                    handle._run()
        finally:
            asyncio._set_running_loop(before)
        raise self._world.violation("livelock", f"the loop of {self._name} never comes to rest")


def _ring(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_result(None)
