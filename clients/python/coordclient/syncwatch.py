"""What the thread flavour hands out for a watch."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from coordclient.aio.watches import Watcher
from coordclient.changes import Event, Resync
from coordclient.errors import ClientClosed
from coordclient.worker import Worker


class Watch:
    """The changes of a node, of its children or of a subtree: an iterator of `Event` and `Resync`.

    In order, none missing, none twice, whatever masters, channels and sessions it lives through. It is registered by
    `with`, which waits for that, or by the first look; a change after that is given. What is not taken here is not kept
    without end: a watch that falls too far behind gets a Resync instead. Made by `Client.watch`.

    >>> with client.watch("/config", scope="subtree") as watch:
    ...     for event in watch:
    ...         print(event.revision, event.kind, event.path)
    """

    def __init__(self, watcher: Watcher, worker: Worker) -> None:
        self._watcher = watcher
        self._worker = worker

    def __del__(self) -> None:
        if (watcher := getattr(self, "_watcher", None)) is not None:
            watcher.forgotten()

    @property
    def revision(self) -> int | None:
        """Everything up to it was given here: `client.watch(path, since=revision)` goes on after it, in any process.

        It moves on without events too. None before the first registration, unless the watch began at a revision.
        """
        return self._watcher.watching.revision

    @property
    def live(self) -> bool:
        """Whether a master has it registered now. If not, the library is about to find one; nothing is missed."""
        return self._watcher.live

    def next(self, timeout: float | None = None) -> Event | Resync | None:
        """The next event or resync; None when `timeout` seconds pass before there is one (None: wait without end).

        Raises ClientClosed when the watch was closed, and what it is over by: LimitReached, PermissionDenied.

        >>> event = watch.next(timeout=1.0)
        """
        clocks = self._watcher.keeper.clocks
        deadline_ms = None if timeout is None else clocks()[0] + round(timeout * 1_000)
        item: Event | Resync | None = self._next(self._watcher.watching.take, deadline_ms)
        if item is None and self._watcher.closed:
            raise ClientClosed("the watch was closed")
        return item

    def batches(self) -> Batches:
        """An iterator of the same watch that gives whole revisions: all events of one in a tuple, or a Resync.

        >>> for batch in watch.batches():
        ...     apply(batch)
        """
        return Batches(self)

    def close(self) -> None:
        """End it: nothing of it is left in the cell, and whoever iterates is at the end. The second time it does
        nothing.

        >>> watch.close()
        """
        self._watcher.keeper.guard.check_process()
        self._end()

    def __enter__(self) -> Self:
        try:
            self._worker.run(self._watcher.registered)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event | Resync:
        item: Event | Resync | None = self._next(self._watcher.watching.take)
        if item is None:
            raise StopIteration
        return item

    def _next(self, take: Callable[[], Any], deadline_ms: int | None = None) -> Any:
        """As `Watcher.next`, but it is this thread that takes: what interrupts its wait (Ctrl-C) has taken nothing."""
        watcher = self._watcher
        while True:
            item = watcher.take(take)
            if item is not None:
                if watcher.due:
                    self._worker.post(watcher.settle)
                return item
            if not self._worker.run(watcher.wait, deadline_ms):
                return None

    def _end(self) -> None:
        """Nobody waits for the cell here: it is told by the loop."""
        self._watcher.closed = True
        self._worker.post(self._watcher.close)


class Batches:
    """An iterator of whole revisions of a watch; made by `Watch.batches`."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[Event, ...] | Resync:
        batch: tuple[Event, ...] | Resync | None = self._watch._next(self._watch._watcher.watching.take_batch)
        if batch is None:
            raise StopIteration
        return batch
