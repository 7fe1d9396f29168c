"""A session outlives its process: resumed by the next one, left on purpose, or killed by an operator."""

from __future__ import annotations

from typing import Any

import pytest

from coordclient.protocol.errors import Refusal
from coordclient.protocol.operations import NUMBER_MAX
from coordd.machine.commands import Command
from coordd.machine.limits import CALL_WINDOW, Limits
from tests.unit.machine.harness import Cell

NEW, NEWER = "n" * 32, "m" * 32


@pytest.fixture
def cell() -> Cell:
    return Cell()


def next_call(cell: Cell, session: int, reply: Any) -> int:
    """The first call of the process that has resumed."""
    cell.calls[session] = reply["next_call"]
    return cell.calls[session]


# ---- resume ----


def test_whoever_resumes_has_all_that_was_held_and_its_secret_alone_is_good(cell: Cell) -> None:
    session = cell.open(pid="1")
    grant = cell.acquire(session, "/a", "shared", lock_delay_ms=2_000)
    several = cell.acquire_all(session, "/b", ("/s", 2))
    cell.do("create", session, cell.call(session), path="/alive", ephemeral=True)
    old_secret = cell.machine.sessions[session].secret
    reply = cell.resume(session, NEW, pid="2")
    tokens = {part["path"]: part["token"] for part in several["locks"]}
    expected = [
        ("/a", "shared", 0, grant["token"], 1, 2_000),
        ("/b", "exclusive", 0, tokens["/b"], 2, 5_000),
        ("/s", "semaphore", 2, tokens["/s"], 2, 5_000),
    ]
    names = ("path", "mode", "permits", "token", "hold", "lock_delay_ms")
    assert [tuple(hold[name] for name in names) for hold in reply["holds"]] == expected
    assert all(cell.query("check_sequencer", sequencer=hold["sequencer"])["valid"] for hold in reply["holds"])
    assert (reply["session"], reply["lease_ms"], reply["incarnation"], reply["left"]) == (session, 12_000, 2, False)
    assert cell.machine.sessions[session].secret == NEW and cell.exists("/alive")
    assert cell.lock_at("/a")["holders"][0]["client"] == {"pid": "2"}
    stale = cell.admin("resume_session", session=session, secret=old_secret, new_secret=NEWER)
    assert stale.code == "session_expired"
    cell.do("release", session, next_call(cell, session, reply), path="/a", hold=1)


def test_a_resume_whose_answer_was_lost_is_answered_the_same_again(cell: Cell) -> None:
    session = cell.open()
    cell.acquire(session, "/a")
    old_secret = cell.machine.sessions[session].secret
    reply = cell.resume(session, NEW)
    revision = cell.machine.revision
    again = cell.admin("resume_session", session=session, secret=old_secret, new_secret=NEW)
    assert again == reply and cell.machine.revision == revision


def test_an_actor_of_the_process_before_is_nobody_in_the_next_though_it_has_the_same_name(cell: Cell) -> None:
    session = cell.open()
    cell.acquire(session, "/a", actor="host:1:1")
    cell.acquire_all(session, "/b", "/c", actor="host:1:1")
    next_call(cell, session, cell.resume(session, NEW))
    for path in ("/a", "/b", "/c"):
        assert cell.acquire(session, path, actor="host:1:1") is None, "it waits for what another task may adopt"


def test_a_process_that_resumes_under_its_own_session_is_answered_and_begins_anew(cell: Cell) -> None:
    session = cell.open()
    secret = cell.machine.sessions[session].secret
    arguments = {"session": session, "secret": secret, "new_secret": NEW, "client": {}}
    command = Command("resume_session", session, 1, 0, "", arguments)
    reply = cell.batch(command)[0].reply
    assert isinstance(reply, dict) and reply["incarnation"] == 2
    assert getattr(cell.batch(command)[0].reply, "code", "") == "outcome_unknown", "a call of the process before"


@pytest.mark.parametrize("acked", [0, 2])
def test_no_call_of_the_process_before_can_run_any_more(cell: Cell, acked: int) -> None:
    session = cell.open()
    cell.acquire(session, "/a")
    cell.do("put", session, 2, acked, path="/b")
    reply = cell.resume(session, NEW)
    # Its client counts reads too, so it may be far beyond what the cell has been told.
    for call, told in ((2, 0), (3, 2), (CALL_WINDOW + 1, 2), (40_000, 39_990)):
        assert cell.refused("put", session, call, told, path="/late").code == "outcome_unknown"
    assert cell.machine.sessions[session].acked == reply["next_call"]
    assert cell.do("put", session, reply["next_call"], path="/now")


def test_a_client_that_acknowledged_all_numbers_there_are_can_still_be_resumed(cell: Cell) -> None:
    session = cell.open()
    cell.do("put", session, NUMBER_MAX, NUMBER_MAX, path="/a")
    assert cell.resume(session, NEW)["next_call"] == NUMBER_MAX


def test_what_the_process_before_waited_for_is_withdrawn(cell: Cell) -> None:
    holder, session, behind = cell.open(), cell.open(), cell.open()
    cell.acquire(holder, "/a")
    cell.acquire_all(session, "/a", "/b")
    cell.acquire(behind, "/b")
    cell.resume(session, NEW)
    assert cell.woke() == [(session, 1, "session_expired"), (behind, 1, cell.machine.revision)]
    assert cell.queue("/a") == []
    assert cell.refused("acquire_all", session, 1, locks=[{"path": "/a"}]).code == "outcome_unknown"


def test_an_expiry_of_the_process_before_does_nothing(cell: Cell) -> None:
    session = cell.open()
    cell.resume(session, NEW)
    stale = cell.master("expire_session", session=session, incarnation=1, epoch=cell.machine.epoch)
    assert stale == {"expired": False} and session in cell.machine.sessions
    assert cell.expire(session) == {"expired": True}


def test_a_wrong_secret_is_told_what_a_session_that_never_was_is_told(cell: Cell) -> None:
    session = cell.open()
    wrong = [cell.admin("resume_session", session=number, secret="x" * 32, new_secret=NEW) for number in (session, 999)]
    assert [refusal.code for refusal in wrong] == ["session_expired"] * 2
    assert wrong[0].message.replace(str(session), "") == wrong[1].message.replace("999", "")


def test_the_new_secret_is_another_one(cell: Cell) -> None:
    session = cell.open()
    secret = cell.machine.sessions[session].secret
    assert cell.resume(session, secret).code == "bad_request"
    assert cell.machine.sessions[session].incarnation == 1


def test_whoever_resumes_is_told_of_holds_wanted_back_but_not_of_those_taken_before(cell: Cell) -> None:
    session = cell.open()
    cell.acquire(session, "/gone")
    cell.acquire(session, "/wanted")
    cell.unlock("/gone", now=True)
    cell.unlock("/wanted")
    reply = cell.resume(session, NEW)
    assert [hold["path"] for hold in reply["holds"]] == ["/wanted"]
    assert cell.machine.notices(session) == [["/wanted", 2, "stuck"]]


def test_more_holds_than_an_answer_can_carry_are_refused_and_nothing_is_taken_over() -> None:
    cell = Cell(Limits(answer_bytes=600))
    session = cell.open()
    for path in ("/a", "/b", "/c"):
        cell.acquire(session, path)
    assert cell.resume(session, NEW).code == "too_large"
    cell.do("release", session, cell.call(session), path="/a", hold=1)
    assert cell.resume(session, NEW)["incarnation"] == 2


# ---- leave ----


def test_a_process_that_leaves_keeps_its_locks_for_the_next_and_gets_nothing_more(cell: Cell) -> None:
    holder, session = cell.open(), cell.open()
    cell.acquire(holder, "/w")
    cell.acquire(session, "/a")
    cell.acquire(session, "/w")
    assert cell.do("leave_session", session, cell.call(session)) == {}
    assert cell.woke() == [(session, 2, "cancelled")] and cell.holders("/a") == [(session, 1)]
    assert cell.refused("acquire", session, 2, path="/w").code == "cancelled", "a late copy never acquires"
    for operation in ("acquire", "put", "open", "delete"):
        assert cell.refused(operation, session, cell.call(session), path="/b").code == "cancelled"
    revision = cell.machine.revision
    assert cell.do("leave_session", session, cell.call(session)) == {} and cell.machine.revision == revision
    reply = cell.resume(session, NEW)
    assert reply["left"] and [hold["path"] for hold in reply["holds"]] == ["/a"]
    assert cell.do("put", session, next_call(cell, session, reply), path="/b")


def test_left_means_that_every_process_before_has_said_goodbye(cell: Cell) -> None:
    session = cell.open()
    cell.acquire(session, "/a")
    told = []
    for turn, secret in enumerate((NEW, NEWER, "k" * 32, "l" * 32)):
        if turn != 1:  # one of them just vanished, and may believe for a while
            cell.do("leave_session", session, cell.call(session))
        reply = cell.resume(session, secret)
        next_call(cell, session, reply)
        told.append(reply["left"])
    assert told == [True, False, False, False]


def test_a_session_that_nobody_resumes_expires_with_its_lock_delays(cell: Cell) -> None:
    session = cell.open()
    cell.acquire(session, "/a")
    cell.do("leave_session", session, cell.call(session))
    cell.expire(session)
    assert cell.lock_at("/a")["holders"][0]["delayed"]


# ---- kill ----


def test_a_killed_session_gets_nothing_more_and_ends_as_an_expiry_when_it_acknowledges(cell: Cell) -> None:
    holder, session, waiter = cell.open(), cell.open(), cell.open()
    cell.acquire(holder, "/w")
    cell.acquire(session, "/a")
    cell.acquire_all(session, "/b", "/c")
    cell.acquire(session, "/w")
    cell.acquire(waiter, "/a")
    reply = cell.admin("kill_session", session=session, reason="runs wild")
    assert reply == {"session": session, "holds": 3, "lease_ms": 12_000}
    assert cell.woke() == [(session, 3, "session_killed")] and cell.holders("/a") == [(session, 1)]
    refusal = cell.refused("acquire", session, cell.call(session), path="/x")
    assert refusal.code == "session_killed" and refusal.details == {"reason": "runs wild"}
    assert "runs wild" in refusal.message
    assert cell.resume(session, NEW).code == "session_killed"
    assert cell.query("list_sessions")["sessions"][1]["killed"] == "runs wild"
    assert cell.do("acknowledge_kill", session, cell.call(session)) == {}
    assert session not in cell.machine.sessions and cell.woke() == []
    assert cell.lock_at("/a")["holders"][0]["delayed"], "a kill counts as an expiry"


def test_killing_twice_is_killing_once(cell: Cell) -> None:
    session = cell.open()
    first = cell.admin("kill_session", session=session, reason="one")
    revision = cell.machine.revision
    assert cell.admin("kill_session", session=session, reason="two") == first
    assert cell.machine.revision == revision and cell.machine.sessions[session].killed == "one"
    assert cell.admin("kill_session", session=999, reason="x").code == "not_found"


def test_a_killed_session_may_still_give_back(cell: Cell) -> None:
    session = cell.open()
    cell.acquire(session, "/a")
    cell.acquire(session, "/b")
    cell.unlock("/b")
    cell.admin("kill_session", session=session, reason="one")
    cell.do("release", session, cell.call(session), path="/a", hold=1)
    cell.do("give_up", session, cell.call(session), path="/b", hold=2)
    cell.do("close_session", session, cell.call(session))
    assert session not in cell.machine.sessions


def test_an_answer_from_before_the_kill_is_told_again(cell: Cell) -> None:
    session = cell.open()
    answer = cell.do("put", session, 1, path="/a")
    cell.admin("kill_session", session=session, reason="one")
    assert cell.do("put", session, 1, path="/a") == answer


def test_nobody_acknowledges_a_kill_that_never_was(cell: Cell) -> None:
    session = cell.open()
    assert cell.refused("acknowledge_kill", session, cell.call(session)).code == "bad_request"
    assert session in cell.machine.sessions


def test_a_kill_is_over_at_the_end_of_the_lease_whatever_the_client_says(cell: Cell) -> None:
    session = cell.open()
    cell.acquire(session, "/a", lock_delay_ms=0)
    cell.admin("kill_session", session=session, reason="one")
    assert cell.expire(session) == {"expired": True} and not cell.exists("/a")


# ---- what is told of one session ----


def test_session_info_tells_all_about_one_session(cell: Cell) -> None:
    holder, session = cell.open(), cell.open(host="h")
    cell.acquire(holder, "/w")
    cell.acquire(holder, "/w")
    cell.acquire(session, "/w", "shared")
    since_ms = cell.wall_ms
    grant = cell.acquire(session, "/a", lock_delay_ms=7)
    cell.acquire_all(session, "/n", "/w")
    cell.do("create", session, cell.call(session), path="/alive", ephemeral=True)
    cell.unlock("/a", reason="mine")
    info = cell.query("session_info", own=session)
    assert info == cell.query("session_info", session=session) | {"revision": cell.machine.revision}
    assert info["holds"] == [
        {
            "path": "/a",
            "mode": "exclusive",
            "permits": 0,
            "token": grant["token"],
            "hold": 2,
            "since_ms": since_ms + 1,
            "lock_delay_ms": 7,
            "revoked": "mine",
        }
    ]
    assert info["waiting"] == [
        {"path": "/w", "mode": "shared", "place": 2, "since_ms": since_ms, "call": 1},
        {"path": "/n", "mode": "exclusive", "place": 1, "since_ms": since_ms + 2, "call": 3},
        {"path": "/w", "mode": "exclusive", "place": 3, "since_ms": since_ms + 2, "call": 3},
    ]
    assert info["ephemeral_paths"] == ["/alive"]
    [row] = [row for row in cell.query("list_sessions")["sessions"] if row["session"] == session]
    assert (row["holds"], row["waiters"], row["ephemerals"], row["client"]) == (1, 2, 1, {"host": "h"})
    assert {**row, "holds": info["holds"]} == {name: info[name] for name in row}


def test_there_is_no_info_about_nobody(cell: Cell) -> None:
    for given in ({}, {"session": 99}):
        with pytest.raises(Refusal, match="session") as caught:
            cell.query("session_info", **given)
        assert caught.value.code == "not_found"


def test_places_in_queues_too_long_to_walk_are_not_told() -> None:
    cell = Cell(Limits(places_steps=1))
    holder, session = cell.open(), cell.open()
    cell.acquire(holder, "/a")
    cell.acquire(session, "/a")
    assert cell.query("session_info", session=session)["waiting"][0]["place"] == 1
    cell.acquire(session, "/a")
    with pytest.raises(Refusal, match="places steps"):
        cell.query("session_info", session=session)
