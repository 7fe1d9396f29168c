"""What the asyncio flavour hands out for a watch."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from coordclient.aio.watches import Watcher
from coordclient.changes import Event, Resync
from coordclient.errors import ClientClosed


class Watch:
    """The changes of a node, of its children or of a subtree: an iterator of `Event` and `Resync`.

    In order, none missing, none twice, whatever masters, channels and sessions it lives through. It is registered by
    `with`, which waits for that, or by the first look; a change after that is given. What is not taken here is not kept
    without end: a watch that falls too far behind gets a Resync instead. Made by `Client.watch`.

    >>> async with client.watch("/config", scope="subtree") as watch:
    ...     async for event in watch:
    ...         print(event.revision, event.kind, event.path)
    """

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

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

    async def next(self, timeout: float | None = None) -> Event | Resync | None:
        """The next event or resync; None when `timeout` seconds pass before there is one (None: wait without end).

        Raises ClientClosed when the watch was closed, and what it is over by: LimitReached, PermissionDenied.

        >>> event = await watch.next(timeout=1.0)
        """
        watcher = self._watcher
        deadline_ms = None if timeout is None else watcher.keeper.clocks()[0] + round(timeout * 1_000)
        item: Event | Resync | None = await watcher.next(watcher.watching.take, deadline_ms)
        if item is None and watcher.closed:
            raise ClientClosed("the watch was closed")
        return item

    def batches(self) -> Batches:
        """An iterator of the same watch that gives whole revisions: all events of one in a tuple, or a Resync.

        >>> async for batch in watch.batches():
        ...     apply(batch)
        """
        return Batches(self)

    async def close(self) -> None:
        """End it: nothing of it is left in the cell, and whoever iterates is at the end. The second time it does
        nothing.

        >>> await watch.close()
        """
        self._watcher.keeper.guard.check_process()
        self._watcher.close()

    async def __aenter__(self) -> Self:
        try:
            await self._watcher.registered()
        except BaseException:
            self._watcher.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._watcher.keeper.guard.at_home():
            self._watcher.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event | Resync:
        item: Event | Resync | None = await self._watcher.next(self._watcher.watching.take)
        if item is None:
            raise StopAsyncIteration
        return item


class Batches:
    """An iterator of whole revisions of a watch; made by `Watch.batches`."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[Event, ...] | Resync:
        watcher = self._watch._watcher
        batch: tuple[Event, ...] | Resync | None = await watcher.next(watcher.watching.take_batch)
        if batch is None:
            raise StopAsyncIteration
        return batch
