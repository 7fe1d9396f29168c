"""Real daemons, sockets and disks: a cell of three serves, survives `kill -9` of its master, and stops in order."""

from __future__ import annotations

import base64
import json
import shutil
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from coordclient.protocol.codec import decode, encode
from coordd.dev import free_ports
from coordd.exits import Exit
from coordd.testing.cells import RunningCell, start_cell

JSON = {"Content-Type": "application/json"}
MSGPACK = {"Content-Type": "application/msgpack"}


@pytest.fixture(scope="module")
def cell() -> Iterator[RunningCell]:
    with start_cell(3) as running:
        yield running


def follower(cell: RunningCell) -> int:
    master = cell.master()
    return next(replica for replica in cell.addresses if replica != master and cell.running(replica))


def written(cell: RunningCell, path: str, text: str) -> dict[str, Any]:
    """A write that is tried at whoever is master until it is acknowledged."""

    def attempt() -> dict[str, Any] | None:
        try:
            answer = cell.post(cell.master(), "put", {"path": path, "contents": {"text": text}})
        except OSError:
            return None
        return answer if "stat" in answer else None

    return cell.wait_for(attempt, f"a write of {path}")


def test_a_write_is_read_back_in_both_formats(cell: RunningCell) -> None:
    master = cell.master()
    body = encode({"path": "/msgpack", "contents": b"\xff\0"})
    status, _, answer = cell.http(master, "POST", "/v1/put", body, MSGPACK)
    assert status == 200 and decode(answer)["stat"]["size"] == 2
    spelled = {"base64": base64.b64encode(b"\xff\0").decode()}
    assert cell.post(master, "get", {"path": "/msgpack"})["contents"] == spelled
    assert cell.post(master, "put", {"path": "/json", "contents": {"text": "hi"}})["stat"]["size"] == 2
    status, _, answer = cell.http(master, "POST", "/v1/get", encode({"path": "/json"}), MSGPACK)
    assert decode(answer)["contents"] == b"hi"


def test_another_replica_sends_a_client_to_the_master(cell: RunningCell) -> None:
    status, headers, body = cell.http(follower(cell), "POST", "/v1/stat", b'{"path": "/"}', JSON)
    assert status == 307
    assert headers["Location"] == f"{cell.addresses[cell.master()]}/v1/stat"
    assert json.loads(body)["address"] == cell.addresses[cell.master()]


def test_every_replica_says_who_it_is(cell: RunningCell) -> None:
    for replica in cell.addresses:
        status = cell.post(replica, "status")
        assert (status["cell"], status["replica"]) == ("test", replica)
        assert {member["replica"]: member["address"] for member in status["members"]} == cell.addresses
    assert cell.http(1, "GET", "/livez")[0] == 200


def test_a_session_a_lock_and_its_retry_by_post_alone(cell: RunningCell) -> None:
    master = cell.master()
    opened = cell.post(master, "open_session", {"client": {"program": "a test"}})
    headers = JSON | {"Coord-Session": f"{opened['session']}.{opened['secret']}", "Coord-Call": "1"}
    body = json.dumps({"path": "/lock"}).encode()
    status, _, first = cell.http(master, "POST", "/v1/acquire", body, headers)
    assert status == 200
    status, _, again = cell.http(master, "POST", "/v1/acquire", body, headers)
    assert (status, json.loads(again)) == (200, json.loads(first)), "the same call takes effect once"
    assert len(cell.post(master, "locks")["locks"]) == 1
    wrong = headers | {"Coord-Session": f"{opened['session']}.{'0' * 32}"}
    status, _, refused = cell.http(master, "POST", "/v1/acquire", body, wrong)
    assert (status, json.loads(refused)["code"]) == (410, "session_expired")
    status, _, _ = cell.http(master, "POST", "/v1/close_session", b"{}", headers | {"Coord-Call": "2"})
    assert status == 200 and not cell.post(master, "locks")["locks"]


def test_what_was_acknowledged_survives_kill_9_of_the_master(cell: RunningCell) -> None:
    revisions = [written(cell, "/kept", "before")["stat"]["revision"]]
    old = cell.master()
    cell.kill(old)
    revisions.append(written(cell, "/after", "x")["stat"]["revision"])
    assert cell.post(cell.master(), "get", {"path": "/kept"})["contents"] == {"text": "before"}
    cell.restart(old)
    assert cell.status(old)["replica"] == old  # type: ignore[index]
    revisions.append(written(cell, "/kept", "again")["stat"]["revision"])
    assert revisions == sorted(set(revisions)), "revisions only rise, also across a fail-over"


def test_what_was_acknowledged_survives_kill_9_of_all_at_once(cell: RunningCell) -> None:
    written(cell, "/all", "durable")
    for replica in cell.addresses:
        cell.kill(replica)
    for replica in cell.addresses:
        cell.start(replica)
    cell.wait_ready()
    assert cell.post(cell.master(), "get", {"path": "/all"})["contents"] == {"text": "durable"}


def test_a_cell_without_a_majority_refuses_by_name_and_comes_back(cell: RunningCell) -> None:
    written(cell, "/majority", "there")
    alone, *others = cell.addresses
    for replica in others:
        cell.kill(replica)

    def refused() -> bool:
        answer = cell.post(alone, "get", {"path": "/majority"}, seconds=15)
        return answer.get("code") in ("unavailable", "not_master", "outcome_unknown")

    assert cell.wait_for(refused, "a refusal")
    for replica in others:
        cell.start(replica)
    cell.wait_ready()
    assert cell.post(cell.master(), "get", {"path": "/majority"})["contents"] == {"text": "there"}


def test_a_master_that_was_suspended_never_answers_with_what_is_old(cell: RunningCell) -> None:
    written(cell, "/fresh", "old")
    old = cell.master()
    cell.kill(old, signal.SIGSTOP)
    others = {replica for replica in cell.addresses if replica != old}
    cell.wait_for(lambda: any(_role(cell, replica) == "master" for replica in others), "another master")
    new = next(replica for replica in others if _role(cell, replica) == "master")
    cell.wait_for(lambda: "stat" in cell.post(new, "put", {"path": "/fresh", "contents": {"text": "new"}}), "a write")
    cell.kill(old, signal.SIGCONT)
    answer = cell.post(old, "get", {"path": "/fresh"}, seconds=15)
    assert answer.get("contents", {"text": "new"}) == {"text": "new"}, answer
    cell.wait_ready()
    assert _role(cell, old) == "follower"


def _role(cell: RunningCell, replica: int) -> str:
    return str((cell.status(replica) or {}).get("role"))


def test_a_stopped_master_has_handed_over_before_it_ends(cell: RunningCell) -> None:
    cell.wait_ready()
    old = cell.master()
    assert cell.kill(old, signal.SIGTERM) == 0
    log = cell.log(old)
    assert '"event": "stopping"' in log and "a bug" not in log
    assert cell.master() != old
    cell.restart(old)


def test_a_second_daemon_on_the_same_directory_is_refused(cell: RunningCell) -> None:
    first = cell.configs[1].read_text()
    other = cell.directory / "second.toml"
    port, (free,) = cell.addresses[1].rpartition(":")[2], free_ports(1)
    other.write_text(first.replace(f"port = {port}", f"port = {free}", 1))
    cell.configs[9] = other
    cell.addresses[9] = f"http://127.0.0.1:{free}"
    try:
        cell.start(9)
        assert cell.wait_exit(9) == 69
        assert "AlreadyRunningError" in cell.log(9)
    finally:
        del cell.configs[9], cell.addresses[9]


@pytest.mark.parametrize("restarts", [0, 1], ids=["in its first life", "later"])
def test_a_replica_whose_directory_was_lost_says_so_and_stops(restarts: int) -> None:
    with start_cell(3) as own:
        own.wait_ready()
        written(own, "/kept", "x")
        lost = follower(own)
        own.wait_for(lambda: (own.status(lost) or {}).get("chosen_upto", 0) >= 2, "the write at the follower")
        for _ in range(restarts):
            own.restart(lost)
        own.kill(lost)
        shutil.rmtree(own.directory / f"replica-{lost}")
        own.start(lost)
        assert own.wait_exit(lost) == Exit.DATA
        assert "went back in time" in own.log(lost)
