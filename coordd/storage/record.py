"""Bytes of the log's records, format 1.

All numbers are little-endian. A record:

| at | size | what |
|---|---|---|
| 0 | 4 | CRC-32 of all that follows in the record, begun with the CRC of the segment's header |
| 4 | 4 | length of the body |
| 8 | 3 | `crd` |
| 11 | 1 | format version: 1 |
| 12 | 8 | cell id |
| 20 | 4 | number of the segment |
| 24 | 4 | offset at which the record stands in the segment |
| 28 | 4 | `synced`: up to which offset this segment was known to be durable when the record was written |
| 32 | 4 | `previous`: CRC of the record before (of the segment's header for the first) |
| 36 | 1 | type |
| 37 | length | body |

| type | body |
|---|---|
| 1 promise | round 8, replica 4 |
| 2 accepted | slot 8, round 8, replica 4, then the value |
| 3 chosen | upto 8 |
| 4 start | start number 8 |
| 5 goes on | number of the next segment 8, whose header is durable; the last record of a segment |
| 6 peers | up to 32 times replica 4, start number 8 |

The header's CRC covers a nonce, so a record counts only in the very file it was written to, and no client can store
bytes that pass for one.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never
from zlib import crc32

from coordd.paxos.ballot import Ballot
from coordd.paxos.effects import AcceptedRecord, ChosenRecord, PeersRecord, PromiseRecord, Record

FORMAT = 1
MAGIC = b"crd"
PROMISE, ACCEPTED, CHOSEN, START, GOES_ON, PEERS = 1, 2, 3, 4, 5, 6

_CRC = struct.Struct("<I")
_REST = struct.Struct("<I3sB8sIIIIB")
_PROMISE = struct.Struct("<QI")
_ACCEPTED = struct.Struct("<QQI")
_NUMBER = struct.Struct("<Q")
_PEER = struct.Struct("<IQ")
_MARK = struct.Struct("<3sB8sI")
_MARK_AT = 8
RECORD_HEAD_BYTES = _CRC.size + _REST.size
GOES_ON_BYTES = RECORD_HEAD_BYTES + _NUMBER.size
assert RECORD_HEAD_BYTES == 37


@dataclass(frozen=True, slots=True)
class StartRecord:
    """The process started for the `start`-th time with this directory. Storage's own, without the directory's mark."""

    start: int


@dataclass(frozen=True, slots=True)
class GoesOnRecord:
    """The last of a segment: the next one is in use, so a start that does not find it so knows of a loss."""

    segment: int


LogRecord = Record | StartRecord | GoesOnRecord


class UnreadableBodyError(ValueError):
    """The CRC is right, so these bytes were written on purpose, but not by this format."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which segment a record belongs to. `seed` is the CRC of the segment's header."""

    cell: bytes
    segment: int
    seed: int


@dataclass(frozen=True, slots=True)
class Found:
    """A record whose bytes are right; whether it follows the one before it is for the reader to say."""

    record: LogRecord
    crc: int
    synced: int
    previous: int
    end: int


def encode_batch(
    records: Sequence[LogRecord], place: Place, offset: int, synced: int, previous: int
) -> tuple[bytes, int]:
    """The bytes of `records` to be written at `offset`, and the CRC of the last one."""
    pieces: list[bytes] = []
    for record in records:
        kind, head, value = _body(record)
        length = len(head) + len(value)
        rest = _REST.pack(length, MAGIC, FORMAT, place.cell, place.segment, offset, synced, previous, kind)
        previous = crc32(value, crc32(head, crc32(rest, place.seed)))
        pieces += (_CRC.pack(previous), rest, head, value)
        offset += RECORD_HEAD_BYTES + length
    return b"".join(pieces), previous


def encode_goes_on(place: Place, offset: int, previous: int) -> tuple[bytes, int]:
    """The last record of a segment, all before it durable: it follows from these, so a start can make it again."""
    return encode_batch([GoesOnRecord(place.segment + 1)], place, offset, offset, previous)


def _body(record: LogRecord) -> tuple[int, bytes, bytes]:
    match record:
        case AcceptedRecord(slot, ballot, value):
            return ACCEPTED, _ACCEPTED.pack(slot, ballot.round, ballot.replica), value
        case PromiseRecord(ballot):
            return PROMISE, _PROMISE.pack(ballot.round, ballot.replica), b""
        case ChosenRecord(upto):
            return CHOSEN, _NUMBER.pack(upto), b""
        case StartRecord(start):
            return START, _NUMBER.pack(start), b""
        case GoesOnRecord(segment):
            return GOES_ON, _NUMBER.pack(segment), b""
        case PeersRecord(peers):
            return PEERS, b"".join(_PEER.pack(*pair) for pair in peers), b""
        case _:
            assert_never(record)


def decode(data: bytes, offset: int, place: Place) -> Found | None:
    """The record at `offset` of the segment's bytes, or None where there is none whose bytes are right."""
    if offset < 0 or offset + RECORD_HEAD_BYTES > len(data):
        return None
    (crc,) = _CRC.unpack_from(data, offset)
    length, magic, version, cell, segment, stands, synced, previous, kind = _REST.unpack_from(data, offset + _CRC.size)
    end = offset + RECORD_HEAD_BYTES + length
    if magic != MAGIC or cell != place.cell or segment != place.segment or stands != offset or end > len(data):
        return None
    view = memoryview(data)
    if crc32(view[offset + _CRC.size : end], place.seed) != crc:
        return None
    if version != FORMAT or synced > offset:
        raise UnreadableBodyError(f"a record of format {version}; this build reads format {FORMAT}")
    return Found(_record(kind, data[offset + RECORD_HEAD_BYTES : end]), crc, synced, previous, end)


def _record(kind: int, body: bytes) -> LogRecord:
    try:
        if kind == ACCEPTED:
            slot, ballot_round, replica = _ACCEPTED.unpack_from(body)
            return AcceptedRecord(slot, Ballot(ballot_round, replica), body[_ACCEPTED.size :])
        if kind == PROMISE:
            ballot_round, replica = _PROMISE.unpack(body)
            return PromiseRecord(Ballot(ballot_round, replica))
        if kind == CHOSEN:
            return ChosenRecord(_NUMBER.unpack(body)[0])
        if kind == START:
            return StartRecord(_NUMBER.unpack(body)[0])
        if kind == GOES_ON:
            return GoesOnRecord(_NUMBER.unpack(body)[0])
        if kind == PEERS:
            return PeersRecord(tuple(_PEER.iter_unpack(body)))
    except struct.error:
        raise UnreadableBodyError(f"a record of type {kind} with a body of {len(body)} bytes") from None
    raise UnreadableBodyError(f"a record of type {kind}, unknown to this build")


def synced_beyond(data: bytes, start: int, place: Place) -> int:
    """How far the log was durable by the word of any right record from `start` on, at whatever place it stands."""
    mark = _MARK.pack(MAGIC, FORMAT, place.cell, place.segment)
    furthest = 0
    at = data.find(mark, start + _MARK_AT)
    while at >= 0:
        found = decode(data, at - _MARK_AT, place)
        if found is not None:
            furthest = max(furthest, found.synced)
        at = data.find(mark, at + 1)
    return furthest
