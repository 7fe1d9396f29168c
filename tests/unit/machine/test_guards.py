"""Changes guarded by a sequencer: applied only while it is valid, decided in apply, and refused without a trace."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.machine.harness import Cell

CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("put", {"path": "/f", "contents": b"new"}),
    ("create", {"path": "/g"}),
    ("mkdir", {"path": "/h"}),
    ("delete", {"path": "/f"}),
]


@pytest.fixture
def cell() -> Cell:
    cell = Cell()
    cell.do("put", path="/f", contents=b"old")
    return cell


@pytest.mark.parametrize(("operation", "given"), CHANGES)
def test_a_change_is_applied_while_its_sequencer_is_valid_and_not_after(
    cell: Cell, operation: str, given: dict[str, Any]
) -> None:
    holder, other = cell.open(), cell.open()
    grant = cell.acquire(holder, "/lock")
    cell.expire(holder)
    late = cell.refused(operation, other, cell.call(other), if_sequencer=grant["sequencer"], **given)
    assert late.code == "guard_failed" and str(late.details["reason"]) in late.message
    cell.end_lock_delay("/lock", holder, 1)
    fresh = cell.acquire(other, "/lock")
    assert cell.do(operation, other, cell.call(other), if_sequencer=fresh["sequencer"], **given)


def test_the_guard_is_looked_at_in_the_log_not_when_it_was_asked(cell: Cell) -> None:
    holder = cell.open()
    grant = cell.acquire(holder, "/lock")
    applied = cell.batch(
        cell.command("release", holder, 2, path="/lock", hold=1),
        cell.command("put", path="/f", contents=b"late", if_sequencer=grant["sequencer"]),
    )
    assert getattr(applied[1].reply, "code", "") == "guard_failed"
    assert cell.query("get", path="/f")["contents"] == b"old"


def test_a_guard_that_is_no_sequencer_guards_too(cell: Cell) -> None:
    assert cell.refused("put", path="/f", if_sequencer="anything").code == "guard_failed"


@pytest.mark.parametrize("stale", [True, False])
def test_a_check_says_as_of_which_revision_and_whether_it_may_be_stale(cell: Cell, stale: bool) -> None:
    holder = cell.open()
    grant = cell.acquire(holder, "/lock")
    answer = cell.query("check_sequencer", sequencer=grant["sequencer"], stale=stale)
    expected = {"valid": True, "reason": "", "revision": cell.machine.revision}
    assert answer == (expected | {"stale": True} if stale else expected)
