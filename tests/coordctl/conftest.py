"""What the tests of the command line share: a cell of one real daemon, and coordctl run against it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from coordd.testing.cells import RunningCell, start_cell
from tests.coordctl.runs import Coordctl, Family


@pytest.fixture(scope="module")
def cell() -> Iterator[RunningCell]:
    with start_cell(1) as cell:
        yield cell


@pytest.fixture
def ctl(cell: RunningCell) -> Iterator[Coordctl]:
    ctl = Coordctl(cell)
    yield ctl
    ctl.close()


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Family]:
    family = Family(tmp_path)
    yield family
    family.close()
