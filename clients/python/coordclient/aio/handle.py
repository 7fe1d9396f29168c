"""What the asyncio flavour hands out for a node that is open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from coordclient.aio.files import contents_of, file_of, guarded, int_in, stat_in
from coordclient.aio.listing import list_pages
from coordclient.aio.lock import Lock
from coordclient.aio.lockstate import LockState
from coordclient.aio.opening import Kind, Opening, below, check_kind, why_unusable
from coordclient.aio.terms import STOP_MARGIN, Mode, OnJeopardy, OnLost, Terms, ask_of
from coordclient.errors import CoordError, OutcomeUnknown
from coordclient.values import Entry, File, Stat

_T = TypeVar("_T")
CHANGES = ("put", "delete")


class Handle:
    """A node that is open: every operation is on that very node, never on another one that has its name now.

    When it is gone, or there is another in its place, each operation raises StaleHandle (a NotFound). An ephemeral node
    is kept alive by this session until every handle of it here is closed, or the session ends; a handle that is only
    forgotten counts as open. Made by `Client.open` and by `open` of another handle.

    >>> async with await client.open("/workers", create="directory") as workers:
    ...     me = await workers.open("7", create="file", ephemeral=True)
    """

    def __init__(self, opening: Opening, opened: Stat, actor: Callable[[], str]) -> None:
        self._opening = opening
        self._opened = opened
        self._actor = actor
        self._closed = False
        self._poisoned = False
        self._running: dict[asyncio.Task[Any], str] = {}

    @property
    def path(self) -> str:
        """Of the node."""
        return self._opened.path

    @property
    def instance(self) -> int:
        """The number of this very node; another node of the same name has a larger one."""
        return self._opened.instance

    @property
    def kind(self) -> str:
        """`file` or `directory`."""
        return self._opened.kind

    async def read(self) -> File:
        """As `Client.get`.

        >>> contents, stat = await handle.read()
        """
        return file_of(await self._call("get", {}))

    async def stat(self) -> Stat:
        """As `Client.stat`.

        >>> (await handle.stat()).revision
        """
        return stat_in(await self._call("stat", {}))

    async def ls(self, *, contents: bool = False) -> list[Entry]:
        """As `Client.ls`.

        >>> [entry.name for entry in await handle.ls()]
        """
        return await list_pages(lambda page: self._call("ls", page), {}, contents)

    async def write(
        self, contents: bytes, *, if_generation: int | None = None, if_sequencer: str | None = None
    ) -> Stat:
        """As `Client.put`; it never makes a file.

        >>> stat = await handle.write(b"10.0.0.8")
        """
        arguments: dict[str, object] = {"contents": contents_of(contents)}
        if if_generation is not None:
            arguments["if_generation"] = if_generation
        return stat_in(await self._call("put", guarded(arguments, if_sequencer)))

    async def delete(self, *, if_generation: int | None = None, if_sequencer: str | None = None) -> int:
        """As `Client.delete`; the handle is stale then.

        >>> revision = await handle.delete()
        """
        arguments: dict[str, object] = {} if if_generation is None else {"if_generation": if_generation}
        return int_in(await self._call("delete", guarded(arguments, if_sequencer)), "revision")

    def lock(
        self,
        mode: Mode = "exclusive",
        timeout: float | None = None,
        lock_delay: float = 5.0,
        on_lost: OnLost | None = None,
        on_jeopardy: OnJeopardy | None = None,
        stop_margin: float = STOP_MARGIN,
    ) -> Lock:
        """As `Client.lock`, of this very node. Raises StaleHandle when this handle is closed or poisoned.

        >>> async with handle.lock(timeout=5) as lock:
        ...     lock.check()
        """
        self._check()
        ask = ask_of(self.path, mode)._replace(instance=self.instance)
        terms = Terms(timeout, lock_delay, on_lost, on_jeopardy, stop_margin)
        return Lock(LockState(self._opening.keeper, (ask,), terms), self._actor)

    async def open(
        self, name: str, *, create: Kind | None = None, ephemeral: bool = False, parents: bool = False
    ) -> Handle:
        """As `Client.open`, of `name` (one part or several) below this very directory.

        >>> child = await handle.open("7")
        """
        check_kind(create, ephemeral)
        path = below(self.path, name)
        opening = Opening(self._opening.keeper, path, (self.path, self.instance))
        stat = await self._run("open", opening.open(create, ephemeral, parents))
        return Handle(opening, stat, self._actor)

    def poison(self) -> None:
        """Let every operation on it fail from now on, those of others that are under way included; it stays open.

        >>> handle.poison()
        """
        self._poisoned = True
        for task in self._running:
            task.cancel()

    async def close(self) -> None:
        """Every operation on it fails from now on; an ephemeral node goes, unless another handle or session has it.

        When the cell does not answer, OutcomeUnknown or Unavailable is raised after the request time-out; it is told
        all the same, until it answers or the session ends. The second time it does nothing.

        >>> await handle.close()
        """
        self._opening.keeper.guard.check_process()
        self._closed = True
        for task in self._running:
            task.cancel()
        told = self._opening.close()
        if told is not None:
            await told

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def _check(self) -> None:
        if self._closed or self._poisoned:
            raise why_unusable(self.path, self._closed)

    async def _call(self, operation: str, arguments: dict[str, object]) -> Any:
        arguments = {"path": self.path, "if_instance": self.instance, **arguments}
        return await self._run(operation, self._opening.keeper.call(operation, arguments))

    async def _run(self, operation: str, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Run it in a task of its own, which `poison` and `close` end."""
        try:
            self._check()
        except CoordError:
            coroutine.close()
            raise
        task = asyncio.get_running_loop().create_task(coroutine)
        self._running[task] = operation
        try:
            return await task
        except asyncio.CancelledError:
            me = asyncio.current_task()
            if not (self._closed or self._poisoned) or (me is not None and me.cancelling()):
                task.cancel()
                raise
            error = why_unusable(self.path, self._closed)
            if operation in CHANGES:
                raise OutcomeUnknown(f"{operation}: {error}, and it may or may not take effect") from None
            raise error from None
        finally:
            del self._running[task]
