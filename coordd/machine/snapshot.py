"""The whole state as bytes, canonical: equal states give equal bytes, whichever way they came about (docs/state.md).

`snapshot = body + digest`; digest = BLAKE2b of body, 16 bytes; body = msgpack
`[SNAPSHOT_VERSION, MACHINE_VERSION, cell, applied_upto, epoch, revision, key, key_before, sessions, nodes, locks]`:

- sessions by id: `[id, secret, incarnation, lease_ms, principal, opened_ms, client, acked, replies]`,
  replies by call: `[call, refused, map]` (a refusal is `Refusal.to_wire()`);
- nodes by path: `[path, directory, contents, instance, content_generation, lock_generation, acl_generation, revision,
  created_ms, modified_ms, owner, [read, write, change], temporary, openers: nil | [session by id]]`;
- locks by path: `[path, mode, token, holders, waiters]`, holders in the order of their grants:
  `[session, call, actor, lock_delay_ms, since_ms, client: nil | map]` (a map: delayed), waiters in the order of the
  queue: `[session, call, mode, actor, lock_delay_ms, since_ms]`.

Checksums, parents, children, counts of bytes and the holds of sessions follow from these and are not written.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from coordclient.protocol.codec import Malformed, decode, encode
from coordclient.protocol.errors import Refusal
from coordclient.protocol.paths import name_of, parent_of
from coordd.machine.calls import remember
from coordd.machine.limits import Limits
from coordd.machine.sequencer import set_key
from coordd.machine.state import Hold, Lock, Node, Reply, Session, State, Waiter, checksum_of, node_bytes

SNAPSHOT_VERSION = 1
MACHINE_VERSION = 1  # of the behaviour: rises when the same log would be applied differently
DIGEST_BYTES = 16


class BadSnapshot(ValueError):
    """These bytes are not a whole snapshot that this build can read; the message says why."""


def encode_state(state: State) -> bytes:
    """The snapshot."""
    body = _body(state)
    return body + _digest(body)


def digest_of(state: State) -> bytes:
    """The digest of the state, the last bytes of its snapshot."""
    return _digest(_body(state))


def _digest(body: bytes) -> bytes:
    return blake2b(body, digest_size=DIGEST_BYTES).digest()


def _body(state: State) -> bytes:
    sessions, nodes, locks = state.sessions, state.nodes, state.locks
    return encode(
        [
            SNAPSHOT_VERSION,
            MACHINE_VERSION,
            state.cell,
            state.applied_upto,
            state.epoch,
            state.revision,
            state.key,
            state.key_before,
            [_session(sessions[number]) for number in sorted(sessions)],
            [_node(nodes[path]) for path in sorted(nodes)],
            [_lock(locks[path]) for path in sorted(locks)],
        ]
    )


def _session(session: Session) -> list[object]:
    replies = [_reply(call, session.replies[call][0]) for call in sorted(session.replies)]
    return [
        session.id,
        session.secret,
        session.incarnation,
        session.lease_ms,
        session.principal,
        session.opened_ms,
        session.client,
        session.acked,
        replies,
    ]


def _reply(call: int, reply: Reply) -> list[object]:
    return [call, True, reply.to_wire()] if isinstance(reply, Refusal) else [call, False, reply]


def _node(node: Node) -> list[object]:
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


def _lock(lock: Lock) -> list[object]:
    holders = [
        [hold.session, hold.call, hold.actor, hold.lock_delay_ms, hold.since_ms, hold.client if hold.delayed else None]
        for hold in lock.holders.values()
    ]
    waiters = [
        [waiter.session, waiter.call, waiter.mode, waiter.actor, waiter.lock_delay_ms, waiter.since_ms]
        for waiter in lock.waiters.values()
    ]
    return [lock.node.path, lock.mode, lock.token, holders, waiters]


# ---- reading ----


def decode_state(data: bytes, limits: Limits) -> State:
    """The state that `data` holds; raises `BadSnapshot`."""
    body = data[:-DIGEST_BYTES]
    if len(data) <= DIGEST_BYTES or _digest(body) != data[-DIGEST_BYTES:]:
        raise BadSnapshot(f"the digest at the end does not fit the {len(data)} bytes")
    try:
        fields = decode(body)
    except Malformed as error:
        raise BadSnapshot(str(error)) from None
    if not isinstance(fields, list) or len(fields) < 2 or fields[:2] != [SNAPSHOT_VERSION, MACHINE_VERSION]:
        shown = fields[:2] if isinstance(fields, list) else type(fields).__name__
        known = [SNAPSHOT_VERSION, MACHINE_VERSION]
        raise BadSnapshot(f"snapshot format and machine version are {shown!r}; this build knows {known}")
    try:
        return _build(fields, limits)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, AssertionError) as error:
        raise BadSnapshot(f"a field is not what the format says: {type(error).__name__}: {error}") from error


def _build(fields: list[Any], limits: Limits) -> State:
    _, _, cell, applied_upto, epoch, revision, key, key_before, sessions, nodes, locks = fields
    state = State(cell, limits)
    state.applied_upto, state.epoch, state.revision = applied_upto, epoch, revision
    set_key(state, key, key_before)
    state.nodes.clear()
    state.bytes = 0
    for session_fields in sessions:
        _read_session(state, session_fields)
    for node_fields in nodes:
        _read_node(state, node_fields)
    for lock_fields in locks:
        _read_lock(state, lock_fields)
    return state


def _read_session(state: State, fields: list[Any]) -> None:
    number, secret, incarnation, lease_ms, principal, opened_ms, client, acked, replies = fields
    session = Session(number, secret, lease_ms, principal, opened_ms, client)
    session.incarnation, session.acked = incarnation, acked
    for call, refused, wire in replies:
        reply: Reply = Refusal.from_wire(wire) if refused else wire
        remember(session, call, reply)
    state.sessions[number] = session


def _read_node(state: State, fields: list[Any]) -> None:
    path, directory, contents, instance, content, lock, acl_generation, revision = fields[:8]
    created_ms, modified_ms, owner, acl, temporary, openers = fields[8:]
    parent = None if path == "/" else state.nodes[parent_of(path)]
    read, write, change = acl
    node = Node(path, parent, directory, revision, created_ms, owner, (read, write, change))
    node.contents, node.checksum = contents, checksum_of(contents)
    node.instance, node.content_generation, node.lock_generation = instance, content, lock
    node.acl_generation, node.modified_ms, node.temporary = acl_generation, modified_ms, temporary
    if openers is not None:
        node.openers = dict.fromkeys(openers)
        for opener in openers:
            state.sessions[opener].ephemerals[path] = node
    if parent is not None:
        assert parent.children is not None
        parent.children[name_of(path)] = node
    state.nodes[path] = node
    state.bytes += node_bytes(node)


def _read_lock(state: State, fields: list[Any]) -> None:
    path, mode, token, holders, waiters = fields
    lock = state.locks[path] = Lock(state.nodes[path])
    lock.mode, lock.token = mode, token
    for session_id, call, actor, lock_delay_ms, since_ms, client in holders:
        session = state.sessions.get(session_id)
        delayed = client is not None
        if not delayed:
            assert session is not None
            client = session.client
        hold = Hold(lock, session_id, call, actor, lock_delay_ms, since_ms, client)
        lock.holders[session_id, call] = hold
        if delayed:
            hold.delayed = True
            state.delayed[path, session_id, call] = hold
        else:
            assert session is not None
            session.holds[call] = hold
    for session_id, call, mode, actor, lock_delay_ms, since_ms in waiters:
        waiter = Waiter(lock, session_id, call, mode, actor, lock_delay_ms, since_ms)
        lock.waiters[session_id, call] = state.sessions[session_id].waiters[call] = waiter
