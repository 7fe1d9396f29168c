"""Spans of time, and the longest one in which nobody was served."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from tests.nemesis.history import History

CHANGES = ("put", "swap", "add", "delete", "create", "name", "unname", "increment", "txn")


@dataclass(frozen=True, slots=True)
class Span:
    """From `begin_ns` to `end_ns`."""

    begin_ns: int
    end_ns: int

    @property
    def length_ns(self) -> int:
        return max(0, self.end_ns - self.begin_ns)


def overlapping(one: Span, other: Span) -> int:
    """How long both last."""
    return Span(max(one.begin_ns, other.begin_ns), min(one.end_ns, other.end_ns)).length_ns


def acknowledged_ns(history: History) -> list[int]:
    """When changes were acknowledged, to whomever, in the order of time."""
    return sorted(op.ended_ns for op in history.of(*CHANGES) if op.ok and op.ended_ns is not None)


def longest_gap(moments: Sequence[int], within: Span) -> Span:
    """The longest part of `within` in which none of the moments lies."""
    inside = [moment for moment in moments if within.begin_ns < moment < within.end_ns]
    edges = [within.begin_ns, *inside, within.end_ns]
    return max((Span(a, b) for a, b in pairwise(edges)), key=lambda span: span.length_ns)
