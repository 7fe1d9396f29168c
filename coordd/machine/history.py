"""The history: 16 bytes that chain all that this replica applied, answered and found in its state since slot 1.

Two replicas with the same history at a slot have lived the same life up to it; two that once differ differ for ever, so
it is enough to compare it now and then (`coordd.engine.digests`). Each slot extends it by what was logged there, by
every answer and waking, by the counts of the state, and by an *inspection*: a few nodes (with their locks), sessions,
losses and changes as they stand. Those come in turn, the longest not seen first, so that what no answer shows (a bit
that fell over, a field that a snapshot lost, a node that one replica forgot to remove) is found within a round of the
state.

The turn is the order of `State.nodes` and `State.sessions` itself: whoever was inspected goes to the end. So the order
of both belongs to the replicated state, and snapshots keep it. Losses have an order of their own already, so their turn
goes by path, and the state keeps the last path. Changes are looked at by place: how many there are and what
was inspected before say which is next. How much is inspected follows from the bytes of the log:
an idle cell inspects nothing, a busy one spends a small and steady share.

What is hashed here is part of `MACHINE_VERSION`: builds that hash differently would stop each other. The words of a
refusal are left out; they are for people, and a later build may find better ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from zlib import crc32

from coordclient.protocol.codec import encode
from coordclient.protocol.errors import Refusal
from coordd.machine.losses import next_in_turn
from coordd.machine.snapshot import DIGEST_BYTES, describe_lock, describe_losses, describe_node, describe_session
from coordd.machine.state import Applied, Reply, State

_SHARE = 16  # one byte is inspected for so many bytes of the log
TURNS = 4  # sessions, losses, changes, and nodes, which also take the turns of what there is none of
_CREDIT_MAX = 4096  # bytes inspected in one slot, and one item more


def extend(state: State, payload: bytes, applied: Sequence[Applied] = ()) -> None:
    """`payload` was applied in the slot where the state stands now, and answered so."""
    answers = [one.reply if type(one.reply) is dict else _answer(one.reply) for one in applied]
    woken = [(one.session, one.call, _answer(one.reply)) for each in applied if each.woken for one in each.woken]
    inspected = _inspect(state, len(payload))
    fields = (
        state.applied_upto,
        state.epoch,
        state.revision,
        state.bytes,
        len(state.nodes),
        len(state.locks),
        len(state.delayed),
        len(state.revoked),
        len(state.sessions),
        len(state.losses),
        len(state.changes),
        state.changes_bytes,
        state.changes_after,
        crc32(payload),
        crc32(encode(answers)),
        crc32(encode(woken)) if woken else 0,
        inspected,
        state.key,
        state.key_before,
    )
    state.history = blake2b(state.history + encode(fields), digest_size=DIGEST_BYTES).digest()


def _answer(reply: Reply | None) -> object:
    return reply.code if type(reply) is Refusal else reply


def _inspect(state: State, size: int) -> int:
    """Looks at what is next in turn, in proportion to `size` bytes of log; a large item is paid for by later slots."""
    state.credit = min(state.credit + size // _SHARE, _CREDIT_MAX)
    checksum = 0
    while state.credit > 0:
        state.inspected += 1
        item = _next(state)
        state.credit -= len(item)
        checksum = crc32(item, checksum)
    return checksum


def _next(state: State) -> bytes:
    turn = state.inspected % TURNS
    if turn == 1 and state.sessions:
        return _next_session(state)
    if turn == 2 and state.losses:
        return encode(describe_losses(state, next_in_turn(state)))
    if turn == 3 and state.changes:
        return encode(state.changes[state.inspected // TURNS % len(state.changes)])
    return _next_node(state)


def _next_node(state: State) -> bytes:
    path = next(iter(state.nodes))
    state.nodes.move_to_end(path)
    node, lock = state.nodes[path], state.locks.get(path)
    parent = None if node.parent is None else node.parent.path
    children = None if node.children is None else len(node.children)
    return encode([describe_node(node), parent, children, None if lock is None else describe_lock(lock)])


def _next_session(state: State) -> bytes:
    number = next(iter(state.sessions))
    state.sessions.move_to_end(number)
    session = state.sessions[number]
    replies = [(call, _answer(session.replies[call][0])) for call in sorted(session.replies)]
    lists = (len(session.holds), len(session.waiters), len(session.ephemerals), session.reply_bytes, session.more)
    return encode([describe_session(session), replies, lists])
