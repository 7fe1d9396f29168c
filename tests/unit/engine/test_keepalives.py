"""KeepAlives that are held, and what they tell: rule 7 of sessions, kills, and holds that an operator wants back."""

from __future__ import annotations

from typing import Any

from coordclient.protocol.errors import Refusal
from coordd.engine.inputs import Gone
from tests.unit.engine.cell import Cell, Client
from tests.unit.engine.test_calls import code
from tests.unit.engine.test_time import deafen, lives

LONG = 60_000


def left_ms(cell: Cell, client: Client) -> int | None:
    return cell.master().engine._mastership.lessor.left_ms(client.session)


def held(cell: Cell, client: Client, hold_ms: int = LONG) -> int:
    """A KeepAlive that the master holds."""
    request = client.keep_alive(hold_ms=hold_ms)
    cell.settle()
    assert request not in cell.answers
    return request


def kept(cell: Cell, client: Client) -> Any:
    """What a KeepAlive is answered that asks for no hold."""
    request = client.keep_alive()
    cell.settle()
    return cell.answers[request]


# ---- how long ----


def test_7_a_keep_alive_is_held_for_at_most_a_third_of_the_lease():
    cell = Cell()
    client = cell.open(lease_ms=3_000)
    request = held(cell, client)
    cell.run(950)
    assert request not in cell.answers
    cell.run(50)
    assert cell.answers[request]["lease_ms"] == 3_000


def test_7_a_keep_alive_is_held_no_longer_than_its_client_asked():
    cell = Cell()
    client = cell.open(lease_ms=12_000)
    request = held(cell, client, hold_ms=300)
    cell.run(250)
    assert request not in cell.answers
    cell.run(50)
    assert request in cell.answers


def test_7_the_lease_is_counted_anew_when_a_held_keep_alive_comes_and_when_it_is_answered():
    cell = Cell()
    client = cell.open(lease_ms=3_000)
    cell.run(2_800)
    request = held(cell, client)
    assert left_ms(cell, client) == 3_000
    cell.run(950)
    assert left_ms(cell, client) == 2_050
    cell.run(50)
    assert request in cell.answers and left_ms(cell, client) == 3_000


def test_another_keep_alive_ends_the_hold_of_the_one_before():
    cell = Cell()
    client = cell.open()
    first, second = held(cell, client), client.keep_alive(hold_ms=LONG)
    cell.settle()
    assert first in cell.answers and second not in cell.answers
    cell.run(4_000)
    assert second in cell.answers


def test_holds_of_several_sessions_end_each_in_its_time():
    cell = Cell()
    clients = [cell.open(lease_ms=lease_ms) for lease_ms in (9_000, 3_000, 6_000)]
    requests = [held(cell, client) for client in clients]
    seen = []
    for _ in range(3):
        cell.run(1_000)
        seen.append([request in cell.answers for request in requests])
    assert seen == [[False, True, False], [False, True, True], [True, True, True]]


def test_a_client_that_leaves_its_held_keep_alive_is_not_renewed_by_it():
    cell = Cell()
    client = cell.open(lease_ms=3_000)
    request = held(cell, client)
    cell.master().inbox.append(Gone((request,)))
    cell.run(1_000)
    assert request not in cell.answers and left_ms(cell, client) == 2_000
    assert not cell.master().engine._mastership.calls.open


def test_holds_are_bounded_and_beyond_the_bound_a_keep_alive_is_answered_at_once():
    cell = Cell(requests_max=4)
    clients = [cell.open() for _ in range(5)]
    requests = [client.keep_alive(hold_ms=LONG) for client in clients]
    cell.settle()
    assert [request in cell.answers for request in requests] == [False] * 3 + [True] * 2
    assert isinstance(cell.answers[requests[-1]], dict), "no session ends because others wait"
    assert clients[0].do("put", path="/a")["stat"], "and who ends the waiting of others has room"


def test_the_heap_of_holds_stays_as_small_as_the_sessions_however_many_keep_alives_come():
    cell = Cell()
    client, other = cell.open(), cell.open()
    waits = held(cell, other)
    for _ in range(500):
        held(cell, client)
    keepalives = cell.master().engine._mastership._keepalives
    assert len(keepalives._held) == 2 and len(keepalives._heap) <= 2 * 2 + 64
    cell.run(4_000)
    assert waits in cell.answers and not keepalives._held


def test_4_a_client_that_dies_while_it_is_held_is_expired_at_lease_and_a_tenth_after_the_answer():
    cell = Cell(3)
    client = cell.open(lease_ms=3_000)
    request = held(cell, client)
    cell.until(lambda: request in cell.answers)
    answered_ms = cell.now_ms
    cell.run(2_950)
    assert lives(cell, client)
    cell.until(lambda: not lives(cell, client))
    assert cell.now_ms <= answered_ms + 3_300


# ---- what ends a hold ----


def test_a_held_keep_alive_ends_with_the_mastership():
    cell = Cell(3)
    client = cell.open()
    old = cell.master()
    request = held(cell, client)
    cell.isolate(old.replica)
    cell.until(lambda: request in cell.answers)
    assert code(cell, request) == "not_master"
    keepalives = old.engine._mastership._keepalives
    assert not (keepalives._held or keepalives._heap or keepalives._heard or keepalives._told)


def test_a_held_keep_alive_ends_with_the_session():
    cell = Cell()
    client = cell.open()
    request = held(cell, client)
    client.do("close_session")
    assert code(cell, request) == "session_expired"
    mastership = cell.master().engine._mastership
    assert not mastership._doors._attachments and not mastership._keepalives._heard


def test_outside_the_lease_a_held_keep_alive_waits_until_it_is_regained():
    cell = Cell(3)
    client = cell.open(lease_ms=6_000)
    master = cell.master()
    request = held(cell, client)
    deafen(cell, master)
    cell.until(lambda: not master.engine.replica.lease_valid(cell.now_ms))
    cell.run(1_000)
    assert master.engine.replica.serving and request not in cell.answers
    cell.heal()
    cell.run(300)
    assert cell.answers[request]["lease_ms"] == 6_000


# ---- kills ----


def test_a_killed_session_is_told_at_once_and_renewed_no_more():
    cell = Cell()
    client, operator = cell.open(lease_ms=3_000), cell.open()
    request = held(cell, client)
    cell.run(500)
    assert operator.do("kill_session", session=client.session, reason="gone wild")["lease_ms"] == 3_000
    refusal = cell.answers[request]
    assert isinstance(refusal, Refusal) and refusal.code == "session_killed"
    assert refusal.details["reason"] == "gone wild"
    assert kept(cell, client).code == "session_killed"
    assert left_ms(cell, client) == 2_500, "the lease runs on from what was answered last"
    cell.run(2_400)
    assert lives(cell, client)
    cell.run(200)
    assert not lives(cell, client)


def test_a_killed_session_ends_as_an_expiry_as_soon_as_its_client_says_that_it_knows():
    cell = Cell()
    client, waiter = cell.open(lease_ms=12_000), cell.open()
    client.do("acquire", path="/l", lock_delay_ms=1_000)
    waiting = waiter.call("acquire", path="/l")
    cell.do("kill_session", session=client.session, reason="gone wild")
    client.do("acknowledge_kill")
    assert not lives(cell, client)
    cell.run(950)
    assert waiting not in cell.answers
    cell.run(100)
    assert cell.answers[waiting]["token"]


def test_a_new_master_renews_a_killed_session_no_more_either():
    cell = Cell(3)
    client = cell.open(lease_ms=6_000)
    cell.do("kill_session", session=client.session, reason="gone wild")
    cell.master().crash()
    cell.master()
    client.attach()
    begun_ms = cell.now_ms
    assert kept(cell, client).code == "session_killed"
    cell.until(lambda: not lives(cell, client))
    assert cell.now_ms <= begun_ms + 6_600


def test_1_a_killed_session_whose_expiry_is_on_its_way_is_told_when_that_is_decided():
    cell = Cell()
    client = cell.open(lease_ms=1_000)
    cell.do("kill_session", session=client.session, reason="gone wild")
    cell.master().disk_held = True
    cell.run(1_050)
    request = client.keep_alive()
    cell.settle()
    assert request not in cell.answers
    cell.master().disk_held = False
    cell.settle()
    assert code(cell, request) == "session_expired"


# ---- what an operator wants back ----


def test_a_holder_is_told_at_once_that_an_operator_wants_the_lock_back():
    cell = Cell()
    client = cell.open()
    hold = client.do("acquire", path="/l")["hold"]
    request = held(cell, client)
    cell.do("unlock", path="/l", reason="needed")
    assert cell.answers[request]["revoked"] == [["/l", hold, "needed"]]
    assert cell.answers[request]["lease_ms"] == 12_000, "its session goes on"


def test_every_answer_tells_it_until_it_was_given_up_because_any_answer_may_be_lost():
    cell = Cell()
    client = cell.open()
    hold = client.do("acquire", path="/l")["hold"]
    cell.do("unlock", path="/l", reason="needed")
    for _ in range(2):
        assert kept(cell, client)["revoked"] == [["/l", hold, "needed"]]
    client.do("give_up", path="/l", hold=hold)
    assert "revoked" not in kept(cell, client)


def test_only_news_end_a_hold():
    """A client that needs a moment to give up would ask without pause else."""
    cell = Cell()
    client = cell.open(lease_ms=3_000)
    holds = [client.do("acquire", path=path)["hold"] for path in ("/a", "/b")]
    cell.do("unlock", path="/a", reason="needed")
    told = client.keep_alive(hold_ms=LONG)
    cell.settle()
    assert cell.answers[told]["revoked"] == [["/a", holds[0], "needed"]], "news are not held back at all"
    request = held(cell, client)
    cell.do("unlock", path="/b", reason="this too")
    assert cell.answers[request]["revoked"] == [["/a", holds[0], "needed"], ["/b", holds[1], "this too"]]
    client.do("give_up", path="/a", hold=holds[0])
    request = held(cell, client)
    cell.run(1_000)
    assert cell.answers[request]["revoked"] == [["/b", holds[1], "this too"]]


def test_a_new_master_tells_it_anew():
    cell = Cell(3)
    client = cell.open()
    hold = client.do("acquire", path="/l")["hold"]
    cell.do("unlock", path="/l", reason="needed")
    assert kept(cell, client)["revoked"]
    cell.master().crash()
    cell.master()
    client.attach()
    request = client.keep_alive(hold_ms=LONG)
    cell.settle()
    assert cell.answers[request]["revoked"] == [["/l", hold, "needed"]]


def test_a_lock_that_was_broken_now_is_told_too():
    cell = Cell()
    client, waiter = cell.open(), cell.open()
    hold = client.do("acquire", path="/l")["hold"]
    waiting = waiter.call("acquire", path="/l")
    request = held(cell, client)
    cell.do("unlock", path="/l", reason="fire", now=True)
    assert cell.answers[waiting]["token"], "the promise is bent, as the operator said"
    assert cell.answers[request]["revoked"] == [["/l", hold, "fire"]]


def test_a_kill_behind_an_unlock_in_one_batch_is_told_alone():
    cell = Cell()
    client, other = cell.open(), cell.open()
    for each, path in ((client, "/l"), (other, "/m")):
        each.do("acquire", path=path)
    requests = [held(cell, client), held(cell, other)]
    for each, path in ((client, "/l"), (other, "/m")):
        cell.call("unlock", path=path, reason="needed")
        cell.call("kill_session", session=each.session, reason="gone wild")
    other.call("acknowledge_kill")
    cell.settle()
    assert [code(cell, request) for request in requests] == ["session_killed", "session_expired"]


def test_nobody_is_told_of_an_unlock_whose_holder_has_gone():
    cell = Cell()
    client = cell.open(lease_ms=1_000)
    client.do("acquire", path="/l", lock_delay_ms=60_000)
    cell.run(1_100)
    assert not lives(cell, client)
    cell.do("unlock", path="/l", reason="needed", now=True)
    assert cell.open().do("acquire", path="/l")["token"]
    cell.run(61_000)


def test_outside_the_lease_even_news_do_not_end_a_hold():
    cell = Cell(3)
    client = cell.open()
    master = cell.master()
    request = held(cell, client)
    deafen(cell, master)
    cell.until(lambda: not master.engine.replica.lease_valid(cell.now_ms))
    master.engine._mastership._keepalives.tell(client.session)
    cell.run(200)
    assert request not in cell.answers
    cell.heal()
    cell.until(lambda: master.engine.replica.lease_valid(cell.now_ms))
    cell.run(50)
    assert cell.answers[request]["lease_ms"] == 12_000, "at the first moment at which it may be answered"
