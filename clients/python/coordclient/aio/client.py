"""The client of the asyncio flavour; `coordclient.Client` has the same names for threads."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar, cast, overload

from coordclient.aio.channel import ChannelError
from coordclient.aio.files import int_in, path_of
from coordclient.aio.listing import rows_of
from coordclient.aio.lock import Lock, LockSet
from coordclient.aio.lockstate import LockState
from coordclient.aio.nodes import NodesClient
from coordclient.aio.terms import STOP_MARGIN, Ask, Mode, OnJeopardy, OnLost, Terms, Wanted, ask_of, asks_of, short_of
from coordclient.endpoints import parse_endpoint
from coordclient.errors import CoordError, InternalError, LockLost, NotFound, Unavailable, error_of
from coordclient.protocol.errors import Refusal
from coordclient.values import (
    Killed,
    LockInfo,
    SequencerCheck,
    SessionDetails,
    SessionInfo,
    Unlocked,
    Why,
    details_of,
    lock_of,
    row_of,
    session_of,
    unlocked_of,
    why_of,
)

_Function = TypeVar("_Function", bound=Callable[..., Awaitable[Any]])


class Client(NodesClient):
    """A client of one cell: it finds the master, keeps one session alive, and retries over fail-over.

    `endpoints`: URLs or HOST:PORT, a sequence or one text with commas; without them `COORD_ENDPOINTS`, then the three
    ports of a development cell. `cell`: refuse any other cell (without it any but the first that served this client).
    `session_lease` and `request_timeout` in seconds.
    `name`: shown to whoever asks who holds a lock. `on_state(state)` is called with "active", "jeopardy" or "expired".
    `resume`: the ticket of a session to take over (see `leave` and `adopt`) instead of opening one; when that session
    is over the first call raises SessionExpired, and the next one opens a session.
    `cache`: `get`, `stat` and `ls` are answered from memory, as right as from the cell, until what they show changes;
    it holds `cache_bytes` at most (64 MiB).

    The session is opened by the first call that needs it. After `expired` the next call opens a new one; locks and
    ephemeral files of the old one are lost. Errors: see `coordclient.errors`; all of them are `CoordError`.

    >>> async with Client() as client:
    ...     async with client.lock("/billing/nightly", timeout=5) as lock:
    ...         await write_report(fencing_token=lock.token)
    """

    # --- locks

    def lock(
        self,
        path: str,
        mode: Mode = "exclusive",
        timeout: float | None = None,
        lock_delay: float = 5.0,
        on_lost: OnLost | None = None,
        on_jeopardy: OnJeopardy | None = None,
        stop_margin: float = STOP_MARGIN,
    ) -> Lock:
        """A lock object for `path`; nothing is asked of the cell yet.

        `timeout`: seconds that `with` waits before it raises LockTimeout; None for ever, 0 tries once. `lock_delay`:
        seconds for which the cell keeps the lock from others after this session has *expired*; it is also the outage
        that the holder rides out. `on_lost(error)` is called once when the lock cannot surely be held any more, which
        is `stop_margin` seconds before the deadline. `on_jeopardy(seconds)` is called when the cell has not been heard
        for a lease while the lock is held, with the seconds until its deadline. A missing path is made, and removed
        again afterwards.

        >>> async with client.lock("/jobs/1", mode="shared") as lock:
        ...     lock.check()
        """
        return self._lock(ask_of(path, mode), Terms(timeout, lock_delay, on_lost, on_jeopardy, stop_margin))

    def semaphore(
        self,
        path: str,
        permits: int,
        timeout: float | None = None,
        lock_delay: float = 5.0,
        on_lost: OnLost | None = None,
        on_jeopardy: OnJeopardy | None = None,
        stop_margin: float = STOP_MARGIN,
    ) -> Lock:
        """A lock object for `path` that `permits` (1 to 4096) may hold at once; the rest as `lock`.

        The first holder fixes the number for as long as anybody holds; another number gets PermitsDiffer. Each holder
        has a token of its own, so "the highest seen" says nothing here: let the cell check the sequencer.

        >>> async with client.semaphore("/db/connections", 20) as permit:
        ...     await use(permit.sequencer)
        """
        terms = Terms(timeout, lock_delay, on_lost, on_jeopardy, stop_margin)
        return self._lock(ask_of(path, "semaphore", permits), terms)

    def locks(
        self,
        paths: Sequence[Wanted],
        mode: Mode = "exclusive",
        timeout: float | None = None,
        lock_delay: float = 5.0,
        on_lost: OnLost | None = None,
        on_jeopardy: OnJeopardy | None = None,
        stop_margin: float = STOP_MARGIN,
    ) -> LockSet:
        """Several locks (1 to 64) that are taken in one atomic step, so that their order cannot matter.

        `paths`: each a path, (path, mode) or (path, "semaphore", permits). It holds nothing until it holds all, and
        waits in the queues of all of them at once: whoever comes later waits behind it. The rest as `lock`.

        >>> async with client.locks(["/accounts/1", ("/rates", "shared")], timeout=5) as both:
        ...     await move_money(fencing_tokens=both.tokens)
        """
        terms = Terms(timeout, lock_delay, on_lost, on_jeopardy, stop_margin)
        return LockSet(LockState(self._keeper, asks_of(paths, mode), terms), self._actor)

    def locked(
        self,
        path: str,
        mode: Mode = "exclusive",
        timeout: float | None = None,
        lock_delay: float = 5.0,
        on_lost: OnLost | None = None,
        on_jeopardy: OnJeopardy | None = None,
        stop_margin: float = STOP_MARGIN,
    ) -> Callable[[_Function], _Function]:
        """Decorates a function: each call of it runs under a lock object of its own. Arguments and errors as `lock`.

        >>> @client.locked("/billing/nightly", timeout=5)
        ... async def write_report() -> None: ...
        """
        self.lock(path, mode, timeout, lock_delay, on_lost, on_jeopardy, stop_margin)  # what is wrong is said now

        def decorate(function: _Function) -> _Function:
            if not asyncio.iscoroutinefunction(function):
                raise TypeError("locked decorates `async def` functions; for others there is coordclient.Client")

            @functools.wraps(function)
            async def under_lock(*arguments: Any, **named: Any) -> Any:
                async with self.lock(path, mode, timeout, lock_delay, on_lost, on_jeopardy, stop_margin):
                    return await function(*arguments, **named)

            return cast(_Function, under_lock)

        return decorate

    @overload
    async def adopt(
        self,
        paths: str,
        timeout: float | None = None,
        on_lost: OnLost | None = None,
        on_jeopardy: OnJeopardy | None = None,
        stop_margin: float = STOP_MARGIN,
    ) -> Lock: ...

    @overload
    async def adopt(
        self,
        paths: list[str] | tuple[str, ...],
        timeout: float | None = None,
        on_lost: OnLost | None = None,
        on_jeopardy: OnJeopardy | None = None,
        stop_margin: float = STOP_MARGIN,
    ) -> LockSet: ...

    async def adopt(
        self,
        paths: str | list[str] | tuple[str, ...],
        timeout: float | None = None,
        on_lost: OnLost | None = None,
        on_jeopardy: OnJeopardy | None = None,
        stop_margin: float = STOP_MARGIN,
    ) -> Lock | LockSet:
        """The lock that came with a resumed session: of a path, or, for locks that were taken in one step, of all their
        paths in a list. It is held with the token that it had; raises NotFound when there is none, or it was adopted.

        It is `safe` when the process before this one cannot believe in it any more: at once if that said goodbye by
        `leave`, otherwise after lease and lock-delay from the resume. `acquire()` and `with` wait for that, `timeout`
        seconds or without end. What nobody adopts stays held as long as the session.

        >>> client = Client(resume=ticket)
        >>> async with await client.adopt("/billing/nightly") as lock:
        ...     await go_on(fencing_token=lock.token)
        """
        terms = Terms(timeout, 0.0, on_lost, on_jeopardy, stop_margin)
        state = await self._adopt((paths,) if isinstance(paths, str) else tuple(paths), terms)
        return (Lock if isinstance(paths, str) else LockSet)(state, self._actor)

    async def list_locks(self, path: str = "/") -> list[LockInfo]:
        """Every lock in the subtree of `path` that is held or waited for, with holders and waiters.

        >>> for lock in await client.list_locks("/billing"):
        ...     print(lock.path, [holder.client for holder in lock.holders], len(lock.waiters))
        """
        rows = await rows_of(self._keeper, "locks", {"path": path_of(path)}, "locks", "path")
        return [lock_of(row) for row in rows]

    async def check_sequencer(self, sequencer: str, stale: bool = False) -> SequencerCheck:
        """Whether the lock that the sequencer speaks of is still held by that very holder.

        `stale`: as the replica that this client is connected to sees it, which need not be the master and may be
        behind; the answer says as of which revision.

        >>> (await client.check_sequencer(lock.sequencer)).valid
        True
        """
        arguments: dict[str, object] = {"sequencer": sequencer}
        if stale:
            arguments["stale"] = True
        return row_of(SequencerCheck, await self._keeper.call("check_sequencer", arguments))

    async def why(self, path: str) -> Why:
        """Who holds a lock and who waits, since when and for how long still, and how the last holders lost it.

        >>> (await client.why("/billing/nightly")).losses[0].cause
        'expired'
        """
        return why_of(await self._keeper.call("why", {"path": path_of(path)}))

    async def unlock(self, path: str, *, reason: str, now: bool = False, session: int = 0, hold: int = 0) -> Unlocked:
        """Take a lock away, as an operator: from every holder, or from that of `session` (and `hold`) alone.

        Each holder is told, with the reason (1 to 256 bytes), stops, and its lock-delay passes; one that cannot be told
        loses it when its lease and lock-delay are over. With `now` it is free at once: **then two may believe that they
        hold it, and only the fencing token protects.** Raises NotFound when nobody holds it.

        >>> await client.unlock("/billing/nightly", reason="host-7 hangs, ticket 1234")
        """
        arguments = {"path": path_of(path), "reason": reason, "now": now, "session": session, "hold": hold}
        try:
            return unlocked_of(await self._keeper.call("unlock", arguments))
        except LockLost as error:  # the cell's "not held": of nobody here
            raise NotFound(error.message, details=error.details) from None

    # --- sessions

    async def sessions(self) -> list[SessionInfo]:
        """Every session of the cell. `left_ms` is what is left of its lease, in ms.

        >>> [session.client for session in await client.sessions()]
        """
        rows = await rows_of(self._keeper, "list_sessions", {}, "sessions", "session")
        return [session_of(row) for row in rows]

    async def session_info(self, session: int = 0) -> SessionDetails:
        """One session (0: this client's own) with all that it holds, waits for and keeps alive; raises NotFound.

        >>> [hold.path for hold in (await client.session_info()).holds]
        """
        return details_of(await self._keeper.call("session_info", {"session": session}))

    async def kill_session(self, session: int, *, reason: str) -> Killed:
        """End a session, as an operator: its client is told, with the reason (1 to 256 bytes), when its next KeepAlive
        comes, and all that it held is as after an expiry when it has stopped, or its lease is over. Raises NotFound.

        >>> await client.kill_session(7, reason="deployed by mistake")
        """
        return row_of(Killed, await self._keeper.call("kill_session", {"session": session, "reason": reason}))

    # --- the cell

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
            replica = int_in(await self.members(), "highest") + 1
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

    def _lock(self, ask: Ask, terms: Terms) -> Lock:
        return Lock(LockState(self._keeper, (ask,), terms), self._actor)

    async def _adopt(self, paths: tuple[str, ...], terms: Terms) -> LockState:
        """The state of the lock object for what came with a resumed session; both flavours make theirs of it."""
        keeper = self._keeper
        deadline_ms = keeper.clocks()[0] + keeper.request_ms
        life = keeper.alive()
        if life.session is None:
            await keeper.ready(life, deadline_ms)
        wanted = sorted(short_of(path_of(path)) for path in paths)
        for hold in life.holds.inherited.values():
            if sorted(part.path for part in hold.parts) == wanted:
                by_path = {part.path: part for part in hold.parts}
                parts = [(path, by_path[short_of(path)]) for path in paths]
                asks = tuple(Ask(path, part.mode, part.permits) for path, part in parts)
                state = LockState(keeper, asks, terms, hold)
                await state.adopted(life, deadline_ms)
                return state
        raise NotFound(f"{', '.join(paths)}: no lock of exactly these paths came with this session, or it was adopted")
