"""What the thread flavour hands out for a node that is open."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from coordclient.aio.handle import Handle as AioHandle
from coordclient.aio.lockstate import LockState
from coordclient.aio.opening import Kind
from coordclient.aio.terms import STOP_MARGIN, Mode, OnJeopardy, OnLost, ask_of
from coordclient.synclock import Lock, terms_in_threads
from coordclient.values import Entry, File, Stat
from coordclient.worker import Worker


class Handle:
    """A node that is open: every operation is on that very node, never on another one that has its name now.

    When it is gone, or there is another in its place, each operation raises StaleHandle (a NotFound). An ephemeral node
    is kept alive by this session until every handle of it here is closed, or the session ends; a handle that is only
    forgotten counts as open. Made by `Client.open` and by `open` of another handle.

    >>> with client.open("/workers", create="directory") as workers:
    ...     me = workers.open("7", create="file", ephemeral=True)
    """

    def __init__(self, handle: AioHandle, worker: Worker) -> None:
        self._handle = handle
        self._worker = worker

    @property
    def path(self) -> str:
        """Of the node."""
        return self._handle.path

    @property
    def instance(self) -> int:
        """The number of this very node; another node of the same name has a larger one."""
        return self._handle.instance

    @property
    def kind(self) -> str:
        """`file` or `directory`."""
        return self._handle.kind

    def read(self) -> File:
        """As `Client.get`.

        >>> contents, stat = handle.read()
        """
        return self._worker.run(self._handle.read)

    def stat(self) -> Stat:
        """As `Client.stat`.

        >>> handle.stat().revision
        """
        return self._worker.run(self._handle.stat)

    def ls(self, *, contents: bool = False) -> list[Entry]:
        """As `Client.ls`.

        >>> [entry.name for entry in handle.ls()]
        """
        return self._worker.run(self._handle.ls, contents=contents)

    def write(self, contents: bytes, *, if_generation: int | None = None, if_sequencer: str | None = None) -> Stat:
        """As `Client.put`; it never makes a file.

        >>> stat = handle.write(b"10.0.0.8")
        """
        return self._worker.run(self._handle.write, contents, if_generation=if_generation, if_sequencer=if_sequencer)

    def delete(self, *, if_generation: int | None = None, if_sequencer: str | None = None) -> int:
        """As `Client.delete`; the handle is stale then.

        >>> revision = handle.delete()
        """
        return self._worker.run(self._handle.delete, if_generation=if_generation, if_sequencer=if_sequencer)

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

        >>> with handle.lock(timeout=5) as lock:
        ...     lock.check()
        """
        self._handle._check()
        ask = ask_of(self.path, mode)._replace(instance=self.instance)
        terms = terms_in_threads(timeout, lock_delay, on_lost, on_jeopardy, stop_margin)
        return Lock(LockState(self._handle._opening.keeper, (ask,), terms), self._worker)

    def open(self, name: str, *, create: Kind | None = None, ephemeral: bool = False, parents: bool = False) -> Handle:
        """As `Client.open`, of `name` (one part or several) below this very directory.

        >>> child = handle.open("7")
        """
        opened = self._worker.run(self._handle.open, name, create=create, ephemeral=ephemeral, parents=parents)
        return Handle(opened, self._worker)

    def poison(self) -> None:
        """Let every operation on it fail from now on, those of others that are under way included; it stays open.

        >>> handle.poison()
        """
        self._handle._poisoned = True  # at once, and what is under way when the loop comes to it
        self._worker.post(self._handle.poison)

    def close(self) -> None:
        """Every operation on it fails from now on; an ephemeral node goes, unless another handle or session has it.

        When the cell does not answer, OutcomeUnknown or Unavailable is raised after the request time-out; it is told
        all the same, until it answers or the session ends. The second time it does nothing.

        >>> handle.close()
        """
        self._worker.run(self._handle.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
