"""Watches where several things come together: floods, resyncs that are not taken, channels that stop and go on."""

from __future__ import annotations

from typing import Any

import pytest

from coordd.engine import watches
from coordd.engine.inputs import Congested, Gone
from coordd.machine.limits import Limits
from coordd.machine.machine import Machine
from tests.unit.engine import cell as cells
from tests.unit.engine.cell import Cell
from tests.unit.engine.test_watches import put
from tests.unit.engine.watching import Watcher


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Limits:
    """Cells that keep ten changes."""
    limits = Limits(changes=10)
    monkeypatch.setattr(cells, "Machine", lambda name: Machine(name, limits))
    return limits


def flood(cell: Cell, count: int = 40) -> None:
    """More changes in one step than are kept: some come and go unseen."""
    for number in range(count):
        cell.call("put", path=f"/flood/{number}", contents=b"x" * 5_000, parents=True)
    cell.settle()


def test_changes_that_came_and_went_in_one_step_are_a_resync_for_everybody(short: Limits):
    cell = Cell()
    put(cell, "/a", b"1")
    quiet, below = Watcher(cell, "/a"), Watcher(cell, "/flood", scope="children")
    flood(cell)
    quiet.look()
    below.look()
    assert quiet.resyncs == below.resyncs == 1
    assert len(below.entries) == 40 and [entry["contents"] for entry in quiet.entries] == [b"1"]
    put(cell, "/a", b"2")
    assert [event["after"] for event in quiet.look()] == [b"2"]


def test_a_flood_while_a_resync_is_gathered_begins_it_anew(monkeypatch: pytest.MonkeyPatch, short: Limits):
    monkeypatch.setattr("coordd.engine.resyncs.NODES_PER_TURN", 4)
    cell = Cell()
    flood(cell)
    node = cell.master()
    request = cell.call("watch", path="/flood", scope="subtree", values="none", since=1, channel=3, call=1)
    node.step()
    node.step()
    assert request not in cell.pushed
    for number in range(20):
        cell.call("delete", path=f"/flood/{number}")
    node.step()
    node.sync()
    cell.settle()
    paths = [entry["path"] for body in cell.pushed[request] for entry in body.get("entries", [])]
    assert sorted(paths) == sorted(["/flood", *(f"/flood/{number}" for number in range(20, 40))])


def test_a_child_is_told_with_what_was_made_below_it_meanwhile(monkeypatch: pytest.MonkeyPatch, short: Limits):
    monkeypatch.setattr("coordd.engine.resyncs.NODES_PER_TURN", 1)
    cell = Cell()
    for number in range(6):
        put(cell, f"/d/{number}/one")
    node = cell.master()
    request = cell.call("watch", path="/d", scope="children", since=1, channel=3, call=1)
    node.step()
    for number in range(6):
        cell.call("put", path=f"/d/{number}/two", contents=b"")
    node.step()
    node.sync()
    cell.settle()
    entries = [entry for body in cell.pushed[request] for entry in body.get("entries", [])]
    assert [entry["stat"]["children"] for entry in entries] == [2] * 6


def test_who_comes_while_a_resync_is_gathered_has_the_same_one(monkeypatch: pytest.MonkeyPatch, short: Limits):
    monkeypatch.setattr("coordd.engine.resyncs.NODES_PER_TURN", 4)
    cell = Cell()
    flood(cell)
    node = cell.master()
    fields: dict[str, Any] = {"path": "/flood", "scope": "subtree", "values": "none", "since": 1}
    one, other = (cell.call("watch", channel=3, call=call, **fields) for call in (1, 2))
    node.inbox, late = node.inbox[:1], node.inbox[1:]
    node.step()
    node.inbox += late
    cell.settle()
    assert [id(body) for body in cell.pushed[one]] == [id(body) for body in cell.pushed[other]]


def test_who_is_far_behind_the_others_gets_a_resync_of_its_own(monkeypatch: pytest.MonkeyPatch, short: Limits):
    monkeypatch.setattr("coordd.engine.resyncs.PIECES_KEPT", 1)
    cell = Cell()
    for number in range(40):
        put(cell, f"/d/{number}", bytes(20_000))
    node = cell.master()
    fields: dict[str, Any] = {"path": "/d", "scope": "children", "since": 1}
    slow, quick = (Watcher(cell, channel=channel, **fields) for channel in (3, 4))
    for request in (slow.request, quick.request):
        node.inbox.append(Gone((request,)))
    cell.settle()
    first, second = (cell.call("watch", channel=channel, call=1, **fields) for channel in (5, 6))
    cell.settle()
    for _ in range(10):
        cell.do("watched", channel=5, watch=1, deliveries=len(cell.pushed[first]))
    assert cell.pushed[first][-1].get("more", False) is False
    for _ in range(10):
        cell.do("watched", channel=6, watch=1, deliveries=len(cell.pushed[second]))
    pieces = [body["piece"] for body in cell.pushed[second] if body.get("resync")]
    assert pieces.count(0) == 2 and pieces[-1] > 3 and cell.pushed[second][-1].get("more", False) is False


def test_a_channel_that_stops_in_the_middle_of_a_resync_goes_on_where_it_was(short: Limits):
    cell = Cell()
    for number in range(40):
        put(cell, f"/d/{number}", bytes(20_000))
    node = cell.master()
    watcher = Watcher(cell, "/d", 9, scope="children", since=1)
    had = watcher.seen
    node.inbox.append(Congested(9, True))
    watcher.acknowledge()
    assert not watcher.look() and watcher.seen == had and watcher.resyncs == 0
    node.inbox.append(Congested(9, False))
    cell.settle()
    for _ in range(6):
        watcher.look()
        watcher.acknowledge()
    assert watcher.resyncs == 1 and len(watcher.entries) == 40


def test_a_channel_that_stops_before_its_resync_and_while_pieces_wait(monkeypatch: pytest.MonkeyPatch, short: Limits):
    cell = Cell()
    flood(cell)
    node = cell.master()
    Watcher(cell, "/other", 9)
    node.inbox.append(Congested(9, True))
    cell.settle()
    early = Watcher(cell, "/flood", 9, scope="children", since=1)
    assert early.request not in cell.pushed
    node.inbox.append(Congested(9, False))
    cell.settle()
    early.look()
    assert early.resyncs == 1
    monkeypatch.setattr("coordd.engine.resyncs.NODES_PER_TURN", 4)
    late = cell.call("watch", path="/flood", scope="children", since=1, channel=9, call=77)
    node.step()
    node.inbox.append(Congested(9, True))
    cell.settle()
    assert late not in cell.pushed
    node.inbox.append(Congested(9, False))
    cell.settle()
    assert cell.pushed[late][-1]["more"] is False


def test_without_room_no_resync_begins_though_its_channel_is_read_again(short: Limits):
    cell = Cell()
    watcher = Watcher(cell, "/a", 9)
    for _ in range(3):
        put(cell, "/a", bytes(100_000))
    cell.master().inbox.append(Congested(9, True))
    put(cell, "/a", b"1")
    flood(cell)
    cell.master().inbox.append(Congested(9, False))
    cell.settle()
    assert len(watcher.look()) == 3 and watcher.resyncs == 0
    watcher.acknowledge()
    watcher.look()
    assert watcher.resyncs == 1 and [entry["contents"] for entry in watcher.entries] == [b"1"]


def test_a_resync_is_one_answer_for_who_takes_one(short: Limits):
    cell = Cell()
    for number in range(40):
        put(cell, f"/d/{number}", bytes(20_000))
    answer = cell.do("watch", path="/d", scope="children", since=1)
    assert answer["resync"] and answer["piece"] == 0 and answer["more"] and answer["entries"]
    assert len(cell.master().engine._watches) == 0


def test_who_leaves_while_he_waits_for_a_resync_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, short: Limits):
    monkeypatch.setattr("coordd.engine.resyncs.NODES_PER_TURN", 4)
    monkeypatch.setattr("coordd.engine.resyncing.RESYNCS_MAX", 1)
    cell = Cell()
    flood(cell)
    stays = Watcher(cell, "/other")
    node = cell.master()
    gathered, waits = (
        cell.call("watch", path=path, scope="children", since=1, channel=3, call=call)
        for call, path in ((1, "/flood"), (2, "/"))
    )
    node.step()
    node.step(Gone((gathered, waits)))
    cell.settle()
    mine = node.engine._watches
    assert not mine._resyncs._running and not mine._resyncs._wanting and len(mine) == 1
    put(cell, "/other")
    assert len(stays.look()) == 1


def test_watches_of_one_place_with_other_values_are_apart_and_go_apart():
    cell = Cell()
    new, none = Watcher(cell, "/a"), Watcher(cell, "/a", values="none")
    new.end()
    put(cell, "/a")
    assert len(none.look()) == 1 and new.look() == []


def test_acknowledgements_and_congestion_of_nobody_change_nothing():
    cell = Cell()
    watcher = Watcher(cell, "/a", 9)
    cell.master().inbox += [Congested(8, True), Congested(9, True), Gone((99_999,))]
    put(cell, "/a")
    watcher.acknowledge()
    assert watcher.look() == [], "an acknowledgement does not make its client read"
    watcher.end()
    cell.master().inbox += [Congested(9, False)]
    assert Watcher(cell, "/a", 9).answer is None


def test_long_polls_that_ended_early_are_forgotten(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(watches, "_STALE_ENTRIES_MAX", 4)
    cell = Cell()
    revision = put(cell, "/a")
    stays = cell.call("watch", path="/b", since=revision, wait_ms=2_000)
    for _ in range(12):
        waiting = cell.call("watch", path="/a", since=revision, wait_ms=4_000)
        cell.settle()
        revision = put(cell, "/a")
        assert cell.answers[waiting]["revision"] == revision
    mine = cell.master().engine._watches
    assert len(mine._dues) <= 2 * len(mine) + 5
    cell.run(4_100, 500)
    assert cell.answers[stays]["events"] == [] and not mine._dues


def test_a_long_poll_that_is_due_while_news_wait_for_their_turn_gets_the_news(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(watches, "LOOKS_PER_STEP", 2)
    cell = Cell()
    revision = put(cell, "/a")
    waiting = [cell.call("watch", path="/a", since=revision, wait_ms=1_000) for _ in range(20)]
    cell.settle()
    node = cell.master()
    cell.now_ms += 999
    cell.call("put", path="/a", contents=b"news")
    node.step()
    node.sync()
    cell.now_ms += 1
    cell.settle()
    assert all(len(cell.answers[request]["events"]) == 1 for request in waiting)


def test_what_is_acknowledged_while_its_channel_is_not_read_goes_on_when_it_is():
    cell = Cell()
    watcher, node = Watcher(cell, "/a", 77), cell.master()
    for number in range(5):
        put(cell, "/a", bytes([number]) * 100_000)
    assert len(watcher.look()) == 3, "its window is full"
    node.inbox.append(Congested(77, True))
    watcher.acknowledge()
    assert not watcher.look()
    node.inbox.append(Congested(77, False))
    cell.settle()
    assert len(watcher.look()) == 2


def test_a_piece_that_is_acknowledged_while_its_channel_is_not_read_is_followed_by_the_next(short: Limits):
    cell = Cell()
    for number in range(40):
        put(cell, f"/d/{number}", bytes(20_000))
    watcher, node = Watcher(cell, "/d", 77, scope="children", since=1), cell.master()
    had = len(watcher.entries)
    assert not watcher.resyncs, "its window is full in the middle"
    node.inbox.append(Congested(77, True))
    watcher.acknowledge()
    watcher.look()
    node.inbox.append(Congested(77, False))
    cell.settle()
    watcher.look()
    assert len(watcher.entries) > had


def test_who_comes_and_goes_while_resyncs_have_to_wait_leaves_nothing(monkeypatch: pytest.MonkeyPatch, short: Limits):
    monkeypatch.setattr("coordd.engine.resyncing.RESYNCS_MAX", 1)
    cell = Cell()
    for number in range(40):
        put(cell, f"/d/{number}", bytes(20_000))
    Watcher(cell, "/d", scope="children", since=1)
    waiting = cell.master().engine._watches._resyncs._wanting
    for number in range(20):
        Watcher(cell, f"/other/{number % 2}", since=1).end()
        assert not waiting
    leaves, stays = Watcher(cell, "/other", since=1), Watcher(cell, "/other", since=1)
    leaves.end()
    assert len(waiting) == 1
    cell.run(1_500)
    stays.look()
    assert stays.resyncs == 1


def test_who_has_a_resync_while_marks_are_told_has_its_mark_behind_it(short: Limits):
    cell = Cell()
    for number in range(40):
        put(cell, f"/d/{number}", bytes(20_000))
    watcher = Watcher(cell, "/d", scope="children", since=1)
    assert not watcher.resyncs, "its window is full in the middle"
    last = put(cell, "/other")
    cell.run(watches.MARK_MS + 200)
    while not watcher.resyncs:
        watcher.acknowledge()
        watcher.look()
    cell.settle()
    watcher.look()
    assert watcher.revision == last, "no write may come for long"


def test_whose_channel_is_not_read_while_marks_are_told_has_its_mark_when_it_is():
    cell = Cell()
    watcher, node = Watcher(cell, "/a", 77), cell.master()
    node.inbox.append(Congested(77, True))
    last = put(cell, "/other")
    cell.run(watches.MARK_MS + 200)
    watcher.look()
    assert watcher.revision < last
    node.inbox.append(Congested(77, False))
    cell.settle()
    watcher.look()
    assert watcher.revision == last
    assert watcher.acknowledge() == {}
    put(cell, "/a")
    assert len(watcher.look()) == 1, "and it goes on"


@pytest.mark.parametrize("count", [200, 800])
def test_a_round_ends_after_as_many_steps_as_it_has_watches_however_fast_the_writes_come(
    monkeypatch: pytest.MonkeyPatch, count: int
):
    monkeypatch.setattr(watches, "LOOKS_PER_STEP", 20)
    cell = Cell()
    alike = [cell.call("watch", channel=number, call=1, path="/a", values="none") for number in range(1, count + 1)]
    cell.settle()
    node = cell.master()
    steps = 0
    while any(len(cell.pushed[request]) == 1 for request in alike):
        cell.call("put", path="/a", contents=b"")
        node.step()
        node.sync()
        steps += 1
    assert steps <= count // 20 + 2


def test_a_channel_that_is_not_read_is_told_nothing_of_a_watch_that_comes_then():
    cell = Cell()
    put(cell, "/a")
    node = cell.master()
    node.inbox.append(Congested(77, True))
    cell.settle()
    first = Watcher(cell, "/a", 77, since=0)
    first.end()
    again = Watcher(cell, "/a", 77, since=0)
    assert not first.look() and not again.look()
    node.inbox.append(Congested(77, False))
    cell.settle()
    assert len(again.look()) == 1
    other = Watcher(cell, "/a", 77, since=0)
    assert len(other.events) == 1


def test_a_piece_now_and_then_keeps_nobody_waiting_for_long(monkeypatch: pytest.MonkeyPatch, short: Limits):
    monkeypatch.setattr("coordd.engine.resyncing.RESYNCS_MAX", 1)
    monkeypatch.setattr("coordd.engine.resyncing.LONG_MS", 3_000)
    cell = Cell()
    for number in range(40):
        put(cell, f"/d/{number}", bytes(60_000))
    slow, quick = Watcher(cell, "/d", scope="children", since=1), Watcher(cell, "/d/1", since=1)
    for taken in range(1, 5):
        quick.look()
        assert not quick.resyncs
        cell.run(800)
        slow.acknowledge(taken)
    quick.look()
    assert quick.resyncs == 1
    while not slow.resyncs:
        slow.acknowledge()
        slow.look()
    assert len(slow.entries) == 40, "it has had another one"
