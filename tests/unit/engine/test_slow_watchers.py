"""Watchers that do not keep up, and more of them than one step has time for: bounded work and memory, no guessing."""

from __future__ import annotations

from typing import Any

import pytest

from coordd.engine import places, watchers, watches
from coordd.engine.deliveries import Delivery
from coordd.engine.effects import Push
from coordd.engine.inputs import Congested
from coordd.machine.limits import Limits
from coordd.machine.machine import Machine
from tests.unit.engine import cell as cells
from tests.unit.engine.cell import Cell, Node
from tests.unit.engine.test_watches import put
from tests.unit.engine.watching import Watcher, what


def pushes_of(node: Node) -> list[Push]:
    """What one step tells watchers."""
    return [answer for answer in node.step().answers if isinstance(answer, Push)]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Limits:
    """Cells that keep twenty changes."""
    limits = Limits(changes=20)
    monkeypatch.setattr(cells, "Machine", lambda name: Machine(name, limits))
    return limits


def tree(cell: Cell, top: str) -> dict[str, Any]:
    """The subtree as single reads show it: path -> stat without the lock's generation."""
    found: dict[str, Any] = {}
    paths = [top]
    while paths:
        path = paths.pop()
        stat = cell.do("stat", path=path)["stat"]
        found[path] = stat | {"lock_generation": None}
        if stat["kind"] == "directory":
            paths += [f"{path.rstrip('/')}/{entry['name']}" for entry in cell.do("ls", path=path)["entries"]]
    return found


def test_beyond_its_window_a_watcher_waits_and_then_misses_nothing():
    cell = Cell()
    watcher = Watcher(cell, "/a")
    contents = [bytes([number]) * 100_000 for number in range(8)]
    for one in contents:
        put(cell, "/a", one)
    assert [event["after"] for event in watcher.look()] == contents[:3], "less than a window is out, then no more"
    for _ in range(3):
        watcher.acknowledge()
        watcher.look()
    assert [event["after"] for event in watcher.events] == contents


def test_windows_count_events_too_and_marks_cost_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(watchers, "WINDOW_EVENTS", 20)
    cell = Cell()
    watcher = Watcher(cell, "/d", scope="children", values="none")
    for number in range(30):
        put(cell, f"/d/{number}", b"")
    assert len(watcher.look()) == watchers.WINDOW_EVENTS
    watcher.acknowledge()
    assert len(watcher.look()) == 10
    watch = cell.master().engine._watches._list.watches[watcher.request]
    total, sent = watch._total, watch.sent
    for _ in range(3):
        put(cell, "/other")
        cell.run(watches.MARK_MS)
    assert watch.sent > sent and watch._total == total


def test_an_acknowledgement_of_a_part_frees_a_part():
    watch = watchers.Watch(1, 1, watchers.Line(1), watchers.Group("/a", "node", "new"), 0)
    for number in range(100):
        watch.note(Delivery({}, number, 10_000, 1))
    assert not watch.has_room and len(watch._steps) < 40
    watch.acknowledge(10)
    assert watch._total[0] - 100_000 <= watch._total[0] - watch._acked[0] <= watch._total[0] - 60_000
    watch.acknowledge(100)
    assert watch.has_room and not watch._steps
    assert watch._total == watch._acked


def test_a_watcher_that_never_acknowledges_costs_a_few_numbers(short: Limits):
    cell = Cell()
    watcher = Watcher(cell, "/a")
    for number in range(200):
        put(cell, "/a", bytes([number]) * 20_000)
    watch = cell.master().engine._watches._list.watches[watcher.request]
    assert watch.held and len(watch._steps) < 10 and len(watcher.look()) < 20
    watcher.acknowledge()
    watcher.look()
    assert watcher.resyncs == 1 and watcher.entries[0]["contents"] == bytes([199]) * 20_000
    put(cell, "/a", b"next")
    assert [event["after"] for event in watcher.look()] == [b"next"]


def test_the_changes_that_are_kept_are_found_by_place_in_bounded_memory(monkeypatch: pytest.MonkeyPatch, short: Limits):
    monkeypatch.setattr(places, "SEGMENT_CHANGES", 4)
    cell = Cell()
    Watcher(cell, "/never")
    for number in range(100):
        put(cell, f"/a{number}")
    index = cell.master().engine._watches._places
    assert index is not None and sum(segment.count for segment in index._segments) <= short.changes + 4


@pytest.mark.parametrize("segment", [1, 3, 512])
def test_what_is_older_than_the_first_watch_is_found_too(monkeypatch: pytest.MonkeyPatch, segment: int):
    monkeypatch.setattr(places, "SEGMENT_CHANGES", segment)
    cell = Cell()
    revisions = [put(cell, f"/d/{number % 3}/x") for number in range(30)]
    Watcher(cell, "/elsewhere")
    for since in (0, revisions[3], revisions[17]):
        node, children, below = (
            Watcher(cell, path, since=since, scope=scope)
            for path, scope in (("/d/1/x", "node"), ("/d", "children"), ("/d", "subtree"))
        )
        whole = cell.do("history", path="/d", subtree=True, since=since, count=1000)["changes"][::-1]
        rows = [{key: row[key] for key in whole[0]} for row in below.events]
        assert rows == whole
        assert node.events == [row for row in below.events if row["path"] == "/d/1/x"]
        assert what(children.events) == [one for one in what(whole) if one[1] in ("/d/0", "/d/1", "/d/2")]


# ---- resync ----


@pytest.mark.parametrize("scope", ["node", "children", "subtree"])
def test_where_the_history_does_not_reach_back_the_present_state_is_told(short: Limits, scope: str):
    cell = Cell()
    for number in range(30):
        put(cell, f"/d/{number % 7}/x", b"%d" % number)
    watcher = Watcher(cell, "/d", scope=scope, since=1)
    assert watcher.resyncs == 1 and not watcher.events
    there = tree(cell, "/d")
    wanted = {
        "node": ["/d"],
        "children": [path for path in there if path.count("/") == 2],
        "subtree": list(there),
    }[scope]
    assert {entry["path"]: entry["stat"] for entry in watcher.entries} == {path: there[path] for path in wanted}
    for entry in watcher.entries:
        assert entry.get("contents") == (
            cell.do("get", path=entry["path"])["contents"] if entry["stat"]["kind"] == "file" else None
        )
    put(cell, "/d/new")
    assert what(watcher.look()) == ([("created", "/d/new")] if scope != "node" else [])


def test_a_revision_of_the_future_and_a_place_where_nothing_is_are_told_as_a_resync():
    cell = Cell()
    revision = put(cell, "/a")
    watcher = Watcher(cell, "/nothing/here", since=revision + 1)
    assert watcher.resyncs == 1 and watcher.entries == [] and watcher.revision == revision
    put(cell, "/nothing/here")
    assert what(watcher.look()) == [("created", "/nothing/here")]


def test_a_large_tree_comes_in_pieces_of_one_revision_while_it_changes(monkeypatch: pytest.MonkeyPatch, short: Limits):
    monkeypatch.setattr("coordd.engine.resyncs.NODES_PER_TURN", 7)
    cell = Cell()
    for number in range(120):
        put(cell, f"/d/{number % 10}/{number}", bytes(2_000))
    node = cell.master()
    request = cell.call("watch", path="/d", scope="subtree", since=1, channel=5, call=1)
    writes = iter(range(60))
    while request not in cell.pushed:
        node.step()
        number = next(writes)
        if number % 2:
            cell.call("delete", path=f"/d/{number % 10}/{number}")
        else:
            cell.call("put", path=f"/d/{number % 10}/{number}", contents=b"changed", parents=True)
            cell.call("put", path=f"/d/{number % 10}/new{number}", contents=b"new", parents=True)
        node.sync()
    for _ in range(10):
        cell.do("watched", channel=5, watch=1, deliveries=len(cell.pushed[request]))
    revision = cell.pushed[request][0]["revision"]
    pieces = cell.pushed[request]
    resync = [body for body in pieces if body.get("resync")]
    assert len(resync) > 3 and {body["revision"] for body in resync} == {revision}
    found = {entry["path"]: entry["stat"] for body in resync for entry in body["entries"]}
    assert len(found) == sum(len(body["entries"]) for body in resync), "each once"
    replayed: dict[str, Any] = dict(found)
    for event in (event for body in pieces if not body.get("resync") for event in body["events"]):
        assert event["revision"] > revision
        if event["kind"] == "deleted":
            del replayed[event["path"]]
        else:
            assert (event["path"] in replayed) == (event["kind"] == "changed")
            replayed[event["path"]] = event
    there = tree(cell, "/d")
    assert set(replayed) == set(there)
    untouched = [path for path in found if replayed.get(path) is found[path] and not found[path]["children"]]
    assert untouched and all(there[path] == found[path] for path in untouched)
    counts = {path: sum(other.rpartition("/")[0] == path for other in found) for path in found}
    assert counts == {path: stat["children"] for path, stat in found.items()}, "all of one revision"


def test_a_revision_that_is_too_large_for_an_answer_is_told_as_a_resync():
    cell = Cell()
    client = cell.open()
    watcher, small = Watcher(cell, "/", scope="subtree", values="both"), Watcher(cell, "/d/1", values="both")
    for number in range(4):
        client.do("create", path=f"/d/{number}", contents=bytes(200_000), ephemeral=True, parents=True)
        watcher.acknowledge()
        small.acknowledge()
    watcher.look()
    client.do("close_session")
    watcher.look()
    assert watcher.resyncs == 1 and [entry["path"] for entry in watcher.entries] == ["/", "/d"]
    assert what(small.look()) == [("created", "/d/1"), ("deleted", "/d/1")]


def test_a_resync_that_nobody_takes_gives_way_to_others(monkeypatch: pytest.MonkeyPatch, short: Limits):
    monkeypatch.setattr("coordd.engine.resyncing.RESYNCS_MAX", 1)
    cell = Cell()
    for number in range(25):
        put(cell, f"/d/{number}", bytes(60_000))
    slow = Watcher(cell, "/d", scope="children", since=1)
    assert slow.resyncs == 0 and slow.entries, "its window is full in the middle"
    quick = Watcher(cell, "/d/1", since=1)
    assert quick.request not in cell.pushed
    cell.run(1_500)
    quick.look()
    assert quick.resyncs == 1
    for _ in range(20):
        slow.acknowledge()
        slow.look()
    assert slow.resyncs == 1 and len(slow.entries) == 25


# ---- many ----


def test_a_step_tells_a_bounded_number_and_a_write_waits_for_one_step_at_most():
    cell = Cell()
    alike = [Watcher(cell, "/a") for _ in range(1_000)]
    node = cell.master()
    cell.call("put", path="/a", contents=b"1")
    node.step()
    node.sync()
    counts: list[int] = []
    write = 0
    while node.unfinished:
        if len(counts) == 1:
            write = cell.call("put", path="/b", contents=b"2")
        pushes = pushes_of(node)
        counts.append(sum(len(push.requests) for push in pushes))
        node.sync()
        assert not write or write in cell.answers
    assert max(counts) <= watches.LOOKS_PER_STEP and len(counts) >= 2
    assert all(len(watcher.look()) == 1 for watcher in alike)
    assert len({id(cell.pushed[watcher.request][-1]) for watcher in alike}) == 1, "one body"


def test_a_step_tells_a_bounded_number_of_bytes():
    cell = Cell()
    alike = [Watcher(cell, "/a") for _ in range(20)]
    cell.call("put", path="/a", contents=bytes(200_000))
    node = cell.master()
    while any(not watcher.look() and not watcher.events for watcher in alike):
        pushes = pushes_of(node)
        rows: list[tuple[int, Any]] = [(len(push.requests), push.body["events"]) for push in pushes]
        told = sum(count * len(row["after"]) for count, events in rows for row in events)
        assert told <= watches.BYTES_PER_STEP + 200_000
        node.sync()


def test_writes_that_come_faster_than_they_can_be_told_are_told_together(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(watches, "LOOKS_PER_STEP", 64)
    cell = Cell()
    alike = [Watcher(cell, "/a", values="none") for _ in range(600)]
    node = cell.master()
    revisions = []
    for number in range(20):
        write = cell.call("put", path="/a", contents=b"%d" % number)
        node.step()
        node.sync()
        revisions.append(cell.answers[write]["stat"]["revision"])
    cell.settle()
    for watcher in alike:
        watcher.look()
        assert [event["revision"] for event in watcher.events] == revisions
    deliveries = max(len(cell.pushed[watcher.request]) for watcher in alike)
    assert deliveries < 15, "those who came late had several in one"


# ---- marks ----


def test_marks_come_about_every_five_seconds_when_the_revision_has_moved():
    cell = Cell()
    watcher = Watcher(cell, "/a")
    cell.run(20_000)
    watcher.look()
    sent = watcher.seen
    revision = put(cell, "/other")
    cell.run(watches.MARK_MS + 200)
    watcher.look()
    assert watcher.revision == revision and watcher.seen == sent + 1
    cell.run(20_000)
    watcher.look()
    assert watcher.seen == sent + 1, "nothing has moved"


def test_marks_come_before_what_they_have_passed_is_kept_no_more(short: Limits):
    cell = Cell()
    watcher = Watcher(cell, "/a")
    for number in range(60):
        put(cell, f"/other{number}")
        watcher.look()
        behind = cell.do("history", path="/", subtree=True, since=watcher.revision, count=1000)
        assert 2 * len(behind["changes"]) <= short.changes
    assert watcher.resyncs == 0


def test_a_mark_leaves_only_behind_all_events_up_to_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(watches, "LOOKS_PER_STEP", 8)
    cell = Cell()
    alike = [Watcher(cell, "/a", values="none") for _ in range(60)]
    node = cell.master()
    written = []
    for path in ("/a", "/other", "/a"):
        write = cell.call("put", path=path, contents=b"1")
        for turn in (node.step, node.sync):
            node.engine._watches._marking, node.engine._watches._mark_due_ms = [], 0  # a round of marks is due
            turn()
        written.append(cell.answers[write]["stat"]["revision"])
    cell.settle()
    for watcher in alike:
        watcher.look()
        assert [event["revision"] for event in watcher.events] == [written[0], written[2]]


def test_who_waits_for_one_answer_needs_no_history_that_he_has_passed(short: Limits):
    cell = Cell()
    revision = put(cell, "/a")
    waiting = cell.call("watch", path="/a", since=revision, wait_ms=1_000)
    for number in range(30):
        put(cell, f"/other{number}")
    cell.run(1_100)
    assert cell.answers[waiting]["events"] == [] and cell.answers[waiting]["revision"] > revision + 20


# ---- clients that do not read ----


def test_a_channel_that_is_not_read_is_told_nothing_and_the_others_are():
    cell = Cell()
    one, same, other = Watcher(cell, "/a", 77), Watcher(cell, "/b", 77), Watcher(cell, "/a")
    node = cell.master()
    node.inbox.append(Congested(77, True))
    put(cell, "/a")
    put(cell, "/b")
    cell.run(2 * watches.MARK_MS)
    assert not one.look() and not same.look() and len(other.look()) == 1
    node.inbox.append(Congested(77, False))
    cell.settle()
    assert len(one.look()) == len(same.look()) == 1
