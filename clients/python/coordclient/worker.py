"""A loop in a daemon thread of its own: what carries the thread flavour. It starts with the first call.

The application's threads wait for what runs in the loop; nothing of the application runs in it, so a slow callback or a
busy thread cannot keep a KeepAlive waiting. A child of the process that started it gets ClientForked.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import os
import queue
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from coordclient.errors import ClientClosed, ClientForked

log = logging.getLogger("coordclient")
DRAIN_SECONDS_MAX = 1.0
_T = TypeVar("_T")


class Worker:
    """See the module docstring."""

    def __init__(self, on_start: Callable[[], object]) -> None:
        self._on_start = on_start
        self.pid = 0
        self.closed = False
        self._mutex = threading.RLock()  # a finalizer that uses the client may run anywhere
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._callbacks: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()

    def begin(self, coroutine: Callable[..., Coroutine[Any, Any, _T]], *arguments: Any, **named: Any) -> Future[_T]:
        """Start `coroutine(*arguments)` in the loop."""
        if self.pid not in (0, os.getpid()):
            raise ClientForked(f"this client belongs to process {self.pid}; make one of your own after the fork")
        if threading.current_thread() is self._thread:
            raise RuntimeError("a blocking call inside the client's own thread (in a finalizer?) would wait for ever")
        with self._mutex:  # so that `stop` comes before it, or after it and waits for its end
            loop = self._loop if self._loop is not None and not self.closed else self._start()
            return asyncio.run_coroutine_threadsafe(coroutine(*arguments, **named), loop)

    def run(self, coroutine: Callable[..., Coroutine[Any, Any, _T]], *arguments: Any, **named: Any) -> _T:
        """Start it and wait for its result; an interrupted wait (Ctrl-C) cancels it."""
        future = self.begin(coroutine, *arguments, **named)
        try:
            return future.result()
        except BaseException:
            future.cancel()
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

    def stop(self) -> None:
        """End the loop and its threads."""
        with self._mutex:
            self.closed = True
            loop, thread = self._loop, self._thread
        if loop is not None and thread is not None:
            asyncio.run_coroutine_threadsafe(_drain(), loop).add_done_callback(
                lambda _: loop.call_soon_threadsafe(loop.stop)
            )
            self._callbacks.put(None)
            if thread is not threading.current_thread():
                thread.join()

    def _start(self) -> asyncio.AbstractEventLoop:
        if self.closed:
            raise ClientClosed("the client was closed")
        if self._loop is None:
            self.pid = os.getpid()
            loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=_turn, args=(loop,), name="coordclient", daemon=True)
            self._thread.start()
            caller = threading.Thread(target=self._call, name="coordclient callbacks", daemon=True)
            caller.start()
            self._loop = loop
            self._on_start()
        return self._loop

    def _call(self) -> None:
        while (function := self._callbacks.get()) is not None:
            call_safely(function)


Future = concurrent.futures.Future


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
