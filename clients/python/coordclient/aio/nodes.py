"""What a client of the asyncio flavour does with nodes besides reading and writing one: watches, transactions, handles,
many reads at once, and the past."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Literal

from coordclient.aio.base import BaseClient
from coordclient.aio.files import path_of
from coordclient.aio.handle import Handle
from coordclient.aio.listing import read_many
from coordclient.aio.opening import Kind, Opening, check_kind
from coordclient.aio.txn import Txn
from coordclient.aio.watch import Watch
from coordclient.aio.watches import Watcher
from coordclient.changes import History, history_of
from coordclient.errors import CoordError
from coordclient.values import File
from coordclient.watching import Watching

Scope = Literal["node", "children", "subtree"]
Values = Literal["none", "new", "both"]


class NodesClient(BaseClient):
    """What `Client` is without locks, sessions of others and the cell."""

    def watch(
        self,
        path: str,
        *,
        scope: Scope = "node",
        since: int | None = None,
        values: Values = "new",
        on_live: Callable[[bool], object] | None = None,
    ) -> Watch:
        """A watch object; nothing is asked of the cell yet, but by `with` or the first look.

        `scope`: the node (it may be missing), its direct children, or the node and all below. `since`: every change
        after that revision, e.g. `stat.revision` of what was read; None: from when it is registered. `values`: which
        contents an event has: those after the change, those before too, or none. `on_live(live)` is called when a
        master has it registered, and when that is lost until the next one has; nothing is missed in between.

        >>> async with client.watch("/workers", scope="children") as watch:
        ...     async for event in watch:
        ...         print(event.kind, event.path)
        """
        watching = Watching(path_of(path), scope, since, values)
        return Watch(Watcher(self._watches, watching, nullcontext(), on_live))

    def txn(self) -> Txn:
        """A transaction to put together: guards (`if_...`), steps, `otherwise` and steps, then `commit` or `plan`.

        >>> await client.txn().if_generation("/a", 7).put("/a", b"2").put("/b", b"2").commit()
        """
        return Txn(self._keeper)

    async def open(
        self, path: str, *, create: Kind | None = None, ephemeral: bool = False, parents: bool = False
    ) -> Handle:
        """A handle on the node that is there now. With `create` it is made if it is missing, `ephemeral` and with its
        `parents` if you say so. An ephemeral node that is there is kept alive by this session too.

        Raises NotFound; IsADirectory or NotADirectory where `create` says another kind than what is there. Cancelled,
        it leaves nothing open.

        >>> async with await client.open("/workers/7", create="file", ephemeral=True) as me:
        ...     await me.write(b"10.0.0.7")
        """
        check_kind(create, ephemeral)
        opening = Opening(self._keeper, path_of(path))
        return Handle(opening, await opening.open(create, ephemeral, parents), self._actor)

    async def get_many(self, paths: Iterable[str]) -> dict[str, File | CoordError]:
        """Many files at once: each path with its file, or with the error that `get` would raise.

        All of one revision, if they are at most 256 and fit into one answer (about half a MiB); asked for in parts
        otherwise, each of one revision.

        >>> (await client.get_many(["/a", "/b"]))["/a"]
        """
        return await read_many(self._keeper, paths)

    async def history(
        self, path: str, *, since: int = 0, upto: int = 0, count: int = 100, subtree: bool = False
    ) -> History:
        """The changes of a node (or of all in its subtree) after revision `since` up to `upto` (0: now), newest first,
        at most `count` (1 to 1000; more where the newest revision alone has more), as far as the cell keeps them: who,
        when, at which revision. Where there are `more`, go on with `upto` one below the last revision.

        >>> [(change.revision, change.kind) for change in (await client.history("/config")).changes]
        """
        arguments: dict[str, object] = {"path": path_of(path), "count": count, "subtree": subtree}
        arguments |= {"since": since, "upto": upto}
        return history_of(await self._keeper.call("history", arguments))
