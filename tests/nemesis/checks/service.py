"""Service: nobody who can reach the cell is left out of it for long.

Two clients may be judged by each other: where the sheltered one is answered all the time, the cell serves, and another
one whom nothing hurts must be served, too. How long it may take to find the master again is a matter of speed, and told
in the report; only what no machine needs is a finding.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tests.nemesis.history import NOT_DONE, UNKNOWN, History, client_of, process_of
from tests.nemesis.spans import Span
from tests.nemesis.world import SHELTERED

NS = 10**9
SERVED_WITHIN_NS = NS  # the cell serves where the sheltered client is answered that often
LAG_NS = NS // 5
LOOKED_AT_NS = NS // 2  # nobody calls less than that "left out"
LEFT_OUT_LEASES, LEFT_OUT_MORE_NS = 2, 4 * NS


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A client that was not answered, though nothing kept it from the cell and another one was answered."""

    who: str
    span: Span
    lease_ns: int


def left_out(history: History) -> LeftOut | None:
    """The longest such time."""
    return max(_all_left_out(history), key=lambda left: left.span.length_ns, default=None)


def left_out_too_long(history: History) -> list[str]:
    """Where it was so long that the session must have been lost by it."""
    return [
        f"{left.who} was not served from {left.span.begin_ns / NS:.3f} to {left.span.end_ns / NS:.3f}"
        f" (lease {left.lease_ns / NS:.0f} s), though nothing hurt it and {SHELTERED} was served"
        for left in _all_left_out(history)
        if left.span.length_ns > LEFT_OUT_LEASES * left.lease_ns + LEFT_OUT_MORE_NS
    ]


def _all_left_out(history: History) -> list[LeftOut]:
    answered: defaultdict[str, list[int]] = defaultdict(list)
    for op in history.ops:
        if op.told_ns is not None and op.outcome not in (UNKNOWN, NOT_DONE):
            answered[process_of(op.who)].append(op.told_ns)
    judge = sorted(answered[SHELTERED])
    out = [Span(a, b) for a, b in pairwise(judge) if b - a > SERVED_WITHIN_NS]
    found = []
    for who, life, lease_ns in _lives(history):
        if judge and client_of(who) != SHELTERED:
            whole = Span(max(life.begin_ns, judge[0]), min(life.end_ns, judge[-1]))
            kept = [*out, *_kept_away(history, who)]
            moments = sorted([whole.begin_ns, *answered[who], whole.end_ns])
            for begin_ns, end_ns in pairwise(moments):
                if end_ns - begin_ns > LOOKED_AT_NS:
                    found += [LeftOut(who, span, lease_ns) for span in free_of(Span(begin_ns, end_ns), kept)]
    return found


def _lives(history: History) -> Iterable[tuple[str, Span, int]]:
    """Each client process, from its beginning to its end, or to the fault that killed it."""
    ends = {note.who: note.at_ns for note in history.noted("closing")}
    kills = [note.more for note in history.noted("fault") if note.more["kind"] == "client: kill"]
    for note in history.noted("begin"):
        who = note.who
        if who == process_of(who):
            killed = [
                kill["from_ns"] for kill in kills if client_of(who) in kill["on"] and kill["from_ns"] > note.at_ns
            ]
            end_ns = min([ends.get(who, history.notes[-1].at_ns), *killed])
            yield who, Span(note.at_ns, end_ns), round(note.more["lease_s"] * NS)


def _kept_away(history: History, who: str) -> list[Span]:
    """When something kept this process, or the proxies, from their work."""
    hurt = [
        Span(note.more["from_ns"], note.at_ns) for note in history.noted("fault") if client_of(who) in note.more["on"]
    ]
    lags = [
        Span(note.at_ns - note.more["ms"] * 10**6, note.at_ns)
        for note in history.noted("lag")
        if note.who in (who, "nemesis") and note.more["ms"] * 10**6 > LAG_NS
    ]
    return hurt + lags


def free_of(whole: Span, kept: Sequence[Span]) -> list[Span]:
    """The parts of `whole` that none of `kept` touches."""
    found, begin_ns = [], whole.begin_ns
    for span in sorted(kept, key=lambda span: span.begin_ns):
        if span.end_ns <= begin_ns or span.begin_ns >= whole.end_ns:
            continue
        if span.begin_ns > begin_ns:
            found.append(Span(begin_ns, span.begin_ns))
        begin_ns = max(begin_ns, span.end_ns)
    if begin_ns < whole.end_ns:
        found.append(Span(begin_ns, whole.end_ns))
    return found
