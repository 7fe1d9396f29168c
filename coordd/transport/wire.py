"""Peer messages as bytes, format PEER_VERSION: one msgpack array per message, several messages per WebSocket frame.

A message is `[type, sender, start, round, replica, field, ...]`: the number of its type in `_LAYOUTS`, the header
(`round, replica` is its ballot), then its own fields in the order of the dataclass. A ballot inside a field is
`[round, replica]`. Within a WebSocket frame each message follows its length (4 bytes, big-endian).

Decoding trusts nothing: whatever the bytes are, the answer is a message or `Malformed`. A new message or field is a new
PEER_VERSION; the golden file in tests/unit/transport pins every layout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields
from operator import attrgetter

from coordclient.protocol.codec import Malformed, decode, encode
from coordclient.protocol.frames import BadFrames, split_frames
from coordd.paxos import messages
from coordd.paxos.ballot import CHOSEN, ROUND_MAX, Ballot
from coordd.paxos.effects import is_value
from coordd.paxos.messages import Message

PEER_VERSION = 3
MESSAGE_BYTES_MAX = 24 * 1024 * 1024  # one peer message; a window of full batches fits
PEER_FRAME_BYTES_MAX = 2 * MESSAGE_BYTES_MAX
INT_MAX = 2**63 - 1
REPLICA_MAX = 255

_HEADER_FIELDS = 5


def _whole(value: object) -> int:
    if type(value) is not int or not 0 <= value <= INT_MAX:
        raise Malformed("a number is missing or out of range")
    return value


def _replica(value: object) -> int:
    if type(value) is not int or not 0 <= value <= REPLICA_MAX:
        raise Malformed("not a replica id")
    return value


def _flag(value: object) -> bool:
    if type(value) is not bool:
        raise Malformed("a flag is missing")
    return value


def _bytes(value: object) -> bytes:
    if type(value) is not bytes:
        raise Malformed("bytes are missing")
    return value


def _list(value: object, size: int | None = None) -> list[object]:
    if type(value) is not list or (size is not None and len(value) != size):
        raise Malformed("an array is missing or has another length")
    return value


def _real(number: object, replica: object) -> Ballot:
    """A ballot that somebody may have stood in."""
    ballot = Ballot(_whole(number), _replica(replica))
    if ballot.round > ROUND_MAX:
        raise Malformed("no election ever comes to this round")
    return ballot


def _ballot(value: object) -> Ballot:
    return _real(*_list(value, 2))


def _held(value: object) -> Ballot:
    """The ballot of an accepted value; one that was learnt as chosen is in nobody's ballot."""
    return CHOSEN if value == [CHOSEN.round, CHOSEN.replica] else _ballot(value)


def _value(value: object) -> bytes:
    data = _bytes(value)
    if not is_value(data):
        raise Malformed("no slot holds such a value")
    return data


def _slots(value: object) -> tuple[int, ...]:
    return tuple(_whole(slot) for slot in _list(value))


def _values(value: object) -> tuple[bytes, ...]:
    return tuple(_value(item) for item in _list(value))


def _proposals(value: object) -> tuple[tuple[int, bytes], ...]:
    pairs = [_list(pair, 2) for pair in _list(value)]
    return tuple((_whole(slot), _value(payload)) for slot, payload in pairs)


def _accepted(value: object) -> tuple[tuple[int, Ballot, bytes], ...]:
    triples = [_list(triple, 3) for triple in _list(value)]
    return tuple((_whole(slot), _held(ballot), _value(payload)) for slot, ballot, payload in triples)


_Check = Callable[[object], object]

# The number of a type never changes and is never used again.
_LAYOUTS: tuple[tuple[int, type[Message], tuple[tuple[str, _Check], ...]], ...] = (
    (1, messages.Hello, (("log_upto", _whole), ("asks", _flag), ("remembers", _whole))),
    (
        2,
        messages.Regressed,
        (("refused_start", _whole), ("known_start", _whole), ("known_ballot", _ballot), ("known_upto", _whole)),
    ),
    (3, messages.Ask, (("number", _whole),)),
    (4, messages.Willing, (("number", _whole), ("yes", _flag))),
    (5, messages.Prepare, ()),
    (
        6,
        messages.Promise,
        (("chosen_upto", _whole), ("part", _whole), ("parts", _whole), ("entries", _accepted), ("cached_ms", _whole)),
    ),
    (7, messages.Accept, (("number", _whole), ("chosen_upto", _whole), ("entries", _proposals), ("caches", _flag))),
    (8, messages.Accepted, (("number", _whole), ("chosen_upto", _whole), ("slots", _slots))),
    (9, messages.Heartbeat, (("number", _whole), ("chosen_upto", _whole), ("caches", _flag))),
    (10, messages.HeartbeatAnswer, (("number", _whole), ("chosen_upto", _whole))),
    (11, messages.Nack, (("refused", _ballot),)),
    (12, messages.AlreadyChosen, (("chosen_upto", _whole),)),
    (13, messages.LearnRequest, (("first_slot", _whole),)),
    (14, messages.Learned, (("first_slot", _whole), ("values", _values), ("chosen_upto", _whole))),
    (15, messages.SnapshotOffer, (("slot", _whole), ("size", _whole))),
    (16, messages.SnapshotRequest, (("slot", _whole), ("offset", _whole))),
    (17, messages.SnapshotChunk, (("slot", _whole), ("size", _whole), ("offset", _whole), ("data", _bytes))),
    (18, messages.HandOver, (("number", _whole), ("to", _replica), ("caches", _flag))),
    (19, messages.Removed, (("version", _whole), ("known_start", _whole))),
    (20, messages.Settled, (("version", _whole),)),
    (21, messages.Digest, (("slot", _whole), ("digest", _bytes))),
)


def _fields_getter(names: tuple[str, ...]) -> Callable[[Message], tuple[object, ...]]:
    if not names:
        return lambda message: ()
    get = attrgetter(*names)
    return (lambda message: (get(message),)) if len(names) == 1 else get


_ENCODERS = {kind: (number, _fields_getter(tuple(name for name, _ in parts))) for number, kind, parts in _LAYOUTS}
_DECODERS = {number: (kind, tuple(check for _, check in parts)) for number, kind, parts in _LAYOUTS}
assert len(_ENCODERS) == len(_DECODERS) == len(_LAYOUTS)
for _, _kind, _parts in _LAYOUTS:  # a field that is added there and not here would be lost on the way
    assert [name for name, _ in _parts] == [field.name for field in fields(_kind)][3:], _kind


def encode_message(message: Message) -> bytes:
    """The bytes of one message, without its length."""
    number, fields_of = _ENCODERS[type(message)]
    ballot = message.ballot
    head = (number, message.sender, message.start, ballot.round, ballot.replica)
    return encode(head + fields_of(message))


def decode_message(data: bytes) -> Message:
    """The message that `data` is, or `Malformed`."""
    array = decode(data)
    if type(array) is not list or len(array) < _HEADER_FIELDS:
        raise Malformed("a peer message is an array with type and header")
    number = array[0]
    layout = _DECODERS.get(number) if type(number) is int else None
    if layout is None:
        raise Malformed("no peer message has this type")
    kind, checks = layout
    if len(array) != _HEADER_FIELDS + len(checks):
        raise Malformed(f"{kind.__name__} has another number of fields")
    ballot = _real(array[3], array[4])
    checked = [check(value) for check, value in zip(checks, array[_HEADER_FIELDS:], strict=True)]
    return kind(_replica(array[1]), _whole(array[2]), ballot, *checked)  # type: ignore[arg-type]


def pack(encoded: Iterable[bytes]) -> bytes:
    """One WebSocket frame's payload from messages already encoded."""
    return b"".join(part for data in encoded for part in (len(data).to_bytes(4, "big"), data))


def unpack(payload: bytes) -> list[tuple[Message, int]]:
    """All messages of one WebSocket frame with their sizes, or `Malformed`."""
    try:
        return [(decode_message(data), len(data)) for data in split_frames(payload, MESSAGE_BYTES_MAX)]
    except BadFrames as error:
        raise Malformed(str(error)) from None
