"""Is a history of one register linearizable? The algorithm of Wing and Gong with Lowe's memory of what was tried.

An operation takes effect at one moment between its start and its end. One whose outcome is unknown has no end: it may
take effect at any later moment, or never. One that failed ("nothing was done") is not in the history at all, so that
nobody may ever see its value. Each register is checked by itself: linearizability is local.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

NEVER = 2**62
Value = str | None  # None: there is no file


@dataclass(slots=True)
class Op:
    """One operation on one register.

    | kind | means | outcomes |
    |---|---|---|
    | put | write `value` | ok |
    | get | read; the outcome is ok and `value` what was seen | ok |
    | swap | write `value` if `expected` is there | ok, conflict, missing |
    | add | write `value` if nothing is there | ok, exists |
    | delete | remove | ok, missing |
    """

    kind: str
    start: int
    end: int = NEVER
    value: Value = None
    expected: Value = None
    outcome: str = ""  # "" is unknown
    who: str = ""


def step(state: Value, op: Op) -> tuple[bool, Value]:
    """Can `op` have had its outcome in `state`, and what is the state afterwards?"""
    outcome = op.outcome
    if op.kind == "put":
        return True, op.value
    if op.kind == "get":
        return outcome == "" or state == op.value, state
    if op.kind == "swap":
        fits = state is not None and state == op.expected
        if outcome == "":
            return True, op.value if fits else state
        right = {"ok": fits, "conflict": state is not None and not fits, "missing": state is None}[outcome]
        return right, op.value if outcome == "ok" else state
    if op.kind == "add":
        if outcome == "":
            return True, op.value if state is None else state
        return (outcome == "ok") == (state is None), op.value if outcome == "ok" else state
    assert op.kind == "delete"
    if outcome == "":
        return True, None
    return (outcome == "ok") == (state is not None), None


class _Entry:
    """A start or an end of an operation, in a doubly linked list by time."""

    __slots__ = ("after", "before", "index", "match")

    def __init__(self, index: int, match: _Entry | None) -> None:
        self.index = index
        self.match = match  # of a start: its end; None for an end
        self.before: _Entry = self
        self.after: _Entry | None = None


def is_linearizable(ops: Sequence[Op], state: Value = None) -> bool:
    """True when some order of moments explains every outcome."""
    ops = [op for op in ops if not (op.outcome == "" and op.kind == "get")]
    head, known = _linked(ops)
    entry = head.after
    done = 0
    seen: set[tuple[int, Value]] = set()
    calls: list[tuple[_Entry, Value]] = []
    while known:
        if entry is not None and entry.match is not None:
            op = ops[entry.index]
            fits, following = step(state, op)
            key = (done | 1 << entry.index, following)
            if fits and key not in seen:
                seen.add(key)
                calls.append((entry, state))
                state, done = following, key[0]
                known -= op.outcome != ""
                _lift(entry)
                entry = head.after
            else:
                entry = entry.after
            continue
        if not calls:
            return False
        last, state = calls.pop()
        done &= ~(1 << last.index)
        known += ops[last.index].outcome != ""
        _unlift(last)
        entry = last.after
    return True


def _linked(ops: Sequence[Op]) -> tuple[_Entry, int]:
    """The list, and how many operations have a known outcome. At one moment, starts come before ends."""
    marks: list[tuple[int, int, int, _Entry]] = []
    for index, op in enumerate(ops):
        end = _Entry(index, None)
        marks.append((op.start, 0, index, _Entry(index, end)))
        marks.append((op.end if op.outcome else NEVER, 1, index, end))
    marks.sort(key=lambda mark: mark[:3])
    head = last = _Entry(-1, None)
    for *_, entry in marks:
        last.after, entry.before = entry, last
        last = entry
    return head, sum(op.outcome != "" for op in ops)


def _lift(entry: _Entry) -> None:
    for one in (entry, entry.match):
        assert one is not None
        one.before.after = one.after
        if one.after is not None:
            one.after.before = one.before


def _unlift(entry: _Entry) -> None:
    for one in (entry.match, entry):
        assert one is not None
        one.before.after = one
        if one.after is not None:
            one.after.before = one


def shortest_prefix(ops: Sequence[Op]) -> list[Op]:
    """For people: the history up to the first answer that no order explains."""
    answered = sorted((op for op in ops if op.outcome), key=lambda op: op.end)
    for count in range(1, len(answered) + 1):
        until = answered[count - 1].end
        known = {id(op) for op in answered[:count]}
        begun = [op for op in ops if op.start <= until]
        prefix = [
            op if id(op) in known else Op(op.kind, op.start, NEVER, op.value, op.expected, "", op.who) for op in begun
        ]
        if not is_linearizable(prefix):
            return prefix
    return list(ops)
