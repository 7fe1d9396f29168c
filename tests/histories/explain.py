"""Why a history has no order: the smallest piece around which none exists, in words.

The piece ends with the answer that no order gets past; what was told later only has to be right of operations that have
taken effect by then. Within the piece as many operations as possible are *set free*: their
answers are forgotten, so they may take effect at any moment after their beginning, or never. What remains is to blame:
whatever the others did, these cannot all be right. (To leave an operation out altogether would prove nothing: somebody
may have seen what it did.)

Of a long history the blame is looked for near its end, beginning with all that it can have been there.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from tests.histories.models.base import Model
from tests.histories.operation import Operation
from tests.histories.search import Search, Start, UndecidedError

WHOLE_MAX = 60  # answers in a piece that is looked at from its beginning
CUT = 20  # answers that are left of a longer one
TRY_MAX = 3_000  # configurations in one attempt to set operations free
TRIES_MAX = 300_000  # in all attempts
LOOK_MAX = 100_000  # in a search for all that can have been
STATES_SHOWN = 4
SHOWN_MAX = 14  # rows of a table that shows everything
S = TypeVar("S", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Explanation:
    """`blamed`, in the order of their beginnings, cannot all be right."""

    of: str  # which object
    count: int  # its operations
    answers: int  # that can be explained
    moment: int  # of the next one
    blamed: tuple[Operation, ...]
    given: int  # what was begun up to this moment is taken for right, and not blamed
    begins: tuple[str, ...]  # what it can have been where the table begins, if that is not the very beginning
    before: tuple[str, ...]  # what it can be when only the last answer is left to explain
    table: str

    def __str__(self) -> str:
        lines = [f"{self.of}: no order of its {self.count} operations explains more than {self.answers} answers."]
        if self.begins:
            lines.append(f"The table begins after many others, when it was: {_either(self.begins)}.")
        if not self.blamed:
            lines.append("Who is to blame is more than was tried out; the last operations are:")
        elif len(self.blamed) == 1:
            lines.append("The operation marked * cannot be right, whatever became of the others:")
        else:
            lines.append(f"The {len(self.blamed)} marked * cannot all be right, whatever became of the others:")
        lines.append(self.table)
        if self.before:
            lines.append(f"When only the last answer is left to explain, it is: {_either(self.before)}.")
        return "\n".join(lines)


def explain(model: Model[S], ops: Sequence[Operation], failed: Search[S]) -> Explanation:
    """`failed` is the search through `ops` that found no order."""
    last = ops[failed.answers[failed.furthest]]
    ended = failed.ops[failed.answers[failed.furthest]].ended
    assert ended is not None
    piece = _Piece(model, [op for op in ops if op.begun <= ended], ended)
    before: tuple[str, ...] = ()
    begins: tuple[str, ...] = ()
    blamed: list[Operation] = []
    try:
        before = _described(model, (start.state for start in piece.search().ways(failed.furthest)))
        if failed.furthest > WHOLE_MAX:
            begins = _described(model, piece.cut(failed.furthest - CUT))
        blamed = piece.to_blame()
    except UndecidedError:
        pass  # then less is said
    shown = piece.ops
    if len(shown) > SHOWN_MAX:
        given = [op for op in shown if op.known and op.begun <= piece.given]
        shown = given + blamed if blamed else shown[-SHOWN_MAX:]
    return Explanation(
        of=f"{last.model} {last.key}",
        count=len(ops),
        answers=failed.furthest,
        moment=ended,
        blamed=tuple(blamed),
        given=piece.given,
        begins=begins,
        before=before,
        table=_table(model, shown, blamed, last),
    )


class _Piece(Generic[S]):
    """The operations that are looked at, and the ways to begin with them."""

    def __init__(self, model: Model[S], ops: list[Operation], until: int) -> None:
        self.model, self.ops, self._until = model, ops, until
        self.starts: list[Start[S]] = []
        self.given = -1
        self._left = TRIES_MAX

    def search(self, free: frozenset[int] = frozenset(), most: int = LOOK_MAX) -> Search[S]:
        """Of what is left when the answers of some are forgotten."""
        trial = [op.unanswered() if at in free else op for at, op in enumerate(self.ops)]
        return Search(self.model, trial, self.starts, most, self._until)

    def cut(self, answers: int) -> list[S]:
        """From now on only what is left after so many answers; what it can be there."""
        search = self.search()
        starts = search.ways(answers)
        moment = search.ops[search.answers[answers - 1]].ended
        assert moment is not None
        left = sorted(set(range(len(self.ops))).difference(search.answers[:answers]))
        place = {at: new for new, at in enumerate(left)}
        self.ops = [self.ops[at] for at in left]
        self.given = moment
        self.starts = [Start(start.state, frozenset(place[at] for at in start.done)) for start in starts]
        return [start.state for start in starts]

    def to_blame(self) -> list[Operation]:
        """The fewest operations of which none more can be set free; bigger parts are tried first."""
        tied = [at for at, op in enumerate(self.ops) if op.known and op.begun > self.given]
        free: frozenset[int] = frozenset()
        for size in _halves(len(tied)):
            parts = [tied[first : first + size] for first in range(0, len(tied), size)]
            tied = []
            for part in parts:
                if self._hopeless(free.union(part)):
                    free = free.union(part)
                else:
                    tied += part
        return sorted((self.ops[at] for at in tied), key=lambda op: (op.begun, op.process))

    def _hopeless(self, free: frozenset[int]) -> bool:
        """Is there no order even so? Where that would take too long, say no."""
        search = self.search(free, min(TRY_MAX, self._left))
        try:
            return not search.run()
        except UndecidedError:
            return False
        finally:
            self._left -= min(self._left, search.count)


def _halves(count: int) -> Iterator[int]:
    """From a half of it down to one."""
    while count > 2:
        count = (count + 1) // 2
        yield count
    yield 1


def _described(model: Model[S], states: Iterable[S]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(model.describe(state) for state in states))


def _either(states: Sequence[str]) -> str:
    more = f"; or {len(states) - STATES_SHOWN} other things" if len(states) > STATES_SHOWN else ""
    return "; or ".join(states[:STATES_SHOWN]) + more


def _table(model: Model[S], ops: Iterable[Operation], blamed: Sequence[Operation], last: Operation) -> str:
    rows = [("", "process", "begun s", "answered s", "asked", "told")]
    for op in sorted(ops, key=lambda op: (op.begun, op.process)):
        ended = "" if op.ended is None else f"{op.ended / 1e6:.6f}"
        mark = "*" if op in blamed else ""
        told = model.answer(op) + ("   <- the last" if op == last else "")
        rows.append((mark, op.process, f"{op.begun / 1e6:.6f}", ended, model.words(op), told))
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return "\n".join(
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
