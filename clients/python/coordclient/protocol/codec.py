"""msgpack for everything that travels or is stored; msgspec, where installed, makes and reads the same bytes faster.

Decoding is hostile-proof: whatever the bytes are, the answer is a value or `Malformed`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack

msgspec: Any
try:
    import msgspec
except ImportError:  # the extra `speed` is not installed
    msgspec = None

DEPTH_MAX = 32


class Malformed(ValueError):
    """The bytes are not one whole msgpack value within the limits."""


def reference_encode(value: object) -> bytes:
    """The msgpack bytes of `value` by the reference library; a test compares `encode` with it."""
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def reference_decode(data: bytes) -> Any:
    """One whole msgpack value by the reference library."""
    try:
        return msgpack.unpackb(data, raw=False, strict_map_key=False)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise Malformed(f"not msgpack: {type(error).__name__}: {error}") from None


def _fast_decode(data: bytes) -> Any:
    """One whole msgpack value; `Malformed` otherwise."""
    try:
        return _decoder.decode(data)
    except (ValueError, TypeError, RecursionError) as error:
        raise Malformed(f"not msgpack: {type(error).__name__}: {error}") from None


encode: Callable[[object], bytes] = reference_encode
decode: Callable[[bytes], Any] = reference_decode
if msgspec is not None:
    _decoder = msgspec.msgpack.Decoder()
    encode = msgspec.msgpack.Encoder().encode
    decode = _fast_decode
