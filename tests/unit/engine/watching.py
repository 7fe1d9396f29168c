"""A client that watches, and checks by itself what every watcher may rely on."""

from __future__ import annotations

from typing import Any

from tests.unit.engine.cell import Cell, Node


class Watcher:
    """One watch on a channel: `events` in the order they came, `tree` as the last resync and all events since say."""

    _channels = 0

    def __init__(self, cell: Cell, path: str, channel: int | None = None, node: Node | None = None, **fields: Any):
        Watcher._channels += 1
        self.cell = cell
        self.channel = 1_000_000 + Watcher._channels if channel is None else channel
        self.call = Watcher._channels
        self.since = fields.get("since")
        self.request = cell.call("watch", node, {"channel": self.channel, "call": self.call}, path=path, **fields)
        self.seen = 0
        self.revision = -1 if self.since is None else int(self.since)
        self.events: list[dict[str, Any]] = []
        self.resyncs = 0
        self.entries: list[dict[str, Any]] = []
        self._piece = 0
        cell.settle()
        self.look()

    def look(self) -> list[dict[str, Any]]:
        """Take in what has come since; returns the new events. Every rule of a watch is checked on the way."""
        new: list[dict[str, Any]] = []
        bodies = self.cell.pushed.get(self.request, [])
        for body in bodies[self.seen :]:
            if body.get("resync"):
                self._resync(body)
                continue
            revisions = [event["revision"] for event in body["events"]]
            assert revisions == sorted(revisions), "in the order of revisions"
            if self.revision >= 0:
                assert all(revision > self.revision for revision in revisions), "nothing twice"
                assert body["revision"] >= self.revision, "a mark never goes back"
            assert all(revision <= body["revision"] for revision in revisions)
            self.revision = body["revision"]
            new += body["events"]
        self.seen = len(bodies)
        self.events += new
        return new

    def _resync(self, body: dict[str, Any]) -> None:
        if body["piece"] == 0:
            self.entries, self._piece = [], 0
        assert body["piece"] == self._piece, "no piece is missing"
        self._piece += 1
        self.entries += body["entries"]
        if not body["more"]:
            self.resyncs += 1
            self.revision = body["revision"]

    @property
    def answer(self) -> Any:
        """The last answer, if it is over."""
        return self.cell.answers.get(self.request)

    def acknowledge(self, deliveries: int | None = None) -> Any:
        count = len(self.cell.pushed[self.request]) if deliveries is None else deliveries
        return self._about("watched", deliveries=count)

    def end(self) -> Any:
        return self._about("unwatch")

    def _about(self, operation: str, **fields: Any) -> Any:
        return self.cell.do(operation, channel=self.channel, watch=self.call, **fields)


def what(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Kind and path of each."""
    return [(event["kind"], event["path"]) for event in events]
