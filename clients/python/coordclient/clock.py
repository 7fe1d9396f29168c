"""The clocks of the client: the one that counts suspended time first, then every other that could notice a gap.

`CLOCK_BOOTTIME` counts the time that the machine was suspended; where there is none (macOS, Windows) the monotonic
clock comes first and the wall clock is what notices a suspend. What is made of several readings: `coordclient.session`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial

from coordclient.session import Reading

if sys.platform == "linux":
    _BOOT, _WALL = time.CLOCK_BOOTTIME, time.CLOCK_REALTIME

    def now_ms() -> int:
        """The first clock, in ms."""
        return time.clock_gettime_ns(_BOOT) // 1_000_000

    def read() -> Reading:
        """All clocks at this moment, in ms."""
        return time.clock_gettime_ns(_BOOT) // 1_000_000, time.clock_gettime_ns(_WALL) // 1_000_000

    _FIRST_NS: Callable[[], int] = partial(time.clock_gettime_ns, _BOOT)
else:
    _FIRST_NS = time.monotonic_ns

    def now_ms() -> int:
        """The first clock, in ms."""
        return time.monotonic_ns() // 1_000_000

    def read() -> Reading:
        """All clocks at this moment, in ms."""
        return time.monotonic_ns() // 1_000_000, time.time_ns() // 1_000_000


def now() -> float:
    """The clock of `Lock.deadline`, in seconds: `CLOCK_BOOTTIME` where there is one, else the monotonic clock."""
    return now_ms() / 1_000


def in_ns(clocks: Callable[[], Reading]) -> tuple[Callable[[], int], Callable[[], int]]:
    """The same two clocks in ns, one by one: nothing but calls of C functions where `clocks` is `read`."""
    if clocks is read:
        return _FIRST_NS, time.time_ns
    return lambda: clocks()[0] * 1_000_000, lambda: clocks()[1] * 1_000_000
