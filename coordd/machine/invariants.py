"""What is true of every state, and of every step from one state to the next. Run in tests and by the simulator.

`check` looks at one machine; `check_delta` compares it with the `summarize` of an earlier moment of the same machine.
"""

from __future__ import annotations

from dataclasses import dataclass

from coordclient.protocol.paths import name_of, parent_of
from coordd.machine.calls import reply_bytes
from coordd.machine.changes import change_bytes
from coordd.machine.deadlock import places_of
from coordd.machine.grants import each_hold, has_room, parts_of
from coordd.machine.limits import CALL_WINDOW
from coordd.machine.machine import Machine
from coordd.machine.state import (
    Change,
    Hold,
    Lock,
    Node,
    Session,
    State,
    Waiter,
    checksum_of,
    mute_of,
    node_bytes,
)


@dataclass(frozen=True, slots=True)
class Summary:
    """What `check_delta` needs to know of the state before. `locks`: path -> (mode, token, holders)."""

    applied_upto: int
    epoch: int
    revision: int
    acked: dict[int, int]
    nodes: dict[str, tuple[int, int, int]]
    locks: dict[str, tuple[str, int, frozenset[tuple[int, int]]]]


def summarize(machine: Machine) -> Summary:
    """The present state in short."""
    state = machine.state
    return Summary(
        state.applied_upto,
        state.epoch,
        state.revision,
        {session.id: session.acked for session in state.sessions.values()},
        {path: (node.instance, node.content_generation, node.lock_generation) for path, node in state.nodes.items()},
        {path: (lock.mode, lock.token, frozenset(lock.holders)) for path, lock in state.locks.items()},
    )


def check(machine: Machine) -> None:
    """Every sentence that is always true of the state; an AssertionError names the first that is not."""
    state = machine.state
    root = state.nodes["/"]
    assert root.parent is None and root.children is not None and not root.temporary and root.openers is None
    assert state.bytes == sum(node_bytes(node) for node in state.nodes.values()), "the count of bytes drifted"
    for path, node in state.nodes.items():
        assert node.path == path
        _check_node(state, node)
    for path, lock in state.locks.items():
        assert lock.node is state.nodes.get(path), f"{path}: the lock is of a node that is gone"
        _check_lock(state, lock)
    for owner, session in state.sessions.items():
        assert session.id == owner
        _check_session(state, session)
    for (path, owner, call), hold in state.delayed.items():
        assert hold.delayed and hold.lock_delay_ms > 0 and not hold.revoked
        assert state.locks[path].holders[owner, call] is hold
    for (path, owner, call), hold in state.revoked.items():
        assert hold.revoked and state.locks[path].holders[owner, call] is hold
        assert state.sessions[owner].notices[path, call] == hold.revoked, "whoever should give up is told"
    assert state.losses_paths == sorted(state.losses), "the turn of the losses drifted"
    _check_changes(state)
    assert (state.keyed is not None) == bool(state.key)
    _check_limits(state)


def _check_changes(state: State) -> None:
    """The last change of each path leads to what is there now; and each path changes once in a revision."""
    assert state.changes_bytes == sum(map(change_bytes, state.changes)), "the count of bytes drifted"
    last: dict[str, Change] = {}
    revision = state.changes_after
    for change in state.changes:
        assert change.revision >= revision and change.revision > state.changes_after, "changes are in order"
        revision, earlier = change.revision, last.get(change.path)
        assert (change.kind == "created") == (change.instance == revision)
        assert change.directory == (change.before is None and change.after is None)
        if earlier is not None:
            assert earlier.revision < revision, f"{change.path} changed twice in a revision"
            assert (earlier.kind == "deleted") == (change.kind == "created") and earlier.after == change.before
            assert change.kind == "created" or earlier.instance == change.instance
        last[change.path] = change
    assert revision <= max(state.revision, state.changes_after)
    for path, change in last.items():
        node = state.nodes.get(path)
        assert (node is None) == (change.kind == "deleted"), f"{path}: the last change says otherwise"
        if node is not None:
            assert (node.instance, node.content_generation) == (change.instance, change.revision)
            assert node.contents == (change.after or b"") and change.directory == (node.children is not None)
    made = [path for path, node in state.nodes.items() if node.revision > state.changes_after and node.revision]
    assert all(path in last for path in made), "a node was made or written, and no change says so"


def _check_node(state: State, node: Node) -> None:
    path = node.path
    if node.parent is not None:
        assert node.parent is state.nodes[parent_of(path)] and node.parent.children is not None
        assert node.parent.children[name_of(path)] is node
        assert node.temporary or not node.parent.temporary, f"{path} stays, so what is above it stays"
    if node.children is not None:
        assert all(child.parent is node and child is state.nodes[child.path] for child in node.children.values())
        assert list(node.children.names()) == sorted(node.children)
        assert not node.contents
    assert node.checksum == checksum_of(node.contents)
    assert node.instance <= node.acl_generation <= node.revision <= state.revision
    assert node.instance <= node.content_generation <= node.revision
    assert node.lock_generation == 0 or node.instance <= node.lock_generation <= state.revision
    locked = path in state.locks
    if node.temporary:
        assert not node.contents and node.openers is None, f"{path} was written, so it is not temporary"
        assert locked or node.children, f"{path} was made for a lock that is gone"
    if node.openers is not None:
        assert locked or node.openers or node.children, f"{path} is ephemeral and no session keeps it"
        assert all(state.sessions[owner].ephemerals[path] is node for owner in node.openers)


def _check_lock(state: State, lock: Lock) -> None:
    path = lock.node.path
    _check_period(lock)
    for (owner, call), hold in lock.holders.items():
        assert (hold.session, hold.call) == (owner, call) and hold.lock is lock
        assert (hold.token == 0) == (lock.mode != "semaphore")
        assert lock.token <= (hold.token or lock.token) <= state.revision
        if hold.delayed:
            assert state.delayed[path, owner, call] is hold and hold.group is None
        else:
            assert hold in parts_of(state.sessions[owner].holds[call]), f"{path}: held by a session that is gone"
        assert not hold.revoked or state.revoked[path, owner, call] is hold, "revoked holds belong to living holders"
    for (owner, call), waiter in lock.waiters.items():
        assert (waiter.session, waiter.call) == (owner, call) and waiter.lock is lock
        waiting = places_of(state.sessions[owner].waiters[call])
        assert waiter in waiting, f"{path}: a waiter of a session that is gone"
    first = next(iter(lock.waiters.values()), None)
    assert first is None or not _could_go(state, first), f"{path}: the first of the queue could be granted"
    assert lock.holders or (first is not None and first.group), f"{path}: nobody holds it, and nothing keeps it busy"


def _check_period(lock: Lock) -> None:
    path = lock.node.path
    if not lock.holders:
        assert (lock.mode, lock.permits, lock.token) == ("", 0, 0), f"{path}: a period that is over"
        return
    assert lock.mode in ("exclusive", "shared", "semaphore")
    assert lock.mode != "exclusive" or len(lock.holders) == 1, f"{path}: two exclusive holders"
    assert (lock.permits > 0) == (lock.mode == "semaphore")
    assert lock.mode != "semaphore" or len(lock.holders) <= lock.permits, f"{path}: more holders than permits"
    assert lock.token == lock.node.lock_generation


def _could_go(state: State, first: Waiter) -> bool:
    """Whether all places of this request are the first of their queues, and their locks go with it."""
    return all(
        next(iter(place.lock.waiters.values())) is place and has_room(state, place.lock, place.mode, place.permits)
        for place in places_of(first)
    )


def _check_session(state: State, session: Session) -> None:
    assert 0 < session.id <= state.revision
    more = 0
    for call, hold in session.holds.items():
        more += len(parts_of(hold)) - 1
        _check_group(parts_of(hold))
        assert call not in session.waiters and call not in session.replies, "a call is remembered in one place"
    for hold in each_hold(session):
        assert not hold.delayed and state.locks[hold.lock.node.path].holders[session.id, hold.call] is hold
        assert hold.client is session.client and hold.principal == session.principal
    for call, waiter in session.waiters.items():
        more += len(places_of(waiter)) - 1
        _check_group(places_of(waiter))
        for place in places_of(waiter):
            assert state.locks[place.lock.node.path].waiters[session.id, call] is place
        assert call not in session.replies, "a call is remembered in one place"
    assert more == session.more, "the count of parts drifted"
    assert _same_refusal(session, mute_of(session)) and not (session.mute and session.waiters)
    assert session.left <= session.incarnation
    for path, node in session.ephemerals.items():
        assert state.nodes[path] is node and node.openers is not None and session.id in node.openers
    assert all(session.acked <= call < session.acked + CALL_WINDOW for call in session.replies)
    assert all(size == reply_bytes(reply) for reply, size in session.replies.values())
    assert session.reply_bytes == sum(size for _, size in session.replies.values()), "the count of bytes drifted"


def _same_refusal(session: Session, mute: object) -> bool:
    return str(session.mute) == str(mute)


def _check_group(parts: list[Hold] | list[Waiter]) -> None:
    """What one acquire has: one part of number 0, or parts with numbers in order, which know each other."""
    numbers = [part.part for part in parts]
    if parts[0].group is None:
        assert numbers == [0]
    else:
        assert numbers == sorted(set(numbers)) and numbers[0] > 0
        assert all(part.group is parts[0].group for part in parts)


def _check_limits(state: State) -> None:
    limits = state.limits
    assert len(state.sessions) <= limits.sessions
    assert len(state.nodes) <= limits.nodes and state.bytes <= limits.total_bytes
    for session in state.sessions.values():
        assert len(session.holds) + len(session.waiters) + session.more <= limits.holds_per_session
        assert len(session.notices) <= limits.notices_per_session
        assert len(session.waiters) <= limits.waiters_per_session
        assert len(session.ephemerals) <= limits.ephemerals_per_session
    for lock in state.locks.values():
        assert len(lock.holders) <= limits.holders_per_node and len(lock.waiters) <= limits.waiters_per_node
    assert len(state.changes) <= limits.changes and state.changes_bytes <= limits.changes_bytes
    assert len(state.losses) <= limits.losses_paths
    assert all(0 < len(losses) <= limits.losses_per_path for losses in state.losses.values())
    for node in state.nodes.values():
        assert node.children is None or len(node.children) <= limits.children_per_directory


def check_delta(before: Summary, machine: Machine) -> None:
    """What never goes back from one moment to a later one."""
    state = machine.state
    assert state.applied_upto >= before.applied_upto and state.epoch >= before.epoch
    assert state.revision >= before.revision, "revisions only rise"
    for owner, session in state.sessions.items():
        assert owner in before.acked or owner > before.revision, "a session id is never given twice"
        assert session.acked >= before.acked.get(owner, 0)
    for path, node in state.nodes.items():
        if path not in before.nodes or node.instance != before.nodes[path][0]:
            assert node.instance > before.revision, f"{path}: an instance is never given twice"
            continue
        _, content_generation, lock_generation = before.nodes[path]
        assert node.content_generation >= content_generation and node.lock_generation >= lock_generation
    for path, lock in state.locks.items():
        mode, token, holders = before.locks.get(path, ("", 0, frozenset()))
        assert lock.token in (0, token) or lock.token > before.revision, f"{path}: a new period has a new token"
        if lock.holders and lock.token == token:
            assert lock.mode == mode, f"{path}: a period has one mode"
            assert mode != "exclusive" or frozenset(lock.holders) == holders, f"{path}: two holders with one token"
            fresh = [hold for key, hold in lock.holders.items() if key not in holders]
            assert all(not hold.token or hold.token > before.revision for hold in fresh), f"{path}: a token came again"
