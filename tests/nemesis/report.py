"""What a run did and found, for people: faults, work, service, broken promises, the verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from textwrap import wrap

from tests.nemesis.checks import CHECKS
from tests.nemesis.checks.service import LeftOut, left_out
from tests.nemesis.checks.watches import changes_in
from tests.nemesis.history import NOT_DONE, OK, UNKNOWN, History, client_of, process_of
from tests.nemesis.schedule import AREAS, BY_NAME
from tests.nemesis.spans import Span, acknowledged_ns, longest_gap, overlapping

NS = 10**9
FOUND_SHOWN_MAX = 5
WIDTH = 110
OUT_NS = NS  # so long without an acknowledged change counts as "out"
# A run that did less than this per minute proves nothing.
FLOOR_PER_MINUTE = {
    "faults": 5,
    "changes": 60,
    "increments": 10,
    "grants": 10,
    "reads": 30,
    "reads from a cache": 50,
    "transactions": 20,
    "events": 200,
}
FILES = {
    "report.txt": "this report",
    "history-*": "what each client process asked, was told and believed; history-nemesis: the faults, and the end",
    "log-*": "what each client process said besides",
    "cell/*.log": "what each replica said; cell/replica-*: its data (small-kept: of the one on the small disk)",
}


@dataclass(frozen=True, slots=True)
class Work:
    """What the clients did, and how they were served."""

    operations: Mapping[str, int]  # by client: operations that were answered
    processes: int  # of clients; a new one takes the place of each that was killed
    outcomes: Mapping[str, int]  # ok, unknown, not_done, refused
    totals: Mapping[str, int]  # what a floor is set for
    more: Mapping[str, int]  # what else was done, that no floor is set for
    expired: int
    fenced: int
    whole: Span
    gap: Span
    gap_faults: tuple[str, ...]
    out_ns: int  # the sum of all gaps that count
    left_out: LeftOut | None


def tell(history: History) -> Work:
    """Count what the history holds."""
    asked = [op for op in history.ops if not op.who.startswith("reader.")]  # most of those ask who is not the master
    outcomes = Counter(op.outcome if op.outcome in (OK, UNKNOWN, NOT_DONE) else "refused" for op in asked)
    clients = Counter(client_of(op.who) for op in asked if op.outcome not in (UNKNOWN, NOT_DONE))
    clients.pop("nemesis", None)
    changes = acknowledged_ns(history)
    times = [note.at_ns for note in history.noted("begin", "closing") if note.who != "nemesis"]
    whole = Span(min(times, default=0), max(times, default=0))
    moments = [whole.begin_ns, *(at for at in changes if at < whole.end_ns), whole.end_ns]
    gap = longest_gap(moments[1:-1], whole)
    faults = [note for note in history.noted("fault") if note.more["on"]]
    during = (note for note in faults if overlapping(Span(note.more["from_ns"], note.at_ns), gap))
    told = (line for note in history.noted("events") for line in note.more["batches"])
    return Work(
        operations=clients,
        processes=sum(note.who == process_of(note.who) for note in history.noted("begin")),
        outcomes=outcomes,
        totals={
            "changes": len(changes),
            "increments": sum(op.ok for op in history.of("increment")),
            "grants": len(history.noted("enter")),
            "reads": sum(op.ok for op in history.of("get", "look")),
            "reads from a cache": sum({note.who: note.more["hits"] for note in history.noted("cache")}.values()),
            "transactions": sum(op.ok for op in history.of("txn")),
            "events": sum(1 for line in told for _ in changes_in(line.partition(" ")[2])),
        },
        more={
            "resyncs of a watch": len(history.noted("resync")),
            "listings and looks at names": sum(op.ok for op in history.of("list", "has")),
            "other questions": sum(op.ok for op in history.of("ask")) + len(history.noted("asked")),
            "looks at a held lock": len(history.noted("look")),
        },
        expired=sum(note.more["state"] == "expired" for note in history.noted("state")),
        fenced=sum(not note.more["admitted"] for note in history.noted("append")),
        whole=whole,
        gap=gap,
        gap_faults=tuple(dict.fromkeys(note.more["kind"] for note in during)),
        out_ns=sum(after - before for before, after in pairwise(moments) if after - before > OUT_NS),
        left_out=left_out(history),
    )


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that is printed at the end. `broken`: promise -> what contradicts it."""

    directory: Path
    seed: int
    seconds: float
    replicas: int
    clients: int
    kinds: int  # how many kinds of faults there are for a cell of this size
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
        lines = [*self._faults(), "", *self._work(), "", *self._service(), ""]
        lines.append(f"Checked: {len(CHECKS) + 1} kinds of promises; broken: {len(self.broken)}")
        for promise, found in self.broken.items():
            lines.append(f"  BROKEN: {promise}: {len(found)} times")
            lines += [f"    - {text}" for text in found[:FOUND_SHOWN_MAX]]
        again = f"--seconds {self.seconds:.0f} --seed {self.seed} --replicas {self.replicas} --clients {self.clients}"
        files = [f"  {name:<12} {what}" for name, what in FILES.items()]
        lines += ["", f"Files in {self.directory}:", *files, f"Again: ./dev nemesis {again}", ""]
        return [*lines, self.verdict()]

    def _faults(self) -> list[str]:
        kinds = f"{len(self.faults)} of {self.kinds} kinds"
        about = f"seed {self.seed}, {self.replicas} replicas, {self.clients} clients"
        lines = [f"Faults: {self.faults.total()} in {self.seconds:.0f} s, {kinds} ({about})"]
        for area in AREAS:
            done = {kind: count for kind, count in sorted(self.faults.items()) if BY_NAME[kind].area == area}
            if done:
                kinds = ", ".join(f"{kind.removeprefix('client: ')} {count}" for kind, count in done.items())
                lines += _wrapped(f"{sum(done.values()):4} {area}: {kinds}")
        if self.not_done:
            kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(self.not_done.items()))
            lines += _wrapped(f"   0 (could not be done as things stood: {kinds})")
        return lines + [f"  not possible on this machine: {kind}: {why}" for kind, why in self.missing.items()]

    def _work(self) -> list[str]:
        work = self.work
        fewest = min(work.operations, key=lambda who: work.operations[who], default="nobody")
        answered, processes = sum(work.operations.values()), f"{work.processes} processes in all"
        counts = {
            **work.totals,
            **work.more,
            "of unknown outcome": work.outcomes.get(UNKNOWN, 0),
            "not done": work.outcomes.get(NOT_DONE, 0),
            "refused": work.outcomes.get("refused", 0),
            "sessions expired": work.expired,
            "late holders refused by the fence": work.fenced,
            "connections through the proxies": self.traffic["connections"],
            "MB through them": self.traffic["bytes"] // 10**6,
        }
        return [
            f"Work: {answered:,} operations answered to {self.clients} clients ({processes})",
            f"  {work.operations.get(fewest, 0):8,} of them to {fewest}, which got the fewest",
            *(f"  {count:8,} {name}" for name, count in counts.items()),
        ]

    def _service(self) -> list[str]:
        work = self.work
        gap_s, from_s = work.gap.length_ns / NS, self._since(work.gap) / NS
        during = ", ".join(work.gap_faults) or "no fault"
        out_s, share = work.out_ns / NS, work.out_ns / max(1, work.whole.length_ns)
        lines = [
            "Service:",
            f"  longest time without an acknowledged change: {gap_s:.1f} s, from {from_s:.0f} s on ({during})",
            f"  all times of more than {OUT_NS // NS} s without one: {out_s:.0f} s, {share:.0%} of the run",
        ]
        if work.left_out is not None:
            left_s, begin_s = (ns / NS for ns in (work.left_out.span.length_ns, self._since(work.left_out.span)))
            who = f"{left_s:.1f} s, {work.left_out.who}, from {begin_s:.0f} s on"
            lines.append(f"  longest time that one client alone was not served, though nothing kept it away: {who}")
        return lines

    def _since(self, span: Span) -> int:
        return span.begin_ns - self.work.whole.begin_ns

    def verdict(self) -> str:
        """The closing line."""
        if self.broken:
            return f"nemesis: {len(self.broken)} promises were broken"
        if self.quiet:
            return f"nemesis: refused, too quiet to prove anything: {'; '.join(self.quiet)}"
        if self.missing:
            return f"nemesis: incomplete: no promise was broken, {len(self.missing)} kinds of faults were not possible"
        return "nemesis: no promise was broken"


def _wrapped(line: str) -> list[str]:
    return wrap(line, WIDTH, initial_indent="  ", subsequent_indent=" " * 9)
