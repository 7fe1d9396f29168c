"""A KeepAlive that is held, by POST, on a real daemon: it tells at once what there is to tell, and operators' acts are
written down."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from coordd.testing.cells import RunningCell, start_cell

LEASE_MS = 30_000


@pytest.fixture(scope="module")
def cell() -> Iterator[RunningCell]:
    with start_cell(1) as running:
        running.master()
        yield running


class Session:
    """A session that speaks by POST."""

    def __init__(self, cell: RunningCell) -> None:
        self.cell = cell
        self.opened = cell.post(1, "open_session", {"lease_ms": LEASE_MS})
        self.calls = 0

    def post(self, operation: str, **arguments: Any) -> dict[str, Any]:
        self.calls += 1
        headers = {
            "Content-Type": "application/json",
            "Coord-Session": f"{self.opened['session']}.{self.opened['secret']}",
            "Coord-Call": str(self.calls),
        }
        body = json.dumps(arguments).encode()
        answer: dict[str, Any] = json.loads(self.cell.http(1, "POST", f"/v1/{operation}", body, headers, 20.0)[2])
        return answer


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def held(cell: RunningCell, session: Session, threads: ThreadPoolExecutor) -> Future[dict[str, Any]]:
    """A KeepAlive that has arrived and is held."""
    before = cell.post(1, "status")["unanswered"]
    answer = threads.submit(session.post, "keep_alive", number=1, hold_ms=LEASE_MS)
    cell.wait_for(lambda: cell.post(1, "status")["unanswered"] > before or None, "a held KeepAlive")
    assert not answer.done()
    return answer


def test_a_held_keep_alive_tells_at_once_that_a_lock_is_wanted_back(
    cell: RunningCell, threads: ThreadPoolExecutor
) -> None:
    session = Session(cell)
    hold = session.post("acquire", path="/l")["hold"]
    answer = held(cell, session, threads)
    begun = time.monotonic()
    cell.post(1, "unlock", {"path": "/l", "reason": "needed elsewhere"})
    assert answer.result(5)["revoked"] == [["/l", hold, "needed elsewhere"]]
    assert time.monotonic() - begun < 3, "long before a third of the lease"
    assert session.post("give_up", path="/l", hold=hold)["did"] == "delayed"


def test_a_held_keep_alive_tells_at_once_that_its_session_was_killed(
    cell: RunningCell, threads: ThreadPoolExecutor
) -> None:
    session = Session(cell)
    answer = held(cell, session, threads)
    cell.post(1, "kill_session", {"session": session.opened["session"], "reason": "gone wild"})
    refusal = answer.result(5)
    assert (refusal["code"], refusal["reason"]) == ("session_killed", "gone wild")
    session.post("acknowledge_kill")
    rows = cell.post(1, "list_sessions")["sessions"]
    assert session.opened["session"] not in [row["session"] for row in rows]
    line = next(line for line in cell.log(1).splitlines() if "kill_session" in line)
    assert "gone wild" in line and str(session.opened["session"]) in line and "anonymous" in line
    assert session.opened["secret"] not in cell.log(1)


def test_a_held_keep_alive_whose_client_hangs_up_is_waited_for_no_more(cell: RunningCell) -> None:
    session = Session(cell)
    before = cell.post(1, "status")["unanswered"]
    body = json.dumps({"number": 1, "hold_ms": LEASE_MS}).encode()
    headers = {"Content-Type": "application/json"}
    headers["Coord-Session"] = f"{session.opened['session']}.{session.opened['secret']}"
    with pytest.raises(OSError):
        cell.http(1, "POST", "/v1/keep_alive", body, headers, 0.3)
    cell.wait_for(lambda: cell.post(1, "status")["unanswered"] == before or None, "the hold to end")
