"""One watch, pure: everything is given once and in order, whatever channels and masters it lives through."""

from __future__ import annotations

import random
from typing import Any

import pytest

from coordclient.changes import Event, Resync
from coordclient.errors import BadRequest, InternalError
from coordclient.watching import (
    BACKLOG_BYTES,
    BACKLOG_EVENTS,
    LAZY_BYTES,
    LAZY_DELIVERIES,
    LAZY_EVENTS,
    QUEUE_EVENTS_MAX,
    Delivery,
    Item,
    Watching,
)

STAT = dict.fromkeys(
    ("path", "kind", "instance", "content_generation", "lock_generation", "acl_generation", "revision", "checksum"), 1
) | dict.fromkeys(("size", "created_ms", "modified_ms", "owner", "ephemeral", "children"), 1)


def row(revision: int, path: str = "/a", **more: Any) -> dict[str, Any]:
    fixed = {"kind": "changed", "directory": False, "instance": 1, "session": 7, "principal": "", "at_ms": 5}
    return {"revision": revision, "path": path, "operation": "put", **fixed, **more}


def changes(upto: int, *rows: dict[str, Any]) -> Delivery:
    return Delivery({"revision": upto, "events": list(rows)})


def resync(revision: int, *paths: str, piece: int = 0, more: bool = False) -> Delivery:
    entries = [{"path": path, "stat": STAT, "contents": b"x"} for path in paths]
    return Delivery({"revision": revision, "resync": True, "piece": piece, "entries": entries, "more": more})


def watching(since: int | None = None) -> Watching:
    watch = Watching("/a", "subtree", since, "new")
    watch.register()
    return watch


def taken(watch: Watching) -> list[Item]:
    items = []
    while (item := watch.take()) is not None:
        items.append(item)
    return items


def revisions(items: list[Item]) -> list[int]:
    return [item.revision for item in items]


def test_from_now_it_is_settled_by_the_first_answer_and_goes_on_from_there():
    watch = watching()
    assert (watch.settled, watch.revision) == (False, None)
    assert "since" not in watch.register()
    watch.received(changes(41))
    assert (watch.settled, watch.revision) == (True, 41)
    assert watch.register()["since"] == 41


def test_a_watch_that_begins_at_a_revision_is_not_settled_by_that_alone():
    watch = watching(since=7)
    assert (watch.settled, watch.revision) == (False, 7)
    assert watch.register() == {"path": "/a", "scope": "subtree", "values": "new", "since": 7}


def test_the_revision_is_what_was_given_and_no_part_of_a_revision_counts():
    watch = watching(since=1)
    watch.received(changes(9, row(3), row(3, "/b"), row(5)))
    seen = []
    while (item := watch.take()) is not None:
        seen.append((item.revision, watch.revision))
    assert seen == [(3, 1), (3, 3), (5, 9)]


def test_what_was_received_and_not_given_is_not_asked_for_again_and_is_given():
    watch = watching(since=1)
    watch.received(changes(3, row(2), row(3)))
    assert watch.take() is not None
    assert watch.register()["since"] == 3
    watch.received(changes(4, row(4)))
    assert revisions(taken(watch)) == [3, 4]


def test_a_mark_of_progress_moves_the_revision_at_once_or_behind_what_waits():
    watch = watching(since=1)
    watch.received(changes(5))
    assert watch.revision == 5
    watch.received(changes(6, row(6)))
    watch.received(changes(8))
    assert watch.revision == 5
    assert revisions(taken(watch)) == [6]
    assert watch.revision == 8


def test_a_resync_is_given_whole_when_its_last_piece_is_there():
    watch = watching(since=1)
    watch.received(resync(9, "/a", more=True))
    watch.received(resync(9, "/a/b", piece=1, more=True))
    assert watch.take() is None
    assert watch.register()["since"] == 1, "nothing of a part counts"
    watch.received(resync(10, "/a", more=True))
    watch.received(resync(11, "/b", more=True))  # the cell begins again
    watch.received(resync(11, "/c", piece=1))
    item = watch.take()
    assert isinstance(item, Resync)
    assert (item.revision, [node.path for node in item.entries]) == (11, ["/b", "/c"])
    assert item.entries[0].contents == b"x"
    assert watch.revision == 11


def test_a_resync_that_was_broken_off_may_be_followed_by_changes_on_the_next_channel():
    watch = watching(since=1)
    watch.received(resync(9, "/a", more=True))
    watch.register()
    watch.received(changes(3, row(2)))
    assert revisions(taken(watch)) == [2]


def test_a_resync_may_go_back_for_the_cell_was_restored():
    watch = watching(since=1_000)
    watch.received(resync(9))
    assert revisions(taken(watch)) == [9]
    watch.received(changes(10, row(10)))
    assert watch.register()["since"] == 10


@pytest.mark.parametrize(
    ("before", "then"),
    [
        ([changes(5, row(5))], changes(5, row(5))),
        ([changes(5)], changes(6, row(5), row(6))),
        ([changes(5)], changes(4)),
        ([resync(5, "/a", more=True)], resync(6, "/b", piece=1)),
        ([changes(5)], resync(6, "/b", piece=1)),
        ([resync(5, "/a", more=True)], changes(6, row(6))),
    ],
)
def test_what_cannot_follow_is_refused_so_that_nothing_is_given_twice(before, then):
    watch = watching(since=1)
    for delivery in before:
        watch.received(delivery)
    with pytest.raises(InternalError):
        watch.received(then)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"revision": "5", "events": []},
        {"revision": 5},
        {"revision": 5, "events": {}},
        {"revision": 5, "events": [7]},
        {"revision": 5, "events": [{"revision": 5}]},
        {"revision": 5, "events": [row(5), row(4)]},
        {"revision": 5, "events": [row(6)]},
        {"revision": 5, "resync": True},
        {"revision": 5, "resync": True, "entries": [{"path": "/a"}]},
        {"revision": 5, "resync": True, "entries": [], "more": 1},
    ],
)
def test_a_delivery_that_makes_no_sense_is_refused_by_name(body):
    with pytest.raises(InternalError):
        Delivery(body)


def test_batches_are_whole_revisions_also_after_a_part_was_taken():
    watch = watching(since=1)
    watch.received(changes(4, row(2), row(2, "/b"), row(4)))
    watch.received(resync(9, "/a"))
    assert watch.take() is not None
    batches = []
    while (batch := watch.take_batch()) is not None:
        batches.append(batch if isinstance(batch, Resync) else [(event.revision, event.path) for event in batch])
    assert batches[:2] == [[(2, "/b")], [(4, "/a")]]
    assert isinstance(batches[2], Resync)


def test_acknowledgements_are_lazy_and_of_what_was_given_alone():
    watch = watching(since=0)
    for revision in range(1, LAZY_EVENTS + 1):
        watch.received(changes(revision, *(row(revision, f"/{number}") for number in range(8))))
    assert not watch.due, "nothing was given"
    for _ in range(LAZY_EVENTS):
        watch.take()
    assert watch.due
    assert watch.acknowledge() == LAZY_EVENTS // 8
    assert not watch.due


@pytest.mark.parametrize("rows", [[row(1, after=bytes(LAZY_BYTES))], [row(1, before=bytes(LAZY_BYTES))]])
def test_large_contents_are_acknowledged_by_their_bytes(rows):
    watch = watching(since=0)
    watch.received(changes(1, *rows))
    assert not watch.due
    watch.take()
    assert watch.due


def test_many_small_deliveries_and_marks_of_progress_are_acknowledged_too():
    watch = watching(since=0)
    for revision in range(1, LAZY_DELIVERIES + 1):
        assert not watch.due
        watch.received(changes(revision))
    assert watch.acknowledge() == LAZY_DELIVERIES


def test_pieces_of_a_resync_are_acknowledged_as_they_come_or_the_rest_would_never():
    watch = watching(since=0)
    watch.received(changes(1, row(1)))
    for number in range(3):
        watch.received(resync(9, f"/{number}", piece=number, more=True))
        assert watch.due
        taken(watch)
        assert watch.due, "what is taken meanwhile changes nothing"
        assert watch.acknowledge() == number + 2
        assert not watch.due


def test_what_came_by_an_earlier_registration_is_not_acknowledged_to_this_one():
    watch = watching(since=0)
    watch.received(changes(1, *(row(1, f"/{number}") for number in range(LAZY_EVENTS))))
    watch.register()
    taken(watch)
    assert not watch.due
    watch.received(changes(2, *(row(2, f"/{number}") for number in range(LAZY_EVENTS))))
    taken(watch)
    assert watch.due
    assert watch.acknowledge() == 1


def test_a_mark_of_progress_behind_what_an_earlier_registration_brought_counts_for_this_one():
    watch = watching(since=0)
    watch.received(changes(1, row(1)))
    watch.register()
    for revision in range(2, LAZY_DELIVERIES + 2):
        watch.received(changes(revision))
    assert not watch.due
    taken(watch)
    assert watch.acknowledge() == LAZY_DELIVERIES


def test_no_new_registration_is_made_while_too_much_waits_here():
    watch = watching(since=0)
    watch.received(changes(1, *(row(1, f"/{number}") for number in range(BACKLOG_EVENTS))))
    assert watch.crowded
    watch.take()
    taken(watch)
    assert not watch.crowded


def test_large_contents_crowd_it_by_their_bytes_until_they_are_taken():
    watch = watching(since=0)
    for revision in range(1, 10):
        watch.received(changes(revision, row(revision, after=bytes(BACKLOG_BYTES))))
        assert watch.crowded
        watch.take()
        assert not watch.crowded


def test_a_cell_that_keeps_to_no_window_does_not_fill_this_process():
    watch = watching(since=0)
    with pytest.raises(InternalError, match="nobody has acknowledged"):
        for revision in range(1, QUEUE_EVENTS_MAX):
            watch.received(changes(revision, *(row(revision, f"/{number}") for number in range(64))))


WRONG = [("tree", None, "new"), ("node", -1, "new"), ("node", True, "new"), ("node", 1, "all")]


@pytest.mark.parametrize("wrong", WRONG)
def test_what_there_is_not_is_refused_here(wrong):
    with pytest.raises(BadRequest):
        Watching("/a", *wrong)


@pytest.mark.parametrize("seed", range(30))
def test_over_any_channels_and_masters_nothing_is_missed_or_given_twice(seed):
    """A master that keeps to the rules, channels that break at any point, an application that takes when it likes."""
    chance = random.Random(seed)
    log = [row(1 + number // 2, f"/{number}") for number in range(120)]
    watch, cursor, sent, acknowledged = Watching("/a", "subtree", 0, "new"), 0, 0, 0
    given: list[Event] = []
    registered = False
    while len(given) < len(log):
        step = chance.random()
        if step < 0.1 or not registered:
            cursor, sent, acknowledged, registered = int(str(watch.register()["since"])), 0, 0, True
        elif step < 0.5 and sent - acknowledged < 5 and cursor < 60:
            upto = chance.randint(cursor, 60)
            watch.received(changes(upto, *(event for event in log if cursor < event["revision"] <= upto)))
            cursor, sent = upto, sent + 1
        elif chance.random() < 0.5:
            item = watch.take()
            if isinstance(item, Event):
                given.append(item)
        else:
            batch = watch.take_batch()
            given += batch if isinstance(batch, tuple) and not isinstance(batch, Resync) else ()
        if chance.random() < 0.2:
            done = watch.acknowledge()
            assert acknowledged <= done <= sent
            acknowledged = done
        whole = [event.revision for event in given]
        assert all(row["path"] in {event.path for event in given} for row in log if row["revision"] <= watch.revision)
        assert whole == sorted(whole)
    assert [(event.revision, event.path) for event in given] == [(event["revision"], event["path"]) for event in log]
