"""Sessions: opening, closing and expiring."""

from __future__ import annotations

from typing import Any

import pytest

from coordclient.protocol.errors import Refusal
from coordd.machine.commands import Command
from tests.unit.machine.harness import Cell, state_of


@pytest.fixture
def cell() -> Cell:
    return Cell()


def test_a_session_has_the_secret_that_the_master_drew_and_the_lease_it_asked_for(cell: Cell) -> None:
    arguments = {"lease_ms": 3_000, "client": {"host": "alpha"}, "secret": "ab" * 16}
    reply = cell.batch(Command("open_session", 0, 0, 0, "alice", arguments))[0].reply
    assert isinstance(reply, dict)
    assert reply == {"session": cell.machine.revision, "secret": "ab" * 16, "lease_ms": 3_000, "epoch": 1}
    session = cell.machine.sessions[cell.machine.revision]
    assert (session.secret, session.lease_ms, session.incarnation) == ("ab" * 16, 3_000, 1)
    assert cell.query("list_sessions")["sessions"] == [
        {
            "session": session.id,
            "lease_ms": 3_000,
            "client": {"host": "alpha"},
            "principal": "alice",
            "incarnation": 1,
            "killed": None,
            "opened_ms": cell.wall_ms,
            "holds": 0,
            "waiters": 0,
            "ephemerals": 0,
        }
    ]


def test_a_session_id_is_never_given_twice_and_never_valid_again(cell: Cell) -> None:
    seen = []
    for _ in range(3):
        session = cell.open()
        seen.append(session)
        cell.expire(session)
        assert session not in cell.machine.sessions
        for operation in ("acquire", "put", "open", "delete"):
            assert cell.refused(operation, session, 1, path="/").code == "session_expired"
        assert cell.refused("close_session", session, 2).code == "session_expired"
    assert seen == sorted(set(seen))


def test_an_operation_that_needs_a_session_says_so(cell: Cell) -> None:
    needs: list[tuple[str, dict[str, Any]]] = [
        ("acquire", {"path": "/a"}),
        ("release", {"path": "/a", "hold": 1}),
        ("cancel", {"target": 1}),
        ("open", {"path": "/"}),
        ("close_session", {}),
    ]
    for operation, arguments in needs:
        assert cell.refused(operation, **arguments).code == "session_required"


def test_expiry_is_one_command_for_waiters_holds_and_ephemerals(cell: Cell) -> None:
    gone, other = cell.open(), cell.open()
    cell.acquire(other, "/theirs")
    cell.acquire(gone, "/theirs")
    cell.acquire(gone, "/mine", lock_delay_ms=1)
    cell.acquire(gone, "/no-delay", lock_delay_ms=0)
    cell.do("create", gone, cell.call(gone), path="/e", ephemeral=True)
    listed = cell.query("list_sessions")["sessions"][0]
    assert (listed["holds"], listed["waiters"], listed["ephemerals"]) == (2, 1, 1)
    revision = cell.machine.revision
    cell.expire(gone)
    assert cell.machine.revision == revision + 1
    assert cell.queue("/theirs") == []
    assert cell.lock_at("/mine")["holders"][0]["delayed"] is True
    assert not cell.exists("/no-delay") and not cell.exists("/e")


@pytest.mark.parametrize(("incarnation", "epoch"), [(1, 0), (1, 2), (2, 1), (0, 1)])
def test_a_stale_expiry_does_nothing(cell: Cell, incarnation: int, epoch: int) -> None:
    session = cell.open()
    cell.acquire(session, "/a")
    before = state_of(cell.machine)
    reply = cell.master("expire_session", session=session, incarnation=incarnation, epoch=epoch)
    assert reply == {"expired": False} and cell.holders("/a") == [(session, 1)]
    assert state_of(cell.machine) == before


def test_an_expiry_decided_before_a_fail_over_does_nothing_after_it(cell: Cell) -> None:
    session = cell.open()
    cell.begin_epoch(7)
    assert cell.master("expire_session", session=session, incarnation=1, epoch=1) == {"expired": False}
    assert cell.expire(session) == {"expired": True}
    assert cell.expire(session) == {"expired": False}


def test_a_waiting_call_of_a_session_that_ends_is_answered(cell: Cell) -> None:
    holder, closing = cell.open(), cell.open()
    cell.acquire(holder, "/a")
    cell.acquire(closing, "/a")
    cell.do("close_session", closing, cell.call(closing))
    assert cell.woke() == [(closing, 1, "session_expired")]


def test_everything_of_a_session_survives_a_fail_over_and_a_snapshot(cell: Cell) -> None:
    session, other = cell.open(), cell.open()
    cell.acquire(session, "/held")
    cell.do("create", session, cell.call(session), path="/e", ephemeral=True)
    cell.acquire(other, "/held")
    cell.begin_epoch(9)
    machine = cell.twin  # made from a snapshot after every step
    assert sorted(machine.sessions) == [session, other]
    assert machine.sessions[session].secret == cell.machine.sessions[session].secret
    assert machine.waiting(other, 1) and not machine.waiting(other, 2) and not machine.waiting(session, 1)
    assert "/e" in machine.sessions[session].ephemerals


def test_the_sequencer_key_is_set_only_by_the_present_master(cell: Cell) -> None:
    cell.begin_epoch(3)
    assert cell.master("set_sequencer_key", key=bytes(32), epoch=1) == {"set": False}
    assert cell.master("set_sequencer_key", key=bytes(32), epoch=3) == {"set": True}
    refusal = cell.master("set_sequencer_key", key=b"short", epoch=3)
    assert isinstance(refusal, Refusal) and refusal.code == "bad_request"
