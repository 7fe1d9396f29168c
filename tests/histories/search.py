"""Is there an order? The search of Wing and Gong, just in time and with a memory of configurations [Lowe 2017].

It goes from answer to answer in the order of time. When an answer is due, its operation must have taken effect: that
one is tried first, then other open operations before it, then those of which nobody knows the outcome. A
*configuration* is what all this has led to: how many answers are explained, which open operations have taken effect
already, which of unknown outcome have, and the state of the object. None is entered twice.

What keeps their number small, and loses no order:

- An operation that only observes takes effect as soon as it changes nothing, for nobody else can tell.
- Of open operations of one kind (same question, same answer) the one that was answered first goes first: let the two
  change places. Those of unknown outcome count as answered after the end of time.
- A change whose number is known comes after all known changes with smaller numbers.
- An operation of unknown outcome takes effect before an answer only where it can be of use to somebody who is open.
- It need not take effect. So a configuration is passed over if one that used only some of the same was there before.

Lowe keeps the open operations in a linked list, to go forward and back. Here they are laid out once for every answer.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from tests.histories.models.base import Model
from tests.histories.operation import Operation

CONFIGURATIONS_MAX = 500_000  # some 200 MiB
S = TypeVar("S", bound=Hashable)


class UndecidedError(Exception):
    """The search has grown beyond its limit. That is no verdict: nothing passes by it."""


@dataclass(frozen=True, slots=True)
class Start(Generic[S]):
    """Where a search begins: the state, and the operations (by index) that have taken effect before."""

    state: S
    done: frozenset[int] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class _Node(Generic[S]):
    """A configuration. `done` and `used` are bits: of the open operations, and of all of unknown outcome."""

    passed: int
    done: int
    used: int
    state: S


class Search(Generic[S]):
    """One search through the history of one object: call `run` or `ways`, once.

    With `until` it ends with the last answer up to that moment: operations that were answered later, with what they
    were told, may take effect or not.
    """

    def __init__(
        self,
        model: Model[S],
        ops: Sequence[Operation],
        starts: Sequence[Start[S]] = (),
        configurations_max: int = CONFIGURATIONS_MAX,
        until: int | None = None,
    ) -> None:
        self.model = model
        self.starts = starts or (Start(model.initial),)
        self.ops = model.level(ops, [start.state for start in self.starts])
        self.answers = sorted((at for at, op in enumerate(self.ops) if op.known), key=self._answered)
        self.furthest = 0  # answers explained, at most
        self.count = 0  # of configurations
        self._limit = configurations_max
        self._upto = sum(until is None or self._answered(at)[0] <= until for at in self.answers)
        self._entered: list[dict[tuple[int, S], list[int]]] = [{} for _ in range(len(self.answers) + 1)]
        kinds: dict[str, int] = {}
        self._kind = [kinds.setdefault(op.kind(), len(kinds)) for op in self.ops]
        self._observes = [model.observes(op) for op in self.ops]
        self._number = [model.number(op) for op in self.ops]
        self._lay_out()

    def _answered(self, at: int) -> tuple[int, int]:
        ended = self.ops[at].ended
        assert ended is not None
        return ended, at

    def _lay_out(self) -> None:
        """For every answer: who is open when it is due, in the order of their answers, then who may come besides."""
        ops = self.ops
        self._unknown = [at for at, op in enumerate(ops) if not op.known and not self._observes[at]]
        self._unknown.sort(key=lambda at: ops[at].begun)
        self._bit = [0] * len(ops)
        for place, at in enumerate(self._unknown):
            self._bit[at] = 1 << place
        self._unknown_upto: list[int] = []
        self._open: list[tuple[int, ...]] = []
        begins = sorted(self.answers, key=lambda at: ops[at].begun)
        free: list[int] = []  # bits are used again: one for each operation would be a very large number
        now_open: list[int] = []
        begun = unknown = 0
        for at in self.answers:
            ended, _ = self._answered(at)
            while begun < len(begins) and ops[begins[begun]].begun <= ended:
                self._bit[begins[begun]] = free.pop() if free else 1 << len(now_open)
                now_open.append(begins[begun])
                begun += 1
            while unknown < len(self._unknown) and ops[self._unknown[unknown]].begun <= ended:
                unknown += 1
            now_open.sort(key=self._answered)
            self._open.append(tuple(now_open))
            self._unknown_upto.append(unknown)
            assert now_open[0] == at
            del now_open[0]
            free.append(self._bit[at])

    def run(self) -> bool:
        """True when some order explains every answer. Raises `UndecidedError`."""
        return any(node.passed == self._upto for node in self._nodes())

    def ways(self, upto: int) -> list[Start[S]]:
        """All that can be when so many answers have passed. Raises `UndecidedError`."""
        self._upto = upto
        found = [node for node in self._nodes() if node.passed == upto]
        now_open = self._open[upto] if upto < len(self._open) else ()
        return [
            Start(
                node.state,
                frozenset(at for at in now_open if node.done & self._bit[at])
                | frozenset(at for at in self._unknown if node.used & self._bit[at]),
            )
            for node in found
        ]

    # ---- the search ----

    def _nodes(self) -> Iterator[_Node[S]]:
        """Every configuration that is entered, deeper ones first."""
        stack = [self._first()]
        while stack:
            node = next(stack[-1], None)
            if node is None:
                stack.pop()
                continue
            self.furthest = max(self.furthest, node.passed)
            yield node
            if node.passed < self._upto:
                stack.append(self._following(node))

    def _first(self) -> Iterator[_Node[S]]:
        known = set(self.answers)
        for start in self.starts:
            done = sum(self._bit[at] for at in start.done if at in known)
            used = sum(self._bit[at] for at in start.done if at not in known)
            if (node := self._enter(0, done, used, start.state)) is not None:
                yield node

    def _enter(self, passed: int, done: int, used: int, state: S) -> _Node[S] | None:
        """Lets observers take effect and answers pass; None where the search has been before."""
        step, ops, bits, observes = self.model.step, self.ops, self._bit, self._observes
        while passed < self._upto:
            for at in self._open[passed]:
                if observes[at] and not done & bits[at] and step(state, ops[at]) == state:
                    done |= bits[at]
            bit = bits[self.answers[passed]]
            if not done & bit:
                break
            done &= ~bit
            passed += 1
        before = self._entered[passed].setdefault((done, state), [])
        if any(one & used == one for one in before):
            return None
        before[:] = [one for one in before if one & used != used]
        before.append(used)
        self.count += 1
        if self.count > self._limit:
            raise UndecidedError(f"more than {self._limit} configurations of {len(self.ops)} operations")
        return _Node(passed, done, used, state)

    def _following(self, node: _Node[S]) -> Iterator[_Node[S]]:
        """One more operation takes effect."""
        passed, done, used, state = node.passed, node.done, node.used, node.state
        model, ops, bits, kinds, numbers = self.model, self.ops, self._bit, self._kind, self._number
        due = [at for at in self._open[passed] if not done & bits[at]]
        smallest = min((numbers[at] for at in due if numbers[at]), default=0)
        tried: set[int] = set()
        for at in due:
            if kinds[at] in tried or numbers[at] > smallest:
                continue
            tried.add(kinds[at])
            after = model.step(state, ops[at])
            if after is not None and (found := self._enter(passed, done | bits[at], used, after)) is not None:
                yield found
        for at in self._unknown[: self._unknown_upto[passed]]:
            if used & bits[at] or kinds[at] in tried:
                continue
            tried.add(kinds[at])
            after = model.step(state, ops[at])
            if after is None or after == state or not any(model.helps(state, ops[at], ops[one]) for one in due):
                continue
            if (found := self._enter(passed, done, used | bits[at], after)) is not None:
                yield found
