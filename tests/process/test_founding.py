"""What a cell is founded with, by real daemons: a directory that is not there, and a file with another number."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from coordd.exits import Exit
from coordd.testing.cells import RunningCell, start_cell


def test_a_directory_that_is_missing_at_a_restart_of_all_is_refused_and_taken_when_it_is_back() -> None:
    with start_cell(3) as cell:
        master = cell.master()
        assert "stat" in cell.post(master, "put", {"path": "/kept", "contents": {"text": "acknowledged"}})
        lost = next(replica for replica in (1, 2, 3) if replica != master)
        for replica in cell.addresses:
            cell.kill(replica)
        data, aside = cell.directory / f"replica-{lost}", cell.directory / "unmounted"
        data.rename(aside)
        for replica in cell.addresses:
            cell.start(replica)
        assert cell.wait_exit(lost) == Exit.DATA
        assert "this replica's data went back in time" in cell.log(lost) and "mount is missing" in cell.log(lost)
        answer = cell.post(cell.master(), "get", {"path": "/kept"})
        assert answer["contents"] == {"text": "acknowledged"}, answer
        shutil.rmtree(data)
        aside.rename(data)
        cell.start(lost)
        cell.wait_ready([lost])


def test_a_replica_that_was_founded_with_another_lease_is_refused_and_both_logs_say_why() -> None:
    directory = Path(tempfile.mkdtemp(prefix="coordd-"))
    with RunningCell(directory, 3, "test", {"cell": {"lease_ms": 1500}}, temporary=True) as cell:
        right = cell.configs[3].read_text()
        assert "lease_ms = 1500" in right
        cell.configs[3].write_text(right.replace("lease_ms = 1500", "lease_ms = 3000"))
        for replica in cell.addresses:
            cell.start(replica)
        cell.wait_ready([1, 2])
        theirs, own = "began with lease_ms 3000, voters 1,2,3", "began with lease_ms 1500, voters 1,2,3"
        for replica in (1, 2, 3):
            cell.wait_for(
                lambda: "other_founding" in (log := cell.log(replica)) and theirs in log and own in log,  # noqa: B023
                f"replica {replica} to name both numbers",
            )
        assert not cell.ready(3)
        cell.kill(3)
        shutil.rmtree(directory / "replica-3")
        cell.configs[3].write_text(right)
        cell.start(3)
        cell.wait_ready([3])
