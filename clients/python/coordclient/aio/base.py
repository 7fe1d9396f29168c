"""What a client of the asyncio flavour is besides its locks: a session of one cell, and the files there."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from coordclient import clock
from coordclient.aio.cache import HITS_A_TURN, Cache
from coordclient.aio.files import (
    bytes_of_entries,
    bytes_of_file,
    bytes_of_stat,
    contents_of,
    file_of,
    guarded,
    int_in,
    lockless_entries_of,
    lockless_file_of,
    lockless_stat_in,
    path_of,
    stat_in,
)
from coordclient.aio.keeper import Keeper
from coordclient.aio.listing import list_pages
from coordclient.aio.lockstate import LockState
from coordclient.aio.watches import Watches
from coordclient.cached import Kept
from coordclient.endpoints import Endpoints
from coordclient.holds import Hold
from coordclient.options import CACHE_BYTES, Options
from coordclient.session import Reading
from coordclient.tickets import Ticket
from coordclient.values import CacheInfo, Entry, File, Stat

log = logging.getLogger("coordclient")


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
        bytes_max = cache_bytes if cache else None
        options = Options.of(endpoints, cell, session_lease, request_timeout, name, resume, bytes_max)
        self._setup(options, on_state, clock.read)

    def _setup(self, options: Options, on_state: Callable[[str], object] | None, clocks: Callable[[], Reading]) -> None:
        self._endpoints = Endpoints(options.endpoints, options.lease_ms)
        self._on_state = on_state
        self._keeper = Keeper(
            self._endpoints,
            cell=options.cell,
            lease_ms=options.lease_ms,
            request_ms=options.request_ms,
            labels=options.labels(),
            on_state=self._tell_state,
            on_given_up=_tell_given_up,
            on_jeopardy=_tell_jeopardy,
            ticket=options.resume,
            clocks=clocks,
        )
        self._clocks_ns = clock.in_ns(clocks)
        self._cache: Cache | None = None
        self._files: dict[str, Kept[File]] = {}
        if options.cache_bytes is not None:
            self._cache = Cache(self._keeper, options.cache_bytes, self._clocks_ns)
            self._files = self._cache.held.files
        self._watches = Watches(self._keeper)
        self._actors: weakref.WeakKeyDictionary[asyncio.Task[Any], str] = weakref.WeakKeyDictionary()
        self._actor_numbers = itertools.count(1)
        self._actor_prefix = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the session: every lock and ephemeral file of it is free at once. Calls that wait get ClientClosed.

        `with` does it at its end. The second time it does nothing.

        >>> await client.close()
        """
        await self._keeper.close()

    async def leave(self) -> str:
        """Close the client but not the session: locks and ephemeral files stay until its lease (and lock-delays) are
        over, or until another process takes them over with the ticket that this returns: `Client(resume=ticket)`.

        Stop what works under the locks before, and `with` blocks with it: whatever is held here counts as lost now, and
        the other process may believe in it at once. Raises SessionExpired when there is no session.

        >>> ticket = await client.leave()
        """
        return await self._leave(asyncio.current_task())

    async def _leave(self, worker: object) -> str:
        """`worker`: the task or thread that calls; nobody waits for it to stop."""

        def busy(hold: Hold) -> bool:
            return isinstance(hold.tag, LockState) and hold.tag.worker not in (None, worker)

        return str(await self._keeper.leave(busy))

    @property
    def state(self) -> str:
        """`active`, `jeopardy` (calls wait, the session may be lost), or `expired` (also before the first call)."""
        return self._keeper.state

    @property
    def session_id(self) -> int | None:
        """The number of the present session, as `sessions()` shows it; None when there is none."""
        life = self._keeper.life
        return life.session.id if life is not None and life.session is not None else None

    @property
    def ticket(self) -> str | None:
        """What another process, or this one started again, takes the present session over with: `Client(resume=...)`.

        None when there is no session. It is as secret as a password, changes with each resume, and is good for one. A
        process that was not asked to `leave` before may believe in its locks still, so its successor waits.

        >>> keep(client.ticket)
        """
        life = self._keeper.life
        session = life.session if life is not None else None
        return None if session is None else str(Ticket(session.id, session.secret))

    # --- files

    async def get(self, path: str, *, revision: int = 0) -> File:
        """The contents (bytes) and the stat of a file; raises NotFound, IsADirectory.

        `revision`: as they were then (0: now); raises RevisionGone when the cell's history does not reach back so far,
        and RevisionAhead.

        >>> contents, stat = await client.get("/config")
        """
        if revision:
            return file_of(await self._keeper.call("get", {"path": path_of(path), "revision": revision}))
        # What makes a hit cheap is that nothing is called for it. In a loop nothing comes between these lines, so there
        # is no second look at whether the entry is held.
        try:
            kept = self._files[path]
        except (KeyError, TypeError):
            pass
        else:
            lease = kept.lease  # of the entry: see coordclient.cached
            first, wall = lease.ends
            first_ns, wall_ns = self._clocks_ns
            if first_ns() < first and wall_ns() < wall:
                kept.used = True
                hits = lease.hits = lease.hits + 1
                if not hits & (HITS_A_TURN - 1):
                    await asyncio.sleep(0)
                return kept.value
        if self._cache is not None:
            return await self._cache.read("get", path_of(path), lockless_file_of, bytes_of_file)
        return file_of(await self._keeper.call("get", {"path": path_of(path)}))

    async def put(
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

        >>> contents, stat = await client.get("/n")
        >>> await client.put("/n", b"2", if_generation=stat.content_generation)
        """
        arguments: dict[str, object] = {"path": path_of(path), "contents": contents_of(contents)}
        if if_generation is not None:
            arguments["if_generation"] = if_generation
        if if_absent:
            arguments["if_absent"] = True
        if parents:
            arguments["parents"] = True
        return stat_in(await self._keeper.call("put", guarded(arguments, if_sequencer)))

    async def create(
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

        >>> stat = await client.create("/workers/7", b"10.0.0.7", ephemeral=True, parents=True)
        """
        arguments: dict[str, object] = {
            "path": path_of(path),
            "contents": contents_of(contents),
            "ephemeral": ephemeral,
            "parents": parents,
        }
        return await self._make("create", guarded(arguments, if_sequencer))

    async def mkdir(
        self, path: str, *, ephemeral: bool = False, parents: bool = False, if_sequencer: str | None = None
    ) -> Stat:
        """Make a directory; raises Exists, and NotFound when its own directory is missing and `parents` is not set, and
        GuardFailed as `put` does. An `ephemeral` one goes when no session has it open and nothing is in it.

        >>> stat = await client.mkdir("/workers", parents=True)
        """
        arguments: dict[str, object] = {"path": path_of(path), "ephemeral": ephemeral, "parents": parents}
        return await self._make("mkdir", guarded(arguments, if_sequencer))

    async def delete(self, path: str, *, if_generation: int | None = None, if_sequencer: str | None = None) -> int:
        """Delete a file or an empty directory; the revision of it. Raises NotFound, NotEmpty, Locked, Conflict, and
        GuardFailed as `put` does.

        >>> revision = await client.delete("/config", if_generation=stat.content_generation)
        """
        arguments: dict[str, object] = {"path": path_of(path)}
        if if_generation is not None:
            arguments["if_generation"] = if_generation
        return int_in(await self._keeper.call("delete", guarded(arguments, if_sequencer)), "revision")

    async def ls(self, path: str = "/", *, contents: bool = False, after: str = "", count: int = 0) -> list[Entry]:
        """The children of a directory, by name, each with its stat, and with the `contents` of files if you want them;
        raises NotFound, NotADirectory.

        All of them, or those behind the name `after`, or only the next `count` (1 to 1000). A directory that does not
        fit into one answer is asked for in pages, which may be of different revisions.

        >>> [entry.name for entry in await client.ls("/workers")]
        """
        where = {"path": path_of(path)}
        if self._cache is None or contents or after or count:
            return await list_pages(lambda page: self._keeper.call("ls", page), where, contents, after, count)
        more = False

        def entries_in(answer: Mapping[str, Any]) -> tuple[Entry, ...]:
            nonlocal more
            more = answer.get("more") is True
            return lockless_entries_of(answer)

        kept: tuple[Entry, ...] = await self._cache.read("ls", path_of(path), entries_in, bytes_of_entries)
        found = list(kept)
        if more and found:
            found += await list_pages(lambda page: self._keeper.call("ls", page), where, False, found[-1].name)
        return found

    async def stat(self, path: str) -> Stat:
        """The stat of a file or directory; raises NotFound.

        >>> (await client.stat("/config")).revision
        """
        if self._cache is not None:
            return await self._cache.read("stat", path_of(path), lockless_stat_in, bytes_of_stat)
        return stat_in(await self._keeper.call("stat", {"path": path_of(path)}))

    def cache_info(self) -> CacheInfo:
        """What the cache holds and was good for; all 0 without `cache=True`. Asks nobody.

        >>> client.cache_info().hits
        """
        return self._cache.info() if self._cache is not None else CacheInfo(0, 0, 0, 0, 0)

    async def _make(self, operation: str, arguments: dict[str, object]) -> Stat:
        life = self._keeper.alive()
        stat = stat_in(await self._keeper.call(operation, arguments, life))
        if stat.ephemeral:
            life.opens.made(stat.path, stat.instance)
        return stat

    def _actor(self) -> str:
        """Who asks for a lock: the task, by a number of its own, so that two never look like one."""
        task = asyncio.current_task()
        actor = self._actors.get(task) if task is not None else None
        if actor is None:
            if not self._actor_prefix:
                labels = self._keeper.labels
                self._actor_prefix = f"{labels.get('host', '')[:64]}:{os.getpid()}"
            actor = f"{self._actor_prefix}:{next(self._actor_numbers)}"
            if task is not None:
                self._actors[task] = actor
        return actor

    def _tell_state(self, state: str) -> None:
        if self._on_state is not None:
            try:
                self._on_state(state)
            except Exception:
                log.exception("on_state raised")


def _tell_given_up(hold: Hold) -> None:
    if isinstance(hold.tag, LockState):
        hold.tag.given_up(hold)


def _tell_jeopardy(hold: Hold) -> None:
    if isinstance(hold.tag, LockState):
        hold.tag.in_jeopardy(hold)
