"""What a run did and found, for people: faults, work, the longest unavailability, broken promises, the verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.nemesis.history import NOT_DONE, OK, UNKNOWN, History
from tests.nemesis.spans import Span, acknowledged_ns, longest_gap, overlapping

NS = 10**9
FOUND_SHOWN_MAX = 5
# A run that did less than this per minute proves nothing.
FLOOR_PER_MINUTE = {"faults": 5, "changes": 60, "increments": 10, "grants": 10, "reads": 30}


@dataclass(frozen=True, slots=True)
class Work:
    """What the clients did."""

    operations: Mapping[str, int]  # by client: operations that were answered
    outcomes: Mapping[str, int]  # ok, unknown, not_done, refused
    totals: Mapping[str, int]  # changes, increments, grants, reads
    expired: int
    fenced: int
    gap: Span
    gap_faults: tuple[str, ...]
    begun_ns: int


def tell(history: History) -> Work:
    """Count what the history holds."""
    outcomes = Counter(
        op.outcome if op.outcome in (OK, UNKNOWN, NOT_DONE) else "refused"
        for op in history.ops
        if not op.who.startswith("reader.")  # most of them ask a replica that is not the master
    )
    clients = Counter(
        op.who.partition(".")[0].partition("+")[0] for op in history.ops if op.outcome not in (UNKNOWN, NOT_DONE)
    )
    changes = acknowledged_ns(history)
    totals = {
        "changes": len(changes),
        "increments": sum(op.ok for op in history.of("increment")),
        "grants": len(history.noted("enter")),
        "reads": sum(op.ok for op in history.of("get")),
    }
    times = [note.at_ns for note in history.noted("begin", "closing") if note.who != "nemesis"]
    whole = Span(min(times, default=0), max(times, default=0))
    gap = longest_gap([at for at in changes if at < whole.end_ns], whole)
    faults = [note for note in history.noted("fault") if note.more["on"]]
    during = (note for note in faults if overlapping(Span(note.more["from_ns"], note.at_ns), gap))
    fenced = sum(not note.more["admitted"] for note in history.noted("append"))
    expired = sum(note.more["state"] == "expired" for note in history.noted("state"))
    gap_faults = tuple(dict.fromkeys(note.more["kind"] for note in during))
    return Work(clients, outcomes, totals, expired, fenced, gap, gap_faults, whole.begin_ns)


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that is printed at the end. `broken`: promise -> what contradicts it."""

    directory: Path
    seed: int
    seconds: float
    faults: Counter[str]
    not_done: Counter[str]
    missing: Mapping[str, str]
    broken: Mapping[str, Sequence[str]]
    work: Work
    traffic: Mapping[str, int]

    @property
    def quiet(self) -> list[str]:
        """What was too little, if anything."""
        done = {"faults": self.faults.total(), **self.work.totals}
        floors = {name: floor * self.seconds / 60 for name, floor in FLOOR_PER_MINUTE.items()}
        return [
            f"{done[name]} {name}, at least {floor:.0f} expected"
            for name, floor in floors.items()
            if done[name] < floor
        ]

    @property
    def exit_status(self) -> int:
        return 1 if self.broken or self.quiet else 0

    def lines(self) -> list[str]:
        """The report."""
        work = self.work
        lines = [f"{self.faults.total()} faults in {self.seconds:.0f} s, seed {self.seed}:"]
        lines += [f"  {count:4} x {kind}" for kind, count in sorted(self.faults.items())]
        lines += [f"       {kind}: {count} could not be done as things stood" for kind, count in self.not_done.items()]
        lines.append(
            "work: "
            + ", ".join(f"{count:,} {name}" for name, count in work.totals.items())
            + "; operations answered: "
            + ", ".join(f"{who} {count:,}" for who, count in sorted(work.operations.items()))
        )
        lines.append(
            f"      {work.outcomes.get(UNKNOWN, 0)} of unknown outcome, {work.outcomes.get(NOT_DONE, 0)} not done,"
            f" {work.outcomes.get('refused', 0)} refused; {work.expired} sessions expired; {work.fenced} late holders"
            f" refused by the fence; {self.traffic['connections']:,} connections, {self.traffic['bytes'] / 1e6:,.0f} MB"
        )
        lines.append(
            f"longest time without an acknowledged change: {work.gap.length_ns / NS:.1f} s, from"
            f" {(work.gap.begin_ns - work.begun_ns) / NS:.0f} s on ({', '.join(work.gap_faults) or 'no fault'})"
        )
        for promise, found in self.broken.items():
            lines.append(f"BROKEN: {promise}: {len(found)} times")
            lines += [f"  - {text}" for text in found[:FOUND_SHOWN_MAX]]
        lines += [f"not possible on this machine: {kind}: {why}" for kind, why in self.missing.items()]
        lines.append(f"logs and histories: {self.directory}")
        return [*lines, self.verdict()]

    def verdict(self) -> str:
        """The closing line."""
        if self.broken:
            return f"nemesis: {len(self.broken)} promises were broken"
        if self.quiet:
            return f"nemesis: refused, too quiet to prove anything: {'; '.join(self.quiet)}"
        if self.missing:
            return f"nemesis: incomplete: no promise was broken, {len(self.missing)} kinds of faults were not possible"
        return "nemesis: no promise was broken"
