"""A client with a cache, for tests of the engine: what it keeps and believes; it acknowledges when a test says so."""

from __future__ import annotations

from typing import Any

from coordclient.protocol.errors import Refusal
from coordd.engine.inputs import Gone
from coordd.paxos.lease import ROUNDING_MS
from tests.unit.engine.cell import Cell, Client


class Reader:
    """Keeps what `get` shows; believes in it until its lease is over, counted from the sending, less the drift."""

    def __init__(self, cell: Cell, client: Client | None = None) -> None:
        self.cell = cell
        self.client = client or cell.open()
        self.kept: dict[str, bytes | None] = {}
        self.until_ms = 0
        self.asked = 0
        self.seen = 0  # pushes that were taken in
        self.open()

    def open(self) -> None:
        self.queue = self.client.call("cache")
        self.cell.settle()
        assert self.pushes()[0]["invalidate"] == [], "the queue is open"
        self.seen = 1

    def attach(self) -> None:
        """A new channel; the old one is gone, and with it all that was kept."""
        self.gone()
        self.kept.clear()
        self.until_ms = 0
        self.client.attach()
        self.open()

    def gone(self) -> None:
        self.cell.master().inbox.append(Gone((self.queue,)))
        self.cell.settle()

    def pushes(self) -> list[dict[str, Any]]:
        return self.cell.pushed.get(self.queue, [])

    def get(self, path: str) -> bytes | None:
        """Read from the cell, and keep it where that is allowed; the contents, None for nothing."""
        answer = self.client.do("get", path=path, cache=True)
        return self.keep(path, answer)

    def keep(self, path: str, answer: Any) -> bytes | None:
        if isinstance(answer, Refusal):
            assert answer.code == "not_found", answer
            contents, number = None, answer.details.get("cached")
        else:
            contents, number = answer["contents"], answer.get("cached")
        if number is not None:
            self.kept[path] = contents
        return contents

    def lease(self) -> int:
        """Ask for a lease; the request."""
        self.asked += 1
        sent_ms = self.cell.now_ms
        request = self.client.send("cache_lease", number=self.asked)
        self.cell.settle()
        answer = self.cell.answers.get(request)
        if answer is not None:
            self.take_lease(answer, sent_ms)
        return request

    def take_lease(self, answer: Any, sent_ms: int) -> None:
        assert isinstance(answer, dict) and answer["number"] == self.asked
        if answer["drop"]:
            self.kept.clear()
        if answer["lease_ms"]:
            self.until_ms = sent_ms + answer["lease_ms"] * 99 // 100 - ROUNDING_MS

    def holds(self, path: str) -> bool:
        """Whether it would answer a read of this path by itself now."""
        return path in self.kept and self.cell.now_ms < self.until_ms

    def invalidated(self) -> list[str]:
        """Take in what was pushed since, without saying so: the paths."""
        paths: list[str] = []
        for body in self.pushes()[self.seen :]:
            paths += self.kept if body["invalidate"] is None else body["invalidate"]
        self.seen = len(self.pushes())
        for path in paths:
            self.kept.pop(path, None)
        return paths

    def acknowledge(self) -> list[str]:
        """Take in and say so."""
        paths = self.invalidated()
        self.client.send("invalidated", number=self.pushes()[-1]["number"])
        self.cell.settle()
        return paths


def reader_of(cell: Cell, *paths: str, client: Client | None = None) -> Reader:
    """One that keeps these paths under a running lease."""
    reader = Reader(cell, client)
    reader.lease()
    cell.settle()
    if not reader.until_ms:
        reader.lease()
    for path in paths:
        reader.get(path)
        assert reader.holds(path)
    return reader


def written(cell: Cell, path: str = "/a", contents: bytes = b"old") -> Client:
    """Somebody else, who has written that."""
    writer = cell.open()
    writer.do("put", path=path, contents=contents)
    return writer
