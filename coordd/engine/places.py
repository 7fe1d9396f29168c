"""The kept changes by place: what has changed at a node, among its children, in a subtree, after some revision.

The replicated state keeps its changes in one row. Here the same changes are found by where they happened: in segments,
each of which has every change of a range of revisions. A segment is dropped as a whole when the state keeps nothing of
it any more; what is older than all of them is looked up in the state when somebody asks for it, a segment at a time.
Nothing is copied: memory is a few references for each change that the state keeps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from coordclient.protocol.paths import parent_of
from coordd.machine.machine import Machine
from coordd.machine.state import Change

SEGMENT_CHANGES = 512  # a segment is closed at so many
SEGMENT_BYTES = 512 * 1024  # or at so many bytes of contents, because it holds them for as long as it lives

Place = dict[str, list[Change]]


class _Segment:
    """All changes of revisions after `after`, up to `upto`, by scope and path."""

    __slots__ = ("after", "bytes", "count", "scopes", "upto")

    def __init__(self, after: int) -> None:
        self.after = self.upto = after
        self.count = self.bytes = 0
        self.scopes: dict[str, Place] = {"node": {}, "children": {}, "subtree": {}}

    def add(self, change: Change) -> None:
        """One more, in order."""
        path = change.path
        self.upto = change.revision
        self.count += 1
        self.bytes += len(change.before or b"") + len(change.after or b"")
        above = lineage(path)
        scopes = self.scopes
        subtree = scopes["subtree"]
        _put(scopes["node"], path, change)
        _put(scopes["children"], above[0], change)
        _put(subtree, path, change)
        for directory in above:
            _put(subtree, directory, change)


def _put(place: Place, path: str, change: Change) -> None:
    listed = place.get(path)
    if listed is None:
        place[path] = [change]
    else:
        listed.append(change)


def lineage(path: str) -> list[str]:
    """The directories above `path`, the nearest first."""
    above: list[str] = []
    while path != "/":
        path = parent_of(path)
        above.append(path)
    return above


class Places:
    """See the module docstring. Begins at `revision` with nothing; `upto`: every change up to there is known here, that
    is after `floor`.
    """

    def __init__(self, revision: int) -> None:
        self.upto = revision
        self._segments: deque[_Segment] = deque([_Segment(revision)])

    @property
    def floor(self) -> int:
        """Changes up to here are not known."""
        return self._segments[0].after

    def follow(self, machine: Machine) -> Sequence[Change] | None:
        """Take in what is new; returns it. None: some of it came and went unseen, and everything here begins anew."""
        after = machine.changes_after
        if after > self.upto:
            self.upto = machine.revision
            self._segments = deque([_Segment(machine.revision)])
            return None
        segments = self._segments
        new = machine.changes_since(self.upto)
        if new:
            last = segments[-1]
            if last.count >= SEGMENT_CHANGES or last.bytes >= SEGMENT_BYTES:
                last = _Segment(self.upto)
                segments.append(last)
            for change in new:
                last.add(change)
        self.upto = segments[-1].upto = machine.revision
        while len(segments) > 1 and segments[0].upto <= after:
            segments.popleft()
        return new

    def reach_back(self, machine: Machine) -> None:
        """Make one more segment of what the state still keeps from before `floor`."""
        floor = self.floor
        older = [change for change in machine.changes_since(machine.changes_after) if change.revision <= floor]
        first = max(0, len(older) - SEGMENT_CHANGES)
        while first and older[first - 1].revision == older[first].revision:
            first -= 1
        segment = _Segment(older[first - 1].revision if first else machine.changes_after)
        for change in older[first:]:
            segment.add(change)
        segment.upto = floor
        self._segments.appendleft(segment)

    def after(self, scope: str, path: str, revision: int) -> Sequence[Change]:
        """The changes of that place with a larger revision, in order; `revision` is not below `floor`."""
        assert revision >= self.floor, "reach back first"
        found: list[list[Change]] = []
        for segment in reversed(self._segments):
            if segment.upto <= revision:
                break
            listed = segment.scopes[scope].get(path)
            if listed is not None:
                whole = listed[0].revision > revision
                found.append(listed if whole else [change for change in listed if change.revision > revision])
        if not found:
            return ()
        found.reverse()
        return found[0] if len(found) == 1 else [change for part in found for change in part]
