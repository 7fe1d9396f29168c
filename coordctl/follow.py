"""What follows a watch: a thread that reads it, and the main thread that prints or runs a command, and never waits for
anything that a signal, the end of the reader of stdout, or the end of the command could not interrupt. A signal that
comes just before a wait begins interrupts nothing by itself: so it is written into the pipe that the wait looks at.

What the main thread does not take stays in the cell: the thread reads ahead by `BATCHES_MAX` whole revisions and then
waits, and the flow control of the watch does the rest.
"""

from __future__ import annotations

import os
import queue
import select
import signal
import threading
from collections.abc import Iterable
from typing import Any, Generic, TypeVar

_Batch = TypeVar("_Batch")
BATCHES_MAX = 64
_STDOUT = 1


class Follower(Generic[_Batch]):
    """Reads batches in a thread of its own; made in the main thread. `wake` is readable when there may be something to
    take, or when a signal came."""

    def __init__(self, batches: Iterable[_Batch]) -> None:
        self._batches = batches
        self._found: queue.Queue[_Batch] = queue.Queue(BATCHES_MAX)
        self._error: BaseException | None = None
        self._ended = False
        self.wake, self._writer = os.pipe()
        for end in (self.wake, self._writer):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        threading.Thread(target=self._read, name="coordctl watch", daemon=True).start()

    def _read(self) -> None:
        try:
            for batch in self._batches:
                self._found.put(batch)
                self._ring()
        except BaseException as error:  # goes on in the main thread
            self._error = error
        self._ended = True
        self._ring()

    def _ring(self) -> None:
        try:
            os.write(self._writer, b"\0")
        except BlockingIOError:
            return  # it is readable already

    def take(self) -> _Batch | None:
        """The next one, or None if there is none yet; raises what ended the watch when all were taken."""
        ended = self._ended
        try:
            return self._found.get_nowait()
        except queue.Empty:
            if not ended:
                return None
        if self._error is not None:
            raise self._error
        raise StopIteration

    def silence(self) -> None:
        """Forget the wakes up to now."""
        try:
            os.read(self.wake, 65536)
        except BlockingIOError:
            return


def wait_for_more(follower: Follower[Any], *, output: bool = False) -> None:
    """Until there may be more to take, or a signal came.

    `output`: BrokenPipeError as soon as nobody reads what we print, not only when there is something to print.
    """
    poll = select.poll()
    poll.register(follower.wake, select.POLLIN)
    if output:
        poll.register(_STDOUT, 0)
    ready = dict(poll.poll())
    if ready.get(_STDOUT, 0) & (select.POLLERR | select.POLLHUP):
        raise BrokenPipeError
    if follower.wake in ready:
        follower.silence()
