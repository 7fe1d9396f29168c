"""Real daemons: the cell grows, shrinks and replaces a lost disk while clients work, and says what it tolerates."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from coordclient import Client, CoordError
from coordd.exits import Exit
from coordd.testing.cells import RunningCell, start_cell
from tests.coordctl.runs import Coordctl

pytestmark = pytest.mark.slow
FAST = {"cell": {"lease_ms": 600, "heartbeat_ms": 100}}


class Load:
    """A client that writes one number after another; what was acknowledged must be there at the end."""

    def __init__(self, cell: RunningCell) -> None:
        self._client = Client(cell.endpoints, request_timeout=40)
        self._stop = threading.Event()
        self.acknowledged = 0
        self.failed: list[CoordError] = []
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                self._client.put("/number", str(self.acknowledged + 1).encode())
                self.acknowledged += 1
            except CoordError as error:
                self.failed.append(error)

    def end(self) -> None:
        self._stop.set()
        self._thread.join(60)
        assert int(self._client.get("/number").contents) >= self.acknowledged > 20
        assert not self.failed, self.failed[:3]
        self._client.close()


def members(cell: RunningCell) -> dict[str, Any]:
    """What the master says of them; it may be deposed when it is asked."""

    def answer() -> dict[str, Any] | None:
        said = cell.post(cell.master(), "members")
        return said if "members" in said else None

    return cell.wait_for(answer, "the members")


def join(cell: RunningCell, ctl: Coordctl, replica: int) -> None:
    """A new replica: its file, its id, its process, its vote."""
    address = cell.prepare_join(replica, FAST)
    done = ctl.run("cell", "add", address)
    assert done.returncode == 0, done.stderr
    cell.start(replica)
    cell.wait_ready([replica])
    cell.wait_for(lambda: ctl.run("cell", "promote", str(replica)).returncode == 0, f"replica {replica} to vote")


@pytest.fixture
def one() -> Iterator[RunningCell]:
    with start_cell(1, extra=FAST) as cell:
        yield cell


@pytest.fixture
def three() -> Iterator[RunningCell]:
    with start_cell(3, extra=FAST) as cell:
        yield cell


def test_a_cell_grows_from_one_to_three_and_back_under_load(one: RunningCell) -> None:
    ctl, load = Coordctl(one), Load(one)
    for replica in (2, 3):
        join(one, ctl, replica)
    assert (members(one)["voters"], members(one)["can_lose"]) == (3, 1)
    one.kill(one.master())
    master = one.master()
    dead = next(replica for replica in one.addresses if not one.running(replica))
    one.restart(dead)
    for replica in [replica for replica in (1, 2, 3) if replica != master][:1]:
        done = ctl.run("cell", "remove", str(replica))
        assert done.returncode == 0, done.stderr
        assert b"can lose none (a cell of 2" in done.stderr
        assert one.wait_exit(replica) == Exit.REMOVED
        assert "was removed from the cell" in one.log(replica)
    load.end()
    assert members(one)["voters"] == 2


def test_a_lost_disk_is_replaced_under_a_new_id(three: RunningCell) -> None:
    ctl, load = Coordctl(three), Load(three)
    lost = next(replica for replica in (1, 2, 3) if replica != three.master())
    three.kill(lost)
    shutil.rmtree(three.directory / f"replica-{lost}")
    done = ctl.run("cell", "remove", str(lost))
    assert done.returncode == 0, done.stderr
    join(three, ctl, 4)
    assert [row["replica"] for row in members(three)["members"]] == sorted({1, 2, 3, 4} - {lost})
    three.kill(next(replica for replica in (1, 2, 3) if replica not in (lost, three.master())))
    load.end()
    status = ctl.run("cell", "status")
    assert b"2 of 3 replicas answer, can lose none" in status.stderr


def test_a_removed_replica_that_was_away_ends_when_it_comes_back(three: RunningCell) -> None:
    ctl = Coordctl(three)
    away = next(replica for replica in (1, 2, 3) if replica != three.master())
    three.kill(away)
    assert ctl.run("cell", "remove", str(away)).returncode == 0
    three.start(away)
    assert three.wait_exit(away) == Exit.REMOVED
    three.start(away)
    assert three.wait_exit(away) == Exit.REMOVED, "and so it does every time"


def test_refusals_say_why(three: RunningCell) -> None:
    ctl = Coordctl(three)
    master = three.master()
    alive, dead = [replica for replica in (1, 2, 3) if replica != master]
    three.kill(dead)
    three.wait_for(lambda: members(three)["can_lose"] == 0, "the silence to be noticed")
    done = ctl.run("cell", "remove", str(alive))
    assert done.returncode == 4
    assert b"would leave 2 voters, of which 1 can vote and 2 must (silent: " in done.stderr
    assert ctl.run("cell", "promote", "9").returncode == 3
    assert ctl.run("cell", "add", "host-without-scheme").returncode == 2
    assert ctl.run("cell", "transfer-master", str(dead)).returncode == 4
    done = ctl.run("cell", "transfer-master", str(alive))
    assert done.returncode == 0, done.stderr
    assert three.master() == alive
