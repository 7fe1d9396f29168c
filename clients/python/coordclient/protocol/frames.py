"""Frames of a channel: several per WebSocket message, each a 4-byte big-endian length and one msgpack array.

| direction | frame |
|---|---|
| client, first of all | `[CHANNEL_VERSION, cell ("" for any), client: map of texts]` (the hello) |
| server, first of all | `[CHANNEL_VERSION, cell, replica, master: id or nil, master_address: text or nil]` |
| client | `[call, operation, arguments, acked]`: acked = every call below it has been answered (waiting acquires aside) |
| server | `[call, result]`, or `[call, nil, error]` with error = {"code", "message", ...} |

Call numbers start at 1 and rise within a session; a retry has the number of the first try. Reads, `attach` and
KeepAlives take numbers from the same counter. Call 0 in a server frame speaks of the whole channel: an error there is
the last frame before the server closes.
"""

from __future__ import annotations

from coordclient.protocol.codec import encode

CHANNEL_VERSION = 1
FRAME_BYTES_MAX = 512 * 1024
MESSAGE_BYTES_MAX = 1024 * 1024


class BadFrames(ValueError):
    """A WebSocket message is not a sequence of whole frames within the limits."""


def frame(value: object) -> bytes:
    """One frame."""
    payload = encode(value)
    return len(payload).to_bytes(4, "big") + payload


def split_frames(message: bytes) -> list[bytes]:
    """The payloads of all frames in one WebSocket message; `BadFrames` otherwise."""
    payloads: list[bytes] = []
    position, end = 0, len(message)
    while position < end:
        start = position + 4
        size = int.from_bytes(message[position:start], "big")
        position = start + size
        if size > FRAME_BYTES_MAX:
            raise BadFrames(f"a frame of {size} bytes; the limit is {FRAME_BYTES_MAX}")
        if start > end or position > end:
            raise BadFrames("the message ends in the middle of a frame")
        payloads.append(message[start:position])
    return payloads
