"""The story of all nodes, told a second time: every change of the tree, by revision, from what was applied.

What changed is seen by comparing the whole tree with the one before. The machine's own list of changes is replayed
over the one before as well, and has to lead to the present: so it has all changes, no other, each with what was there
before and afterwards, and its cause. Who watches is judged by this story.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from coordclient.protocol.paths import parent_of
from coordd.machine.machine import Machine
from tests.simulation.checkers.witness import Done, StateChecker
from tests.simulation.world import World


class Version(NamedTuple):
    """A node as it was for a while; `contents` None: a directory."""

    instance: int
    content_generation: int
    contents: bytes | None


class Change(NamedTuple):
    """One node was made ("created"), written ("changed") or removed ("deleted")."""

    revision: int
    path: str
    kind: str
    directory: bool
    instance: int
    before: bytes | None
    after: bytes | None
    session: int
    operation: str


class TreeStory(StateChecker):
    """See the module docstring."""

    name = "changes"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.revision = 0
        self.changes: list[Change] = []
        self._machine: Machine | None = None
        self._nodes: dict[str, Version] = {"/": Version(0, 0, None)}
        self._past: dict[str, list[tuple[int, Version | None]]] = {"/": [(0, self._nodes["/"])]}
        self._below: dict[str, dict[str, None]] = {}  # directory -> all that were ever in it

    # ---- what is known ----

    @property
    def present(self) -> Mapping[str, Version]:
        """The tree after the last command."""
        return self._nodes

    def at(self, path: str, revision: int) -> Version | None:
        """What was there when `revision` was the newest."""
        past = self._past.get(path, [])
        place = bisect_right(past, revision, key=lambda row: row[0])
        return past[place - 1][1] if place else None

    def tree_at(self, revision: int) -> Iterator[tuple[str, Version]]:
        """Everything that was there then, by path."""
        for path in sorted(self._past):
            if (version := self.at(path, revision)) is not None:
                yield path, version

    def children(self, path: str, revision: int) -> list[str]:
        """The paths of what was in that directory then, sorted."""
        return sorted(one for one in self._below.get(path, {}) if self.at(one, revision) is not None)

    def place_after(self, revision: int) -> int:
        """Where in `changes` those begin that are newer."""
        return bisect_right(self.changes, revision, key=lambda change: change.revision)

    # ---- what is applied ----

    @property
    def trimmed(self) -> int:
        """Changes up to there may be kept no more."""
        return 0 if self._machine is None else self._machine.changes_after

    def done(self, command: Done, machine: Machine) -> None:
        self._machine = machine
        if machine.revision == self.revision:
            if command.operation == "txn":
                self._compare(command, machine)  # a refused one has left no trace
            return
        if command.operation == "txn" and machine.revision != self.revision + 1:
            raise self.broken(f"a transaction took revisions {self.revision + 1} to {machine.revision}")
        for row in machine.changes_since(self.revision):
            self._replay(command, row)
        self.revision = machine.revision
        self._compare(command, machine)
        self._count(command, machine)

    def _replay(self, command: Done, row: Any) -> None:
        path, before = row.path, self._nodes.get(row.path)
        after = Version(row.instance, row.revision, row.after)
        words = f"{command.operation}: {row.kind} {path} in revision {row.revision}"
        last = self.changes[-1].revision if self.changes else 0
        if not max(self.revision + 1, last) <= row.revision:
            raise self.broken(f"{words} comes after revision {max(self.revision, last)}")
        causes = command.session, command.arguments.get("session", 0)
        if row.operation != command.operation or row.session not in causes:
            raise self.broken(f"{words} is said to come from {row.operation} of session {row.session}")
        if row.before != (before.contents if before is not None else None):
            raise self.broken(f"{words}: before there was {before}, and not {row.before!r}")
        above = self._nodes.get(parent_of(path))
        if above is None or above.contents is not None:
            raise self.broken(f"{words}: there is no directory above")
        match row.kind:
            case "created" if before is None and row.directory == (row.after is None):
                self._nodes[path] = after
            case "changed" if before is not None and row.after is not None and not row.directory:
                if before.instance != row.instance or before.contents is None:
                    raise self.broken(f"{words}: there was {before}")
                self._nodes[path] = after
            case "deleted" if before is not None and row.after is None:
                if before.instance != row.instance or row.directory != (before.contents is None):
                    raise self.broken(f"{words}: there was {before}")
                below = [one for one in self._nodes if one.startswith(f"{path}/")]
                if below:
                    raise self.broken(f"{words}: {below[0]} is still below it")
                del self._nodes[path]
            case _:
                raise self.broken(f"{words}, directory {row.directory}: there was {before}, and now {row.after!r}")
        self._past.setdefault(path, []).append((row.revision, self._nodes.get(path)))
        self._below.setdefault(parent_of(path), {})[path] = None
        self.changes.append(
            Change(
                row.revision,
                path,
                row.kind,
                row.directory,
                row.instance,
                row.before,
                row.after,
                row.session,
                row.operation,
            )
        )

    def _compare(self, command: Done, machine: Machine) -> None:
        """The story leads to the tree that is there."""
        nodes, known = machine.state.nodes, self._nodes
        for path, node in nodes.items():
            version = known.get(path)
            if path == "/":
                continue
            there = (node.instance, node.content_generation, None if node.children is not None else node.contents)
            if version is None or version != there:
                raise self.broken(f"{command.operation}: {path} is {there}; the changes say {version}")
        if len(nodes) != len(known):
            gone = [path for path in known if path not in nodes]
            raise self.broken(f"{command.operation}: {gone} are gone, and no change says so")

    def _count(self, command: Done, machine: Machine) -> None:
        """All are kept that are newer than the machine says."""
        kept = len(machine.state.changes)
        expected = len(self.changes) - self.place_after(machine.changes_after)
        if kept != expected:
            after = machine.changes_after
            raise self.broken(f"{command.operation}: of {expected} changes after {after} the machine has {kept}")


def is_in(scope: str, path: str, changed: str) -> bool:
    """Whether a watch of `path` is told of a change of `changed`."""
    if scope == "node":
        return changed == path
    if scope == "children":
        return changed != "/" and parent_of(changed) == path
    return changed == path or path == "/" or changed.startswith(f"{path}/")
