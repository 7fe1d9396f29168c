"""Each call once: retries, acknowledgements, the window, cancel."""

from __future__ import annotations

import pytest

from coordclient.protocol.codec import encode
from coordclient.protocol.errors import Refusal
from coordd.machine.commands import Command
from coordd.machine.limits import CALL_WINDOW, Limits
from tests.unit.machine.harness import Cell, plain


@pytest.fixture
def cell() -> Cell:
    return Cell()


def code_of(reply: object) -> str:
    assert isinstance(reply, Refusal), reply
    return reply.code


def test_a_retry_with_the_same_number_takes_effect_once(cell: Cell) -> None:
    session = cell.open()
    first = cell.do("put", session, 1, path="/a", contents=b"one")
    cell.do("put", path="/a", contents=b"two")
    revision = cell.machine.revision
    assert cell.do("put", session, 1, path="/a", contents=b"one") == first
    assert cell.query("get", path="/a")["contents"] == b"two" and cell.machine.revision == revision
    assert cell.machine.recall(session, 1) == first


def test_a_refusal_is_remembered_like_any_reply(cell: Cell) -> None:
    session = cell.open()
    first = cell.refused("delete", session, 1, path="/a")
    cell.do("put", path="/a")
    again = cell.refused("delete", session, 1, path="/a")
    assert plain(again) == plain(first) and cell.exists("/a")


def test_every_refusal_with_details_is_remembered_whole(cell: Cell) -> None:
    first, second = cell.open(), cell.open()
    cell.acquire(first, "/a")
    refused = cell.refused("acquire", second, 1, path="/a", wait=False)
    assert plain(cell.twin.recall(second, 1)) == plain(refused)


def test_below_what_was_acknowledged_a_call_is_never_run(cell: Cell) -> None:
    session = cell.open()
    cell.do("put", session, 1, path="/a")
    cell.do("put", session, 3, acked=3, path="/b")
    assert cell.refused("delete", session, 1, path="/a").code == "outcome_unknown"
    assert cell.refused("put", session, 2, path="/never", acked=3).code == "outcome_unknown"
    assert not cell.exists("/never")
    assert code_of(cell.machine.recall(session, 2)) == "outcome_unknown"
    assert cell.do("put", session, 3, path="/b")["stat"]["path"] == "/b"


def test_an_acknowledgement_never_goes_back(cell: Cell) -> None:
    session = cell.open()
    cell.do("put", session, 5, acked=5, path="/a")
    cell.do("put", session, 6, acked=2, path="/a")
    assert cell.machine.sessions[session].acked == 5
    assert cell.refused("put", session, 4, acked=1, path="/b").code == "outcome_unknown"


def test_replies_are_forgotten_when_acknowledged(cell: Cell) -> None:
    session = cell.open()
    for call in range(1, 20):
        cell.do("put", session, call, path="/a")
    remembered = cell.machine.sessions[session]
    assert list(remembered.replies) == list(range(1, 20))
    cell.do("put", session, 20, acked=12, path="/a")
    assert list(remembered.replies) == list(range(12, 21))
    cell.do("put", session, 10**15, acked=10**15, path="/a")
    assert list(remembered.replies) == [10**15]
    cell.do("put", session, 0, acked=10**15 + 1, path="/a")
    assert remembered.replies == {} and remembered.reply_bytes == 0


def test_a_call_beyond_the_window_is_refused_and_may_come_again(cell: Cell) -> None:
    session = cell.open()
    assert cell.do("put", session, CALL_WINDOW - 1, path="/last")
    refusal = cell.refused("put", session, CALL_WINDOW, path="/beyond")
    assert refusal.code == "call_window"
    assert cell.machine.recall(session, CALL_WINDOW) is None, "apply decides: an acknowledgement may be on its way"
    assert cell.do("put", session, CALL_WINDOW, acked=1, path="/beyond")


def test_call_zero_is_not_remembered_and_cannot_acquire(cell: Cell) -> None:
    session = cell.open()
    first = cell.do("put", session, 0, path="/a")["stat"]["revision"]
    assert cell.do("put", session, 0, path="/a")["stat"]["revision"] > first
    assert cell.refused("acquire", session, 0, path="/l").code == "bad_request"
    assert cell.machine.recall(session, 0) is None


def test_a_retry_of_a_waiting_acquire_attaches_to_its_place_in_the_queue(cell: Cell) -> None:
    first, second, third = cell.open(), cell.open(), cell.open()
    cell.acquire(first, "/a")
    cell.acquire(second, "/a")
    cell.acquire(third, "/a")
    revision = cell.machine.revision
    assert cell.do("acquire", second, 1, path="/a") is None
    assert cell.machine.revision == revision
    assert cell.machine.recall(second, 1) is None and cell.machine.waiting(second, 1)
    assert cell.queue("/a") == [(second, 1), (third, 1)]


def test_a_waiting_call_and_its_grant_are_remembered_beyond_the_acknowledgement(cell: Cell) -> None:
    first, second = cell.open(), cell.open()
    cell.acquire(first, "/a")
    cell.acquire(second, "/a")
    cell.do("put", second, 2, path="/b", acked=2)
    assert cell.do("acquire", second, 1, acked=2, path="/a") is None
    cell.release(first, "/a")
    [(_, _, token)] = cell.woke()
    grant = cell.do("acquire", second, 1, acked=2, path="/a")
    assert (grant["token"], grant["hold"]) == (token, 1)
    assert cell.machine.recall(second, 1, acked=2) == grant


def test_a_late_copy_of_an_acquire_never_acquires_again(cell: Cell) -> None:
    session = cell.open()
    cell.acquire(session, "/a")
    cell.release(session, "/a")
    assert cell.refused("acquire", session, 1, path="/a").code == "not_held"
    cell.do("put", session, 3, path="/b", acked=3)
    assert cell.refused("acquire", session, 1, path="/a").code == "outcome_unknown"
    assert cell.lock_at("/a") is None


def test_an_acquire_that_was_refused_stays_refused(cell: Cell) -> None:
    first, second = cell.open(), cell.open()
    cell.acquire(first, "/a")
    assert cell.refused("acquire", second, 1, path="/a", wait=False).code == "not_acquired"
    cell.release(first, "/a")
    assert cell.refused("acquire", second, 1, path="/a", wait=False).code == "not_acquired"


def test_cancel_withdraws_a_waiter_and_those_behind_it_move_up_at_once(cell: Cell) -> None:
    reader, writer, late = cell.open(), cell.open(), cell.open()
    cell.acquire(reader, "/a", "shared")
    cell.acquire(writer, "/a")
    cell.acquire(late, "/a", "shared")
    assert cell.do("cancel", writer, cell.call(writer), target=1) == {"did": "withdrew"}
    woken = cell.woke()
    assert [(session, call) for session, call, _ in woken] == [(writer, 1), (late, 1)]
    assert woken[0][2] == "cancelled" and cell.holders("/a") == [(reader, 1), (late, 1)]
    assert cell.refused("acquire", writer, 1, path="/a").code == "cancelled"


def test_cancel_releases_the_grant_made_by_that_very_call(cell: Cell) -> None:
    session, other = cell.open(), cell.open()
    cell.acquire(session, "/a")
    cell.acquire(session, "/b")
    cell.acquire(other, "/a")
    assert cell.do("cancel", session, cell.call(session), target=1) == {"did": "released"}
    assert cell.holders("/a") == [(other, 1)] and cell.holders("/b") == [(session, 2)]
    assert cell.refused("acquire", session, 1, path="/a").code == "cancelled"


def test_cancel_marks_a_call_that_was_not_seen_yet(cell: Cell) -> None:
    session = cell.open()
    assert cell.do("cancel", session, 2, target=1) == {"did": "marked"}
    assert cell.refused("acquire", session, 1, path="/a").code == "cancelled"
    assert not cell.exists("/a")
    assert cell.do("cancel", session, 3, target=1) == {"did": "nothing"}


def test_cancel_of_what_is_over_does_nothing(cell: Cell) -> None:
    session = cell.open()
    cell.acquire(session, "/a")
    cell.release(session, "/a")
    assert cell.do("cancel", session, 3, target=1) == {"did": "nothing"}
    assert cell.do("cancel", session, 4, acked=4, target=2) == {"did": "nothing"}
    assert cell.do("cancel", session, 5, target=5) == {"did": "nothing"}


def test_cancel_marks_nothing_beyond_the_window(cell: Cell) -> None:
    session = cell.open()
    assert cell.do("cancel", session, 1, target=CALL_WINDOW - 1) == {"did": "marked"}
    assert cell.refused("cancel", session, 2, target=CALL_WINDOW).code == "call_window"


def test_the_bytes_remembered_for_a_session_are_bounded() -> None:
    cell = Cell(Limits(remembered_bytes_per_session=1_000))
    session = cell.open()
    call = 0
    while cell.machine.sessions[session].reply_bytes < 1_000:
        call += 1
        cell.do("put", session, call, path="/a")
    refusal = cell.refused("put", session, call + 1, path="/b")
    assert refusal.code == "limit" and refusal.details["limit"] == "remembered_bytes_per_session"
    assert cell.machine.recall(session, call + 1) is None, "apply decides: an acknowledgement may be on its way"
    assert cell.do("put", session, call + 1, acked=call, path="/b")


def test_what_is_remembered_is_counted_and_survives_snapshots(cell: Cell) -> None:
    session = cell.open(host="a" * 200)
    other = cell.open()
    cell.acquire(session, "/a", actor="x")
    cell.refused("acquire", other, 1, path="/a", wait=False)
    cell.refused("acquire", session, cell.call(session), path="/a", actor="x")  # deadlock
    cell.refused("delete", other, 2, path="/" + "n" * 200)
    for number in (session, other):
        assert cell.twin.sessions[number].reply_bytes == cell.machine.sessions[number].reply_bytes > 200


def test_an_answer_with_many_holds_counts_for_all_of_them(cell: Cell) -> None:
    owner, asker = cell.open(), cell.open()
    for _ in range(40):
        cell.acquire(owner, "/" + "n" * 200, "shared")
    arguments = {"path": "/" + "n" * 200, "reason": "r", "now": False, "session": 0, "hold": 0}
    secrets = {"session": owner, "secret": cell.machine.sessions[owner].secret, "new_secret": "s" * 32, "client": {}}
    for operation, given in (("unlock", arguments), ("resume_session", secrets)):
        before = cell.machine.sessions[asker].reply_bytes
        reply = cell.batch(Command(operation, asker, cell.call(asker), 0, "", given))[0].reply
        assert isinstance(reply, dict) and len(reply["holds"]) == 40  # type: ignore[arg-type]
        assert cell.machine.sessions[asker].reply_bytes - before >= len(encode(reply))
        assert cell.twin.sessions[asker].reply_bytes == cell.machine.sessions[asker].reply_bytes


def test_an_unknown_session_is_told_so_by_the_short_cut_too(cell: Cell) -> None:
    assert code_of(cell.machine.recall(12345, 1)) == "session_expired"
    assert not cell.machine.waiting(12345, 1)


def test_the_reason_of_an_operator_counts_in_what_is_remembered(cell: Cell) -> None:
    holder, session = cell.open(), cell.open()
    cell.acquire(holder, "/a")
    sizes = []
    for reason in ("r", "r" * 256):
        cell.unlock("/a", reason=reason)
        cell.refused("acquire", session, cell.call(session), path="/a", wait=False)
        sizes.append(cell.machine.sessions[session].replies[cell.calls[session]][1])
        cell.release(holder, "/a")
        cell.acquire(holder, "/a")
    assert sizes[1] - sizes[0] == 255
