"""A real cell of real daemons for the tests of the client library, and a clock that can be set on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from coordclient import aio, clock
from coordclient.options import Options
from coordd.testing.cells import RunningCell, start_cell

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
            client._setup(Options.of(endpoints or cell.endpoints, **{**names, **options}), on_state, clocks)
        made.append(client)
        return client

    yield make
    for client in made:
        await client.close()


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
