"""The header of a log segment, format 2, and the names of the log's files.

A segment is a file of fixed size, `log-<number, 8 digits>`: one header block of 512 bytes, then records end to end,
then zeros. Numbers begin at 1 and have no gaps. All numbers in the header are little-endian:

| at | size | what |
|---|---|---|
| 0 | 8 | `coordlog` |
| 8 | 4 | format version: 2 |
| 12 | 8 | cell id |
| 20 | 4 | replica |
| 24 | 4 | number of the segment |
| 28 | 4 | size of the file |
| 32 | 8 | nonce |
| 40 | 12 | promised ballot when the segment was begun: round 8, replica 4 |
| 52 | 8 | start number |
| 60 | 8 | highest slot with a record in any earlier segment |
| 68 | 4 | where the segment before ends |
| 72 | 4 | CRC of the last record of the segment before |
| 76 | 4 | CRC-32 of bytes 0 to 75 |
| 80 | 384 | peers: up to 32 times replica 4 and start number 8, the rest zeros |
| 464 | 4 | CRC-32 of bytes 0 to 75 and 80 to 463 |

Format 1 ends behind byte 79. Promise, start number and peers stand here so that cutting the log never cuts them away.
The start number is without the directory's mark here, the peers' are with theirs. A header is written only when all
before it is durable, and is durable before the first record behind it is written; so a segment with a record has a
durable header, and a segment with a header proves that the one before was durable up to its end. In turn the last
record of a segment says that the next header is durable, and is durable before the first record behind that header.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from zlib import crc32

from coordd.paxos.ballot import Ballot
from coordd.paxos.state import PEERS_MAX
from coordd.storage.record import Place

FORMAT = 2
MAGIC = b"coordlog"
HEADER_BLOCK_BYTES = 512  # records begin in another sector, so a torn first record cannot take the header with it
SEGMENT_BYTES_MAX = 2**31
_HEADER = struct.Struct("<8sI8sIII8sQIQQII")
_PEER = struct.Struct("<IQ")
_CRC = struct.Struct("<I")
_FORMAT_1_BYTES = _HEADER.size + _CRC.size
_PEERS_BYTES = PEERS_MAX * _PEER.size
HEADER_BYTES = _FORMAT_1_BYTES + _PEERS_BYTES + _CRC.size
assert (_FORMAT_1_BYTES, HEADER_BYTES) == (80, 468)


@dataclass(frozen=True, slots=True)
class Header:
    """What a segment says of itself. `peers`: see `PeersRecord`; None in one of format 1."""

    cell: bytes
    replica: int
    number: int
    size: int
    nonce: bytes
    promised: Ballot
    start: int
    slots_before: int
    end_before: int
    crc_before: int
    peers: tuple[tuple[int, int], ...] | None = ()

    def encode(self) -> bytes:
        """The first bytes of the segment, `HEADER_BYTES` of them where it is not of format 1."""
        fixed = _HEADER.pack(
            MAGIC,
            1 if self.peers is None else FORMAT,
            self.cell,
            self.replica,
            self.number,
            self.size,
            self.nonce,
            self.promised.round,
            self.promised.replica,
            self.start,
            self.slots_before,
            self.end_before,
            self.crc_before,
        )
        crc = crc32(fixed)
        if self.peers is None:
            return fixed + _CRC.pack(crc)
        peers = b"".join(_PEER.pack(*pair) for pair in self.peers).ljust(_PEERS_BYTES, b"\0")
        return fixed + _CRC.pack(crc) + peers + _CRC.pack(crc32(peers, crc))

    @property
    def place(self) -> Place:
        """Where the records of this segment belong."""
        return Place(self.cell, self.number, _CRC.unpack(self.encode()[-_CRC.size :])[0])


def other_format(data: bytes) -> int | None:
    """The version of a header that is right but for a version unknown here, else None."""
    if len(data) < _FORMAT_1_BYTES or data[:8] != MAGIC:
        return None
    (crc,) = _CRC.unpack_from(data, _HEADER.size)
    version: int = struct.unpack_from("<I", data, 8)[0]
    return version if version not in (1, FORMAT) and crc32(data[: _HEADER.size]) == crc else None


def decode_header(data: bytes) -> Header | None:
    """The header at the beginning of `data`, or None where its bytes are not right."""
    if len(data) < _FORMAT_1_BYTES or crc32(data[: _HEADER.size]) != _CRC.unpack_from(data, _HEADER.size)[0]:
        return None
    magic, version, cell, replica, number, size, nonce, ballot_round, promiser, start, slots, end, crc = (
        _HEADER.unpack_from(data)
    )
    if magic != MAGIC or version not in (1, FORMAT):
        return None
    peers = None if version == 1 else _decode_peers(data)
    if version == FORMAT and peers is None:
        return None
    promised = Ballot(ballot_round, promiser)
    return Header(cell, replica, number, size, nonce, promised, start, slots, end, crc, peers)


def _decode_peers(data: bytes) -> tuple[tuple[int, int], ...] | None:
    peers = data[_FORMAT_1_BYTES : _FORMAT_1_BYTES + _PEERS_BYTES]
    crc = crc32(peers, crc32(data[: _HEADER.size]))  # one over both CRCs would be the same in every header
    if data[_FORMAT_1_BYTES + _PEERS_BYTES : HEADER_BYTES] != _CRC.pack(crc):
        return None
    return tuple(pair for pair in _PEER.iter_unpack(peers) if pair[0])


def segment_name(number: int) -> str:
    """The name of a segment's file."""
    return f"log-{number:08d}"


def segment_number(name: str) -> int | None:
    """The inverse of `segment_name`; None for any other name."""
    digits = name.removeprefix("log-")
    if name != digits and len(digits) >= 8 and digits.isascii() and digits.isdigit():
        number = int(digits)
        return number if number >= 1 and segment_name(number) == name else None
    return None
