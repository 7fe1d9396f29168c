"""Several files that are read and changed together: transactions with guards, of which one branch happens, or nothing.

| operation | arguments | outcome: result |
|---|---|---|
| txn | guards: (key, value or None) of each, then and else: (what, key, value) of each step | ok: succeeded, seen, |
|     | | revision; refused: step |

What a step does (its value is None where it writes nothing): "get" and "look" tell what is there at that moment of the
transaction, "look" tells None where nothing is; "put" writes, "make" writes where nothing was, "delete" removes what
was there. "get", "make" and "delete" are refused otherwise, by their place in the branch, and then nothing of the
transaction has happened. The revision may be left out; it is told
of what changes something, and of nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any, NamedTuple

from tests.histories.models.base import Model
from tests.histories.operation import UNKNOWN, Operation

READS = ("get", "look")
CONDITIONED = ("get", "make", "delete")
UNSEEN = "(a value that nobody has seen)"
Step = tuple[str, str, str | None]


class Files(NamedTuple):
    """What is there, by key. No change of a smaller revision than `floor` can come any more."""

    of: tuple[tuple[str, str], ...] = ()
    floor: int = 0


class Table(Model[Files]):
    """See the module docstring."""

    name = "table"
    initial = Files()

    def step(self, state: Files, op: Operation) -> Files | None:
        values = dict(state.of)
        succeeded = all(values.get(key) == value for key, value in op.arguments["guards"])
        seen: list[str | None] = []
        for place, (what, key, value) in enumerate(_branch(op, succeeded)):
            if what in CONDITIONED and (key in values) == (what == "make"):
                right = op.outcome == UNKNOWN or (op.outcome == "refused" and op.result["step"] == place)
                return state if right else None
            if what in READS:
                seen.append(values.get(key))
            elif what == "delete":
                del values[key]
            else:
                assert value is not None
                values[key] = value
        if op.outcome == UNKNOWN:
            return Files(tuple(sorted(values.items())), state.floor)
        if op.outcome != "ok" or op.result["succeeded"] != succeeded or list(op.result.get("seen", seen)) != seen:
            return None
        number = op.result.get("revision", 0)
        if number and number <= state.floor:
            return None
        return Files(tuple(sorted(values.items())), number or state.floor)

    def observes(self, op: Operation) -> bool:
        if op.outcome == "refused":
            return True
        branches = (True, False) if op.outcome == UNKNOWN else (op.result["succeeded"],)
        return all(what in READS for branch in branches for what, _, _ in _branch(op, branch))

    def number(self, op: Operation) -> int:
        return int(op.result.get("revision", 0)) if op.outcome == "ok" else 0

    def helps(self, state: Files, op: Operation, due: Operation) -> bool:
        """Where the two cannot change places, and `due` does not undo all of it; or for another of unknown outcome.

        In an order that uses as few of unknown outcome as can be, each as late as can be, one comes right before such
        a one, or before another of unknown outcome that it does not commute with (`level` knows).
        """
        if op.arguments.get("chained"):
            return True
        before = self.step(state, op)
        both = None if before is None else self.step(before, due)
        if both is None:
            return False
        alone = self.step(state, due)
        return alone is None or (both != alone and both != self.step(alone, op))

    def level(self, ops: Sequence[Operation], starts: Iterable[Files]) -> list[Operation]:
        """Values that nobody has seen, nor asked for, are one value. What was seen has been written."""
        asked = {value for op in ops for _, value in op.arguments["guards"]}
        seen: dict[str | None, int] = {}
        for op in ops:
            for value in op.result["seen"] if op.outcome == "ok" and op.ended is not None else ():
                seen[value] = min(op.ended or 0, seen.get(value, op.ended or 0))
        sources = Counter(value for op in ops for side in (True, False) for _, _, value in _branch(op, side))
        sources.update(value for state in starts for _, value in state.of)
        leveled = [_seen_to_be_done(_with_unseen(op, asked | seen.keys()), seen, sources) for op in ops]
        unknown = [(at, op) for at, op in enumerate(leveled) if not op.known and not self.observes(op)]
        for at, op in unknown:
            if any(_may_matter(op, other) for place, other in unknown if place != at):
                leveled[at] = replace(op, arguments={**op.arguments, "chained": True})
        return leveled

    def words(self, op: Operation) -> str:
        guards = ", ".join(f"{key} is {_shown(value)}" for key, value in op.arguments["guards"])
        steps = {name: ", ".join(_step(*step) for step in op.arguments[name]) for name in ("then", "else")}
        otherwise = f", else {steps['else']}" if steps["else"] else ""
        return f"if {guards}: {steps['then'] or 'nothing'}{otherwise}" if guards else steps["then"]

    def answer(self, op: Operation) -> str:
        if op.outcome != "ok":
            return super().answer(op)
        seen = ", ".join(_shown(value) for value in op.result["seen"])
        branch = "" if op.result["succeeded"] else "else"
        return f"{branch} {seen}".strip() or "done"

    def describe(self, state: Files) -> str:
        return ", ".join(f"{key} {value}" for key, value in state.of) or "nothing"


def _branch(op: Operation, succeeded: bool) -> Sequence[Step]:
    steps: Sequence[Step] = op.arguments["then" if succeeded else "else"]
    return steps


def _with_unseen(op: Operation, known: AbstractSet[str | None]) -> Operation:
    if all(value is None or value in known for side in (True, False) for _, _, value in _branch(op, side)):
        return op
    branches = {
        name: tuple((what, key, value if value in known or value is None else UNSEEN) for what, key, value in steps)
        for name, steps in op.arguments.items()
        if name != "guards"
    }
    return replace(op, arguments={**op.arguments, **branches})


def _seen_to_be_done(op: Operation, seen: Mapping[str | None, int], sources: Mapping[str | None, int]) -> Operation:
    """An operation of unknown outcome of which somebody has seen what only it writes: it was done by then."""
    for succeeded in (True, False):
        written = [value for what, _, value in _branch(op, succeeded) if what not in READS and sources[value] == 1]
        moments = [seen[value] for value in written if value in seen]
        if moments and not op.known:
            return replace(op, ended=max(op.begun, min(moments)), outcome="ok", result={"succeeded": succeeded})
    return op


def _left(op: Operation) -> set[tuple[str, str | None]]:
    """What it may leave behind, by key."""
    return {(key, value) for branch in (True, False) for what, key, value in _branch(op, branch) if what not in READS}


def _asked(op: Operation) -> set[str]:
    """The keys by which it goes one way or another."""
    made = {key for branch in (True, False) for what, key, _ in _branch(op, branch) if what in CONDITIONED}
    return made | {key for key, _ in op.arguments["guards"]}


def _may_matter(op: Operation, other: Operation) -> bool:
    """Whether it may make a difference that `op` comes right before `other`, both of unknown outcome."""
    first = {key for key, _ in _left(op)}
    second = {key for key, _ in _left(other)}
    parted = len(first) > 1 and first & second  # what the other does not write over stays
    return bool(first & _asked(other) or second & _asked(op) or parted)


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)


def _step(what: str, key: str, value: str | None) -> str:
    return " ".join(filter(None, (what, key, value)))
