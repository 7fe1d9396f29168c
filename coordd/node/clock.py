"""The two clocks of a replica. Nothing else in the daemon reads time for a decision.

`now_ms` counts suspended time where the system has such a clock (CLOCK_BOOTTIME on Linux): a machine that wakes up must
not believe in leases from before. Elsewhere it is the monotonic clock, and a suspended machine's leases are not safe.
`wall_ms` is for people, never for decisions.
"""

from __future__ import annotations

import time

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_NS_PER_MS = 1_000_000


def now_ms() -> int:
    """Milliseconds of the clock that leases count on; rises, its zero means nothing."""
    return time.clock_gettime_ns(_CLOCK) // _NS_PER_MS


def wall_ms() -> int:
    """Milliseconds since 1970 by the wall clock."""
    return time.time_ns() // _NS_PER_MS
