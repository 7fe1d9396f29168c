"""What only the master can tell of sessions and locks, and what any replica can tell of a sequencer."""

from __future__ import annotations

from typing import Any

from tests.unit.engine.cell import Cell, Client
from tests.unit.engine.test_calls import code


def row_of(cell: Cell, client: Client) -> Any:
    (row,) = [row for row in cell.do("list_sessions")["sessions"] if row["session"] == client.session]
    return row


def holder_of(cell: Cell, path: str) -> Any:
    (row,) = cell.do("why", path=path)["lock"]["holders"]
    return row


def test_a_listing_of_sessions_says_when_each_was_heard_and_what_is_left_of_its_lease():
    cell = Cell()
    client, other = cell.open(lease_ms=10_000), cell.open(lease_ms=20_000)
    cell.run(1_000)
    client.keep_alive()
    cell.settle()
    cell.run(500)
    row = row_of(cell, client)
    assert (row["heard_ms_ago"], row["left_ms"]) == (500, 9_500)
    row = row_of(cell, other)
    assert (row["heard_ms_ago"], row["left_ms"]) == (1_500, 18_500), "its opening was a sign of life"


def test_a_new_master_has_not_heard_anybody_yet():
    cell = Cell(3)
    client = cell.open(lease_ms=10_000)
    cell.master().crash()
    cell.master()
    row = row_of(cell, client)
    assert row["heard_ms_ago"] is None and row["left_ms"] == 10_000
    client.attach()
    client.keep_alive()
    cell.settle()
    cell.run(200)
    assert row_of(cell, client)["heard_ms_ago"] == 200


def test_a_sessions_own_page_has_the_same_times():
    cell = Cell()
    client = cell.open(lease_ms=10_000)
    client.do("acquire", path="/l")
    cell.run(700)
    for page in (client.do("session_info"), cell.do("session_info", session=client.session)):
        assert (page["session"], page["heard_ms_ago"], page["left_ms"]) == (client.session, 700, 9_300)
        assert page["holds"][0]["path"] == "/l"
    assert cell.refused("session_info", session=client.session + 1) == "not_found"


def test_why_says_of_a_holder_when_it_was_heard_and_what_others_would_wait_for_if_it_crashed_now():
    cell = Cell()
    client = cell.open(lease_ms=10_000)
    client.do("acquire", path="/l", lock_delay_ms=3_000)
    cell.run(700)
    row = holder_of(cell, "/l")
    assert (row["heard_ms_ago"], row["left_ms"]) == (700, 9_300)
    assert row["crash_wait_ms"] == 10_000 + 1_000 + 3_000 and row["delay_left_ms"] is None


def test_why_says_of_a_delayed_hold_how_long_its_lock_delay_still_runs():
    cell = Cell()
    client = cell.open(lease_ms=1_000)
    client.do("acquire", path="/l", lock_delay_ms=3_000)
    cell.run(1_000)
    row = holder_of(cell, "/l")
    assert row["delayed"] and row["delay_left_ms"] == 3_000
    assert row["left_ms"] is row["heard_ms_ago"] is row["crash_wait_ms"] is None, "its session has ended"
    cell.run(1_000)
    assert holder_of(cell, "/l")["delay_left_ms"] == 2_000


def test_why_of_a_free_lock_has_nobody_to_tell_of():
    cell = Cell()
    client = cell.open()
    hold = client.do("acquire", path="/l")["hold"]
    client.do("release", path="/l", hold=hold)
    answer = cell.do("why", path="/l")
    assert answer["lock"] is None and [loss["cause"] for loss in answer["losses"]] == ["released"]


def test_any_replica_checks_a_sequencer_by_its_own_state_where_it_is_asked_for_that():
    cell = Cell(3)
    client = cell.open()
    grant = client.do("acquire", path="/l")
    cell.run(500)
    master = cell.master()
    follower = next(node for node in cell.nodes.values() if node is not master)
    asked: dict[str, Any] = {"sequencer": grant["sequencer"], "stale": True}
    first = cell.do("check_sequencer", follower, **asked)
    assert first == {"valid": True, "reason": "", "revision": follower.engine.machine.revision, "stale": True}
    assert cell.refused("check_sequencer", follower, sequencer=grant["sequencer"]) == "not_master"
    cell.isolate(follower.replica)
    client.do("release", path="/l", hold=grant["hold"])
    assert cell.do("check_sequencer", follower, **asked) == first, "it is as old as the answer says"
    assert not cell.do("check_sequencer", master, **asked)["valid"]
    now = cell.do("check_sequencer", master, sequencer=grant["sequencer"])
    assert not now["valid"] and now["revision"] > first["revision"] and "stale" not in now
    cell.heal()
    cell.run(1_000)
    assert not cell.do("check_sequencer", follower, **asked)["valid"]


def test_a_replica_that_knows_nothing_yet_does_not_call_a_sequencer_invalid():
    cell = Cell(3)
    for replica in cell.nodes:
        cell.isolate(replica)
    request = cell.call("check_sequencer", cell.nodes[1], sequencer="coord1:test:/l:exclusive:1:1:1:00", stale=True)
    cell.settle()
    assert code(cell, request) == "unavailable"
