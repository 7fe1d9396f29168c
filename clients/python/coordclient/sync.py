"""The client of the thread flavour: the names of `coordclient.aio`, without await; re-exported by `coordclient`.

A thin facade: everything happens in the asyncio client, which runs in a loop in a daemon thread of its own.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast, overload

from coordclient.aio.lockstate import LockState
from coordclient.aio.terms import STOP_MARGIN, Mode, OnJeopardy, OnLost, Wanted, ask_of, asks_of
from coordclient.errors import CoordError
from coordclient.synclock import Lock, LockSet, terms_in_threads
from coordclient.syncnodes import NodesClient
from coordclient.values import Killed, LockInfo, SequencerCheck, SessionDetails, SessionInfo, Unlocked, Why

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Client(NodesClient):
    """A client of one cell: it finds the master, keeps one session alive, and retries over fail-over.

    `endpoints`: URLs or HOST:PORT, a sequence or one text with commas; without them `COORD_ENDPOINTS`, then the three
    ports of a development cell. `cell`: refuse any other cell (without it any but the first that served this client).
    `session_lease` and `request_timeout` in seconds.
    `name`: shown to whoever asks who holds a lock. `on_state(state)` is called with "active", "jeopardy" or "expired",
    in a thread of the client's own.
    `resume`: the ticket of a session to take over (see `leave` and `adopt`) instead of opening one; when that session
    is over the first call raises SessionExpired, and the next one opens a session.
    `cache`: `get`, `stat` and `ls` are answered from memory, as right as from the cell, until what they show changes;
    it holds `cache_bytes` at most (64 MiB).

    The session is opened by the first call that needs it. After `expired` the next call opens a new one; locks and
    ephemeral files of the old one are lost. Errors: see `coordclient.errors`; all of them are `CoordError`. Any number
    of threads may use one client. A child after a fork cannot: it makes its own.

    >>> with Client() as client:
    ...     with client.lock("/billing/nightly", timeout=5) as lock:
    ...         write_report(fencing_token=lock.token)
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

        >>> with client.lock("/jobs/1", mode="shared") as lock:
        ...     lock.check()
        """
        state = LockState(
            self._client._keeper,
            (ask_of(path, mode),),
            terms_in_threads(timeout, lock_delay, on_lost, on_jeopardy, stop_margin),
        )
        return Lock(state, self._worker)

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

        >>> with client.semaphore("/db/connections", 20) as permit:
        ...     use(permit.sequencer)
        """
        terms = terms_in_threads(timeout, lock_delay, on_lost, on_jeopardy, stop_margin)
        return Lock(LockState(self._client._keeper, (ask_of(path, "semaphore", permits),), terms), self._worker)

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

        >>> with client.locks(["/accounts/1", ("/rates", "shared")], timeout=5) as both:
        ...     move_money(fencing_tokens=both.tokens)
        """
        terms = terms_in_threads(timeout, lock_delay, on_lost, on_jeopardy, stop_margin)
        return LockSet(LockState(self._client._keeper, asks_of(paths, mode), terms), self._worker)

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
        ... def write_report() -> None: ...
        """
        self.lock(path, mode, timeout, lock_delay, on_lost, on_jeopardy, stop_margin)  # what is wrong is said now

        def decorate(function: _Function) -> _Function:
            if inspect.iscoroutinefunction(function):
                raise TypeError("locked decorates plain functions; for `async def` there is coordclient.aio.Client")

            @functools.wraps(function)
            def under_lock(*arguments: Any, **named: Any) -> Any:
                with self.lock(path, mode, timeout, lock_delay, on_lost, on_jeopardy, stop_margin):
                    return function(*arguments, **named)

            return cast(_Function, under_lock)

        return decorate

    @overload
    def adopt(
        self,
        paths: str,
        timeout: float | None = None,
        on_lost: OnLost | None = None,
        on_jeopardy: OnJeopardy | None = None,
        stop_margin: float = STOP_MARGIN,
    ) -> Lock: ...

    @overload
    def adopt(
        self,
        paths: list[str] | tuple[str, ...],
        timeout: float | None = None,
        on_lost: OnLost | None = None,
        on_jeopardy: OnJeopardy | None = None,
        stop_margin: float = STOP_MARGIN,
    ) -> LockSet: ...

    def adopt(
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
        >>> with client.adopt("/billing/nightly") as lock:
        ...     go_on(fencing_token=lock.token)
        """
        terms = terms_in_threads(timeout, 0.0, on_lost, on_jeopardy, stop_margin)
        state = self._worker.run(self._client._adopt, (paths,) if isinstance(paths, str) else tuple(paths), terms)
        return (Lock if isinstance(paths, str) else LockSet)(state, self._worker)

    def list_locks(self, path: str = "/") -> list[LockInfo]:
        """Every lock in the subtree of `path` that is held or waited for, with holders and waiters.

        >>> for lock in client.list_locks("/billing"):
        ...     print(lock.path, [holder.client for holder in lock.holders], len(lock.waiters))
        """
        return self._worker.run(self._client.list_locks, path)

    def check_sequencer(self, sequencer: str, stale: bool = False) -> SequencerCheck:
        """Whether the lock that the sequencer speaks of is still held by that very holder.

        `stale`: as the replica that this client is connected to sees it, which need not be the master and may be
        behind; the answer says as of which revision.

        >>> (client.check_sequencer(lock.sequencer)).valid
        True
        """
        return self._worker.run(self._client.check_sequencer, sequencer, stale)

    def why(self, path: str) -> Why:
        """Who holds a lock and who waits, since when and for how long still, and how the last holders lost it.

        >>> (client.why("/billing/nightly")).losses[0].cause
        'expired'
        """
        return self._worker.run(self._client.why, path)

    def unlock(self, path: str, *, reason: str, now: bool = False, session: int = 0, hold: int = 0) -> Unlocked:
        """Take a lock away, as an operator: from every holder, or from that of `session` (and `hold`) alone.

        Each holder is told, with the reason (1 to 256 bytes), stops, and its lock-delay passes; one that cannot be told
        loses it when its lease and lock-delay are over. With `now` it is free at once: **then two may believe that they
        hold it, and only the fencing token protects.** Raises NotFound when nobody holds it.

        >>> client.unlock("/billing/nightly", reason="host-7 hangs, ticket 1234")
        """
        return self._worker.run(self._client.unlock, path, reason=reason, now=now, session=session, hold=hold)

    # --- sessions

    def sessions(self) -> list[SessionInfo]:
        """Every session of the cell. `left_ms` is what is left of its lease, in ms.

        >>> [session.client for session in client.sessions()]
        """
        return self._worker.run(self._client.sessions)

    def session_info(self, session: int = 0) -> SessionDetails:
        """One session (0: this client's own) with all that it holds, waits for and keeps alive; raises NotFound.

        >>> [hold.path for hold in (client.session_info()).holds]
        """
        return self._worker.run(self._client.session_info, session)

    def kill_session(self, session: int, *, reason: str) -> Killed:
        """End a session, as an operator: its client is told, with the reason (1 to 256 bytes), when its next KeepAlive
        comes, and all that it held is as after an expiry when it has stopped, or its lease is over. Raises NotFound.

        >>> client.kill_session(7, reason="deployed by mistake")
        """
        return self._worker.run(self._client.kill_session, session, reason=reason)

    # --- the cell

    def status(self, endpoint: str | None = None) -> dict[str, Any]:
        """What one replica says about itself (the first endpoint that answers, if none is named). Opens no session.

        Keys: cell, replica, version, role, master, master_address, epoch, revision, members and more. Raises
        Unavailable when nobody answers.

        >>> (client.status())["master"]
        """
        return self._worker.run(self._client.status, endpoint)

    def cell_status(self) -> dict[str, dict[str, Any] | CoordError]:
        """`status` of every replica that is known or named by one that is: endpoint -> what it says, or the error."""
        return self._worker.run(self._client.cell_status)

    def members(self) -> dict[str, Any]:
        """The members of the cell as its master sees them, and how many more voters may fail ("can_lose").

        >>> (client.members())["can_lose"]
        """
        return self._worker.run(self._client.members)

    def add_member(self, address: str, replica: int = 0) -> dict[str, Any]:
        """Add a replica that learns and does not vote yet; 0 for the next free id. The answer names it ("replica").

        Raises Conflict for an id that was given before, Exists for a member at another address. May be repeated.

        >>> (client.add_member("http://host-4:7420"))["replica"]
        """
        return self._worker.run(self._client.add_member, address, replica)

    def promote_member(self, replica: int) -> dict[str, Any]:
        """Let a learner vote from now on; raises Conflict while it is silent or behind. May be repeated.

        >>> (client.promote_member(4))["voters"]
        """
        return self._worker.run(self._client.promote_member, replica)

    def remove_member(self, replica: int) -> dict[str, Any]:
        """Remove a replica for good; raises Conflict where too few voters that answer would be left. May be repeated.

        >>> (client.remove_member(3))["can_lose"]
        """
        return self._worker.run(self._client.remove_member, replica)

    def transfer_master(self, to: int = 0) -> dict[str, Any]:
        """Let the master hand over to the voter `to` (0: whoever is best); raises Conflict where that cannot serve.

        >>> client.transfer_master(2)
        """
        return self._worker.run(self._client.transfer_master, to)
