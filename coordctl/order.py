"""What `lock` was asked to do, and the arithmetic of time that keeper and front share. PURE but for reading the clock.

Deadlines are in seconds of one clock that counts suspended time (CLOCK_BOOTTIME where there is one), the same in both
processes. The kill needs `kill_after` between TERM and KILL and `KILL_SECONDS` for the rest; so it begins that much
before the deadline, and the lock-delay, which is the part of the deadline that outlives the lease, must not be shorter
than `kill_after`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

from coordctl.errors import Exit, Failure

KILL_SECONDS = 0.5  # from KILL until the last of the family is gone
STOP_SECONDS = 1.0  # how long before the deadline a lock without a command is given up
BEAT_SECONDS = 0.5  # each process shows the other this often that it runs
SILENCE_SECONDS = 5.0  # a front that is silent for so long is taken for stopped
GIVE_UP_SECONDS = 5.0  # a family that KILL has not ended after this is reported, not waited for
RELEASE_SECONDS = 5.0  # how long the front waits at the end until the lock is free
NAMES_MAX = 3  # of several locks, in a line for people


@dataclass(frozen=True, slots=True)
class Connection:
    """The global options that a client needs."""

    endpoints: tuple[str, ...] | None
    cell: str | None
    timeout: float


@dataclass(frozen=True, slots=True)
class Order:
    """One `lock` command line; times in seconds. `wait` None: for ever, 0: try once."""

    paths: tuple[str, ...]
    mode: Literal["exclusive", "shared", "semaphore"]
    wait: float | None
    lock_delay: float
    lease: float
    kill_after: float
    not_acquired_exit: int
    command: tuple[str, ...]
    connection: Connection
    quiet: bool = False
    verbose: bool = False
    permits: int = 0  # of a semaphore
    value: bytes | None = None  # what the holder writes into the file (elect), guarded by its sequencer

    @property
    def name(self) -> str:
        """The locks, for people."""
        shown = ", ".join(self.paths[:NAMES_MAX])
        more = len(self.paths) - NAMES_MAX
        return f"{shown} and {more} more" if more > 0 else shown

    def check(self) -> None:
        """Refuses (exit 2) times under which the command could outlive its lock."""
        if self.command and self.lock_delay < self.kill_after:
            raise Failure(
                f"--lock-delay ({seconds(self.lock_delay)}) is shorter than --kill-after ({seconds(self.kill_after)}):"
                " the command could outlive the lock; raise the first or lower the second",
                Exit.USAGE,
            )

    def term_at(self, deadline: float) -> float:
        """When TERM must be sent at the latest; without a command, when the lock is not to be believed any more."""
        return deadline - (KILL_SECONDS + self.kill_after if self.command else STOP_SECONDS)

    def kill_at(self, deadline: float, term_sent: float) -> float:
        """When KILL follows a TERM that was sent at `term_sent`."""
        return min(term_sent + self.kill_after, deadline - KILL_SECONDS)


def now() -> float:
    """Seconds of the clock of deadlines."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


def seconds(value: float) -> str:
    """1.5 -> '1.5s', as people read durations."""
    return f"{value:.3f}".rstrip("0").rstrip(".") + "s"
