"""What a client of the thread flavour is besides its locks: a session of one cell, and the files there."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Self

from coordclient import aio
from coordclient.aio.files import path_of
from coordclient.errors import CoordError
from coordclient.options import CACHE_BYTES
from coordclient.values import CacheInfo, Entry, File, Stat
from coordclient.worker import Worker

EXIT_SECONDS_MAX = 0.5
_open: set[BaseClient] = set()  # from the first use to the close, whether the application keeps them or not


class BaseClient:
    """What `Client` is without locks, sessions of others and the cell."""

    def __init__(
        self,
        endpoints: str | Sequence[str] | None = None,
        *,
        cell: str | None = None,
        session_lease: float = 12.0,
        request_timeout: float = 10.0,
        name: str | None = None,
        on_state: Callable[[str], object] | None = None,
        resume: str | None = None,
        cache: bool = False,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self._worker = worker = Worker(lambda: _open.add(self))
        tell = None if on_state is None else lambda state: worker.call_back(partial(on_state, state))
        self._client = aio.Client(
            endpoints,
            cell=cell,
            session_lease=session_lease,
            request_timeout=request_timeout,
            name=name,
            on_state=tell,
            resume=resume,
            cache=cache,
            cache_bytes=cache_bytes,
        )
        # Read here, in the application's threads, and changed in the loop alone: see coordclient.cached.
        self._cache = self._client._cache
        self._clocks_ns = self._client._clocks_ns
        self._files = self._client._files

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the session: every lock and ephemeral file of it is free at once. Calls that wait get ClientClosed.

        `with` does it at its end. The second time it does nothing.

        >>> client.close()
        """
        self._close(None)

    def leave(self) -> str:
        """Close the client but not the session: locks and ephemeral files stay until its lease (and lock-delays) are
        over, or until another process takes them over with the ticket that this returns: `Client(resume=ticket)`.

        Stop what works under the locks before, and `with` blocks with it: whatever is held here counts as lost now, and
        the other process may believe in it at once. Raises SessionExpired when there is no session.

        >>> ticket = client.leave()
        """
        _open.discard(self)
        try:
            return self._worker.run(self._client._leave, threading.get_ident())
        finally:
            self._close(None)

    @property
    def state(self) -> str:
        """`active`, `jeopardy` (calls wait, the session may be lost), or `expired` (also before the first call)."""
        return self._client.state

    @property
    def session_id(self) -> int | None:
        """The number of the present session, as `sessions()` shows it; None when there is none."""
        return self._client.session_id

    @property
    def ticket(self) -> str | None:
        """What another process, or this one started again, takes the present session over with: `Client(resume=...)`.

        None when there is no session. It is as secret as a password, changes with each resume, and is good for one. A
        process that was not asked to `leave` before may believe in its locks still, so its successor waits.

        >>> keep(client.ticket)
        """
        return self._client.ticket

    # --- files

    def get(self, path: str, *, revision: int = 0) -> File:
        """The contents (bytes) and the stat of a file; raises NotFound, IsADirectory.

        `revision`: as they were then (0: now); raises RevisionGone when the cell's history does not reach back so far,
        and RevisionAhead.

        >>> contents, stat = client.get("/config")
        """
        if revision:
            return self._worker.run(self._client.get, path, revision=revision)
        # What makes a hit cheap is that nothing is called for it.
        try:
            kept = self._files[path]
        except (KeyError, TypeError):
            pass
        else:
            lease = kept.lease  # of the entry: see coordclient.cached
            first, wall = lease.ends
            first_ns, wall_ns = self._clocks_ns
            if first_ns() < first and wall_ns() < wall and kept.held:
                kept.used = True
                lease.hits += 1
                return kept.value
        if self._cache is not None:
            held: File | None = self._cache.look("get", path_of(path))
            if held is not None:
                return held
        return self._worker.run(self._client.get, path)

    def put(
        self,
        path: str,
        contents: bytes,
        *,
        if_generation: int | None = None,
        if_absent: bool = False,
        parents: bool = False,
        if_sequencer: str | None = None,
    ) -> Stat:
        """Write a whole file, at most 256 KiB, and make it if it is missing (with `parents`: its directories too).

        With `if_generation` only when `stat.content_generation` is that, with `if_absent` only when there is no file:
        otherwise Conflict, Exists or NotFound. With `if_sequencer` only while that lock is held by that very holder, as
        the cell sees it when the write takes effect: otherwise GuardFailed. After any of these nothing is changed.

        >>> contents, stat = client.get("/n")
        >>> client.put("/n", b"2", if_generation=stat.content_generation)
        """
        return self._worker.run(
            self._client.put,
            path,
            contents,
            if_generation=if_generation,
            if_absent=if_absent,
            parents=parents,
            if_sequencer=if_sequencer,
        )

    def create(
        self,
        path: str,
        contents: bytes = b"",
        *,
        ephemeral: bool = False,
        parents: bool = False,
        if_sequencer: str | None = None,
    ) -> Stat:
        """Make a file; raises Exists, and GuardFailed as `put` does. An `ephemeral` one goes with this session.

        Raises NotFound when its directory is missing and `parents` is not set.

        >>> stat = client.create("/workers/7", b"10.0.0.7", ephemeral=True, parents=True)
        """
        return self._worker.run(
            self._client.create, path, contents, ephemeral=ephemeral, parents=parents, if_sequencer=if_sequencer
        )

    def mkdir(
        self, path: str, *, ephemeral: bool = False, parents: bool = False, if_sequencer: str | None = None
    ) -> Stat:
        """Make a directory; raises Exists, and NotFound when its own directory is missing and `parents` is not set, and
        GuardFailed as `put` does. An `ephemeral` one goes when no session has it open and nothing is in it.

        >>> stat = client.mkdir("/workers", parents=True)
        """
        return self._worker.run(
            self._client.mkdir, path, ephemeral=ephemeral, parents=parents, if_sequencer=if_sequencer
        )

    def delete(self, path: str, *, if_generation: int | None = None, if_sequencer: str | None = None) -> int:
        """Delete a file or an empty directory; the revision of it. Raises NotFound, NotEmpty, Locked, Conflict, and
        GuardFailed as `put` does.

        >>> revision = client.delete("/config", if_generation=stat.content_generation)
        """
        return self._worker.run(self._client.delete, path, if_generation=if_generation, if_sequencer=if_sequencer)

    def ls(self, path: str = "/", *, contents: bool = False, after: str = "", count: int = 0) -> list[Entry]:
        """The children of a directory, by name, each with its stat, and with the `contents` of files if you want them;
        raises NotFound, NotADirectory.

        All of them, or those behind the name `after`, or only the next `count` (1 to 1000). A directory that does not
        fit into one answer is asked for in pages, which may be of different revisions.

        >>> [entry.name for entry in client.ls("/workers")]
        """
        if self._cache is not None and not (contents or after or count):
            held: tuple[Entry, ...] | None = self._cache.look("ls", path_of(path))
            if held is not None:
                return list(held)
        return self._worker.run(self._client.ls, path, contents=contents, after=after, count=count)

    def stat(self, path: str) -> Stat:
        """The stat of a file or directory; raises NotFound.

        >>> (client.stat("/config")).revision
        """
        if self._cache is not None:
            held: Stat | None = self._cache.look("stat", path_of(path))
            if held is not None:
                return held
        return self._worker.run(self._client.stat, path)

    def cache_info(self) -> CacheInfo:
        """What the cache holds and was good for; all 0 without `cache=True`. Asks nobody.

        >>> client.cache_info().hits
        """
        return self._client.cache_info()

    def _close(self, seconds_max: float | None) -> None:
        _open.discard(self)
        self._worker.close(self._client.close, seconds_max)


def _at_exit() -> None:
    """A program that ends without closing gives its locks back, if the cell can be told at once."""
    for client in list(_open):
        try:
            client._close(EXIT_SECONDS_MAX)
        except (CoordError, RuntimeError, TimeoutError):
            continue  # the session ends by its lease instead


atexit.register(_at_exit)
