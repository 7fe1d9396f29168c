"""Changes: each node made, written or removed is remembered for a while, in the order of revisions. Watches live on it.

Whatever makes, writes or removes a node records it (`namespace`), whichever command it was: a put, the acquire that
made a file, the end of a session that takes an ephemeral with it. What happens to locks is no change. A node changes at
most once in a revision.

Bounded by number and bytes: at the end of each batch `trim` drops the oldest, whole revisions at a time, and
`State.changes_after` says up to where. So a batch alone can push out everything, its own changes too.
"""

from __future__ import annotations

from collections.abc import Sequence

from coordd.machine.state import Change, Node, State

CHANGE_BYTES = 160  # of one change, without its path and contents

Mark = tuple[int, int]
_new = tuple.__new__  # half the time of the constructor, and each put makes one


def record(state: State, node: Node, kind: str, before: bytes | None, after: bytes | None) -> None:
    """The node is made, written or removed in the present revision."""
    session, principal, operation = state.by
    fields = (
        state.revision,
        node.path,
        kind,
        node.children is not None,
        node.instance,
        before,
        after,
        session,
        principal,
        state.wall_ms,
        operation,
    )
    change = _new(Change, fields)
    state.changes.append(change)
    state.changes_bytes += change_bytes(change)


def change_bytes(change: Change) -> int:
    """What a change counts against `Limits.changes_bytes`."""
    _, path, _, _, _, before, after, _, _, _, _ = change
    size = CHANGE_BYTES + len(path)
    if before:
        size += len(before)
    return size + len(after) if after else size


def caused_by(state: State, session: int, principal: str) -> None:
    """The command being applied was the master's, or said otherwise whom it is about: the changes are due to these."""
    state.by = (session, principal, state.by[2])


def mark(state: State) -> Mark:
    """Where the changes stand, for `take_back`."""
    return len(state.changes), state.changes_bytes


def take_back(state: State, to: Mark) -> None:
    """What was recorded since has been undone."""
    count, state.changes_bytes = to
    while len(state.changes) > count:
        state.changes.pop()


def trim(state: State) -> None:
    """Drops the oldest changes until the rest is within the limits, never a part of a revision."""
    changes, limits = state.changes, state.limits
    while len(changes) > limits.changes or state.changes_bytes > limits.changes_bytes:
        state.changes_after = changes[0][0]
        while changes and changes[0][0] == state.changes_after:
            state.changes_bytes -= change_bytes(changes.popleft())


def since(state: State, revision: int) -> Sequence[Change]:
    """All changes with a larger revision, in their order; it costs what it finds."""
    assert revision >= state.changes_after, f"the changes after {revision} are kept no more"
    changes = state.changes
    if not changes or changes[-1].revision <= revision:
        return ()
    found: list[Change] = []
    for change in reversed(changes):
        if change.revision <= revision:
            break
        found.append(change)
    found.reverse()
    return found
