"""What a run did: a quiet run proves nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Report:
    """Figures of one finished run."""

    seed: int
    events: int
    virtual_ms: int
    reigns: int
    slots: int
    acknowledged: int
    faults: Counter[str]

    @classmethod
    def of(cls, run: Any) -> Report:
        """From a finished harness."""
        return cls(
            seed=run.world.seed,
            events=run.world.events,
            virtual_ms=run.world.now_us // 1000,
            reigns=run.mastership.reigns,
            slots=len(run.chosen.values),
            acknowledged=run.answers(),
            faults=run.nemesis.counts,
        )
