"""Who may use a client: the process and the loop that used it first, until it is closed."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable

from coordclient.errors import ClientClosed, ClientForked


class Guard:
    """Belongs to nobody until the first use, so a client made before a fork and used only after it is the child's."""

    def __init__(self) -> None:
        self.pid = 0
        self.closed = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def at_home(self) -> bool:
        """Whether this is the process that used it first."""
        return self.pid == os.getpid()

    def in_its_loop(self) -> bool:
        """Whether the loop that used it first runs, and calls this."""
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    def post(self, function: Callable[[], object]) -> None:
        """Call it soon in the loop that used it first, from whatever thread; never where that loop has ended, or in
        another process."""
        loop = self._loop
        if loop is not None and self.at_home():
            with contextlib.suppress(RuntimeError):  # it is closed
                loop.call_soon_threadsafe(function)

    def check_process(self) -> None:
        """Raises ClientForked in a child of the process that used it first."""
        if self.pid and not self.at_home():
            raise ClientForked(f"this client belongs to process {self.pid}; make one of your own after the fork")

    def use(self) -> None:
        """Raises when the client cannot be used here; otherwise it belongs to this process and loop from now on."""
        self.check_process()
        if self.closed:
            raise ClientClosed("the client was closed")
        self._check_loop()
        self.pid, self._loop = os.getpid(), asyncio.get_running_loop()

    def close(self) -> bool:
        """Nobody may use the client from now on. False: nothing is to be done for it, here or any more."""
        if self.at_home() and not self.closed:
            self._check_loop()
        was_closed, self.closed = self.closed, True
        return self.at_home() and not was_closed

    def _check_loop(self) -> None:
        if self._loop is not None and self._loop is not asyncio.get_running_loop():
            raise RuntimeError("this client belongs to another event loop; make one in each, and close it there")
