"""Rule 6 of sessions: a process that resumes a session takes it over whole, and nothing of the one before goes on."""

from __future__ import annotations

from typing import Any

from coordclient.protocol.errors import Refusal
from tests.unit.engine.cell import Cell, Client
from tests.unit.engine.test_calls import WINDOW, code, log_upto
from tests.unit.engine.test_time import deaf_master_outside_its_lease, lives

NEW = "n" * 32


def resume(cell: Cell, old: Client, new_secret: str = NEW, **about: Any) -> Any:
    return cell.do("resume_session", session=old.session, secret=old.secret, new_secret=new_secret, **about)


def successor(cell: Cell, old: Client, new_secret: str = NEW) -> Client:
    """The process that has the session after the resume."""
    answer = resume(cell, old, new_secret)
    client = Client(cell, old.session, new_secret)
    client.number = answer["next_call"]
    return client


def test_6_a_resume_gives_the_session_a_new_incarnation_and_a_whole_lease():
    cell = Cell()
    old = cell.open(lease_ms=3_000)
    cell.run(2_900)
    answer = resume(cell, old)
    assert (answer["session"], answer["incarnation"], answer["lease_ms"]) == (old.session, 2, 3_000)
    cell.run(2_900)
    assert lives(cell, old)
    cell.run(200)
    assert not lives(cell, old)


def test_6_what_the_older_incarnation_says_is_refused_as_expired():
    cell = Cell()
    old = cell.open()
    new = successor(cell, old)
    assert (new.attachment, new.incarnation) == (1, 2), "attachments are numbered anew"
    old.attachment = 99
    assert old.do("put", path="/a").code == "session_expired"
    assert old.do("get", path="/").code == "session_expired"
    kept = old.keep_alive()
    cell.settle()
    assert code(cell, kept) == "session_expired"
    assert old.attach().code == "session_expired"
    about: dict[str, Any] = {"session": old.session, "call": 9}
    assert cell.refused("put", path="/a", secret=old.secret, **about) == "session_expired"
    assert new.do("put", path="/a")["stat"]
    assert cell.do("put", path="/a", secret=NEW, session=old.session, call=new.next())["stat"]


def test_6_an_older_channel_is_stale_within_one_incarnation_and_expired_across_two():
    cell = Cell()
    new = successor(cell, cell.open())
    new.attach()
    new.attachment = 1
    assert new.do("put", path="/a").code == "stale_channel"
    new.attachment = 0
    cell.master().engine._mastership._doors.forget(new.session)
    assert new.do("put", path="/a").code == "stale_channel", "it was never attached"


def test_6_a_keep_alive_of_the_older_incarnation_renews_nothing():
    cell = Cell()
    old = cell.open(lease_ms=3_000)
    resume(cell, old)
    cell.run(1_500)
    old.keep_alive()
    cell.run(1_600)
    assert not lives(cell, old)


def test_6_a_held_keep_alive_of_the_older_incarnation_ends_at_once():
    cell = Cell()
    old = cell.open()
    by_channel = old.keep_alive(hold_ms=60_000)
    cell.settle()
    new = successor(cell, old)
    assert code(cell, by_channel) == "session_expired"
    about: dict[str, Any] = {"session": old.session, "secret": NEW}
    by_post = cell.call("keep_alive", number=1, hold_ms=60_000, **about)
    cell.settle()
    assert resume(cell, old)["incarnation"] == 2, "the same answer again"
    assert by_post not in cell.answers, "it is of the process that has the session"
    resume(cell, new, "m" * 32)
    assert code(cell, by_post) == "session_expired"


def test_who_resumes_is_told_at_once_what_the_process_before_had_been_told():
    cell = Cell()
    old = cell.open()
    hold = old.do("acquire", path="/a")["hold"]
    cell.do("unlock", path="/a", reason="needed")
    told = old.keep_alive()
    cell.settle()
    new = successor(cell, old)
    request = new.keep_alive(hold_ms=60_000)
    cell.settle()
    assert cell.answers[request]["revoked"] == cell.answers[told]["revoked"] == [["/a", hold, "needed"]]


def test_6_a_numbered_call_of_the_older_incarnation_that_was_not_proposed_never_runs():
    cell = Cell()
    old, node = cell.open(), cell.master()
    node.disk_held = True
    for turn in range(WINDOW):
        cell.call("put", path=f"/w{turn}")
        node.step()
    request = cell.call("resume_session", session=old.session, secret=old.secret, new_secret=NEW)
    late = old.call("put", path="/late")
    unnumbered = cell.call("put", path="/unnumbered", session=old.session, secret=old.secret)
    node.step()
    node.disk_held = False
    cell.settle()
    assert cell.answers[request]["incarnation"] == 2
    assert code(cell, late) == code(cell, unnumbered) == "session_expired"
    assert cell.refused("get", path="/late") == cell.refused("get", path="/unnumbered") == "not_found"


def test_6_a_call_that_another_replica_had_queued_is_refused_in_apply():
    cell = Cell()
    old = cell.open()
    number = old.next()
    new = successor(cell, old)
    assert new.number > number
    answer = new.do("put", number=number, path="/late")
    assert answer.code == "outcome_unknown"
    assert cell.refused("get", path="/late") == "not_found"


def test_what_waits_for_a_resume_goes_on_when_the_last_one_is_decided():
    cell = Cell()
    old, node = cell.open(), cell.master()
    node.disk_held = True
    first = cell.call("resume_session", session=old.session, secret=old.secret, new_secret=NEW)
    node.step()
    second = cell.call("resume_session", session=old.session, secret=old.secret, new_secret="m" * 32)
    mine = cell.call("put", path="/mine", session=old.session, call=5_000, secret=old.secret)
    node.step()
    resumes = node.engine._mastership._resumes
    assert resumes.under_way(old.session)
    node.disk_held = False
    cell.settle()
    assert cell.answers[first]["incarnation"] == 2
    assert code(cell, second) == "session_expired", "its secret was the present one no more"
    assert code(cell, mine) == "session_expired"
    assert not resumes.under_way(old.session) and not resumes._waiting


def test_what_waits_for_a_resume_that_could_not_even_be_begun_goes_on():
    cell = Cell(patience_ms=1_000)
    old, node = cell.open(), cell.master()
    node.disk_held = True
    for turn in range(WINDOW):
        cell.call("put", path=f"/w{turn}")
        node.step()
    request = cell.call("resume_session", session=old.session, secret=old.secret, new_secret=NEW)
    node.step()
    cell.run(600)
    mine = old.call("put", path="/mine")
    node.step()
    cell.run(700)
    assert code(cell, request) == "unavailable" and mine not in cell.answers
    node.disk_held = False
    cell.settle()
    assert cell.answers[mine]["stat"], "nobody has taken the session over"


def test_what_waits_for_a_resume_has_a_largest_number():
    cell = Cell(requests_max=4)
    old, node = cell.open(), cell.master()
    node.disk_held = True
    cell.call("resume_session", session=old.session, secret=old.secret, new_secret=NEW)
    requests = [old.call("put", path=f"/{turn}") for turn in range(4)]
    node.step()
    assert [request in cell.answers for request in requests] == [False, False, False, True]
    assert code(cell, requests[-1]) == "overloaded"


def test_a_stranger_cannot_hold_up_a_session_by_a_resume_with_a_wrong_secret():
    cell = Cell()
    old, node = cell.open(), cell.master()
    upto = log_upto(node)
    wrong: dict[str, Any] = {"secret": "w" * 32, "new_secret": NEW}
    assert cell.refused("resume_session", session=old.session, **wrong) == "session_expired"
    assert cell.refused("resume_session", session=old.session + 1, **wrong) == "session_expired"
    assert log_upto(node) == upto and not node.engine._mastership._resumes.under_way(old.session)


def test_an_expiry_on_its_way_does_nothing_to_a_session_that_was_resumed_before_it():
    cell = Cell()
    old, node = cell.open(lease_ms=1_000), cell.master()
    node.disk_held = True
    cell.run(900)
    request = cell.call("resume_session", session=old.session, secret=old.secret, new_secret=NEW)
    node.step()
    cell.run(150)
    assert node.engine._mastership.lessor.in_decision(old.session)
    node.disk_held = False
    cell.settle()
    assert cell.answers[request]["incarnation"] == 2 and lives(cell, old)
    assert node.engine._mastership.lessor.left_ms(old.session) == 1_000


def test_outside_the_lease_a_resume_counts_when_it_is_regained():
    cell = Cell(3)
    old = cell.open(lease_ms=3_000)
    master = deaf_master_outside_its_lease(cell)
    request = cell.call("resume_session", master, session=old.session, secret=old.secret, new_secret=NEW)
    cell.settle()
    cell.heal()
    cell.until(lambda: request in cell.answers)
    assert cell.answers[request]["incarnation"] == 2
    cell.run(2_500)
    assert lives(cell, old)


def test_a_call_of_a_newer_incarnation_than_is_known_waits_until_this_is_known_to_be_the_master():
    cell = Cell(3)
    old = cell.open()
    former = cell.master()
    cell.isolate(former.replica)
    former.paused = True
    cell.master()
    new = successor(cell, old)
    former.paused = False
    requests = [new.call("get", former, path="/"), new.call("put", former, path="/a")]
    older = old.call("get", former, path="/")
    unnumbered = cell.call("put", former, path="/b", about={"session": old.session, "attachment": 9})
    former.step()
    assert not {*requests, older, unnumbered} & set(cell.answers), "nothing is refused from a state that may be old"
    cell.run(4_000)
    assert {code(cell, request) for request in (*requests, older, unnumbered)} == {"not_master"}


def test_what_waits_for_a_resume_is_told_the_truth_when_the_mastership_ends():
    cell = Cell(3)
    old = cell.open()
    master = cell.master()
    cell.isolate(master.replica)
    resuming = cell.call("resume_session", master, session=old.session, secret=old.secret, new_secret=NEW)
    master.step()
    mine = old.call("put", master, path="/mine")
    master.step()
    cell.until(lambda: mine in cell.answers)
    assert (code(cell, resuming), code(cell, mine)) == ("outcome_unknown", "not_master")
    assert not master.engine._mastership._resumes._under_way


# ---- goodbye ----


def test_a_process_that_has_said_goodbye_is_renewed_no_more_and_its_session_stays():
    cell = Cell()
    old = cell.open(lease_ms=3_000)
    hold = old.do("acquire", path="/l")
    held = old.keep_alive(hold_ms=60_000)
    cell.run(500)
    old.do("leave_session")
    assert isinstance(cell.answers[held], Refusal)
    late = old.keep_alive()
    cell.settle()
    assert isinstance(cell.answers[late], Refusal)
    cell.run(2_400)
    assert lives(cell, old)
    answer = resume(cell, old)
    assert answer["left"] is True and [row["token"] for row in answer["holds"]] == [hold["token"]]
    cell.run(2_900)
    assert lives(cell, old)


def test_a_goodbye_and_a_resume_in_one_batch():
    cell = Cell()
    old = cell.open()
    held = old.keep_alive(hold_ms=60_000)
    cell.settle()
    old.call("leave_session")
    request = cell.call("resume_session", session=old.session, secret=old.secret, new_secret=NEW)
    cell.settle()
    assert cell.answers[request]["left"] is True and code(cell, held) == "session_expired"


def test_a_resume_that_comes_again_after_the_session_has_ended_does_nothing():
    cell = Cell(3)
    old, helper = cell.open(), cell.open()
    about: dict[str, Any] = {"session": old.session, "secret": old.secret, "new_secret": NEW}
    number = helper.next()
    first = helper.do("resume_session", number=number, **about)
    cell.do("kill_session", session=old.session, reason="enough")
    cell.do("acknowledge_kill", session=old.session, call=first["next_call"], secret=NEW)
    master = deaf_master_outside_its_lease(cell)
    again = helper.call("resume_session", master, number=number, **about)
    cell.settle()
    cell.heal()
    cell.until(lambda: again in cell.answers)
    assert cell.answers[again] == first and not lives(cell, old)


def test_without_a_goodbye_the_next_process_is_told_so():
    cell = Cell()
    old = cell.open()
    old.do("acquire", path="/l")
    assert resume(cell, old)["left"] is False
