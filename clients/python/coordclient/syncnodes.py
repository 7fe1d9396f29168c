"""What a client of the thread flavour does with nodes besides reading and writing one: watches, transactions, handles,
many reads at once, and the past."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import partial

from coordclient.aio.files import path_of
from coordclient.aio.nodes import Scope, Values
from coordclient.aio.opening import Kind
from coordclient.aio.txn import Txn as AioTxn
from coordclient.aio.watches import Watcher
from coordclient.changes import History
from coordclient.errors import CoordError
from coordclient.syncbase import BaseClient
from coordclient.synchandle import Handle
from coordclient.synctxn import Txn
from coordclient.syncwatch import Watch
from coordclient.values import File
from coordclient.watching import Watching


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

        >>> with client.watch("/workers", scope="children") as watch:
        ...     for event in watch:
        ...         print(event.kind, event.path)
        """
        watching, worker = Watching(path_of(path), scope, since, values), self._worker
        tell = None if on_live is None else lambda live: worker.call_back(partial(on_live, live))
        return Watch(Watcher(self._client._watches, watching, threading.Lock(), tell), worker)

    def txn(self) -> Txn:
        """A transaction to put together: guards (`if_...`), steps, `otherwise` and steps, then `commit` or `plan`.

        >>> client.txn().if_generation("/a", 7).put("/a", b"2").put("/b", b"2").commit()
        """
        return Txn(AioTxn(self._client._keeper), self._worker)

    def open(self, path: str, *, create: Kind | None = None, ephemeral: bool = False, parents: bool = False) -> Handle:
        """A handle on the node that is there now. With `create` it is made if it is missing, `ephemeral` and with its
        `parents` if you say so. An ephemeral node that is there is kept alive by this session too.

        Raises NotFound; IsADirectory or NotADirectory where `create` says another kind than what is there. Cancelled,
        it leaves nothing open.

        >>> with client.open("/workers/7", create="file", ephemeral=True) as me:
        ...     me.write(b"10.0.0.7")
        """
        opened = self._worker.run(self._client.open, path, create=create, ephemeral=ephemeral, parents=parents)
        return Handle(opened, self._worker)

    def get_many(self, paths: Iterable[str]) -> dict[str, File | CoordError]:
        """Many files at once: each path with its file, or with the error that `get` would raise.

        All of one revision, if they are at most 256 and fit into one answer (about half a MiB); asked for in parts
        otherwise, each of one revision.

        >>> client.get_many(["/a", "/b"])["/a"]
        """
        return self._worker.run(self._client.get_many, list(paths))

    def history(self, path: str, *, since: int = 0, upto: int = 0, count: int = 100, subtree: bool = False) -> History:
        """The changes of a node (or of all in its subtree) after revision `since` up to `upto` (0: now), newest first,
        at most `count` (1 to 1000; more where the newest revision alone has more), as far as the cell keeps them: who,
        when, at which revision. Where there are `more`, go on with `upto` one below the last revision.

        >>> [(change.revision, change.kind) for change in client.history("/config").changes]
        """
        return self._worker.run(self._client.history, path, since=since, upto=upto, count=count, subtree=subtree)
