"""Registers: every answer fits one order of all operations, each at a moment between its beginning and its answer."""

from __future__ import annotations

from collections import defaultdict

from tests.nemesis.history import NOT_DONE, OK, UNKNOWN, History
from tests.nemesis.history import Op as Seen
from tests.simulation.checkers.linear import NEVER, Op, is_linearizable, shortest_prefix

_OUTCOMES = {OK: "ok", UNKNOWN: "", "conflict": "conflict", "not_found": "missing", "exists": "exists"}


def broken_registers(history: History) -> list[str]:
    """The registers of which no order explains the answers, each with the shortest history that shows it."""
    found = []
    for key, ops in sorted(_by_key(history).items()):
        if not is_linearizable(ops):
            story = "\n".join(f"    {op}" for op in shortest_prefix(ops)[-12:])
            found.append(f"{key}: no order explains {len(ops)} operations; the end of the shortest part:\n{story}")
    return found


def _by_key(history: History) -> dict[str, list[Op]]:
    keys: defaultdict[str, list[Op]] = defaultdict(list)
    for op in history.of("get", "put", "swap", "add", "delete"):
        if op.outcome in _OUTCOMES and op.outcome != NOT_DONE:
            keys[op.args["key"]].append(_model(op))
    return keys


def _model(op: Seen) -> Op:
    value = op.result.get("value") if op.name == "get" else op.args.get("value")
    end = NEVER if op.ended_ns is None else op.ended_ns
    return Op(op.name, op.begun_ns, end, value, op.args.get("expected"), _OUTCOMES[op.outcome], op.who)
