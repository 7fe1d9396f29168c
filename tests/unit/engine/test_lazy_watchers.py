"""The master's windows and the library's lazy acknowledgements: whatever is watched, neither waits for the other."""

from __future__ import annotations

from typing import Any

import pytest

from coordclient.changes import Event, Resync
from coordclient.watching import Delivery, Watching
from tests.unit.engine.cell import Cell

NAMES = {
    "short": "x" * 8,
    "long": "x" * 250,
    "umlaut": "ü" + "x" * 70,
    "wide": "字" * 80,
    "deep": "字字/" * 20 + "字" * 80,
}
names = pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)


class Follower:
    """A program that takes everything in at once, with the library's own rules."""

    def __init__(self, cell: Cell, path: str, since: int, values: str) -> None:
        self.cell = cell
        self.given: list[Event | Resync] = []
        self._watching = Watching(path, "subtree", since, values)
        arguments: dict[str, Any] = self._watching.register()
        self._request = cell.call("watch", channel=5, call=1, **arguments)
        self._seen = 0
        self.follow()

    def follow(self) -> None:
        """Until nothing more comes."""
        self.cell.settle()
        bodies = self.cell.pushed[self._request]
        while self._seen < len(bodies):
            body = bodies[self._seen]
            self._seen += 1
            self._watching.received(Delivery(body))
            while (item := self._watching.take()) is not None:
                self.given.append(item)
            if self._watching.due:
                self.cell.do("watched", channel=5, watch=1, deliveries=self._watching.acknowledge())


def written(cell: Cell, name: str, count: int, size: int = 0) -> list[str]:
    """So many files of that name, with a number at its end."""
    for number in range(count):
        cell.call("put", path=f"/d/{name}{number}", contents=bytes(size), parents=True)
    cell.settle()
    return [f"/d/{name}{number}" for number in range(count)]


@pytest.mark.parametrize("size", [0, 500])
@names
def test_a_resync_comes_to_its_end_whatever_the_names(name: str, size: int):
    cell = Cell()
    files = written(cell, name, 500, size)
    follower = Follower(cell, "/d", 10**9, "new")
    [resync] = follower.given
    assert isinstance(resync, Resync)
    assert sorted(node.path for node in resync.entries if node.stat.kind == "file") == sorted(files)
    assert all(node.contents == bytes(size) for node in resync.entries if node.stat.kind == "file")


@pytest.mark.parametrize("values", ["none", "both"])
@names
def test_all_events_come_whatever_the_names(name: str, values: str):
    cell = Cell()
    follower = Follower(cell, "/d", 0, values)
    files = written(cell, name, 1_500, 10)
    follower.follow()
    seen = [item.path for item in follower.given if isinstance(item, Event) and not item.directory]
    assert seen == files
