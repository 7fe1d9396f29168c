"""What a campaign of seeds did, in a few lines."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tests.simulation.report import Report
from tests.simulation.runs import Outcome


@dataclass(slots=True)
class Tally:
    """The figures of one kind of run."""

    runs: int = 0
    failed: int = 0
    virtual_ms: int = 0
    reigns: int = 0
    answers: int = 0
    longest: int = 0
    events: list[int] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)

    def add(self, report: Report) -> None:
        """One more that kept all promises."""
        self.virtual_ms += report.virtual_ms
        self.reigns += report.reigns
        self.answers += report.acknowledged
        self.longest = max(self.longest, report.acknowledged)
        self.events.append(report.events)
        self.faults += report.faults

    def events_at(self, share: float) -> int:
        """That many events or fewer have this share of the runs."""
        return sorted(self.events)[int(share * (len(self.events) - 1))] if self.events else 0


class Summary:
    """Takes in outcomes; `lines` tells them."""

    def __init__(self) -> None:
        self.tallies: dict[str, Tally] = {}

    def add(self, outcome: Outcome) -> None:
        """One more run."""
        tally = self.tallies.setdefault(outcome.kind, Tally())
        tally.runs += 1
        if outcome.report is None:
            tally.failed += 1
        else:
            tally.add(outcome.report)

    @property
    def runs(self) -> int:
        """All of them."""
        return sum(tally.runs for tally in self.tallies.values())

    @property
    def failed(self) -> int:
        """Those in which a promise was broken."""
        return sum(tally.failed for tally in self.tallies.values())

    def lines(self, seconds: float) -> list[str]:
        """A table of the kinds, the faults, and a closing line."""
        heads = ("", "runs", *"events:least median most reigns answers most-in-one hours".split())
        rows = [heads, *(self._row(kind, tally) for kind, tally in self.tallies.items())]
        widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
        lines = [_aligned(row, widths) for row in rows]
        faults: Counter[str] = Counter()
        for tally in self.tallies.values():
            faults += tally.faults
        words = ", ".join(f"{name} {count:,}" for name, count in faults.most_common())
        lines.append(f"{faults.total():,} faults of {len(faults)} kinds: {words}")
        pace = f"{self.runs:,} runs in {seconds / 60:.1f} minutes, {self.runs / max(seconds, 1e-9) * 60:,.0f} a minute"
        lines.append(f"{pace}: {f'{self.failed} FAILED' if self.failed else 'no promise was broken'}")
        return lines

    @staticmethod
    def _row(kind: str, tally: Tally) -> tuple[str, ...]:
        least, median, most = (f"{tally.events_at(share):,}" for share in (0.0, 0.5, 1.0))
        hours = f"{tally.virtual_ms / 3_600_000:,.1f}"  # of virtual time
        figures = (f"{tally.reigns:,}", f"{tally.answers:,}", f"{tally.longest:,}", hours)
        return (kind, f"{tally.runs:,}", least, median, most, *figures)


def _aligned(row: tuple[str, ...], widths: list[int]) -> str:
    first, *others = (
        cell.ljust(width) if not at else cell.rjust(width)
        for at, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join((first, *others)).rstrip()
