"""What one seed is made of. The defaults are a calm cell in which nothing breaks; `draw` mixes others.

A fault's figure in `faults` is the mean time between two of its kind, in milliseconds; a kind that is missing does not
happen in this run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from coordd.paxos.membership import Membership


@dataclass(frozen=True, slots=True)
class Swarm:
    """Times in milliseconds or microseconds as the names say."""

    replicas: int = 3
    clients: int = 2
    posters: int = 0  # more clients, who speak POST and have their KeepAlives held
    caches: float = 0.0  # share of clients that read through a cache
    watchers: int = 0  # more clients, who do nothing but watch
    safety_ms: int = 20_000  # the faults last so long at most
    safety_events: int = 1_000_000  # and end after so many events, but not before a quarter of that time
    lease_ms: int = 1_000
    drift_ppm: int = 10_000  # the bound that replicas are configured with
    clock_ppm: int = 0  # how far a clock's rate may be from true; two of them together keep the bound, or not
    tick_ms: int = 50
    latency_us: tuple[int, int] = (200, 1_000)
    tail_rate: float = 0.0  # share of messages that take up to `tail_us`
    tail_us: int = 500_000
    loss: float = 0.0
    duplicate: float = 0.0
    ordered: bool = True  # links keep the order of what they deliver
    sync_us: tuple[int, int] = (500, 1_000)
    sync_helper: bool = False  # syncs run beside the turns (a helper process) and not inside them
    sync_early: float = 0.0  # share of helper syncs that reach the disk at their beginning, not at their end
    gap_rate: float = 0.0  # share of turns with a pause between taking the inputs and reading the clock
    busy_us: int = 0  # a turn that leaves something to do at once takes up to so long
    down_ms: tuple[int, int] = (5, 200)
    snapshot_bytes: int = 50_000
    kept_slots: int = 1_000  # below a snapshot, in memory, for peers that are a little behind
    learn_slots: int = 1_000  # in one answer
    message_bytes: int = 100_000  # where a Promise or an answer is cut into parts
    changes_kept: int = 10_000  # in the state, for watchers and for people
    changes_bytes: int = 8 * 1024 * 1024
    watch_window: int = 1_024  # events that a watcher may have to acknowledge; other numbers go with it
    requests_max: int = 16_384  # that a replica holds at once; one more is refused
    session_lease_ms: tuple[int, ...] = (2_000,)
    think_ms: int = 150  # mean pause of a worker between two things
    long_holds: float = 0.0  # share of holds that last for seconds
    workers: tuple[str, ...] = ("registers", "locks")  # what each client process does, see `work`
    stuck: float = 0.0  # share of an operator's acts beside which a voter promises a ballot that nobody has heard of
    faults: Mapping[str, int] = field(default_factory=dict)

    def membership(self) -> Membership:
        """With which the cell begins."""
        return Membership(1, tuple(range(1, self.replicas + 1)), lease_ms=self.lease_ms)

    def faults_over(self, now_us: int, events: int) -> bool:
        """Whether the safety phase has been long enough."""
        now_ms = now_us // 1000
        return now_ms >= self.safety_ms or (events >= self.safety_events and 4 * now_ms >= self.safety_ms)

    @property
    def clocks_kept(self) -> bool:
        """False: rates differ by more than the bound, and what needs clocks is not promised."""
        return 2 * self.clock_ppm <= self.drift_ppm
