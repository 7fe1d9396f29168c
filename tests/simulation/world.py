"""True time, the heap of events, chance, and the clocks of machines.

True time is in microseconds and known to nobody but the checkers. Each machine reads a clock of its own, in
milliseconds, with an offset, a rate that may change, and a wall clock that may jump.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Any


class Violation(Exception):
    """A promise was broken; says by which checker, in which seed, at what true time."""

    def __init__(self, checker: str, seed: int, now_us: int, text: str) -> None:
        super().__init__(f"[{checker}] seed {seed} at {now_us / 1e6:.6f} s: {text}")
        self.checker = checker
        self.seed = seed
        self.now_us = now_us
        self.text = text


class Trace:
    """The story of a run: kept as lines, or only as a hash, or not at all."""

    def __init__(self, *, keep: bool = False, hashing: bool = False) -> None:
        self.on = keep or hashing
        self.lines: list[str] | None = [] if keep else None
        self._hash = hashlib.blake2b(digest_size=16)

    def add(self, now_us: int, who: object, text: str) -> None:
        """One line; callers look at `on` first, so that an untraced run builds no text."""
        line = f"{now_us / 1e6:10.6f} {who!s:>4} {text}"
        self._hash.update(line.encode())
        if self.lines is not None:
            self.lines.append(line)

    def digest(self) -> str:
        """Equal for equal stories."""
        return self._hash.hexdigest()


class World:
    """Virtual time. `after` puts an action on the heap, `run` takes them off in order; ties go by age."""

    def __init__(self, seed: int, trace: Trace | None = None) -> None:
        self.seed = seed
        self.now_us = 0
        self.events = 0
        self.trace = trace or Trace()
        self.tracing = self.trace.on
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0

    def chance(self, concern: str) -> Random:
        """A generator of its own for each concern, so that one more draw in one does not change all the others."""
        return Random(f"{self.seed}/{concern}")

    def after(self, delay_us: int, action: Callable[..., None], *arguments: Any) -> None:
        """Run `action(*arguments)` after `delay_us` of true time."""
        assert delay_us >= 0
        self._number += 1
        heappush(self._heap, (self.now_us + delay_us, self._number, action, arguments))

    def run(self, until_us: int) -> None:
        """Everything up to `until_us`; afterwards it is `until_us`."""
        heap = self._heap
        while heap and heap[0][0] <= until_us:
            at_us, _, action, arguments = heappop(heap)
            assert at_us >= self.now_us
            self.now_us = at_us
            self.events += 1
            action(*arguments)
        self.now_us = max(self.now_us, until_us)

    def tell(self, who: object, text: str) -> None:
        """A line of the story; call only when `tracing`."""
        self.trace.add(self.now_us, who, text)

    def violation(self, checker: str, text: str) -> Violation:
        """The exception for a broken promise, to be raised by the caller."""
        return Violation(checker, self.seed, self.now_us, text)


class Clock:
    """A machine's clock that counts suspended time, and its wall clock."""

    __slots__ = ("_anchor_us", "_base_us_m", "_rate", "_wall_offset_ms", "_world")

    def __init__(self, world: World, offset_ms: int, rate_ppm: int, wall_offset_ms: int = 0) -> None:
        self._world = world
        self._anchor_us = world.now_us
        self._base_us_m = offset_ms * 1000 * 1_000_000  # local microseconds, in millionths: rates leave no rounding
        self._rate = 1_000_000 + rate_ppm
        self._wall_offset_ms = wall_offset_ms

    def now_ms(self) -> int:
        """The local time."""
        return (self._base_us_m + (self._world.now_us - self._anchor_us) * self._rate) // 1_000_000_000

    def wall_ms(self) -> int:
        """What this machine takes for the time of day."""
        return 1_700_000_000_000 + self._world.now_us // 1000 + self._wall_offset_ms

    def set_rate(self, rate_ppm: int) -> None:
        """From now on the clock runs at this rate."""
        self._base_us_m += (self._world.now_us - self._anchor_us) * self._rate
        self._anchor_us = self._world.now_us
        self._rate = 1_000_000 + rate_ppm

    def step_wall(self, by_ms: int) -> None:
        """Somebody sets the wall clock."""
        self._wall_offset_ms += by_ms

    def true_us_until(self, local_ms: int) -> int:
        """How much true time passes until the clock shows `local_ms` (0: it already does), at the present rate."""
        left = local_ms * 1_000_000_000 - self._base_us_m - (self._world.now_us - self._anchor_us) * self._rate
        return max(0, -(-left // self._rate))
