"""msgpack for everything that travels or is stored; msgspec, where installed, makes and reads the same bytes faster.

Decoding is hostile-proof: whatever the bytes are, the answer is a value or `Malformed`.
"""

from __future__ import annotations

from typing import Any

import msgpack

try:
    import msgspec
except ImportError:  # the extra `speed` is not installed
    msgspec = None  # type: ignore[assignment]

DEPTH_MAX = 32


class Malformed(ValueError):
    """The bytes are not one whole msgpack value within the limits."""


def reference_encode(value: object) -> bytes:
    """The msgpack bytes of `value` by the reference library; a test compares `encode` with it."""
    packed = msgpack.packb(value, use_bin_type=True)
    if packed is None:
        raise AssertionError("packb returns bytes")
    return packed


def reference_decode(data: bytes) -> Any:
    """One whole msgpack value by the reference library."""
    try:
        return msgpack.unpackb(data, raw=False, strict_map_key=False)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise Malformed(f"not msgpack: {type(error).__name__}: {error}") from None


if msgspec is None:
    encode = reference_encode
    decode = reference_decode
else:
    encode = msgspec.msgpack.Encoder().encode
    _decoder = msgspec.msgpack.Decoder()

    def decode(data: bytes) -> Any:
        """One whole msgpack value; `Malformed` otherwise."""
        try:
            return _decoder.decode(data)
        except (ValueError, TypeError, RecursionError) as error:
            raise Malformed(f"not msgpack: {type(error).__name__}: {error}") from None
