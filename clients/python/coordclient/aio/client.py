"""The client of the asyncio flavour; `coordclient.Client` has the same names for threads."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

from coordclient import clock
from coordclient.aio.channel import ChannelError
from coordclient.aio.files import contents_of, entries_of, file_of, path_of, stat_in
from coordclient.aio.keeper import Keeper
from coordclient.aio.lock import Lock, Mode
from coordclient.aio.lockstate import LockState, OnLost
from coordclient.endpoints import Endpoints, parse_endpoint
from coordclient.errors import CoordError, InternalError, Unavailable, error_of
from coordclient.holds import STOP_MARGIN_MS, Hold
from coordclient.options import Options
from coordclient.protocol.errors import Refusal
from coordclient.session import Reading
from coordclient.values import Entry, File, LockInfo, SequencerCheck, SessionInfo, Stat, lock_of, row_of

log = logging.getLogger("coordclient")


class Client:
    """A client of one cell: it finds the master, keeps one session alive, and retries over fail-over.

    `endpoints`: URLs or HOST:PORT, a sequence or one text with commas; without them `COORD_ENDPOINTS`, then the three
    ports of a development cell. `cell`: refuse any other cell. `session_lease` and `request_timeout` in seconds.
    `name`: shown to whoever asks who holds a lock. `on_state(state)` is called with "active", "jeopardy" or "expired".

    The session is opened by the first call that needs it. After `expired` the next call opens a new one; locks and
    ephemeral files of the old one are lost. Errors: see `coordclient.errors`; all of them are `CoordError`.

    >>> async with Client() as client:
    ...     async with client.lock("/billing/nightly", timeout=5) as lock:
    ...         await write_report(fencing_token=lock.token)
    """

    def __init__(
        self,
        endpoints: str | Sequence[str] | None = None,
        *,
        cell: str | None = None,
        session_lease: float = 12.0,
        request_timeout: float = 10.0,
        name: str | None = None,
        on_state: Callable[[str], object] | None = None,
    ) -> None:
        self._setup(Options.of(endpoints, cell, session_lease, request_timeout, name), on_state, clock.read)

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
            clocks=clocks,
        )
        self._actors: weakref.WeakKeyDictionary[asyncio.Task[Any], str] = weakref.WeakKeyDictionary()
        self._actor_numbers = itertools.count(1)
        self._actor_prefix = ""

    async def __aenter__(self) -> Client:
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

    @property
    def state(self) -> str:
        """`active`, `jeopardy` (calls wait, the session may be lost), or `expired` (also before the first call)."""
        return self._keeper.state

    @property
    def session_id(self) -> int | None:
        """The number of the present session, as `sessions()` shows it; None when there is none."""
        life = self._keeper.life
        return life.session.id if life is not None and life.session is not None else None

    # --- locks

    def lock(
        self,
        path: str,
        mode: Mode = "exclusive",
        timeout: float | None = None,
        lock_delay: float = 5.0,
        on_lost: OnLost | None = None,
        stop_margin: float = STOP_MARGIN_MS / 1_000,
    ) -> Lock:
        """A lock object for `path`; nothing is asked of the cell yet.

        `timeout`: seconds that `with` waits before it raises LockTimeout; None for ever, 0 tries once. `lock_delay`:
        seconds for which the cell keeps the lock from others after this session has *expired*; it is also the outage
        that the holder rides out. `on_lost(error)` is called once when the lock cannot surely be held any more, which
        is `stop_margin` seconds before the deadline. A missing path is made, and removed again afterwards.

        >>> async with client.lock("/jobs/1", mode="shared") as lock:
        ...     lock.check()
        """
        return Lock(self._keeper, self._actor, path_of(path), mode, timeout, lock_delay, on_lost, stop_margin)

    async def locks(self, path: str = "/") -> list[LockInfo]:
        """Every lock in the subtree of `path` that is held or waited for, with holders and waiters.

        >>> for lock in await client.locks("/billing"):
        ...     print(lock.path, [holder.client for holder in lock.holders], len(lock.waiters))
        """
        answer = await self._keeper.call("locks", {"path": path_of(path)})
        return [lock_of(lock) for lock in answer["locks"]]

    async def check_sequencer(self, sequencer: str) -> SequencerCheck:
        """Whether the lock that the sequencer speaks of is still held by that very holder.

        >>> (await client.check_sequencer(lock.sequencer)).valid
        True
        """
        return row_of(SequencerCheck, await self._keeper.call("check_sequencer", {"sequencer": sequencer}))

    # --- files

    async def get(self, path: str) -> File:
        """The contents (bytes) and the stat of a file; raises NotFound, IsADirectory.

        >>> contents, stat = await client.get("/config")
        """
        return file_of(await self._keeper.call("get", {"path": path_of(path)}))

    async def put(
        self,
        path: str,
        contents: bytes,
        *,
        if_generation: int | None = None,
        if_absent: bool = False,
        parents: bool = False,
    ) -> Stat:
        """Write a whole file, at most 256 KiB, and make it if it is missing (with `parents`: its directories too).

        With `if_generation` only when `stat.content_generation` is that, with `if_absent` only when there is no file:
        otherwise Conflict, Exists or NotFound, and nothing is changed.

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
        return stat_in(await self._keeper.call("put", arguments))

    async def create(self, path: str, contents: bytes = b"", *, ephemeral: bool = False, parents: bool = False) -> Stat:
        """Make a file; raises Exists. An `ephemeral` one goes with this session.

        Raises NotFound when its directory is missing and `parents` is not set.

        >>> stat = await client.create("/workers/7", b"10.0.0.7", ephemeral=True, parents=True)
        """
        arguments = {
            "path": path_of(path),
            "contents": contents_of(contents),
            "ephemeral": ephemeral,
            "parents": parents,
        }
        return stat_in(await self._keeper.call("create", arguments))

    async def mkdir(self, path: str, *, parents: bool = False) -> Stat:
        """Make a directory; raises Exists, and NotFound when its own directory is missing and `parents` is not set.

        >>> stat = await client.mkdir("/workers", parents=True)
        """
        return stat_in(await self._keeper.call("mkdir", {"path": path_of(path), "parents": parents}))

    async def delete(self, path: str, *, if_generation: int | None = None) -> int:
        """Delete a file or an empty directory; the revision of it. Raises NotFound, NotEmpty, Locked, Conflict.

        >>> revision = await client.delete("/config", if_generation=stat.content_generation)
        """
        arguments: dict[str, object] = {"path": path_of(path)}
        if if_generation is not None:
            arguments["if_generation"] = if_generation
        return _int_in(await self._keeper.call("delete", arguments), "revision")

    async def ls(self, path: str = "/") -> list[Entry]:
        """The children of a directory, by name, each with its stat; raises NotFound, NotADirectory.

        >>> [entry.name for entry in await client.ls("/workers")]
        """
        return entries_of(await self._keeper.call("ls", {"path": path_of(path)}))

    async def stat(self, path: str) -> Stat:
        """The stat of a file or directory; raises NotFound.

        >>> (await client.stat("/config")).revision
        """
        return stat_in(await self._keeper.call("stat", {"path": path_of(path)}))

    # --- the cell

    async def sessions(self) -> list[SessionInfo]:
        """Every session of the cell. `left_ms` is what is left of its lease, in ms.

        >>> [session.client for session in await client.sessions()]
        """
        answer = await self._keeper.call("list_sessions", {})
        return [row_of(SessionInfo, session) for session in answer["sessions"]]

    async def status(self, endpoint: str | None = None) -> dict[str, Any]:
        """What one replica says about itself (the first endpoint that answers, if none is named). Opens no session.

        Keys: cell, replica, version, role, master, master_address, epoch, revision, members and more. Raises
        Unavailable when nobody answers.

        >>> (await client.status())["master"]
        """
        if endpoint is not None:
            return await self._ask(parse_endpoint(endpoint))
        reasons = []
        for address in self._endpoints.known:
            try:
                return await self._ask(address)
            except Unavailable as error:
                reasons.append(str(error))
        raise Unavailable("; ".join(reasons))

    async def cell_status(self) -> dict[str, dict[str, Any] | CoordError]:
        """`status` of every replica that is known or named by one that is: endpoint -> what it says, or the error."""
        found: dict[str, dict[str, Any] | CoordError] = {}
        addresses = list(self._endpoints.known)
        while addresses:
            answers = await asyncio.gather(*(self._ask(address) for address in addresses), return_exceptions=True)
            for address, answer in zip(addresses, answers, strict=True):
                if isinstance(answer, BaseException) and not isinstance(answer, CoordError):
                    raise answer
                found[address] = answer
            members = [member for answer in found.values() if isinstance(answer, dict) for member in answer["members"]]
            self._endpoints.learn(str(member.get("address")) for member in members)
            addresses = [address for address in self._endpoints.known if address not in found]
        return found

    async def members(self) -> dict[str, Any]:
        """The members of the cell as its master sees them, and how many more voters may fail ("can_lose").

        >>> (await client.members())["can_lose"]
        """
        return dict(await self._keeper.call("members", {}))

    async def add_member(self, address: str, replica: int = 0) -> dict[str, Any]:
        """Add a replica that learns and does not vote yet; 0 for the next free id. The answer names it ("replica").

        Raises Conflict for an id that was given before, Exists for a member at another address. May be repeated.

        >>> (await client.add_member("http://host-4:7420"))["replica"]
        """
        if replica == 0:  # an id of one's own makes the call one that can be repeated
            replica = _int_in(await self.members(), "highest") + 1
        return dict(await self._keeper.call("add_member", {"replica": replica, "address": address}))

    async def promote_member(self, replica: int) -> dict[str, Any]:
        """Let a learner vote from now on; raises Conflict while it is silent or behind. May be repeated.

        >>> (await client.promote_member(4))["voters"]
        """
        return dict(await self._keeper.call("promote_member", {"replica": replica}))

    async def remove_member(self, replica: int) -> dict[str, Any]:
        """Remove a replica for good; raises Conflict where too few voters that answer would be left. May be repeated.

        >>> (await client.remove_member(3))["can_lose"]
        """
        return dict(await self._keeper.call("remove_member", {"replica": replica}))

    async def transfer_master(self, to: int = 0) -> dict[str, Any]:
        """Let the master hand over to the voter `to` (0: whoever is best); raises Conflict where that cannot serve.

        >>> await client.transfer_master(2)
        """
        return dict(await self._keeper.call("transfer_master", {"to": to}))

    async def _ask(self, address: str) -> dict[str, Any]:
        try:
            answer = dict(await self._keeper.ask(address, "status"))
        except ChannelError as error:
            if error.refusal is not None:  # it answers, and will not speak with us: another cell, another version
                raise error_of(error.refusal) from None
            raise Unavailable(f"{address}: {error}") from None
        except Refusal as refusal:
            raise error_of(refusal) from None
        if not isinstance(answer.get("members"), list):
            raise InternalError(f"{address}: the answer names no members")
        return answer

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


def _int_in(answer: Mapping[str, Any], name: str) -> int:
    value = answer.get(name)
    if not isinstance(value, int):
        raise InternalError(f"the cell's answer holds no {name}")
    return value
