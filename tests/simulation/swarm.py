"""What one seed draws for its cell. Every seed has its own mix, so that a heavy fault does not hide the light ones.

A fault's figure in `faults` is the mean time between two of its kind, in milliseconds; a kind that is missing does not
happen in this seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

# kind -> (weight in the draw, mean ms between two at the most frequent, the same at the rarest)
FAULT_KINDS: Mapping[str, tuple[float, int, int]] = {
    "kill": (0.6, 1_500, 12_000),  # kill -9: unsynced bytes stay in the page cache
    "power": (0.6, 1_500, 12_000),  # power cut of one machine: unsynced sectors lost in any subset
    "power_all": (0.15, 6_000, 20_000),  # every machine at once
    "kill_power": (0.2, 4_000, 15_000),  # a kill -9, a restart, and then a power cut before anything is settled
    "pause": (0.5, 800, 8_000),
    "cut": (0.7, 1_000, 8_000),
    "replay": (0.3, 100, 2_000),  # old peer messages come once more
    "slow_sync": (0.3, 2_000, 10_000),
    "failed_sync_power": (0.2, 4_000, 15_000),  # a failed sync, a restart, and then a power cut
    "failed_sync": (0.15, 5_000, 20_000),
    "cut_call": (0.25, 2_000, 10_000),
    "fail_call": (0.1, 5_000, 20_000),
    "full": (0.15, 5_000, 20_000),
    "rate": (0.4, 1_000, 10_000),
    "wall": (0.3, 1_000, 10_000),
    "hand_over": (0.3, 2_000, 12_000),
    "client_pause": (0.4, 1_500, 10_000),
    "client_break": (0.5, 500, 8_000),
    "client_gone": (0.4, 3_000, 15_000),
    "client_close": (0.3, 2_000, 12_000),  # in the middle of its work
    "client_cut": (0.3, 1_500, 10_000),
    "client_late_frames": (0.3, 1_500, 8_000),
}


LOCK_WORKERS = ("locks", "shared locks", "impatient")
WORKERS = ("registers", "registers", "tokens", "ephemerals", *LOCK_WORKERS)


@dataclass(frozen=True, slots=True)
class Swarm:
    """The draw of one seed. Times in milliseconds or microseconds as the names say."""

    replicas: int
    clients: int
    safety_ms: int
    lease_ms: int
    drift_ppm: int
    tick_ms: int
    latency_us: tuple[int, int]
    tail_rate: float  # share of messages that take up to `tail_us`
    tail_us: int
    loss: float
    duplicate: float
    ordered: bool  # links keep the order of what they deliver
    sync_us: tuple[int, int]
    sync_helper: bool  # syncs run beside the turns (a helper process) and not inside them
    sync_early: float  # share of helper syncs that reach the disk at their beginning, not at their end
    gap_rate: float  # share of turns with a pause between taking the inputs and reading the clock
    down_ms: tuple[int, int]
    snapshot_bytes: int
    kept_slots: int  # below a snapshot, in memory, for peers that are a little behind
    learn_slots: int  # in one answer
    message_bytes: int  # where a Promise or an answer is cut into parts
    session_lease_ms: tuple[int, ...]
    think_ms: int  # mean pause of a worker between two things
    long_holds: float  # share of holds that last for seconds
    workers: tuple[str, ...]  # what each client process does, see `work`
    faults: Mapping[str, int] = field(default_factory=dict)

    def words(self) -> str:
        """One line for the summary of a failing seed."""
        faults = ", ".join(f"{kind}/{mean_ms}ms" for kind, mean_ms in self.faults.items())
        return (
            f"{self.replicas} replicas, {self.clients} clients, {self.safety_ms} ms, lease {self.lease_ms} ms, "
            f"latency {self.latency_us} us, loss {self.loss:.3f}, duplicate {self.duplicate:.3f}, "
            f"{'ordered' if self.ordered else 'unordered'} links, sync {self.sync_us} us, faults: {faults or 'none'}"
        )


def draw(chance: Random, *, safety_ms: int = 20_000, drift_ppm: int = 10_000) -> Swarm:
    """The mix of one seed. `drift_ppm` may be anything where no client, which has a bound of its own, takes part."""
    quick = chance.random() < 0.5
    calm = chance.choice((0.33, 1.0, 2.0, 4.0))
    low_us = chance.choice((50, 200, 1_000, 5_000))
    high_us = low_us * chance.choice((2, 5, 20))
    sync_low_us = chance.choice((100, 500, 2_000))
    sync_high_us = sync_low_us * chance.choice((2, 10, 40))
    # A lease that a few round trips with their syncs do not fill; what is set up otherwise elects for ever.
    lease_ms = max(chance.choice((300, 600, 1_000, 1_500)), 6 * (2 * high_us + sync_high_us) // 1_000)
    faults = {}
    for kind in _kinds(chance):
        _, often_ms, seldom_ms = FAULT_KINDS[kind]
        faults[kind] = int(chance.randint(often_ms, seldom_ms) * calm)
    return Swarm(
        replicas=chance.choices((1, 2, 3, 4, 5), (8, 3, 60, 4, 25))[0],
        clients=chance.randint(2, 6),
        safety_ms=safety_ms,
        lease_ms=lease_ms,
        drift_ppm=drift_ppm,
        tick_ms=chance.choice((20, 50, 100)),
        latency_us=(low_us, high_us),
        tail_rate=0.0 if quick else chance.choice((0.001, 0.01, 0.05)),
        tail_us=chance.choice((50_000, 500_000, 3_000_000)),
        loss=chance.choice((0.0, 0.0, 0.005, 0.03, 0.1)),
        duplicate=chance.choice((0.0, 0.0, 0.01, 0.05)),
        ordered=chance.random() < 0.5,
        sync_us=(sync_low_us, sync_high_us),
        sync_helper=chance.random() < 0.5,
        sync_early=chance.choice((0.0, 0.5, 1.0)),
        gap_rate=chance.choice((0.0, 0.0, 0.002, 0.01)),
        down_ms=chance.choice(((5, 200), (5, 3_000), (500, 6_000))),
        snapshot_bytes=chance.choice((1_000, 5_000, 50_000)),
        kept_slots=chance.choice((1, 10, 1_000)),
        learn_slots=chance.choice((3, 1_000)),
        message_bytes=chance.choice((200, 100_000)),
        session_lease_ms=chance.choice(((1_000,), (1_000, 3_000), (2_000, 6_000), (12_000,))),
        think_ms=chance.choice((50, 150, 400)),
        long_holds=chance.choice((0.0, 0.1, 0.5)),
        workers=(chance.choice(LOCK_WORKERS), *chance.sample(WORKERS, chance.randint(1, 3))),
        faults=faults,
    )


def _kinds(chance: Random) -> list[str]:
    """A few kinds only: a seed with all of them does nothing but recover."""
    kinds: list[str] = []
    for of_clients, count in ((False, chance.choice((1, 2, 3, 4, 6))), (True, chance.choice((0, 1, 1, 2, 3)))):
        names = [name for name in FAULT_KINDS if name.startswith("client_") == of_clients]
        weights = [FAULT_KINDS[name][0] for name in names]
        chosen = set(chance.choices(names, weights, k=count))
        kinds += [name for name in names if name in chosen]
    return kinds
