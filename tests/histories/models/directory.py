"""The names in a directory.

| operation | arguments | outcome: result |
|---|---|---|
| create | name | ok: revision; exists |
| delete | name | ok: revision; missing |
| has | name | ok: there |
| list | | ok: names |

Every revision may be left out; they only ever rise. A directory that is not there has no names.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.histories.models.base import Model
from tests.histories.operation import UNKNOWN, Operation


class Names(NamedTuple):
    """No change of a smaller revision than `floor` can come any more."""

    names: frozenset[str] = frozenset()
    floor: int = 0


class Directory(Model[Names]):
    """See the module docstring."""

    name = "directory"
    initial = Names()

    def step(self, state: Names, op: Operation) -> Names | None:
        if op.name == "list":
            right = op.outcome == UNKNOWN or state.names == frozenset(op.result["names"])
            return state if right else None
        name = op.arguments["name"]
        there = name in state.names
        if op.name == "has":
            return state if op.outcome == UNKNOWN or op.result["there"] == there else None
        assert op.name in ("create", "delete"), op.name
        if there == (op.name == "create"):
            return None if op.outcome == "ok" else state
        if op.outcome not in ("ok", UNKNOWN):
            return None
        revision = self.number(op)
        if revision and revision <= state.floor:
            return None
        return Names(state.names - {name} if there else state.names | {name}, revision or state.floor)

    def observes(self, op: Operation) -> bool:
        return op.name in ("has", "list") or op.outcome in ("exists", "missing")

    def number(self, op: Operation) -> int:
        return int(op.result.get("revision", 0))

    def helps(self, state: Names, op: Operation, due: Operation) -> bool:
        """Only where somebody who is open asks for that name, or has seen the other names listed with or without it."""
        name = op.arguments["name"]
        if due.name == "list":
            return (name in state.names) != (name in due.result["names"])
        return bool(due.arguments["name"] == name)

    def words(self, op: Operation) -> str:
        return f"{op.name} {op.arguments.get('name', '')}".rstrip()

    def answer(self, op: Operation) -> str:
        if op.name == "list" and op.outcome == "ok":
            return ", ".join(sorted(op.result["names"])) or "nothing"
        if op.name == "has" and op.outcome == "ok":
            return "yes" if op.result["there"] else "no"
        return super().answer(op)

    def describe(self, state: Names) -> str:
        return ", ".join(sorted(state.names)) or "empty"
