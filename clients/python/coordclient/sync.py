"""The client of the thread flavour: the names of `coordclient.aio`, without await; re-exported by `coordclient`.

A thin facade: everything happens in the asyncio client, which runs in a loop in a daemon thread of its own.
"""

from __future__ import annotations

import atexit
import concurrent.futures
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any

from coordclient import aio
from coordclient.aio.files import path_of
from coordclient.aio.lockstate import OnLost
from coordclient.errors import CoordError
from coordclient.holds import STOP_MARGIN_MS
from coordclient.synclock import Lock, Mode
from coordclient.values import Entry, File, LockInfo, SequencerCheck, SessionInfo, Stat
from coordclient.worker import Worker

EXIT_SECONDS_MAX = 0.5
_open: set[Client] = set()  # from the first use to the close, whether the application keeps them or not


class Client:
    """A client of one cell: it finds the master, keeps one session alive, and retries over fail-over.

    `endpoints`: URLs or HOST:PORT, a sequence or one text with commas; without them `COORD_ENDPOINTS`, then the three
    ports of a development cell. `cell`: refuse any other cell. `session_lease` and `request_timeout` in seconds.
    `name`: shown to whoever asks who holds a lock. `on_state(state)` is called with "active", "jeopardy" or "expired",
    in a thread of the client's own.

    The session is opened by the first call that needs it. After `expired` the next call opens a new one; locks and
    ephemeral files of the old one are lost. Errors: see `coordclient.errors`; all of them are `CoordError`. Any number
    of threads may use one client. A child after a fork cannot: it makes its own.

    >>> with Client() as client:
    ...     with client.lock("/billing/nightly", timeout=5) as lock:
    ...         write_report(fencing_token=lock.token)
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
        self._worker = worker = Worker(lambda: _open.add(self))
        tell = None if on_state is None else lambda state: worker.call_back(partial(on_state, state))
        self._client = aio.Client(
            endpoints,
            cell=cell,
            session_lease=session_lease,
            request_timeout=request_timeout,
            name=name,
            on_state=tell,
        )

    def __enter__(self) -> Client:
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

    @property
    def state(self) -> str:
        """`active`, `jeopardy` (calls wait, the session may be lost), or `expired` (also before the first call)."""
        return self._client.state

    @property
    def session_id(self) -> int | None:
        """The number of the present session, as `sessions()` shows it; None when there is none."""
        return self._client.session_id

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

        >>> with client.lock("/jobs/1", mode="shared") as lock:
        ...     lock.check()
        """
        keeper = self._client._keeper
        return Lock(keeper, self._worker, path_of(path), mode, timeout, lock_delay, on_lost, stop_margin)

    def locks(self, path: str = "/") -> list[LockInfo]:
        """Every lock in the subtree of `path` that is held or waited for, with holders and waiters.

        >>> for lock in client.locks("/billing"):
        ...     print(lock.path, [holder.client for holder in lock.holders], len(lock.waiters))
        """
        return self._worker.run(self._client.locks, path)

    def check_sequencer(self, sequencer: str) -> SequencerCheck:
        """Whether the lock that the sequencer speaks of is still held by that very holder.

        >>> client.check_sequencer(lock.sequencer).valid
        True
        """
        return self._worker.run(self._client.check_sequencer, sequencer)

    # --- files

    def get(self, path: str) -> File:
        """The contents (bytes) and the stat of a file; raises NotFound, IsADirectory.

        >>> contents, stat = client.get("/config")
        """
        return self._worker.run(self._client.get, path)

    def put(
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

        >>> contents, stat = client.get("/n")
        >>> client.put("/n", b"2", if_generation=stat.content_generation)
        """
        return self._worker.run(
            self._client.put, path, contents, if_generation=if_generation, if_absent=if_absent, parents=parents
        )

    def create(self, path: str, contents: bytes = b"", *, ephemeral: bool = False, parents: bool = False) -> Stat:
        """Make a file; raises Exists. An `ephemeral` one goes with this session.

        Raises NotFound when its directory is missing and `parents` is not set.

        >>> stat = client.create("/workers/7", b"10.0.0.7", ephemeral=True, parents=True)
        """
        return self._worker.run(self._client.create, path, contents, ephemeral=ephemeral, parents=parents)

    def mkdir(self, path: str, *, parents: bool = False) -> Stat:
        """Make a directory; raises Exists, and NotFound when its own directory is missing and `parents` is not set.

        >>> stat = client.mkdir("/workers", parents=True)
        """
        return self._worker.run(self._client.mkdir, path, parents=parents)

    def delete(self, path: str, *, if_generation: int | None = None) -> int:
        """Delete a file or an empty directory; the revision of it. Raises NotFound, NotEmpty, Locked, Conflict.

        >>> revision = client.delete("/config", if_generation=stat.content_generation)
        """
        return self._worker.run(self._client.delete, path, if_generation=if_generation)

    def ls(self, path: str = "/") -> list[Entry]:
        """The children of a directory, by name, each with its stat; raises NotFound, NotADirectory.

        >>> [entry.name for entry in client.ls("/workers")]
        """
        return self._worker.run(self._client.ls, path)

    def stat(self, path: str) -> Stat:
        """The stat of a file or directory; raises NotFound.

        >>> client.stat("/config").revision
        """
        return self._worker.run(self._client.stat, path)

    # --- the cell

    def sessions(self) -> list[SessionInfo]:
        """Every session of the cell. `left_ms` is what is left of its lease, in ms.

        >>> [session.client for session in client.sessions()]
        """
        return self._worker.run(self._client.sessions)

    def status(self, endpoint: str | None = None) -> dict[str, Any]:
        """What one replica says about itself (the first endpoint that answers, if none is named). Opens no session.

        Keys: cell, replica, version, role, master, master_address, epoch, revision, members and more. Raises
        Unavailable when nobody answers.

        >>> client.status()["master"]
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

    def _close(self, seconds_max: float | None) -> None:
        _open.discard(self)
        worker = self._worker
        if worker.at_home():
            future = worker.begin(self._client.close)
            try:
                future.result(seconds_max)
            finally:
                worker.stop()
        else:
            worker.closed = True


def _at_exit() -> None:
    """A program that ends without closing gives its locks back, if the cell can be told at once."""
    for client in list(_open):
        try:
            client._close(EXIT_SECONDS_MAX)
        except (CoordError, RuntimeError, concurrent.futures.TimeoutError):
            continue  # the session ends by its lease instead


atexit.register(_at_exit)
