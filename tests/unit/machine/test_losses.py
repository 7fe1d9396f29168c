"""`why`: who has the lock, who waits, and how the last ones lost it; bounded, and kept over fail-over."""

from __future__ import annotations

import pytest

from coordclient.protocol.errors import Refusal
from coordd.machine.limits import Limits
from tests.unit.machine.harness import Cell


@pytest.fixture
def cell() -> Cell:
    return Cell()


def causes(cell: Cell, path: str) -> list[tuple[int, int, str, str]]:
    """`(session, hold, cause, reason)`, newest first."""
    rows = cell.query("why", path=path)["losses"]
    return [(row["session"], row["hold"], row["cause"], row["reason"]) for row in rows]


def test_why_tells_of_the_lock_and_of_the_last_loss(cell: Cell) -> None:
    first, second = cell.open(host="alpha"), cell.open()
    grant = cell.acquire(first, "/a", "shared")
    since_ms = cell.wall_ms
    cell.release(first, "/a")
    ended_ms = cell.wall_ms
    gone = cell.query("why", path="/a")
    assert (gone["path"], gone["exists"], gone["lock"]) == ("/a", False, None), "the file went, the loss stays"
    cell.acquire(second, "/a")
    told = cell.query("why", path="/a")
    assert told["exists"] and told["lock"] == cell.lock_at("/a") and told["revision"] == cell.machine.revision
    assert told["losses"] == [
        {
            "session": first,
            "hold": 1,
            "client": {"host": "alpha"},
            "principal": "anonymous",
            "mode": "shared",
            "token": grant["token"],
            "since_ms": since_ms,
            "ended_ms": ended_ms,
            "cause": "released",
            "reason": "",
        }
    ]
    assert cell.query("why", path="/never")["losses"] == []


def end(cell: Cell, session: int, cause: str) -> None:
    if cause == "released":
        cell.release(session, "/a")
    elif cause == "cancelled":
        cell.do("cancel", session, cell.call(session), target=1)
    elif cause == "closed":
        cell.do("close_session", session)
    elif cause == "expired":
        cell.expire(session)
    elif cause == "killed":
        cell.admin("kill_session", session=session, reason="wild")
        cell.expire(session)
    elif cause == "broken":
        cell.unlock("/a", reason="stuck", now=True)
    elif cause == "given up":
        cell.unlock("/a", reason="mine")
        cell.do("give_up", session, path="/a", hold=1)
    elif cause == "revoked":
        cell.unlock("/a", reason="mine")
        cell.end_revoked("/a", session, 1)
    else:
        heir = cell.open()
        cell.acquire(heir, "/a")
        cell.do("transfer", session, path="/a", hold=1, to=heir)


@pytest.mark.parametrize(
    ("way", "cause", "reason"),
    [
        ("released", "released", ""),
        ("cancelled", "released", ""),
        ("closed", "closed", ""),
        ("expired", "expired", ""),
        ("killed", "killed", "wild"),
        ("broken", "broken", "stuck"),
        ("given up", "revoked", "mine"),
        ("revoked", "revoked", "mine"),
        ("transferred", "transferred", "to session 3"),
    ],
)
def test_every_end_of_a_hold_has_its_cause(cell: Cell, way: str, cause: str, reason: str) -> None:
    session = cell.open()
    cell.acquire(session, "/a")
    end(cell, session, way)
    [loss] = causes(cell, "/a")
    assert loss[:3] == (session, 1, cause)
    assert loss[3].startswith("to session") if cause == "transferred" else loss[3] == reason


def test_a_lock_delay_that_an_operator_ends_is_told_in_the_loss_itself(cell: Cell) -> None:
    first, second = cell.open(), cell.open()
    for session in (first, second):
        cell.acquire(session, "/a", "shared")
        cell.expire(session)
    cell.unlock("/a", session=first, reason="stuck", now=True)
    assert causes(cell, "/a") == [(second, 1, "expired", ""), (first, 1, "broken", "stuck")]


def test_the_newest_losses_of_a_path_are_kept() -> None:
    cell = Cell(Limits(losses_per_path=2))
    session = cell.open()
    for _ in range(4):
        cell.acquire(session, "/a")
        cell.release(session, "/a")
    assert [hold for _, hold, _, _ in causes(cell, "/a")] == [7, 5]


def test_the_path_unchanged_for_longest_is_forgotten_first() -> None:
    cell = Cell(Limits(losses_paths=2))
    session = cell.open()
    for path in ("/b", "/a", "/b", "/c"):
        cell.acquire(session, path)
        cell.release(session, path)
    assert {path: len(causes(cell, path)) for path in ("/a", "/b", "/c")} == {"/a": 0, "/b": 2, "/c": 1}


def test_a_loss_told_anew_counts_as_a_change_of_its_path() -> None:
    cell = Cell(Limits(losses_paths=2))
    first, second = cell.open(), cell.open()
    cell.acquire(first, "/a")
    cell.expire(first)
    for path in ("/b", "/c"):
        cell.acquire(second, path)
        cell.release(second, path)
        cell.unlock("/a", now=True)
    assert causes(cell, "/b") == [] and causes(cell, "/a") == [(first, 1, "broken", "stuck")]


def test_a_forgotten_loss_cannot_be_told_anew() -> None:
    cell = Cell(Limits(losses_paths=1))
    first, second = cell.open(), cell.open()
    cell.acquire(first, "/a")
    cell.expire(first)
    cell.acquire(second, "/b")
    cell.release(second, "/b")
    cell.unlock("/a", now=True)
    assert causes(cell, "/a") == [] and not cell.exists("/a")


def test_more_than_an_answer_can_carry_is_refused() -> None:
    cell = Cell(Limits(answer_bytes=900))
    session = cell.open()
    for _ in range(3):
        cell.acquire(session, "/a")
        cell.release(session, "/a")
    assert len(cell.query("why", path="/a")["losses"]) == 3
    cell.acquire(session, "/a")
    with pytest.raises(Refusal, match="limit is 900") as caught:
        cell.query("why", path="/a")
    assert caught.value.code == "too_large"
