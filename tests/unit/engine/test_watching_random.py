"""Whatever comes together (small windows, channels that stop, resyncs, words that come late): a program that follows a
place knows in the end what is there, and on the way was told every change once."""

from __future__ import annotations

import random
from typing import Any

import pytest

from coordclient.changes import Event, Resync
from coordclient.watching import Delivery, Watching
from coordd.engine import deliveries, places, resyncing, resyncs, watches
from coordd.engine.inputs import Congested
from coordd.machine.limits import Limits
from coordd.machine.machine import Machine
from tests.unit.engine import cell as cells
from tests.unit.engine.cell import Cell

FILES = ("/a", "/d/x", "/d/y", "/d/s/t", "/d/s/u")
PLACES = ("/", "/a", "/d", "/d/s", "/d/s/t")
CHANNELS = (1_001, 1_002)


class Follower:
    """A program with the library's own rules. `tree`: what is at its place, from its first resync on."""

    def __init__(self, cell: Cell, chance: random.Random, number: int, place: tuple[str, str]) -> None:
        self.cell, self.channel = cell, chance.choice(CHANNELS)
        self.path, self.scope = place
        self.watching = Watching(self.path, self.scope, chance.choice((None, 0, 10**6)), "both")
        self.tree: dict[str, bytes | None] | None = None
        self._call = number
        self.register()

    def register(self) -> None:
        """Anew, where it is now."""
        self._call += 1_000
        self._request = self.cell.call("watch", channel=self.channel, call=self._call, **self.watching.register())  # type: ignore[arg-type]
        self._seen = 0

    def leave(self) -> None:
        """Give the registration up, having received what has come."""
        self.follow(takes=False)
        self.cell.do("unwatch", channel=self.channel, watch=self._call)
        self.follow(takes=False)

    def follow(self, takes: bool) -> bool:
        """Receive what has come, take it perhaps, and acknowledge lazily; whether anything had come."""
        bodies = self.cell.pushed.get(self._request, [])[self._seen :]
        for body in bodies:
            self.watching.received(Delivery(body))
        self._seen += len(bodies)
        while takes and (item := self.watching.take()) is not None:
            self._take(item)
        if self.watching.due:
            deliveries = self.watching.acknowledge()
            self.cell.call("watched", channel=self.channel, watch=self._call, deliveries=deliveries)
        return bool(bodies)

    def _take(self, item: Event | Resync) -> None:
        if isinstance(item, Resync):
            self.tree = {node.path: node.contents for node in item.entries}
        elif self.tree is not None:
            assert (item.path in self.tree) == (item.kind != "created") and self.tree.pop(
                item.path, None
            ) == item.before
            if item.kind != "deleted":
                self.tree[item.path] = item.after

    def there(self, machine: Machine) -> dict[str, bytes | None]:
        """What is at its place."""
        nodes = machine.state.nodes
        top = self.path.rstrip("/") + "/"
        inside = {
            "node": lambda path: path == self.path,
            "children": lambda path: path != "/" and path.startswith(top) and "/" not in path[len(top) :],
            "subtree": lambda path: path == self.path or path.startswith(top),
        }[self.scope]
        return {
            path: None if node.children is not None else node.contents for path, node in nodes.items() if inside(path)
        }


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Bounds drawn by chance, small ones among them."""

    def draw(chance: random.Random) -> None:
        for module, name, numbers in (
            (watches, "LOOKS_PER_STEP", (1, 3, 128)),
            (watches, "BYTES_PER_STEP", (1, 50_000, 1_000_000)),
            (places, "SEGMENT_CHANGES", (1, 3, 512)),
            (resyncs, "NODES_PER_TURN", (1, 3, 400)),
            (resyncs, "PIECES_KEPT", (1, 8)),
            (resyncs, "DELIVERY_BYTES", (1_000, 65_536)),
            (resyncing, "RESYNCS_MAX", (1, 8)),
            (deliveries, "DELIVERY_EVENTS", (1, 3, 256)),
        ):
            monkeypatch.setattr(module, name, chance.choice(numbers))
        limits = Limits(changes=chance.choice((5, 20, 10_000)))
        monkeypatch.setattr(cells, "Machine", lambda name: Machine(name, limits))

    return draw


def settle(cell: Cell, followers: list[Follower]) -> None:
    """Until nothing more comes to anybody."""
    cell.settle()
    while sum(follower.follow(takes=True) for follower in followers):
        cell.settle()


@pytest.mark.parametrize("seed", range(12))
def test_over_any_windows_channels_and_resyncs_everything_is_told_once(narrow: Any, seed: int):
    chance = random.Random(seed)
    narrow(chance)
    cell = Cell()
    node = cell.master()
    shared = [(chance.choice(PLACES), chance.choice(("node", "children", "subtree"))) for _ in range(3)]
    followers = [Follower(cell, chance, number, chance.choice(shared)) for number in range(7)]
    full: set[int] = set()
    for _ in range(40):
        for _ in range(chance.randrange(6)):
            path, contents = chance.choice(FILES), chance.randbytes(3) * chance.choice((1, 20_000))
            if chance.random() < 0.3:
                cell.call("delete", path=path)
            else:
                cell.call("put", path=path, contents=contents, parents=True)
        if chance.random() < 0.2:
            channel = chance.choice(CHANNELS)
            full ^= {channel}
            node.inbox.append(Congested(channel, channel in full))
        if chance.random() < 0.1:
            follower = chance.choice(followers)
            follower.leave()
            follower.register()
        node.step()
        node.sync()
        for follower in followers:
            follower.follow(takes=chance.random() < 0.5)
    node.inbox += [Congested(channel, False) for channel in CHANNELS]
    settle(cell, followers)
    cell.run(resyncing.STUCK_MS + 100)
    settle(cell, followers)
    cell.do("put", path="/elsewhere", contents=b"")
    cell.run(watches.MARK_MS + 100)
    settle(cell, followers)
    machine, mine = node.engine.machine, node.engine._watches
    for follower in followers:
        assert follower.watching.revision == machine.revision, "nobody stands still"
        assert follower.tree is None or follower.tree == follower.there(machine)
    assert not (mine._resyncs._wanting or mine._resyncs._running or mine._queue) and len(mine) == len(followers)
