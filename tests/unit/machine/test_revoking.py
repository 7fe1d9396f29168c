"""Holds that an operator wants back or breaks: the holder is told until it answers, and nobody gets the lock before."""

from __future__ import annotations

import pytest

from coordclient.protocol.errors import Refusal
from coordd.machine.limits import Limits
from tests.unit.machine.harness import Cell


@pytest.fixture
def cell() -> Cell:
    return Cell()


def valid(cell: Cell, sequencer: object) -> object:
    return cell.query("check_sequencer", sequencer=sequencer)["valid"]


def test_a_revoked_hold_stays_and_is_told_until_its_holder_gives_it_up(cell: Cell) -> None:
    holder, waiter = cell.open(), cell.open()
    grant = cell.acquire(holder, "/a", lock_delay_ms=1_000)
    cell.acquire(waiter, "/a")
    said = {"path": "/a", "holds": [{"session": holder, "hold": 1}], "now": False}
    assert cell.unlock("/a", reason="it hangs") == said
    assert cell.machine.notices(holder) == [["/a", 1, "it hangs"]] and cell.machine.notices(waiter) == []
    assert list(cell.machine.revoked_holds()) == [("/a", holder, 1, 12_000)]
    assert cell.lock_at("/a")["holders"][0]["revoked"] == "it hangs"
    assert valid(cell, grant["sequencer"]), "its holder may believe, so its servers may"
    assert cell.do("give_up", holder, cell.call(holder), path="/a", hold=1) == {"did": "delayed"}
    assert cell.machine.notices(holder) == [] and list(cell.machine.revoked_holds()) == []
    assert not valid(cell, grant["sequencer"]) and cell.holders("/a") == [(holder, 1)]
    assert list(cell.machine.delayed_holds()) == [("/a", holder, 1, 1_000)]
    assert cell.woke() == []
    cell.end_lock_delay("/a", holder, 1)
    assert [who for who, _, _ in cell.woke()] == [waiter]
    late = cell.refused("acquire", holder, 1, path="/a")
    assert late.code == "not_held" and "operator" in late.message, "a late copy of the acquire gets nothing"


def test_without_lock_delay_it_is_free_once_it_is_given_up(cell: Cell) -> None:
    holder = cell.open()
    cell.acquire(holder, "/a", lock_delay_ms=0)
    cell.unlock("/a")
    assert cell.do("give_up", holder, cell.call(holder), path="/a", hold=1) == {"did": "freed"}
    assert not cell.exists("/a")


def test_the_end_of_a_lease_takes_it_and_its_holder_is_told_on(cell: Cell) -> None:
    holder, waiter = cell.open(), cell.open()
    cell.acquire(holder, "/a")
    cell.acquire(waiter, "/a")
    cell.unlock("/a", reason="it hangs")
    assert cell.end_revoked("/a", holder, 1) == {"ended": True}
    assert cell.lock_at("/a")["holders"][0]["delayed"] and cell.machine.notices(holder) == [["/a", 1, "it hangs"]]
    assert cell.end_revoked("/a", holder, 1) == {"ended": False}
    assert cell.do("give_up", holder, cell.call(holder), path="/a", hold=1) == {"did": "noted"}
    assert cell.machine.notices(holder) == []
    assert cell.refused("give_up", holder, cell.call(holder), path="/a", hold=1).code == "not_held"


def test_a_decision_of_another_epoch_ends_nothing(cell: Cell) -> None:
    holder = cell.open()
    cell.acquire(holder, "/a")
    cell.unlock("/a")
    cell.begin_epoch(9)
    stale = cell.master("end_revoked", path="/a", session=holder, hold=1, epoch=1)
    assert stale == {"ended": False} and cell.machine.notices(holder)
    assert list(cell.machine.revoked_holds()) == [("/a", holder, 1, 12_000)], "the new master waits a whole lease"


def test_a_release_ends_a_revoked_hold_like_any_other(cell: Cell) -> None:
    holder, waiter = cell.open(), cell.open()
    cell.acquire(holder, "/a")
    cell.acquire(waiter, "/a")
    cell.unlock("/a")
    cell.release(holder, "/a")
    assert cell.holders("/a") == [(waiter, 1)] and cell.machine.notices(holder) == []
    assert cell.end_revoked("/a", holder, 1) == {"ended": False}


def test_asking_twice_changes_nothing_and_the_first_reason_stays(cell: Cell) -> None:
    holder = cell.open()
    cell.acquire(holder, "/a")
    first = cell.unlock("/a", reason="one")
    revision = cell.machine.revision
    assert cell.unlock("/a", reason="two") == first and cell.machine.revision == revision
    assert cell.machine.notices(holder) == [["/a", 1, "one"]]


def test_now_frees_at_once_without_lock_delay_and_its_holder_is_told_until_it_answers(cell: Cell) -> None:
    holder, waiter = cell.open(), cell.open()
    grant = cell.acquire(holder, "/a")
    cell.acquire(waiter, "/a")
    cell.unlock("/a", reason="one")
    assert cell.unlock("/a", reason="two", now=True)["now"] is True
    assert cell.holders("/a") == [(waiter, 1)] and not valid(cell, grant["sequencer"])
    assert list(cell.machine.revoked_holds()) == []
    assert cell.machine.notices(holder) == [["/a", 1, "two"]]
    released = cell.refused("release", holder, cell.call(holder), path="/a", hold=1)
    assert (released.code, released.details) == ("not_held", {"reason": "two"}), "not as if nothing had happened"
    assert cell.machine.notices(holder) == []
    assert cell.refused("release", holder, cell.call(holder), path="/a", hold=1).details == {}


def test_now_ends_a_lock_delay_too(cell: Cell) -> None:
    holder, waiter = cell.open(), cell.open()
    cell.acquire(holder, "/a")
    cell.acquire(waiter, "/a")
    cell.expire(holder)
    assert isinstance(cell.unlock("/a"), Refusal), "there is nobody to be asked"
    cell.unlock("/a", now=True)
    assert cell.holders("/a") == [(waiter, 1)] and list(cell.machine.delayed_holds()) == []


def test_one_of_several_holders_can_be_chosen(cell: Cell) -> None:
    first, second = cell.open(), cell.open()
    cell.acquire(first, "/a", "shared")
    cell.acquire(first, "/a", "shared")
    cell.acquire(second, "/a", "shared")
    assert cell.unlock("/a", session=first, hold=2, now=True)["holds"] == [{"session": first, "hold": 2}]
    assert cell.unlock("/a", session=second)["holds"] == [{"session": second, "hold": 1}]
    assert len(cell.unlock("/a")["holds"]) == 2
    for nothing in (cell.unlock("/a", session=99), cell.unlock("/a", hold=7), cell.unlock("/none")):
        assert isinstance(nothing, Refusal) and nothing.code == "not_held"


def test_a_part_of_several_can_be_taken_and_the_rest_stays(cell: Cell) -> None:
    holder = cell.open()
    cell.acquire_all(holder, "/a", "/b")
    cell.unlock("/a", now=True)
    assert cell.holders("/b") == [(holder, 1)]
    again = cell.do("acquire_all", holder, 1, locks=[{"path": "/a"}])
    assert [part["path"] for part in again["locks"]] == ["/b"]
    cell.unlock("/b")
    cell.do("give_up", holder, cell.call(holder), path="/b", hold=1)
    assert cell.refused("acquire_all", holder, 1, locks=[{"path": "/a"}]).code == "not_held"
    assert cell.refused("release", holder, cell.call(holder), hold=1).details == {"reason": "stuck"}
    assert cell.machine.notices(holder) == []


@pytest.mark.parametrize("early", [True, False])
def test_a_part_of_several_that_is_given_up_leaves_the_others_held(cell: Cell, early: bool) -> None:
    holder = cell.open()
    cell.acquire_all(holder, "/a", "/b", lock_delay_ms=0)
    cell.unlock("/b")
    if early:
        cell.do("give_up", holder, cell.call(holder), path="/b", hold=1)
    else:
        cell.end_revoked("/b", holder, 1)
    assert cell.holders("/a") == [(holder, 1)] and not cell.exists("/b")


def test_the_end_of_the_session_ends_it_and_all_telling(cell: Cell) -> None:
    holder = cell.open()
    cell.acquire(holder, "/a", lock_delay_ms=0)
    cell.acquire(holder, "/b", lock_delay_ms=0)
    cell.unlock("/a")
    cell.unlock("/b", now=True)
    cell.expire(holder)
    assert list(cell.machine.revoked_holds()) == [] and cell.machine.notices(holder) == []
    assert cell.query("locks")["locks"] == []


@pytest.mark.parametrize("now", [True, False])
def test_what_one_session_must_be_told_is_limited(now: bool) -> None:
    cell = Cell(Limits(notices_per_session=2))
    holder = cell.open()
    for path in ("/a", "/b", "/c"):
        cell.acquire(holder, path)
    cell.unlock("/a", now=now)
    cell.unlock("/b", now=now)
    refusal = cell.unlock("/c", now=now)
    assert isinstance(refusal, Refusal) and refusal.details["limit"] == "notices_per_session"
    assert isinstance(cell.unlock("/b", now=True), dict) or now, "what it is told of already takes no more room"
    cell.do("give_up", holder, cell.call(holder), path="/a", hold=1)
    assert isinstance(cell.unlock("/c", now=now), dict)


# ---- transfer ----


def hand_on(cell: Cell, session: int, to: int, path: str = "/a", hold: int = 1) -> dict[str, object]:
    reply = cell.do("transfer", session, cell.call(session), path=path, hold=hold, to=to)
    assert isinstance(reply, dict)
    return reply


def test_a_transfer_passes_the_queue_in_one_step_with_a_larger_token(cell: Cell) -> None:
    holder, first, heir = cell.open(), cell.open(), cell.open()
    grant = cell.acquire(holder, "/a")
    cell.acquire(first, "/a")
    cell.acquire(heir, "/a")
    reply = hand_on(cell, holder, heir)
    assert reply == {"revision": cell.machine.revision, "to": heir, "hold": 1}
    assert cell.woke() == [(heir, 1, cell.machine.revision)] and cell.lock_at("/a")["token"] > grant["token"]
    assert cell.holders("/a") == [(heir, 1)] and cell.queue("/a") == [(first, 1)]
    assert not valid(cell, grant["sequencer"])
    late = cell.refused("acquire", holder, 1, path="/a")
    assert late.code == "not_held" and "another session" in late.message


def test_a_shared_period_goes_on_through_a_transfer(cell: Cell) -> None:
    holder, writer, heir = cell.open(), cell.open(), cell.open()
    grant = cell.acquire(holder, "/a", "shared")
    cell.acquire(writer, "/a")
    cell.acquire(heir, "/a", "shared")
    hand_on(cell, holder, heir)
    assert cell.holders("/a") == [(heir, 1)] and cell.lock_at("/a")["token"] == grant["token"]


def test_a_permit_can_be_handed_on_and_has_a_new_token(cell: Cell) -> None:
    sessions = [cell.open() for _ in range(4)]
    for session in sessions:
        cell.acquire(session, "/a", "semaphore", permits=2)
    hand_on(cell, sessions[0], sessions[3])
    assert cell.woke() == [(sessions[3], 1, cell.machine.revision)]
    assert cell.holders("/a") == [(sessions[1], 1), (sessions[3], 1)]
    assert cell.queue("/a") == [(sessions[2], 1)]


def test_whoever_does_not_wait_for_it_alike_gets_nothing(cell: Cell) -> None:
    holder, reader, several, nobody = (cell.open() for _ in range(4))
    cell.acquire(holder, "/a")
    cell.acquire(reader, "/a", "shared")
    cell.acquire_all(several, "/a", "/b")
    for to in (reader, several, nobody, 99):
        refusal = cell.refused("transfer", holder, cell.call(holder), path="/a", hold=1, to=to)
        assert refusal.code == "not_waiting"
    assert cell.holders("/a") == [(holder, 1)]


def test_only_a_hold_of_its_own_can_be_handed_on(cell: Cell) -> None:
    holder, heir = cell.open(), cell.open()
    cell.acquire(holder, "/a")
    cell.acquire_all(holder, "/b", "/c")
    for path in ("/a", "/b"):
        cell.acquire(heir, path)
    refusals = [
        cell.refused("transfer", holder, cell.call(holder), path=path, hold=hold, to=heir)
        for path, hold in (("/a", 9), ("/b", 1), ("/b", 2))
    ]
    assert [refusal.code for refusal in refusals] == ["not_held", "not_held", "bad_request"]
    cell.unlock("/a", reason="mine")
    wanted = cell.refused("transfer", holder, cell.call(holder), path="/a", hold=1, to=heir)
    assert (wanted.code, wanted.details) == ("not_held", {"reason": "mine"})


def test_another_lock_object_of_the_same_session_can_be_the_heir(cell: Cell) -> None:
    holder = cell.open()
    cell.acquire(holder, "/a")
    cell.acquire(holder, "/a")
    assert hand_on(cell, holder, holder)["hold"] == 2
    assert cell.holders("/a") == [(holder, 2)]
