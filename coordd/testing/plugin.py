"""Fixtures for pytest, loaded by its entry point wherever coordd is installed (docs/testing.md).

| fixture | what |
|---|---|
| `coord_cell` | a `TestCell`, fresh for each test |
| `coord_client` | a `coordclient.Client` of that cell, closed at the end |
| `coord_aio_client` | a `coordclient.aio.Client` of that cell (needs pytest-asyncio, or anyio's plugin) |

Nothing of coordd and no foreign package is imported before a test asks for one of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from coordclient import Client, aio
    from coordd.testing.memory_cell import TestCell


def _fixture_of_a_loop() -> Callable[[Any], Any]:
    """pytest-asyncio, in its strict mode, runs only fixtures of its own; anyio runs those of pytest."""
    if find_spec("pytest_asyncio") is None:
        return pytest.fixture
    import pytest_asyncio

    return pytest_asyncio.fixture


@pytest.fixture
def coord_cell() -> Iterator[TestCell]:
    """A real cell of one replica in this process, on a disk in memory: `coordd.testing.TestCell`."""
    from coordd.testing.memory_cell import TestCell

    with TestCell() as cell:
        yield cell


@pytest.fixture
def coord_client(coord_cell: TestCell, request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client of `coord_cell`, for threads."""
    from coordclient import Client

    with Client(coord_cell.endpoints, name=request.node.name) as client:
        yield client


@_fixture_of_a_loop()
async def coord_aio_client(coord_cell: TestCell, request: pytest.FixtureRequest) -> AsyncIterator[aio.Client]:
    """A client of `coord_cell`, for asyncio."""
    from coordclient import aio

    async with aio.Client(coord_cell.endpoints, name=request.node.name) as client:
        yield client
