"""Long answers in pages, contents in listings, and many nodes in one read."""

from __future__ import annotations

from typing import Any

import pytest

from coordclient.protocol.codec import encode
from coordclient.protocol.errors import Refusal
from coordd.machine.limits import Limits
from tests.unit.machine.harness import Cell

SMALL = 3_000  # bytes of an answer: a few rows


def pages(cell: Cell, operation: str, rows: str, key: str, **given: Any) -> list[list[Any]]:
    """The keys of the rows of each page, to the last one, each of them within the bound."""
    found: list[list[Any]] = []
    after: dict[str, Any] = {}
    while True:
        answer = cell.query(operation, **given, **after)
        assert len(encode(answer)) <= cell.limits.answer_bytes
        found.append([row[key] for row in answer[rows]])
        assert answer["revision"] == cell.machine.revision
        if not answer["more"]:
            return found
        after = {"after": found[-1][-1]}


def joined(found: list[list[Any]]) -> list[Any]:
    return [key for page in found for key in page]


def crowd(bound: int = SMALL) -> tuple[Cell, list[str]]:
    cell = Cell(Limits(answer_bytes=bound))
    names = [f"n{number:02}" for number in range(20)]
    for name in reversed(names):
        cell.do("put", path=f"/d/{name}", contents=name.encode() * 10, parents=True)
    return cell, names


def test_a_listing_comes_in_pages_that_fit_and_has_every_name_once_in_order() -> None:
    cell, names = crowd()
    found = pages(cell, "ls", "entries", "name", path="/d")
    assert joined(found) == names and 1 < len(found) < 10 and all(found)


def test_pages_have_as_many_rows_as_were_asked_for() -> None:
    cell, names = crowd(bound=100_000)
    assert pages(cell, "ls", "entries", "name", path="/d", count=8) == [names[:8], names[8:16], names[16:]]
    assert pages(cell, "ls", "entries", "name", path="/d", count=20) == [names]
    assert pages(cell, "ls", "entries", "name", path="/d") == [names]
    assert cell.query("ls", path="/d", after="n17x")["entries"][0]["name"] == "n18"
    assert cell.query("ls", path="/d", after="z")["entries"] == []


def test_a_page_goes_on_behind_a_name_that_is_gone() -> None:
    cell, names = crowd(bound=100_000)
    cell.do("delete", path="/d/n03")
    assert [entry["name"] for entry in cell.query("ls", path="/d", after="n03", count=2)["entries"]] == names[4:6]


def test_a_listing_has_the_contents_of_files_where_they_are_asked_for() -> None:
    cell, names = crowd()
    cell.do("mkdir", path="/d/dir")
    [directory, *files] = cell.query("ls", path="/d", contents=True, count=3)["entries"]
    assert directory == {"name": "dir", "stat": cell.query("stat", path="/d/dir")["stat"]}
    for entry in files:
        read = cell.query("get", path=f"/d/{entry['name']}")
        assert entry == {"name": entry["name"], **read}
    cell.do("put", path="/d/n00", contents=bytes(SMALL - 1_000))
    assert pages(cell, "ls", "entries", "name", path="/d", contents=True)[0] == ["dir", "n00"]
    assert joined(pages(cell, "ls", "entries", "name", path="/d", contents=True)) == ["dir", *names]


def test_many_nodes_are_read_at_once_in_the_order_that_was_asked_for() -> None:
    cell, _ = crowd(bound=100_000)
    paths = ["/d/n05", "/none", "/d", "/d/n01/x", "/d/n05"]
    answer = cell.query("get_many", paths=paths)
    file, none, directory, below, again = answer["entries"]
    assert answer["more"] is False and answer["revision"] == cell.machine.revision
    assert file == again == {"path": "/d/n05", **cell.query("get", path="/d/n05")}
    assert (none["path"], none["error"]["code"]) == ("/none", "not_found") and none["error"]["message"]
    assert directory == {"path": "/d", "contents": None, "stat": cell.query("stat", path="/d")["stat"]}
    assert below["error"]["code"] == "not_a_directory"
    stats = cell.query("get_many", paths=paths[:3], contents=False)["entries"]
    assert stats[0] == {"path": "/d/n05", "stat": file["stat"]} and "contents" not in stats[2]


def test_what_does_not_fit_of_many_nodes_is_left_for_the_next_read() -> None:
    cell, names = crowd()
    wanted = [f"/d/{name}" for name in names] + ["/none"] * 5
    left, found = wanted, []
    while left:
        answer = cell.query("get_many", paths=left)
        assert answer["entries"] and len(encode(answer)) <= SMALL
        found += [entry["path"] for entry in answer["entries"]]
        left = left[len(answer["entries"]) :]
        assert answer["more"] is bool(left)
    assert found == wanted


@pytest.mark.parametrize(
    ("paths", "code"), [([], "bad_request"), (["/a"] * 257, "bad_request"), ("/a", "bad_request"), (["a"], "bad_path")]
)
def test_paths_that_are_none_are_refused(paths: object, code: str) -> None:
    with pytest.raises(Refusal) as refused:
        Cell().command("get_many", paths=paths)
    assert refused.value.code == code
    assert len(Cell().command("get_many", paths=["/a"] * 256).arguments["paths"]) == 256  # type: ignore[arg-type]


def test_locks_come_in_pages_by_path() -> None:
    cell = Cell(Limits(answer_bytes=SMALL))
    session = cell.open()
    paths = [f"/l/{number:02}" for number in range(12)]
    for path in reversed(paths):
        cell.acquire(session, path)
    cell.acquire(session, "/other")
    found = pages(cell, "locks", "locks", "path", path="/l")
    assert joined(found) == paths and len(found) > 1
    assert pages(cell, "locks", "locks", "path", path="/l", count=5) == [paths[:5], paths[5:10], paths[10:]]


def test_sessions_come_in_pages_by_age() -> None:
    cell = Cell(Limits(answer_bytes=SMALL))
    sessions = [cell.open(host="h" * 50) for _ in range(15)]
    found = pages(cell, "list_sessions", "sessions", "session")
    assert joined(found) == sessions and len(found) > 1
    assert pages(cell, "list_sessions", "sessions", "session", count=6) == [sessions[:6], sessions[6:12], sessions[12:]]


def test_names_in_other_scripts_are_reckoned_by_their_bytes() -> None:
    cell = Cell()
    top = "/" + "字" * 85 + "/" + "字" * 85
    paths = [f"{top}/{number:03}" + "字" * 83 for number in range(448)]
    session = cell.open()
    for first in range(0, len(paths), 64):
        cell.acquire_all(session, *paths[first : first + 64])
    answers = [
        cell.query("ls", path=top),
        cell.query("get_many", paths=paths[:256]),
        cell.query("get_many", paths=[path + "x" for path in paths[:256]]),
        cell.query("history", path="/", subtree=True, count=1000),
        cell.query("locks", path="/"),
        cell.do("txn", then=[{"do": "ls", "path": top, "count": 120}] * 2),
    ]
    assert [len(encode(answer)) <= cell.limits.answer_bytes for answer in answers] == [True] * len(answers)
    assert cell.refused("txn", then=[{"do": "put", "path": "/a"}, *[{"do": "ls", "path": top}] * 2]).code == "too_large"
    assert not cell.exists("/a")


def test_a_directory_is_sorted_once_and_kept_so_also_in_a_transaction_that_is_refused() -> None:
    cell, names = crowd(bound=100_000)
    children = cell.machine.state.nodes["/d"].children
    assert children is not None
    kept = children.names()
    listing: dict[str, Any] = {"do": "ls", "path": "/d"}
    steps = [
        {"do": "put", "path": "/d/a"},
        listing,
        {"do": "delete", "path": "/d/n05"},
        {"do": "put", "path": "/d/n07x"},
        {"do": "put", "path": "/d/n08", "contents": b"again"},
        listing,
    ]
    later = sorted({"a", "n07x", *names} - {"n05"})
    assert cell.refused("txn", then=[*steps, {"do": "delete", "path": "/nothing"}]).code == "not_found"
    assert children.names() is kept and kept == names
    results = cell.do("txn", then=steps)["results"]
    assert [[entry["name"] for entry in results[at]["entries"]] for at in (1, 5)] == [["a", *names], later]
    cell.do("put", path="/d/z")
    assert children.names() is kept and kept == [*later, "z"]
