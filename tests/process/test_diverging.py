"""Real daemons, one of which comes to another state: it stops by itself, says why, and the others go on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from coordd.exits import Exit
from coordd.testing.cells import RunningCell, start_cell

pytestmark = pytest.mark.slow
FAST = {"cell": {"lease_ms": 600, "heartbeat_ms": 100}}
PROGRAM = "tests.process.programs.crooked"


@pytest.fixture(params=[3, 2])
def cell(request: pytest.FixtureRequest) -> Iterator[RunningCell]:
    with start_cell(request.param, extra=FAST) as cell:
        yield cell


def write(cell: RunningCell, times: int = 1) -> None:
    for number in range(times):
        put = {"path": "/crooked", "contents": {"text": f"{number:0200}"}}
        cell.wait_for(lambda put=put: "stat" in cell.post(cell.master(), "put", put), "a write")  # type: ignore[misc]


def test_a_replica_with_another_state_stops_and_of_two_both_do(cell: RunningCell) -> None:
    crooked = next(replica for replica in cell.addresses if replica != cell.master())
    others = [replica for replica in cell.addresses if replica != crooked]
    cell.kill(crooked)
    cell.start(crooked, program=PROGRAM)
    cell.wait_ready([crooked])
    cell.wait_for(lambda: cell.post(cell.master(), "members").get("answering") == len(cell.addresses), "all to answer")
    write(cell)
    assert cell.wait_exit(crooked) == Exit.DIVERGED
    said = cell.log(crooked)
    assert "the state of this replica after slot" in said and "here the history is" in said
    if len(others) == 1:
        assert cell.wait_exit(others[0]) == Exit.DIVERGED
        assert "Nobody can say which of them is right" in said and "Nobody can say" in cell.log(others[0])
        return
    assert "keep its data directory and its log for analysis; remove it from the cell" in said
    for replica in others:
        assert f"replica {crooked} at slot" in cell.log(replica), "the others say so too"
    write(cell, 3)
    assert all(cell.running(replica) for replica in others)
