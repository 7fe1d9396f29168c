"""What a watcher is told: everything, in order, once, in whole revisions; and how it is registered and ended."""

from __future__ import annotations

import pytest

from coordclient.protocol.errors import Refusal
from coordd.engine.effects import Push, Reply
from coordd.engine.inputs import Gone
from tests.unit.engine.caching import reader_of, written
from tests.unit.engine.cell import Cell
from tests.unit.engine.test_caching import no_votes, nothing
from tests.unit.engine.watching import Watcher, what


def put(cell: Cell, path: str, contents: bytes = b"x") -> int:
    """Write; the revision of it."""
    return int(cell.do("put", path=path, contents=contents, parents=True)["stat"]["revision"])


def test_the_first_answer_says_from_where_on_everything_is_told():
    cell = Cell()
    revision = put(cell, "/a")
    watcher = Watcher(cell, "/a")
    assert cell.pushed[watcher.request] == [{"revision": revision, "events": []}]
    put(cell, "/a", b"y")
    (event,) = watcher.look()
    assert event["kind"] == "changed" and event["after"] == b"y" and "before" not in event
    assert event["revision"] == watcher.revision == revision + 1 and event["operation"] == "put"


def test_a_node_is_watched_before_it_is_there_and_after_it_has_gone():
    cell = Cell()
    watcher = Watcher(cell, "/d/a")
    put(cell, "/d/a")
    put(cell, "/d/b")
    cell.do("delete", path="/d/a")
    put(cell, "/d/a")
    assert what(watcher.look()) == [("created", "/d/a"), ("deleted", "/d/a"), ("created", "/d/a")]


def test_scopes_tell_of_the_node_its_children_or_all_below():
    cell = Cell()
    put(cell, "/d/sub/deep")
    node, children, subtree = (Watcher(cell, "/d", scope=scope) for scope in ("node", "children", "subtree"))
    put(cell, "/d/one")
    put(cell, "/d/sub/deep", b"2")
    put(cell, "/dd")
    cell.do("delete", path="/d/one")
    assert node.look() == []
    assert what(children.look()) == [("created", "/d/one"), ("deleted", "/d/one")]
    assert what(subtree.look()) == [("created", "/d/one"), ("changed", "/d/sub/deep"), ("deleted", "/d/one")]
    cell.do("delete", path="/d/sub/deep")
    cell.do("delete", path="/d/sub")
    cell.do("delete", path="/d")
    assert what(node.look()) == [("deleted", "/d")]
    assert what(children.look()) == [("deleted", "/d/sub")]


def test_the_root_and_all_that_is_made_in_one_revision():
    cell = Cell()
    watcher = Watcher(cell, "/", scope="subtree", values="none")
    revision = put(cell, "/x/y/z")
    events = watcher.look()
    assert what(events) == [("created", "/x"), ("created", "/x/y"), ("created", "/x/y/z")]
    assert {event["revision"] for event in events} == {revision}
    assert all("before" not in event and "after" not in event for event in events)


def test_values_are_told_as_asked_for():
    cell = Cell()
    watcher = Watcher(cell, "/a", values="both")
    put(cell, "/a", b"1")
    put(cell, "/a", b"2")
    cell.do("delete", path="/a")
    assert [(event["before"], event["after"]) for event in watcher.look()] == [
        (None, b"1"),
        (b"1", b"2"),
        (b"2", None),
    ]


def test_from_a_revision_on_nothing_is_missing_and_nothing_comes_twice():
    cell = Cell()
    revisions = [put(cell, "/a", bytes([number])) for number in range(50)]
    for since in (revisions[0], revisions[24], revisions[-1]):
        watcher = Watcher(cell, "/a", since=since)
        assert [event["revision"] for event in watcher.events] == [one for one in revisions if one > since]
        assert watcher.revision == revisions[-1]
    put(cell, "/a", b"last")
    assert [event["after"] for event in watcher.look()] == [b"last"]


def test_one_body_for_all_who_watch_the_same():
    cell = Cell()
    watchers = [Watcher(cell, "/a") for _ in range(20)]
    late = Watcher(cell, "/a", since=0)
    put(cell, "/a")
    bodies = {id(cell.pushed[watcher.request][-1]) for watcher in (*watchers, late)}
    assert len(bodies) == 1


def test_events_leave_behind_the_replies_of_their_step():
    cell = Cell()
    watcher = Watcher(cell, "/a")
    node = cell.master()
    write = cell.call("put", path="/a", contents=b"1")
    answers: list[Reply | Push] = []
    while write not in cell.answers:
        answers += node.step().answers
        node.sync()
        answers += node.last.answers
    names = [answer.request if isinstance(answer, Reply) else answer.requests for answer in answers]
    assert names == [write, (watcher.request,)]


def test_a_lock_that_makes_a_file_and_the_end_of_a_session_are_told_with_their_cause():
    cell = Cell()
    client = cell.open()
    put(cell, "/locks/kept")
    watcher = Watcher(cell, "/locks", scope="children")
    held = client.do("acquire", path="/locks/l")
    client.do("create", path="/locks/e", ephemeral=True)
    client.do("release", path="/locks/l", hold=held["hold"])
    client.do("close_session")
    events = watcher.look()
    assert [(*pair, event["session"]) for pair, event in zip(what(events), events, strict=True)] == [
        ("created", "/locks/l", client.session),
        ("created", "/locks/e", client.session),
        ("deleted", "/locks/l", client.session),
        ("deleted", "/locks/e", client.session),
    ]


def test_what_must_not_be_seen_yet_because_of_a_cache_is_told_nobody():
    cell = Cell(3)
    writer, client = written(cell), cell.open()
    watcher = Watcher(cell, "/a")
    cell.dropped = no_votes
    writer.call("put", path="/a", contents=b"new")  # proposed before any cache is in use
    cell.settle()
    reader = reader_of(cell, "/a", client=client)
    cell.dropped = nothing
    cell.run(300)
    late = Watcher(cell, "/a")
    assert reader.holds("/a") and watcher.look() == [] and late.request not in cell.pushed, "applied, and not seen"
    reader.acknowledge()
    cell.settle()
    assert [event["after"] for event in watcher.look()] == [b"new"]
    assert late.look() == [] and late.revision == watcher.revision


def test_unwatch_is_a_last_answer_and_nothing_comes_behind_it():
    cell = Cell()
    watcher, other = Watcher(cell, "/a"), Watcher(cell, "/a")
    put(cell, "/a")
    assert watcher.end() == {}
    assert watcher.answer == {"revision": cell.pushed[watcher.request][-1]["revision"], "events": []}
    put(cell, "/a", b"2")
    assert watcher.look() == other.look()[:1]
    assert watcher.end() == {} and watcher.acknowledge(1) == {}, "once more changes nothing"


def test_who_has_gone_is_forgotten():
    cell = Cell()
    watcher = Watcher(cell, "/a")
    cell.master().inbox.append(Gone((watcher.request,)))
    cell.settle()
    put(cell, "/a")
    assert watcher.look() == [] and watcher.answer is None
    watches = cell.master().engine._watches
    assert len(watches) == 0 and watches._places is None and not watches._list.groups and not watches._list.lines


def test_a_watch_is_registered_only_inside_the_lease_or_by_a_confirming_round():
    cell = Cell(3)
    node = cell.master()
    cell.isolate(node.replica)
    cell.now_ms += 2_000
    watcher = Watcher(cell, "/a", node=node)
    assert watcher.request not in cell.answers and watcher.request not in cell.pushed
    cell.heal()
    cell.run(5_000)
    refusal = watcher.answer
    assert watcher.request in cell.pushed or refusal.code in ("not_master", "unavailable")


def test_a_follower_names_the_master():
    cell = Cell(3)
    master = cell.master()
    other = next(node for node in cell.nodes.values() if node is not master)
    watcher = Watcher(cell, "/a", node=other)
    assert watcher.answer.code == "not_master" and watcher.answer.details["master"] == master.replica


def test_the_end_of_a_reign_ends_every_watch_and_the_next_master_goes_on_without_a_gap():
    cell = Cell(3)
    old = cell.master()
    watchers = [Watcher(cell, "/a") for _ in range(600)]
    put(cell, "/a", b"1")
    for watcher in watchers:
        watcher.look()
    cell.isolate(old.replica)
    cell.run(6_000)
    cell.heal()
    new = cell.master()
    assert new is not old
    last = put(cell, "/a", b"2")
    cell.run(1_000)
    assert {watcher.answer.code for watcher in watchers} == {"not_master"}
    assert not old.engine._watches._leaving
    again = [Watcher(cell, "/a", since=watcher.revision) for watcher in watchers[:3]]
    for watcher in again:
        assert [event["after"] for event in watcher.events] == [b"2"] and watcher.revision >= last


@pytest.mark.parametrize(("channel", "numbers"), [(7, {"watches_per_channel_max": 3}), (None, {"watches_max": 3})])
def test_too_many_watches_are_refused_by_name(channel: int | None, numbers: dict[str, int]):
    cell = Cell(**numbers)
    watchers = [Watcher(cell, f"/{number}", channel) for number in range(4)]
    assert [watcher.answer for watcher in watchers[:3]] == [None] * 3
    refusal = watchers[3].answer
    assert isinstance(refusal, Refusal) and refusal.code == "limit" and "3" in refusal.message
    watchers[0].end()
    assert Watcher(cell, "/again", channel).answer is None


def test_a_call_number_that_is_a_watch_already_and_acknowledgements_of_nothing_are_refused():
    cell = Cell()
    watcher = Watcher(cell, "/a")
    again = cell.do("watch", channel=watcher.channel, call=watcher.call, path="/b")
    assert isinstance(again, Refusal) and again.code == "bad_request"
    assert watcher.acknowledge(99).code == "bad_request"
    put(cell, "/a")
    assert len(watcher.look()) == 1


def test_a_watch_costs_nothing_where_nobody_watches():
    cell = Cell()
    put(cell, "/a")
    assert cell.master().engine._watches._places is None


# ---- one answer (POST) ----


def test_who_takes_one_answer_is_told_at_once_where_things_stand_or_what_he_lacks():
    cell = Cell()
    revision = put(cell, "/a", b"1")
    assert cell.do("watch", path="/a") == {"revision": revision, "events": []}
    put(cell, "/a", b"2")
    answer = cell.do("watch", path="/a", since=revision)
    assert [event["after"] for event in answer["events"]] == [b"2"] and answer["revision"] == revision + 1


def test_who_takes_one_answer_waits_for_news_and_no_longer_than_he_says():
    cell = Cell()
    revision = put(cell, "/a")
    waiting = cell.call("watch", path="/a", since=revision, wait_ms=60_000)
    short = cell.call("watch", path="/a", since=revision, wait_ms=1_000)
    now = cell.call("watch", path="/a", since=revision, wait_ms=0)
    cell.settle()
    put(cell, "/other")
    assert cell.answers[now] == {"revision": revision, "events": []}
    assert waiting not in cell.answers and short not in cell.answers
    cell.run(950)
    assert short not in cell.answers
    cell.run(200)
    assert cell.answers[short] == {"revision": revision + 1, "events": []}
    put(cell, "/a", b"3")
    assert what(cell.answers[waiting]["events"]) == [("changed", "/a")]
    assert len(cell.master().engine._watches) == 0
