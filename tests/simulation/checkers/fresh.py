"""Reads are never older than what anybody knew before they were asked, whoever answers them: a master, or a cache.

The cell has one order, that of its revisions. Who was told of a revision before a read was asked for has seen the state
of that revision; so what the read tells must be the state at that revision or a later one, as the story of the tree has
it. This goes for contents, stats, listings and absence alike, of any path, however it changes.
"""

from __future__ import annotations

from typing import NamedTuple

from coordclient.protocol.paths import name_of, parent_of
from tests.simulation.checkers.panel import Checker
from tests.simulation.checkers.tree import TreeStory
from tests.simulation.world import World


class Look(NamedTuple):
    """What was seen of a node. `contents` None: not asked for, or a directory."""

    kind: str
    instance: int
    content_generation: int
    children: int
    contents: bytes | None = None


Seen = Look | tuple[tuple[str, Look], ...] | None  # a node, a listing, or nothing


class Fresh(Checker):
    """See the module docstring."""

    name = "stale read"

    def __init__(self, world: World, tree: TreeStory) -> None:
        super().__init__(world)
        self._tree = tree
        self.told = 0  # the highest revision that anybody was told of
        self.reads = 0

    def saw(self, revision: int) -> None:
        """An answer tells of this revision."""
        self.told = max(self.told, revision)

    def read(self, who: str, what: str, path: str, seen: Seen, known: int) -> None:
        """`what` ("get", "stat" or "ls") of `path` is answered; `known` is what `told` was when it was asked."""
        self.reads += 1
        place = self._tree.place_after(known)
        moments = [known, *(one.revision for one in self._tree.changes[place:] if _matters(what, path, one.path))]
        for revision in moments:
            if self._shown(what, path, revision) == seen:
                self.saw(revision)
                return
        raise self.broken(
            f"{who}: {what} {path} tells {seen}; at revision {known}, which was known before, it was"
            f" {self._shown(what, path, known)}, and now it is {self._shown(what, path, moments[-1])}"
        )

    def _shown(self, what: str, path: str, revision: int) -> Seen:
        if what != "ls":
            return self._look(path, revision, contents=what == "get")
        if self._tree.at(path, revision) is None:
            return None
        return tuple(
            (name_of(child), look)
            for child in self._tree.children(path, revision)
            if (look := self._look(child, revision, contents=False)) is not None
        )

    def _look(self, path: str, revision: int, *, contents: bool) -> Look | None:
        node = self._tree.at(path, revision)
        if node is None:
            return None
        if node.contents is not None:
            return Look("file", node.instance, node.content_generation, 0, node.contents if contents else None)
        children = len(self._tree.children(path, revision))
        return Look("directory", node.instance, node.content_generation, children)


def _matters(what: str, path: str, changed: str) -> bool:
    """Whether what is told may change with that path."""
    if changed == path or changed == "/":
        return True
    above = parent_of(changed)
    return above == path or (what == "ls" and above != "/" and parent_of(above) == path)
