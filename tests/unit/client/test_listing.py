"""What does not fit into one answer is asked for until all is there, and an answer that makes no sense is named."""

from __future__ import annotations

from typing import Any

import pytest

from coordclient import InternalError, IsADirectory, NotFound
from coordclient.aio.listing import PATHS_MAX, list_pages, read_many, rows_of
from tests.unit.client.test_watching import STAT


class Cell:
    """Stands for the keeper: answers each call as the test says, and remembers what was asked."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    async def call(self, operation: str, arguments: dict[str, Any], life: Any = None) -> dict[str, Any]:
        self.asked.append(dict(arguments))
        return self.answers.pop(0)

    async def ask(self, page: dict[str, Any]) -> dict[str, Any]:
        return await self.call("ls", page)


def entries(*names: str, more: bool = False) -> dict[str, Any]:
    return {"entries": [{"name": name, "stat": STAT} for name in names], "more": more}


async def test_a_listing_goes_on_after_the_last_name_of_each_page():
    cell = Cell(entries("a", "b", more=True), entries("c"))
    assert [entry.name for entry in await list_pages(cell.ask, {"path": "/"}, True)] == ["a", "b", "c"]
    assert cell.asked == [{"path": "/", "contents": True}, {"path": "/", "contents": True, "after": "b"}]


async def test_no_more_are_asked_for_than_are_wanted():
    cell = Cell(entries("c", "d", more=True), entries("e", more=True))
    assert len(await list_pages(cell.ask, {"path": "/"}, False, "b", 3)) == 3
    assert cell.asked == [{"path": "/", "after": "b", "count": 3}, {"path": "/", "after": "d", "count": 1}]


async def test_rows_go_on_after_the_last_key():
    cell = Cell({"sessions": [{"session": 3}, {"session": 5}], "more": True}, {"sessions": [{"session": 9}]})
    rows = await rows_of(cell, "list_sessions", {}, "sessions", "session")  # type: ignore[arg-type]
    assert [row["session"] for row in rows] == [3, 5, 9]
    assert cell.asked == [{}, {"after": 5}]


async def test_many_paths_are_asked_for_in_parts_and_what_did_not_fit_again():
    paths = [f"/{number}" for number in range(PATHS_MAX + 2)]
    file = {"stat": STAT, "contents": b"x"}
    cell = Cell({"entries": [file] * 200}, {"entries": [file] * 58})
    found = await read_many(cell, [*paths, "/0"])  # type: ignore[arg-type]
    assert list(found) == paths
    assert [asked["paths"] for asked in cell.asked] == [paths[:PATHS_MAX], paths[200:]]


async def test_each_path_has_its_file_or_its_error():
    error = {"error": {"code": "not_found", "message": "no node"}}
    cell = Cell({"entries": [error, {"stat": {**STAT, "kind": "directory"}, "contents": None}]})
    found = await read_many(cell, ["/a", "/d"])  # type: ignore[arg-type]
    assert isinstance(found["/a"], NotFound) and isinstance(found["/d"], IsADirectory)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"entries": []},
        {"entries": [1]},
        {"entries": [{"stat": STAT}]},
        {"entries": [{"stat": {}, "contents": b""}]},
        {"entries": [{"stat": STAT, "contents": b""}] * 2},
    ],
)
async def test_an_answer_that_makes_no_sense_is_named(answer):
    with pytest.raises(InternalError):
        await read_many(Cell(answer), ["/a"])  # type: ignore[arg-type]


async def test_a_page_without_an_entry_that_promises_more_ends_the_asking():
    with pytest.raises(InternalError):
        await list_pages(Cell(entries(more=True)).ask, {}, False)
    with pytest.raises(InternalError):
        await rows_of(Cell({"locks": [], "more": True}), "locks", {}, "locks", "path")  # type: ignore[arg-type]
