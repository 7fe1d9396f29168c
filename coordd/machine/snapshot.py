"""The whole state as bytes, canonical: equal states give equal bytes, whichever way they came about (docs/state.md).

`snapshot = body + digest`; digest = BLAKE2b of body, 16 bytes; body = msgpack
`[SNAPSHOT_VERSION, MACHINE_VERSION, cell, applied_upto, epoch, revision, history, credit, inspected,
[key, key_before], sessions, nodes, locks, losses, changes]`:

- sessions, in the order in which they will be inspected (`coordd.machine.history`): `[id, secret, incarnation,
  lease_ms, principal, opened_ms, client, acked, left, gone, killed, notices, replies]`, notices in the order of
  telling: `[path, hold, reason]`, replies by call: `[call, refused, map]` (a refusal is `Refusal.to_wire()`);
- nodes, in that order too: `[path, directory, contents, instance, content_generation, lock_generation, acl_generation,
  revision, created_ms, modified_ms, owner, [read, write, change], temporary, openers: nil | [session by id]]`;
- locks by path: `[path, mode, permits, token, holders, waiters]`, holders in the order of their grants:
  `[session, call, part, actor, lock_delay_ms, since_ms, token, revoked, nil | [client, principal]]` (delayed: its own),
  waiters in the order of the queue: `[session, call, part, mode, permits, actor, limited, lock_delay_ms, since_ms]`;
- losses: `[path inspected last, [[path, [loss]]]]`, the paths that have changed last at the end, their losses too:
  `[session, hold, client, principal, mode, token, since_ms, ended_ms, cause, reason]`;
- changes: `[all with a larger revision are here, [change]]`, oldest first: `[revision, path, kind, directory, instance,
  before: nil | contents, after: nil | contents, session, principal, at_ms, operation]`.

Checksums, parents, children, counts of bytes, the holds of sessions, and what belongs to one `acquire_all` (the same
session and call with a part above 0) follow from these and are not written.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, TypeVar

from coordclient.protocol.codec import Malformed, decode, encode
from coordclient.protocol.errors import Refusal
from coordclient.protocol.paths import name_of, parent_of
from coordd.machine.calls import remember
from coordd.machine.changes import change_bytes
from coordd.machine.limits import Limits
from coordd.machine.sequencer import set_key
from coordd.machine.state import (
    Change,
    Hold,
    Lock,
    Loss,
    Node,
    Reply,
    Session,
    State,
    Waiter,
    checksum_of,
    mute_of,
    node_bytes,
)

SNAPSHOT_VERSION = 6
MACHINE_VERSION = 5  # of the behaviour: rises when the same log would be applied differently
DIGEST_BYTES = 16
_FIELDS = 15
_HEAD = bytes((0x90 | _FIELDS, SNAPSHOT_VERSION, MACHINE_VERSION))  # an array that begins with two small numbers


class BadSnapshot(ValueError):
    """These bytes are not a whole snapshot that this build can read; the message says why."""


def encode_state(state: State) -> bytes:
    """The snapshot."""
    body = _body(state)
    return body + _digest(body)


def digest_of(state: State) -> bytes:
    """The digest of the state, the last bytes of its snapshot."""
    return _digest(_body(state))


def _digest(body: bytes | memoryview) -> bytes:
    return blake2b(body, digest_size=DIGEST_BYTES).digest()


def _body(state: State) -> bytes:
    return encode(
        [
            SNAPSHOT_VERSION,
            MACHINE_VERSION,
            state.cell,
            state.applied_upto,
            state.epoch,
            state.revision,
            state.history,
            state.credit,
            state.inspected,
            [state.key, state.key_before],
            [_session(session) for session in state.sessions.values()],
            [describe_node(node) for node in state.nodes.values()],
            [describe_lock(state.locks[path]) for path in sorted(state.locks)],
            [state.looked_at, [describe_losses(state, path) for path in state.losses]],
            [state.changes_after, list(state.changes)],
        ]
    )


def _session(session: Session) -> list[object]:
    replies = [_reply(call, session.replies[call][0]) for call in sorted(session.replies)]
    return [*describe_session(session), replies]


def describe_session(session: Session) -> list[object]:
    """A session's fields, without the replies that it remembers."""
    return [
        session.id,
        session.secret,
        session.incarnation,
        session.lease_ms,
        session.principal,
        session.opened_ms,
        session.client,
        session.acked,
        session.left,
        session.gone,
        session.killed,
        [[path, hold, reason] for (path, hold), reason in session.notices.items()],
    ]


def _reply(call: int, reply: Reply) -> list[object]:
    return [call, True, reply.to_wire()] if isinstance(reply, Refusal) else [call, False, reply]


def describe_node(node: Node) -> list[object]:
    """A node's fields."""
    return [
        node.path,
        node.children is not None,
        node.contents,
        node.instance,
        node.content_generation,
        node.lock_generation,
        node.acl_generation,
        node.revision,
        node.created_ms,
        node.modified_ms,
        node.owner,
        list(node.acl),
        node.temporary,
        None if node.openers is None else sorted(node.openers),
    ]


def describe_lock(lock: Lock) -> list[object]:
    """A lock's fields, its holders and its queue."""
    holders = [
        [
            hold.session,
            hold.call,
            hold.part,
            hold.actor,
            hold.lock_delay_ms,
            hold.since_ms,
            hold.token,
            hold.revoked,
            [hold.client, hold.principal] if hold.delayed else None,
        ]
        for hold in lock.holders.values()
    ]
    waiters = [
        [
            waiter.session,
            waiter.call,
            waiter.part,
            waiter.mode,
            waiter.permits,
            waiter.actor,
            waiter.limited,
            waiter.lock_delay_ms,
            waiter.since_ms,
        ]
        for waiter in lock.waiters.values()
    ]
    return [lock.node.path, lock.mode, lock.permits, lock.token, holders, waiters]


def describe_losses(state: State, path: str) -> list[object]:
    """The losses that are remembered of a path."""
    return [path, state.losses[path]]


# ---- reading ----


def refusal_of(data: bytes) -> str | None:
    """Why these bytes are not a snapshot of this format and machine version, or not whole; None where they are."""
    body = memoryview(data)[:-DIGEST_BYTES]
    if len(data) <= DIGEST_BYTES or _digest(body) != data[-DIGEST_BYTES:]:
        return f"the digest at the end does not fit the {len(data)} bytes"
    if not data.startswith(_HEAD):
        shown, known = list(data[1:3]), [SNAPSHOT_VERSION, MACHINE_VERSION]
        return f"snapshot format and machine version are {shown}; this build knows {known}"
    return None


def decode_state(data: bytes, limits: Limits) -> State:
    """The state that `data` holds; raises `BadSnapshot`."""
    reason = refusal_of(data)
    if reason is not None:
        raise BadSnapshot(reason)
    try:
        return _build(decode(data[:-DIGEST_BYTES]), limits)
    except Malformed as error:
        raise BadSnapshot(str(error)) from None
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, AssertionError) as error:
        raise BadSnapshot(f"a field is not what the format says: {type(error).__name__}: {error}") from error


def _build(fields: list[Any], limits: Limits) -> State:
    _, _, cell, applied_upto, epoch, revision, history, credit, inspected, keys = fields[:10]
    sessions, nodes, locks, (looked_at, losses), (changes_after, changes) = fields[10:]
    state = State(cell, limits)
    state.applied_upto, state.epoch, state.revision = applied_upto, epoch, revision
    state.history, state.credit, state.inspected = bytes(history), credit, inspected
    set_key(state, *keys)
    state.nodes.clear()
    state.bytes = 0
    for session_fields in sessions:
        _read_session(state, session_fields)
    for node_fields in nodes:
        _read_node(state, node_fields)
    for node in state.nodes.values():
        _link_node(state, node)
    for lock_fields in locks:
        _read_lock(state, lock_fields)
    for session in state.sessions.values():
        _group(session)
    state.looked_at = looked_at
    state.losses.update((path, tuple(_read_loss(*loss) for loss in of_path)) for path, of_path in losses)
    state.losses_paths = sorted(state.losses)
    state.changes_after = changes_after
    state.changes.extend(_read_change(*row) for row in changes)
    state.changes_bytes = sum(map(change_bytes, state.changes))
    return state


def _read_loss(*fields: Any) -> Loss:
    session, hold, client, principal, mode, token, since_ms, ended_ms, cause, reason = fields
    return session, hold, client, principal, mode, token, since_ms, ended_ms, cause, reason


def _read_change(*fields: Any) -> Change:
    revision, path, kind, directory, instance, before, after, session, principal, at_ms, operation = fields
    return Change(revision, path, kind, directory, instance, before, after, session, principal, at_ms, operation)


def _read_session(state: State, fields: list[Any]) -> None:
    number, secret, incarnation, lease_ms, principal, opened_ms, client, acked = fields[:8]
    left, gone, killed, notices, replies = fields[8:]
    session = Session(number, secret, lease_ms, principal, opened_ms, client)
    session.incarnation, session.acked = incarnation, acked
    session.left, session.gone, session.killed = left, gone, killed
    session.mute = mute_of(session)
    session.notices = {(path, hold): reason for path, hold, reason in notices}
    for call, refused, wire in replies:
        reply: Reply = Refusal.from_wire(wire) if refused else wire
        remember(session, call, reply)
    state.sessions[number] = session


def _read_node(state: State, fields: list[Any]) -> None:
    path, directory, contents, instance, content, lock, acl_generation, revision = fields[:8]
    created_ms, modified_ms, owner, acl, temporary, openers = fields[8:]
    read, write, change = acl
    node = Node(path, None, directory, revision, created_ms, owner, (read, write, change))
    node.contents, node.checksum = contents, checksum_of(contents)
    node.instance, node.content_generation, node.lock_generation = instance, content, lock
    node.acl_generation, node.modified_ms, node.temporary = acl_generation, modified_ms, temporary
    if openers is not None:
        node.openers = dict.fromkeys(openers)
        for opener in openers:
            state.sessions[opener].ephemerals[path] = node
    state.nodes[path] = node
    state.bytes += node_bytes(node)


def _link_node(state: State, node: Node) -> None:
    """A node's parent may come after it."""
    if node.path != "/":
        node.parent = parent = state.nodes[parent_of(node.path)]
        assert parent.children is not None
        parent.children[name_of(node.path)] = node


def _read_lock(state: State, fields: list[Any]) -> None:
    path, mode, permits, token, holders, waiters = fields
    lock = state.locks[path] = Lock(state.nodes[path])
    lock.mode, lock.permits, lock.token = mode, permits, token
    for holder in holders:
        _read_hold(state, lock, holder)
    for session_id, call, part, mode, permits, actor, limited, lock_delay_ms, since_ms in waiters:
        waiter = Waiter(lock, session_id, call, mode, permits, actor, limited, lock_delay_ms, since_ms)
        lock.waiters[session_id, call] = waiter
        _add(state.sessions[session_id].waiters, waiter, part)


def _read_hold(state: State, lock: Lock, fields: list[Any]) -> None:
    session_id, call, part, actor, lock_delay_ms, since_ms, token, revoked, own = fields
    path, delayed = lock.node.path, own is not None
    session = state.sessions.get(session_id)
    if not delayed:
        assert session is not None
        own = session.client, session.principal
    client, principal = own
    hold = Hold(lock, session_id, call, actor, lock_delay_ms, since_ms, client, principal)
    hold.token, hold.part, hold.revoked, hold.delayed = token, part, revoked, delayed
    lock.holders[session_id, call] = hold
    if revoked:
        state.revoked[path, session_id, call] = hold
    if delayed:
        state.delayed[path, session_id, call] = hold
    else:
        assert session is not None
        _add(session.holds, hold, part)


_Part = TypeVar("_Part", Hold, Waiter)


def _add(by_call: dict[int, _Part], one: _Part, part: int) -> None:
    """The parts of an `acquire_all` come by path; `_group` puts them in their order."""
    one.part = part
    first = by_call.setdefault(one.call, one)
    if part:
        if first.group is None:
            first.group = []
        first.group.append(one)


def _group(session: Session) -> None:
    session.more = _in_order(session.holds) + _in_order(session.waiters)


def _in_order(by_call: dict[int, _Part]) -> int:
    """How many parts there are besides the first of each call."""
    more = 0
    for call, first in by_call.items():
        group = first.group
        if group is not None:
            group.sort(key=lambda one: one.part)
            for one in group:
                one.group = group
            by_call[call] = group[0]
            more += len(group) - 1
    return more
