"""The clocks of the client: the one that counts suspended time first, then every other that could notice a gap.

`CLOCK_BOOTTIME` counts the time that the machine was suspended; where there is none (macOS, Windows) the monotonic
clock comes first and the wall clock is what notices a suspend. What is made of several readings: `coordclient.session`.
"""

from __future__ import annotations

import sys
import time

from coordclient.session import Reading

if sys.platform == "linux":
    _BOOT, _WALL = time.CLOCK_BOOTTIME, time.CLOCK_REALTIME

    def now_ms() -> int:
        """The first clock, in ms."""
        return time.clock_gettime_ns(_BOOT) // 1_000_000

    def read() -> Reading:
        """All clocks at this moment, in ms."""
        return time.clock_gettime_ns(_BOOT) // 1_000_000, time.clock_gettime_ns(_WALL) // 1_000_000
else:

    def now_ms() -> int:
        """The first clock, in ms."""
        return time.monotonic_ns() // 1_000_000

    def read() -> Reading:
        """All clocks at this moment, in ms."""
        return time.monotonic_ns() // 1_000_000, time.time_ns() // 1_000_000


def now() -> float:
    """The clock of `Lock.deadline`, in seconds: `CLOCK_BOOTTIME` where there is one, else the monotonic clock."""
    return now_ms() / 1_000
