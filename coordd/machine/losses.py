"""Losses: how the last holds of each path ended, for `why`. Replicated and bounded; no decision depends on them.

Of each path the newest few are kept, and where there are too many paths, the one unchanged for longest goes.
`State.losses` stands in that order; `State.losses_paths` has the same paths sorted, so that the history can inspect
them in turn without disturbing it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort

from coordd.machine.state import Hold, Loss, Session, State

FIELDS = ("session", "hold", "client", "principal", "mode", "token", "since_ms", "ended_ms", "cause", "reason")


def record(state: State, session: Session, hold: Hold, cause: str, reason: str = "") -> None:
    """The session has lost this hold, or given it back."""
    lock = hold.lock
    path = lock.node.path
    losses = state.losses
    of_path = losses.get(path)
    if of_path is None:
        if len(losses) >= state.limits.losses_paths:
            oldest, _ = losses.popitem(last=False)
            del state.losses_paths[bisect_left(state.losses_paths, oldest)]
        of_path = ()
        insort(state.losses_paths, path)
    else:
        losses.move_to_end(path)
        if len(of_path) >= state.limits.losses_per_path:
            of_path = of_path[1:]
    token = hold.token or lock.token
    who = (session.id, hold.call, hold.client, hold.principal)
    losses[path] = (*of_path, (*who, lock.mode, token, hold.since_ms, state.wall_ms, cause, reason))


def amend(state: State, hold: Hold, cause: str, reason: str) -> None:
    """The loss of this delayed hold has another end than was recorded, if it is remembered at all."""
    path = hold.lock.node.path
    of_path = state.losses.get(path, ())
    amended = tuple((*loss[:8], cause, reason) if loss[:2] == (hold.session, hold.call) else loss for loss in of_path)
    if amended != of_path:
        state.losses[path] = amended
        state.losses.move_to_end(path)


def describe(loss: Loss) -> dict[str, object]:
    """A loss as people see it."""
    return dict(zip(FIELDS, loss, strict=True))


def next_in_turn(state: State) -> str:
    """The path whose losses are to be inspected now; there are some."""
    paths = state.losses_paths
    at = bisect_right(paths, state.looked_at)
    state.looked_at = paths[at % len(paths)]
    return state.looked_at
