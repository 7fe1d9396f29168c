"""What clients asked and were told: registers for the linearizability checker, tokens that must stay."""

from __future__ import annotations

from coordd.machine.machine import Machine
from tests.simulation.checkers.linear import Op, is_linearizable, shortest_prefix
from tests.simulation.checkers.panel import Checker
from tests.simulation.world import World


class Registers(Checker):
    """The histories of all registers, each linearizable by itself."""

    name = "linearizability"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.histories: dict[str, list[Op]] = {}

    def begin(self, key: str, who: str, kind: str, value: str | None = None, expected: str | None = None) -> Op:
        """An operation begins; until it is answered its outcome is unknown."""
        op = Op(kind, self.world.now_us, value=value, expected=expected, who=who)
        self.histories.setdefault(key, []).append(op)
        return op

    def answered(self, op: Op, outcome: str = "ok", value: str | None = None) -> None:
        """The outcome is known."""
        op.end, op.outcome = self.world.now_us, outcome
        if op.kind == "get":
            op.value = value

    def failed(self, key: str, op: Op) -> None:
        """Nothing was done, says the library: then nobody may ever see it."""
        self.histories[key] = [other for other in self.histories[key] if other is not op]

    def check(self, *, reads: bool = True) -> None:
        """At the end of the run; without `reads` only what was changed, and what was said of that."""
        for key, ops in sorted(self.histories.items()):
            ops = ops if reads else [op for op in ops if op.kind != "get"]
            if not is_linearizable(ops):
                story = "; ".join(_words(op) for op in shortest_prefix(ops)[-12:])
                raise self.broken(f"{key}: no order of {len(ops)} operations explains the answers: {story}")

    def count(self) -> int:
        """How many operations were answered."""
        return sum(op.outcome != "" for ops in self.histories.values() for op in ops)


def _words(op: Op) -> str:
    end = f"{op.end / 1e6:.6f}" if op.outcome else "?"
    expected = f" if {op.expected}" if op.kind == "swap" else ""
    return f"[{op.start / 1e6:.6f} {end}] {op.who} {op.kind} {op.value}{expected} -> {op.outcome or 'unknown'}"


class Acknowledged(Checker):
    """Files with names of their own: made once, and there for ever once that was acknowledged."""

    name = "acknowledged writes"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.contents: dict[str, bytes] = {}

    def made(self, path: str, contents: bytes) -> None:
        """The creation of `path` was acknowledged."""
        self.contents[path] = contents

    def existed(self, path: str) -> None:
        """The only client that ever creates `path`, and only once, is told that it exists."""
        raise self.world.violation("each call once", f"{path}: its one creation was refused: it exists already")

    def check(self, machine: Machine) -> None:
        """At the end of the run."""
        for path, contents in self.contents.items():
            node = machine.state.nodes.get(path)
            if node is None or node.contents != contents:
                raise self.broken(f"{path} was acknowledged and is {'gone' if node is None else 'different'}")
