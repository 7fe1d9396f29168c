"""What watchers are told, as bodies that go out as they are: events in whole revisions, marks, and what there is.

Sizes are reckoned, never below what the encoded body has by much: no delivery is larger than a frame holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from coordd.machine.reading import ENTRY_BYTES, ROW_BYTES, describe
from coordd.machine.state import Change, Node, text_bytes

DELIVERY_BYTES = 64 * 1024  # one delivery ends with the revision that reaches so many
DELIVERY_EVENTS = 256  # or so many events
ANSWER_BYTES_MAX = 448 * 1024  # of one revision, which is never cut


class Delivery(NamedTuple):
    """`upto`: the revision up to which everything was told with it; `size` and `events` count against windows."""

    body: dict[str, object]
    upto: int
    size: int
    events: int


def mark(upto: int) -> Delivery:
    """Nothing has changed there up to that revision."""
    return Delivery({"revision": upto, "events": []}, upto, 0, 0)


def events(changes: Sequence[Change], values: str, upto: int) -> Delivery | None:
    """The first of these changes, whole revisions, as many as one delivery takes; `upto` where these are all.

    None: one revision alone does not fit into an answer.
    """
    size, taken = 0, 0
    while taken < len(changes) and size < DELIVERY_BYTES and taken < DELIVERY_EVENTS:
        revision = changes[taken].revision
        while taken < len(changes) and changes[taken].revision == revision:
            size += _row_bytes(changes[taken], values)
            taken += 1
            if size > ANSWER_BYTES_MAX:
                return _all_but_last(changes, values, revision)
    if taken < len(changes):
        upto = changes[taken - 1].revision
    rows = [_row(change, values) for change in changes[:taken]]
    return Delivery({"revision": upto, "events": rows}, upto, size, taken)


def _all_but_last(changes: Sequence[Change], values: str, revision: int) -> Delivery | None:
    """What comes before a revision that has no room in the same delivery."""
    before = [change for change in changes if change.revision < revision]
    return events(before, values, before[-1].revision) if before else None


def _row(change: Change, values: str) -> dict[str, object]:
    row = describe(change)
    if values == "both":
        row["before"] = change.before
    if values != "none":
        row["after"] = change.after
    return row


def _row_bytes(change: Change, values: str) -> int:
    size = ROW_BYTES + text_bytes(change.path) + text_bytes(change.principal)
    if values == "both" and change.before:
        size += len(change.before)
    if values != "none" and change.after:
        size += len(change.after)
    return size


# ---- what there is ----


class Glance(NamedTuple):
    """A node as it was at one moment, without its lock; contents are shared with the state, not copied."""

    path: str
    directory: bool
    instance: int
    content_generation: int
    acl_generation: int
    revision: int
    checksum: str | None
    created_ms: int
    modified_ms: int
    owner: str
    ephemeral: bool
    children: int
    contents: bytes


def glance(node: Node) -> Glance:
    """The node as it is now."""
    children = node.children
    return Glance(
        node.path,
        children is not None,
        node.instance,
        node.content_generation,
        node.acl_generation,
        node.revision,
        node.checksum,
        node.created_ms,
        node.modified_ms,
        node.owner,
        node.openers is not None,
        0 if children is None else len(children),
        node.contents,
    )


def entry(seen: Glance, values: str) -> dict[str, object]:
    """The row of a resync; `lock_generation` is None, for locks change without a change of the node."""
    stat = {
        "path": seen.path,
        "kind": "directory" if seen.directory else "file",
        "instance": seen.instance,
        "content_generation": seen.content_generation,
        "lock_generation": None,
        "acl_generation": seen.acl_generation,
        "revision": seen.revision,
        "checksum": seen.checksum,
        "size": len(seen.contents),
        "created_ms": seen.created_ms,
        "modified_ms": seen.modified_ms,
        "owner": seen.owner,
        "ephemeral": seen.ephemeral,
        "children": seen.children,
    }
    found: dict[str, object] = {"path": seen.path, "stat": stat}
    if values != "none" and not seen.directory:
        found["contents"] = seen.contents
    return found


def entry_bytes(seen: Glance, values: str) -> int:
    """At least about what `entry` has, encoded."""
    size = ENTRY_BYTES + 2 * text_bytes(seen.path) + text_bytes(seen.owner)
    return size if values == "none" else size + len(seen.contents)
