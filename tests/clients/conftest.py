"""A real cell of real daemons for the tests of the client library, and a clock that can be set on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest

from coordclient import aio, clock
from coordclient.options import CACHE_BYTES, Options
from coordd.testing.cells import RunningCell, start_cell
from coordd.testing.listening import stop_listening

WAIT_SECONDS = 20.0


class Clocks:
    """The real clocks, each with what the test adds: a pause of this process is `clocks.pass_ms(...)`."""

    def __init__(self) -> None:
        self.added = [0, 0]

    def __call__(self) -> tuple[int, ...]:
        return tuple(now + added for now, added in zip(clock.read(), self.added, strict=True))

    def pass_ms(self, ms: int) -> None:
        self.added = [added + ms for added in self.added]


@pytest.fixture(scope="session")
def cell() -> Iterator[RunningCell]:
    """One replica, shared by all tests that do it no harm."""
    with start_cell(1) as running:
        yield running


@pytest.fixture
def cell3() -> Iterator[RunningCell]:
    """Three replicas for one test, which may kill them."""
    with start_cell(3) as running:
        yield running


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
async def make_client(cell) -> AsyncIterator[Callable[..., aio.Client]]:
    """Makes clients of the shared cell (or of `endpoints`), with `clocks` if given; all are closed."""
    made: list[aio.Client] = []

    def make(endpoints: Any = None, clocks: Clocks | None = None, **options: Any) -> aio.Client:
        client = aio.Client(endpoints or cell.endpoints, **options)
        if clocks is not None:
            names = {"cell": None, "session_lease": 12.0, "request_timeout": 10.0, "name": None}
            on_state = options.pop("on_state", None)
            if options.pop("cache", False):
                options.setdefault("cache_bytes", CACHE_BYTES)
            client._setup(Options.of(endpoints or cell.endpoints, **{**names, **options}), on_state, clocks)
        made.append(client)
        return client

    yield make
    for client in made:
        await client.close()


class Wire:
    """A TCP connection to `address` that can be cut without either side being told."""

    def __init__(self, address: str) -> None:
        self._target = address.removeprefix("http://").split(":")
        self._server: asyncio.Server | None = None
        self._open = asyncio.Event()
        self._open.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self.address = ""

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """From now on nothing passes, in either direction; new connections are accepted and hear nothing."""
        self._open.clear()

    def mend(self) -> None:
        """What was held back passes, late."""
        self._open.set()

    def drop(self) -> None:
        """Every present connection is reset."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def close(self) -> None:
        if self._server is not None:
            await stop_listening(self._server)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.drop()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self._begin(self._join(reader, writer))

    def _begin(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._target[0], int(self._target[1]))
        self._writers.append(far_writer)
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            self._begin(self._pump(source, sink))

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65_536):
                await self._open.wait()
                sink.write(data)
        except OSError:
            pass
        sink.close()


@pytest.fixture
async def wire(cell) -> AsyncIterator[Wire]:
    """A wire to the shared cell. A client of it must be `bound` to it, or it would learn the way around."""
    made = Wire(cell.endpoints[0])
    await made.start()
    yield made
    await made.close()


def bind(client: aio.Client) -> aio.Client:
    """Let the client know no address but its first."""
    client._endpoints.learn = lambda addresses: None  # type: ignore[method-assign]
    return client


@pytest.fixture
def path(request) -> str:
    """A path of the test's own."""
    return f"/{request.node.name.encode().hex()[-60:]}/{time.monotonic_ns()}"


async def until(condition: Callable[[], Any], what: str = "the condition") -> Any:
    """Wait until `condition()` (a value or an awaitable of one) is true; never for a guessed time."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        await asyncio.sleep(0.005)
    raise AssertionError(f"waited {WAIT_SECONDS} s for {what}")
