"""A real cell inside this process, for tests: one replica, a thread of its own, a disk in memory, faults on demand.

    with TestCell() as cell, Client(cell.endpoints) as client:
        with client.lock("/billing"):
            cell.expire_session(client)

Nothing is imitated: the engine, the log, the leases and the doors are the daemon's, and clients come in by TCP over
loopback. It forks nothing, makes no file, and after `stop` no thread is left. Its methods may be called from any thread
and from asyncio code; each blocks for less than a second (`fail_over` longest: about a third of one).
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from coordclient import Client, aio
from coordclient.protocol.paths import CELL_NAME
from coordd.testing.life import LOOK_SECONDS, REPLICA, Life
from coordd.testing.line import Line
from coordd.testing.memory_disk import MemoryDisk

ANSWER_SECONDS_MAX = 30.0
LINES_MAX = 256

_P = ParamSpec("_P")
_T = TypeVar("_T")
AnyClient = Client | aio.Client


class CellFailed(Exception):
    """The replica ended by an error (the cause), or did not do in time what it was told."""


class TestCell:
    """A cell for tests; see the module docstring. `name`: of the cell, as in /ls/<name>/path.

    `endpoints` gives a line of its own to everybody who asks: see `cut_link`.
    """

    __test__ = False  # not a class of tests, whatever pytest thinks of its name

    def __init__(self, name: str = "test") -> None:
        if not CELL_NAME.fullmatch(name):
            raise ValueError(f"not the name of a cell: {name!r} (small letters, digits and '-', at most 32)")
        if not __debug__:
            raise RuntimeError("coordd checks itself by assertions: run the tests without python -O")
        self.name = name
        self._disk = MemoryDisk()
        self._lines: list[Line] = []
        self._life: Life | None = None
        self._pid = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._ending = False
        self._error: BaseException | None = None
        self._go_on: threading.Event | None = None  # while it is paused

    # ---- begin and end ----

    def start(self) -> None:
        """Start it; returns when it serves. `with` does it."""
        if self._thread is not None:
            raise RuntimeError("this cell was started before; make another one")
        begun = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(begun,), name="coordd test cell", daemon=True)
        self._thread.start()
        begun.wait()
        try:
            self._do(self._serving)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it; clients find nobody any more. The second time it does nothing. `CellFailed` where it had failed."""
        self._check_process()
        if self._thread is None or self._ending:
            return
        self._ending = True
        self.resume()
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended by itself, by an error
                self._loop.call_soon_threadsafe(self._end_life)
        self._thread.join()
        for line in self._lines:
            line.end()
        if self._error is not None:
            raise CellFailed("the replica failed") from self._error

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    # ---- the way in ----

    @property
    def endpoints(self) -> list[str]:
        """For `Client(cell.endpoints)`: a new line into the cell each time it is asked for, at most `LINES_MAX`.

        Clients made from one answer share that line, and are cut off together.
        """
        self._check_running()
        if len(self._lines) >= LINES_MAX:
            raise RuntimeError(f"{LINES_MAX} lines were asked for: keep an answer of `endpoints` and use it again")
        line = Line(self.name, REPLICA)
        self._lines.append(line)
        if self._go_on is None:
            self._do(self._add, line)
        else:  # whoever connects is answered when the cell goes on
            self._begin(self._add, line)
        return [line.address]

    @property
    def epoch(self) -> int:
        """The number of the present mastership; it rises with every `fail_over`."""
        return self._do(self._epoch)

    # ---- faults ----

    def expire_session(self, client: AnyClient | int) -> None:
        """Let the lease of a session (of a client, or by its number) be over now; returns when the cell has ended it.

        Everything follows as when the client had been silent for its whole lease: its waiters are gone, its locks are
        closed to others for their lock-delay (`lock_delay=0`: free at once), and its connection is reset, so that it
        hears of it within milliseconds. ValueError when there is no such session.
        """
        session = client if isinstance(client, int) else client.session_id
        if session is None:
            raise ValueError("this client has no session: its first call opens one")
        try:
            self._do(self._expire, session)
        except KeyError:
            raise ValueError(f"there is no session {session}") from None

    def pause(self) -> None:
        """Stop the whole replica, as SIGSTOP stops a daemon: nothing is answered until `resume`; connections stay open.

        The time that it stood still is charged to no session; a client that hears nothing for long enough gives its
        locks up all the same.
        """
        stands, go_on = threading.Event(), threading.Event()
        loop = self._check_running()
        if self._go_on is not None:
            raise RuntimeError("the cell is paused already")
        loop.call_soon_threadsafe(_stand_still, stands, go_on)
        self._go_on = go_on
        if not stands.wait(ANSWER_SECONDS_MAX):
            raise CellFailed("the replica does not stand still")

    def resume(self) -> None:
        """End the pause. Without one it does nothing."""
        go_on, self._go_on = self._go_on, None
        if go_on is not None:
            go_on.set()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """`pause` for as long as the body runs."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def cut_link(self, client: AnyClient | Sequence[str]) -> None:
        """Reset the connections of this client, and every new one, until `mend_link`; nobody else notices.

        `client`: one that was made with `cell.endpoints`, or the endpoints themselves (of a client in another process).
        """
        self._do(self._turn, self._line_of(client).cut)

    def mend_link(self, client: AnyClient | Sequence[str]) -> None:
        """End `cut_link`."""
        self._do(self._turn, self._line_of(client).mend)

    def fail_over(self) -> int:
        """Kill the replica and start it again from its disk; returns the new epoch, when it serves.

        What was acknowledged is there, everything that only a master keeps is lost: connections, the answers that were
        due, and what it knew of each lease, so that every session begins a whole fresh one.
        """
        return self._do(self._fail_over)

    # ---- in the loop ----

    def _run(self, begun: threading.Event) -> None:
        try:
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                self._loop = runner.get_loop()
                self._loop.set_exception_handler(self._on_bug)
                runner.run(self._live(begun))
        except BaseException as error:  # whoever asks next is told, and `stop`
            self._error = error
        finally:
            begun.set()

    async def _live(self, begun: threading.Event) -> None:
        while not self._ending and self._error is None:
            self._life = Life(self._disk, self.name)
            begun.set()
            await self._life.run(self._lines)

    def _on_bug(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A callback failed. A daemon would log it and go on; in a test it must not be overlooked."""
        self._error = self._error or context.get("exception") or RuntimeError(str(context.get("message")))
        self._end_life()

    def _end_life(self) -> None:
        self._present().kill()

    async def _serving(self) -> None:
        await self._present().serving()

    async def _epoch(self) -> int:
        return self._present().epoch

    async def _add(self, line: Line) -> None:
        await self._present().add(line)

    async def _expire(self, session: int) -> None:
        await self._present().expire(session)

    async def _turn(self, change: Callable[[], object]) -> None:
        change()

    async def _fail_over(self) -> int:
        before = self._present()
        before.kill()
        while self._life is before:  # noqa: ASYNC110 - it ends in its own time
            await asyncio.sleep(LOOK_SECONDS)
        await self._serving()
        return self._present().epoch

    def _present(self) -> Life:
        assert self._life is not None, "the thread begins with a life"
        return self._life

    # ---- from other threads ----

    def _do(self, function: Callable[_P, Coroutine[Any, Any, _T]], *arguments: _P.args, **named: _P.kwargs) -> _T:
        """Run it in the replica's loop and wait for its result."""
        if self._go_on is not None:
            raise RuntimeError("the cell is paused: resume() first")
        future = self._begin(function, *arguments, **named)
        try:
            return future.result(ANSWER_SECONDS_MAX)
        except (CancelledError, TimeoutError):
            future.cancel()
            if self._thread is not None and self._thread is not threading.current_thread():
                self._thread.join(1.0)  # where it failed, it is about to end and to say why
            raise CellFailed("the replica failed, or does not answer") from self._error

    def _begin(
        self, function: Callable[_P, Coroutine[Any, Any, _T]], *arguments: _P.args, **named: _P.kwargs
    ) -> Future[_T]:
        loop = self._check_running()
        coroutine = function(*arguments, **named)
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, loop)
        except RuntimeError:  # it has just ended
            coroutine.close()
            raise CellFailed("the replica failed") from self._error

    def _check_running(self) -> asyncio.AbstractEventLoop:
        self._check_process()
        if self._thread is None or self._loop is None:
            raise RuntimeError("the cell is not started: with TestCell() as cell, or start()")
        if self._ending:
            raise RuntimeError("the cell was stopped")
        if self._error is not None or not self._thread.is_alive():
            raise CellFailed("the replica failed") from self._error
        return self._loop

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            raise RuntimeError(f"this cell lives in process {self._pid}; give its endpoints to the child instead")

    def _line_of(self, client: AnyClient | Sequence[str]) -> Line:
        inner = client._client if isinstance(client, Client) else client
        endpoints = inner._endpoints.configured if isinstance(inner, aio.Client) else inner
        for line in self._lines:
            if line.address in endpoints:
                return line
        raise ValueError("this client was not made with the endpoints of this cell")


def _stand_still(stands: threading.Event, go_on: threading.Event) -> None:
    """In the loop: until somebody lets it go on."""
    stands.set()
    go_on.wait()
