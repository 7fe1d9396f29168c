"""What a watch is told is written down in few letters, from which the same can be read."""

from __future__ import annotations

from coordclient import Event
from coordclient.changes import Node
from coordclient.values import Stat
from tests.nemesis.checks.watches import changes_in
from tests.nemesis.work import BULK_BYTES, shown
from tests.nemesis.work_watches import _entry, _line


def event(path: str, kind: str, before: bytes | None, after: bytes | None, *, directory: bool = False) -> Event:
    return Event(7, path, kind, directory, 3, before, after, 1, "anonymous", 0, "put")


def told(one: Event) -> list[tuple[str, str, str]]:
    number, _, words = _line((one,)).partition(" ")
    assert number == "7"
    return list(changes_in(words))


def test_any_two_contents_are_told_apart_though_one_is_large() -> None:
    contents = [b"", b".", b"x", b"x.", b"x".ljust(BULK_BYTES, b"."), b"x".ljust(BULK_BYTES - 1, b"."), b"-", b"/"]
    words = [shown(one) for one in contents]
    assert len({*words}) == len(contents) and max(map(len, words)) < 10
    assert not any(" " in word or word in ("-", "/", "?") for word in words)


def test_what_an_event_says_in_words_must_fit_what_it_says_by_contents() -> None:
    assert told(event("/a", "created", None, b"x")) == [("/a", "-", "x*0")]
    assert told(event("/a", "changed", b"x", b"y.")) == [("/a", "x*0", "y*1")]
    assert told(event("/a", "deleted", b"x", None)) == [("/a", "x*0", "-")]
    assert told(event("/d", "created", None, None, directory=True)) == [("/d", "-", "/")]
    assert told(event("/d", "deleted", None, None, directory=True)) == [("/d", "/", "-")]
    assert told(event("/a", "changed", None, b"y")) == [("/a", "?", "y*0")]
    assert told(event("/a", "created", b"x", b"y")) == [("/a", "x*0", "y*0")]


def test_all_changes_of_a_revision_are_one_line() -> None:
    both = (event("/d", "created", None, None, directory=True), event("/d/a", "created", None, b"x"))
    assert _line(both) == "7 /d - / /d/a - x*0"


def test_an_entry_of_a_resync_says_since_when_it_is_so() -> None:
    stat = Stat("/a", "file", 3, 5, None, 0, 5, "", 1, 0, 0, "", False, 0)
    assert _entry(Node("/a", stat, b"x")) == "/a 5 x*0"
    assert _entry(Node("/a", stat, None)) == "/a 5 ?"
    assert _entry(Node("/d", stat._replace(kind="directory"), None)) == "/d 3 /"
