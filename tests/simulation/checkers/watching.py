"""What watchers were told, against the story of the tree: in order, without gaps, nothing twice, whole revisions.

A `Following` is one watch as its application sees it, over every channel and every master. It moves through the story
as it is told events: the next event must be the next change of what is watched. What is said of a revision (all up to
it has been told) must be true, and a resync must be the state of exactly its revision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.simulation.checkers.fresh import Fresh
from tests.simulation.checkers.panel import Checker
from tests.simulation.checkers.tree import Change, TreeStory, Version, is_in
from tests.simulation.world import World


@dataclass(frozen=True, slots=True)
class Told:
    """An event as a watcher was told it. `before` and `after` are None where they were not asked for."""

    revision: int
    path: str
    kind: str
    directory: bool
    instance: int
    before: bytes | None
    after: bytes | None
    session: int
    operation: str


class Watching(Checker):
    """See the module docstring."""

    name = "watches"

    def __init__(self, world: World, tree: TreeStory, fresh: Fresh) -> None:
        super().__init__(world)
        self.tree = tree
        self.fresh = fresh
        self.events = self.resyncs = self.registered = 0

    def follow(self, who: str, path: str, scope: str, values: str, since: int | None) -> Following:
        """Somebody asks for a watch, now."""
        return Following(self, who, path, scope, values, since)


class Following:
    """One watch; see the module docstring."""

    def __init__(self, watching: Watching, who: str, path: str, scope: str, values: str, since: int | None) -> None:
        self._watching = watching
        self._tree = watching.tree
        self.who, self.path, self.scope, self.values = who, path, scope, values
        self.since = since  # what it asked for; None: now
        self._known = watching.fresh.told  # a revision that somebody was told of before the watch was asked for
        self._place = 0  # in the tree's changes: everything before it is told, or not watched
        self.revision: int | None = None  # all up to it is told; None: the beginning is not

    def __str__(self) -> str:
        return f"{self.who} ({self.scope} {self.path}, told up to {self.revision})"

    # ---- what the watcher hears ----

    def begins(self, revision: int, *, clocks_kept: bool) -> None:
        """It is told where it begins: after the revision that it named, or at the present of some moment since."""
        self._watching.registered += 1
        since = self.since
        if since is not None and revision < since:
            raise self._wrong(f"asked for all after {since}, and begins at {revision}")
        if since is None and revision < self._known and clocks_kept:
            raise self._wrong(f"begins at {revision}, though revision {self._known} was acknowledged before")
        self.revision = revision if since is None else since
        self._place = self._tree.place_after(self.revision)
        self.upto(revision)

    def event(self, told: Told) -> None:
        """One event."""
        change = self._next()
        if change is None:
            raise self._wrong(f"is told {told}, which has not happened, or was told before")
        if told != self._as_told(change):
            raise self._wrong(f"is told {told}; the next change is {self._as_told(change)}")
        self._place += 1
        self._watching.events += 1
        self._watching.fresh.saw(told.revision)  # a read that follows sees it, or something newer

    def upto(self, revision: int) -> None:
        """It is told that everything up to `revision` was told."""
        if self.revision is not None and revision < self.revision:
            raise self._wrong(f"goes back to revision {revision}")
        if revision > self._tree.revision:
            raise self._wrong(f"is at revision {revision}, and the cell at {self._tree.revision}")
        change = self._next()
        if change is not None and change.revision <= revision:
            raise self._wrong(f"is at revision {revision}, and was never told {self._as_told(change)}")
        self.revision = revision

    def whole(self, revision: int) -> None:
        """What was told of `revision` is all of it."""
        change = self._next()
        if change is not None and change.revision <= revision:
            raise self._wrong(f"was told of revision {revision} as of a whole one, without {self._as_told(change)}")

    def resync(self, revision: int, entries: Mapping[str, Version]) -> None:
        """It is told what there is, instead of what has changed."""
        self._watching.resyncs += 1
        if self.revision is not None and revision < self.revision:
            raise self._wrong(f"is set back to revision {revision}")
        if revision > self._tree.revision:
            raise self._wrong(f"has the state of revision {revision}, and the cell is at {self._tree.revision}")
        after = self.since if self.revision is None else self.revision
        if after is None or self._tree.trimmed <= after <= self._tree.revision:
            raise self._wrong(f"is set to revision {revision}, though all changes after {self._tree.trimmed} are kept")
        expected = dict(self._state_at(revision))
        shown = dict(entries)
        if self.values == "none":
            expected = {path: _without_contents(version) for path, version in expected.items()}
            shown = {path: _without_contents(version) for path, version in shown.items()}
        for path in sorted(expected.keys() | shown.keys()):
            if expected.get(path) != shown.get(path):
                raise self._wrong(
                    f"has the state of revision {revision}: {path} {shown.get(path)}; it was {expected.get(path)}"
                )
        self._place = self._tree.place_after(revision)
        self.revision = revision

    # ---- what it has to hear ----

    def waits_for(self) -> Change | None:
        """What it has still to be told, if anything."""
        return self._next()

    def _next(self) -> Change | None:
        changes = self._tree.changes
        while self._place < len(changes):
            change = changes[self._place]
            if is_in(self.scope, self.path, change.path):
                return change
            self._place += 1
        return None

    def _state_at(self, revision: int) -> Sequence[tuple[str, Version]]:
        return [(path, version) for path, version in self._tree.tree_at(revision) if is_in(self.scope, self.path, path)]

    def _as_told(self, change: Change) -> Told:
        before = change.before if self.values == "both" else None
        after = change.after if self.values in ("new", "both") else None
        return Told(
            change.revision,
            change.path,
            change.kind,
            change.directory,
            change.instance,
            before,
            after,
            change.session,
            change.operation,
        )

    def _wrong(self, text: str) -> Exception:
        return self._watching.broken(f"{self} {text}")


def _without_contents(version: Version) -> Version:
    return version._replace(contents=None if version.contents is None else b"")
