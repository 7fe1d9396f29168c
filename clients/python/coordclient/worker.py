"""A loop in a daemon thread of its own: what carries the thread flavour. It starts with the first call.

The application's threads wait for what runs in the loop; nothing of the application runs in it, so a slow callback or a
busy thread cannot keep a KeepAlive waiting. A child of the process that started it gets ClientForked.

Ctrl-C comes in the application's thread between any two steps of Python, so that thread shares nothing with the loop
that it could leave locked: what it waits for is one lock of the interpreter (`Running`). A condition, as those of
concurrent.futures, may stay locked for ever, and the loop would wait for it. Python sees a signal between two of its
steps: one that comes just before the wait begins, or to another thread, interrupts nothing. So a wait has pauses.
"""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from math import inf
from typing import Any, Generic, TypeVar

from coordclient.errors import ClientClosed, ClientForked

log = logging.getLogger("coordclient")
DRAIN_SECONDS_MAX = 1.0
LOOK_SECONDS = 1.0  # after which a thread that waits looks for a Ctrl-C
_T = TypeVar("_T")


class Running(Generic[_T]):
    """What a thread has begun in the loop, and waits for."""

    def __init__(self, function: Callable[[], Coroutine[Any, Any, _T]]) -> None:
        self._function = function
        self._task: asyncio.Task[_T] | None = None
        self._results: list[_T] = []
        self._error: BaseException | None = None
        self._running = threading.Lock()
        self._running.acquire()

    def start(self) -> None:
        """In the loop."""
        self._task = asyncio.get_running_loop().create_task(self._function())
        self._task.add_done_callback(self._end)

    def cancel(self) -> None:
        """In the loop, after `start` if that was called at all."""
        if self._task is not None:
            self._task.cancel()

    def result(self, seconds_max: float | None = None) -> _T:
        """In the waiting thread, once. Raises TimeoutError when it has not ended in time."""
        left = inf if seconds_max is None else seconds_max
        while not self._running.acquire(timeout=min(left, LOOK_SECONDS)):
            left -= LOOK_SECONDS
            if left <= 0:
                raise TimeoutError("the client did not answer in time")
        if self._error is not None:
            raise self._error
        return self._results[0]

    def _end(self, task: asyncio.Task[_T]) -> None:
        self._task = None  # the loop's alone: where a task goes, Python runs a callback, which would swallow a Ctrl-C
        if task.cancelled():
            self._error = ClientClosed("the client was closed before this call had ended")
        elif (error := task.exception()) is not None:
            self._error = error
        else:
            self._results.append(task.result())
        self._running.release()


class Worker:
    """See the module docstring."""

    def __init__(self, on_start: Callable[[], object]) -> None:
        self._on_start = on_start
        self.pid = 0
        self.closed = False
        self._mutex = threading.RLock()  # a finalizer that uses the client may run anywhere
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._caller: threading.Thread | None = None
        self._closing = False
        self._ending: asyncio.Task[None] | None = None
        self._callbacks: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()

    def begin(self, running: Running[Any]) -> None:
        """Start it in the loop."""
        if self.pid not in (0, os.getpid()):
            raise ClientForked(f"this client belongs to process {self.pid}; make one of your own after the fork")
        if threading.current_thread() is self._thread:
            raise RuntimeError("a blocking call inside the client's own thread (in a finalizer?) would wait for ever")
        with self._mutex:  # so that `stop` comes before it, or after it and waits for its end
            loop = self._loop if self._loop is not None and not self.closed else self._start()
            loop.call_soon_threadsafe(running.start)

    def run(self, coroutine: Callable[..., Coroutine[Any, Any, _T]], *arguments: Any, **named: Any) -> _T:
        """Run `coroutine(*arguments)` in the loop and wait for its result; what interrupts that (Ctrl-C) cancels it."""
        running = Running(partial(coroutine, *arguments, **named))
        try:
            self.begin(running)
            return running.result()
        except BaseException:
            self.post(running.cancel)
            raise

    def post(self, function: Callable[[], object]) -> None:
        """Call `function()` in the loop, soon."""
        loop = self._loop
        if loop is not None and self.at_home():
            loop.call_soon_threadsafe(function)

    def at_home(self) -> bool:
        """Whether it runs, in this very process."""
        return self._loop is not None and self.pid == os.getpid() and not self.closed

    def call_back(self, function: Callable[[], object]) -> None:
        """Call the application back, in order, in a thread that is there for nothing else."""
        self._callbacks.put(function)

    def close(self, last: Callable[[], Coroutine[Any, Any, object]], seconds_max: float | None) -> None:
        """Run `last()`, wait for it at most so long, and end the loop and its threads. Whoever comes second waits for
        that end; a finalizer that runs in the loop's own thread waits for nothing. A callback that is still running is
        waited for a moment only, for it may itself wait for whoever closes; and not at all with a limit: at the exit of
        the program the next client is to be closed."""
        with self._mutex:
            first, self._closing = not self._closing, True
        loop, thread = self._loop, self._thread
        if loop is None or thread is None or not self.at_home():
            self.closed = True
        elif threading.current_thread() is thread:
            if first:
                self._ending = loop.create_task(self._close(last))
        elif not first:
            thread.join(seconds_max)
            self._join_caller(seconds_max)
        else:
            running = Running(last)
            try:
                self.begin(running)
                running.result(seconds_max)
            finally:
                self._stop(loop)
                thread.join()
                self._join_caller(seconds_max)

    def _join_caller(self, seconds_max: float | None) -> None:
        caller = self._caller
        if seconds_max is None and caller is not None and caller is not threading.current_thread():
            caller.join(DRAIN_SECONDS_MAX)

    async def _close(self, last: Callable[[], Coroutine[Any, Any, object]]) -> None:
        try:
            await last()
        finally:
            self._stop(asyncio.get_running_loop())

    def _stop(self, loop: asyncio.AbstractEventLoop) -> None:
        def end() -> None:
            self._ending = loop.create_task(_drain())
            self._ending.add_done_callback(lambda _: loop.stop())

        with self._mutex:  # what is begun comes before it, or is refused
            self.closed = True
            loop.call_soon_threadsafe(end)
        self._callbacks.put(None)

    def _start(self) -> asyncio.AbstractEventLoop:
        if self.closed:
            raise ClientClosed("the client was closed")
        if self._loop is None:
            self.pid = os.getpid()
            loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=_turn, args=(loop,), name="coordclient", daemon=True)
            self._thread.start()
            self._caller = threading.Thread(target=self._call, name="coordclient callbacks", daemon=True)
            self._caller.start()
            self._loop = loop
            self._on_start()
        return self._loop

    def _call(self) -> None:
        while (function := self._callbacks.get()) is not None:
            call_safely(function)


def call_safely(function: Callable[[], object]) -> None:
    """Call back the application; what it raises is logged, for nobody is there to catch it."""
    try:
        function()
    except Exception:
        log.exception("a callback raised")


async def _drain() -> None:
    """Let what other threads wait for come to its end, so that no thread waits for ever."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=DRAIN_SECONDS_MAX)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)


def _turn(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.close()
