"""Every number of the engine. A limit is refused with `overloaded`; nothing was done then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from coordd.machine.commands import BATCH_BYTES_MAX, BATCH_COMMANDS_MAX
from coordd.paxos.state import PaxosSettings


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Times in milliseconds, sizes in bytes. The driver steps at least every `tick_ms`."""

    paxos: PaxosSettings
    tick_ms: int = 100
    stall_ms: int = 300  # a longer gap between two steps was the replica's own fault and is charged to nobody
    patience_ms: int = 3_000  # a call that could not even be begun for so long is answered `unavailable`
    batch_commands_max: int = BATCH_COMMANDS_MAX
    batch_bytes_max: int = BATCH_BYTES_MAX - 64  # room for the header of the batch
    queue_commands_max: int = 16_384  # commands not yet proposed
    queue_bytes_max: int = 32 * 1024 * 1024
    waiting_calls_max: int = 16_384  # reads and KeepAlives that wait for a confirming round
    waiting_bytes_max: int = 8 * 1024 * 1024
    requests_max: int = 131_072  # everything unanswered; three quarters of it may be what waits for others
    decisions_per_step_max: int = 128  # expiries and ends of lock-delays proposed in one step
    cached_paths_per_session_max: int = 10_000
    cached_paths_max: int = 1_000_000  # of all sessions together
    changes_max: int = 16  # changes of the cell itself that wait for their turn
    caught_up_slots: int = 256  # a learner that lacks more is not promoted, a voter that lacks more not made master
    watches_max: int = 100_000
    watches_per_channel_max: int = 10_000
    addresses: Mapping[int, str] = field(default_factory=dict)  # of the members that the configuration names
    snapshot_log_bytes: int = 64 * 1024 * 1024  # log applied since the last snapshot that makes a new one due

    def __post_init__(self) -> None:
        assert 0 < self.tick_ms < self.stall_ms, "a tick that is on time must not count as a stall"
        assert 1 <= self.decisions_per_step_max < self.batch_commands_max <= BATCH_COMMANDS_MAX
        assert 0 < self.batch_bytes_max <= BATCH_BYTES_MAX
        assert min(self.patience_ms, self.queue_commands_max, self.waiting_calls_max, self.requests_max) > 0
