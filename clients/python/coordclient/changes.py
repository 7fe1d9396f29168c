"""PURE. What the library tells of changes: events and resyncs of a watch, rows of a history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from coordclient.errors import InternalError
from coordclient.values import Stat, stat_of


class Event(NamedTuple):
    """One change of one node. `kind`: created, changed or deleted. `before` and `after` are contents, where the watch
    asked for them and there was or is a file; `size` and `checksum` are those after it. `session` (0: none) and
    `principal` made it, by `operation`, at `at_ms` (the master's wall clock, for people). All events with one
    `revision` happened at once."""

    revision: int
    path: str
    kind: str
    directory: bool
    instance: int
    before: bytes | None
    after: bytes | None
    session: int
    principal: str
    at_ms: int
    operation: str
    size: int = 0
    checksum: str | None = None


class Node(NamedTuple):
    """One node of a resync; `contents`: where the watch asked for them and it is a file."""

    path: str
    stat: Stat
    contents: bytes | None = None


class Resync(NamedTuple):
    """The whole state of what is watched, of one revision: everything before is to be forgotten. It comes when the
    cell's history did not reach back to what the watch had seen, or the watch was too slow."""

    revision: int
    entries: tuple[Node, ...]


class Change(NamedTuple):
    """One row of a history: as `Event`, without contents; `size` and `checksum` are those after the change (`checksum`
    None: there is no file then)."""

    revision: int
    path: str
    kind: str
    directory: bool
    instance: int
    size: int
    checksum: str | None
    session: int
    principal: str
    at_ms: int
    operation: str


class History(NamedTuple):
    """Changes, newest first, as of `revision`. Older ones than after `complete_after` may be missing; `more`: there are
    further ones than were asked for."""

    revision: int
    complete_after: int
    changes: tuple[Change, ...]
    more: bool


def event_of(wire: Mapping[str, Any]) -> Event:
    """One event of a delivery."""
    try:
        return Event(
            wire["revision"],
            wire["path"],
            wire["kind"],
            wire["directory"],
            wire["instance"],
            wire.get("before"),
            wire.get("after"),
            wire["session"],
            wire["principal"],
            wire["at_ms"],
            wire["operation"],
            wire.get("size") or 0,
            wire.get("checksum"),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise malformed("event", error) from None


def node_of(wire: Mapping[str, Any]) -> Node:
    """One entry of a resync."""
    try:
        return Node(wire["path"], stat_of(wire["stat"]), wire.get("contents"))
    except (KeyError, TypeError, AttributeError) as error:
        raise malformed("entry", error) from None


def history_of(wire: Mapping[str, Any]) -> History:
    """The answer to `history`."""
    try:
        changes = tuple(Change._make([row[name] for name in Change._fields]) for row in wire["changes"])
        return History(wire["revision"], wire["complete_after"], changes, wire["more"])
    except (KeyError, TypeError) as error:
        raise malformed("history", error) from None


def malformed(what: str, error: Exception) -> InternalError:
    """What came from the cell makes no sense."""
    return InternalError(f"the cell's answer holds no usable {what}: {type(error).__name__}: {error}")
