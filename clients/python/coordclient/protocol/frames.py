"""Frames of a channel: several per WebSocket message, each a 4-byte big-endian length and one msgpack array.

| direction | frame |
|---|---|
| client, first of all | `[CHANNEL_VERSION, cell ("" for any), client: map of texts]` (the hello) |
| server, first of all | `[CHANNEL_VERSION, cell, replica, master: id or nil, master_address: text or nil]` |
| client | `[call, operation, arguments, acked]`: every call below acked is answered (waiting acquires aside) |
| server | `[call, result]`, or `[call, nil, error]` with error = {"code", "message", ...}: the last answer to a call |
| server | `[call, result, nil, true]`: one answer of several, more follow |

Call numbers start at 1 and rise within a session; a retry has the number of the first try. Reads, `attach` and
KeepAlives take numbers from the same counter. Call 0 in a server frame speaks of the whole channel: an error there is
the last frame before the server closes.
"""

from __future__ import annotations

from coordclient.protocol.codec import encode

CHANNEL_VERSION = 1
FRAME_BYTES_MAX = 512 * 1024
MESSAGE_BYTES_MAX = 1024 * 1024
_INT_BYTES = {0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9}  # of msgpack's numbers above 127, by their first byte


class BadFrames(ValueError):
    """A WebSocket message is not a sequence of whole frames within the limits."""


def frame(value: object) -> bytes:
    """One frame."""
    payload = encode(value)
    return len(payload).to_bytes(4, "big") + payload


def stream_frame(call: int, payload: bytes) -> bytes:
    """The frame `[call, result, nil, true]`; `payload` is the encoded result, the same for any number of calls."""
    head = b"\x94" + encode(call)
    return b"".join(((len(head) + len(payload) + 2).to_bytes(4, "big"), head, payload, b"\xc0\xc3"))


def split_frames(message: bytes, frame_bytes_max: int = FRAME_BYTES_MAX) -> list[bytes]:
    """The payloads of all frames in one WebSocket message; `BadFrames` otherwise."""
    payloads: list[bytes] = []
    position, end = 0, len(message)
    while position < end:
        start = position + 4
        size = int.from_bytes(message[position:start], "big")
        position = start + size
        if size > frame_bytes_max:
            raise BadFrames(f"a frame of {size} bytes; the limit is {frame_bytes_max}")
        if start > end or position > end:
            raise BadFrames("the message ends in the middle of a frame")
        payloads.append(message[start:position])
    return payloads


def split_push(payload: bytes) -> tuple[int, bytes] | None:
    """(call, the bytes of the result) of a frame that is one answer of several; None for any other frame.

    Many calls may get the same result at once: whoever compares its bytes with the last ones decodes it once.
    """
    if payload[:1] != b"\x94" or payload[-2:] != b"\xc0\xc3":
        return None
    size = _INT_BYTES.get(payload[1], 0) if payload[1] > 0x7F else 1
    start = 1 + size
    if not size or start >= len(payload) - 2:
        return None
    return int.from_bytes(payload[2 if size > 1 else 1 : start], "big"), payload[start:-2]


def websocket_header(size: int, mask: bytes = b"") -> bytes:
    """The header of one whole binary WebSocket message of `size` bytes [RFC 6455 5.2]; `mask` is the client's key."""
    masked = 0x80 if mask else 0
    if size < 126:
        return bytes((0x82, masked | size)) + mask
    if size < 65536:
        return bytes((0x82, masked | 126)) + size.to_bytes(2, "big") + mask
    return bytes((0x82, masked | 127)) + size.to_bytes(8, "big") + mask
