"""Real daemons take snapshots, cut their logs, and bring a replica that was away too long up to date by one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from coordd.testing.cells import RunningCell, start_cell

MIB = 1024 * 1024
EXTRA = {"log": {"segment_bytes": MIB, "snapshot_after_bytes": MIB}}
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def cell() -> Iterator[RunningCell]:
    with start_cell(3, extra=EXTRA) as running:
        yield running


def status(cell: RunningCell, replica: int) -> dict[str, Any]:
    found = cell.status(replica)
    assert found is not None
    return found


def write_mib(cell: RunningCell, count: int) -> None:
    """About `count` MiB of log, a little more than a segment's worth of nodes."""
    for number in range(count * 5):
        body = {"path": f"/file-{number % 7}", "contents": {"text": f"{number} " + "x" * 210_000}}
        cell.wait_for(partial(was_written, cell, json.dumps(body).encode()), "a write")


def was_written(cell: RunningCell, body: bytes) -> bool:
    """By whoever is the master now."""
    return cell.http(cell.master(), "POST", "/v1/put", body, JSON)[0] == 200


def snapshots(cell: RunningCell, replica: int) -> list[Path]:
    return [path for path in (cell.directory / f"replica-{replica}").glob("snapshot-*") if path.suffix != ".tmp"]


def has_snapshot(cell: RunningCell, replica: int) -> bool:
    return bool(status(cell, replica)["snapshot_slot"])


def has_one_file(cell: RunningCell, replica: int) -> bool:
    return len(snapshots(cell, replica)) == 1


def test_a_snapshot_is_taken_the_log_is_cut_and_kill_9_loses_nothing(cell: RunningCell) -> None:
    write_mib(cell, 4)
    for replica in cell.addresses:
        cell.wait_for(partial(has_snapshot, cell, replica), f"a snapshot of {replica}")
        cell.wait_for(partial(has_one_file, cell, replica), "the older ones to go")
    before = cell.post(cell.master(), "get", {"path": "/file-3"})
    for replica in cell.addresses:
        cell.kill(replica)
    for replica in cell.addresses:
        cell.start(replica)
    cell.wait_ready()
    assert cell.post(cell.master(), "get", {"path": "/file-3"}) == before


def test_a_replica_that_was_away_too_long_gets_a_snapshot(cell: RunningCell) -> None:
    master = cell.master()
    away = next(replica for replica in cell.addresses if replica != master)
    cell.kill(away)
    write_mib(cell, 9)
    cell.wait_for(lambda: status(cell, master)["log_first_slot"] > status(cell, master)["chosen_upto"] // 4, "a cut")
    cell.restart(away)
    target = status(cell, master)["chosen_upto"]
    cell.wait_for(lambda: status(cell, away)["chosen_upto"] >= target, "the replica to catch up")
    assert '"event": "snapshot received"' in cell.log(away)
    assert status(cell, away)["revision"] == status(cell, master)["revision"]
    cell.kill(master)
    assert "contents" in cell.post(cell.master(), "get", {"path": "/file-3"})
