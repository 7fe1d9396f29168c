"""A whole history: one search for each object, for a history is linearizable if that of each object is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tests.histories.explain import Explanation, explain
from tests.histories.models import MODELS
from tests.histories.operation import Operation
from tests.histories.search import CONFIGURATIONS_MAX, Search, UndecidedError

EXPLAINED_MAX = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """`broken`: objects without an order, the first few explained. `undecided` ones are no success either."""

    operations: int
    answered: int
    objects: int
    configurations: int
    broken: tuple[str, ...]
    explained: tuple[Explanation, ...]
    undecided: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Every answer is explained."""
        return not self.broken and not self.undecided

    def __str__(self) -> str:
        counts = f"{self.operations:,} operations ({self.answered:,} answered) on {self.objects:,} objects"
        if self.ok:
            return f"linearizable: {counts}, {self.configurations:,} configurations"
        lines = [str(one) for one in self.explained]
        if len(self.broken) > len(self.explained):
            lines.append(f"not linearizable either: {', '.join(self.broken[len(self.explained) :])}")
        lines += self.undecided
        return "\n\n".join([*lines, f"in {counts}"])


def check(history: Iterable[Operation], configurations_max: int = CONFIGURATIONS_MAX) -> Verdict:
    """Look at every object of the history."""
    objects: dict[tuple[str, str], list[Operation]] = {}
    for op in history:
        objects.setdefault((op.model, op.key), []).append(op)
    broken: list[str] = []
    explained: list[Explanation] = []
    undecided: list[str] = []
    configurations = 0
    for (name, key), ops in sorted(objects.items()):
        search = Search(MODELS[name], ops, configurations_max=configurations_max)
        try:
            if not search.run():
                broken.append(f"{name} {key}")
                if len(explained) < EXPLAINED_MAX:
                    explained.append(explain(MODELS[name], ops, search))
        except UndecidedError as error:
            undecided.append(f"{name} {key}: undecided after {search.furthest} answers: {error}")
        configurations += search.count
    return Verdict(
        operations=sum(map(len, objects.values())),
        answered=sum(op.known for ops in objects.values() for op in ops),
        objects=len(objects),
        configurations=configurations,
        broken=tuple(broken),
        explained=tuple(explained),
        undecided=tuple(undecided),
    )
