"""Registers, tables, directories, counters and locks: of each one order explains what everybody was told of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tests.histories.check import check
from tests.histories.hold import Hold
from tests.histories.operation import UNKNOWN, Operation
from tests.nemesis.checks.beliefs import beliefs
from tests.nemesis.history import NOT_DONE, OK, History, Op

NS = 1_000  # in a microsecond; rounding down makes no two operations follow each other that did not

REFUSALS: Mapping[str, str] = {"conflict": "conflict", "not_found": "missing", "exists": "exists"}


def broken_registers(history: History) -> list[str]:
    """Every answer fits the value and the generation that the file has at one moment."""
    return _broken(_registers(history))


def broken_tables(history: History) -> list[str]:
    """Each transaction happens at one moment, in the branch that its guards choose then, whole or not at all."""
    return _broken(_tables(history))


def broken_directories(history: History) -> list[str]:
    """Names are created once, deleted once, and listed as they are at one moment."""
    return _broken(_directories(history))


def broken_counters(history: History) -> list[str]:
    """Each acknowledged increment stands alone on what it read; of unknown ones each counts once at most."""
    last = {note.more["counter"] for note in history.noted("final counter")}
    used = {op.args["counter"] for op in history.of("increment")}
    unread = [f"counter {counter}: its last value was not read" for counter in sorted(used - last)]
    return unread + _broken(_counters(history))


def broken_locks(history: History) -> list[str]:
    """Nobody is granted a lock while another may believe in it; tokens rise from period to period."""
    return _broken(op for hold in _holds(history) for op in hold.operations())


def _broken(ops: Iterable[Operation]) -> list[str]:
    verdict = check(ops)
    return [] if verdict.ok else [str(verdict)]


def _registers(history: History) -> Iterator[Operation]:
    names = {"swap": "put", "add": "put"}
    for op in history.of("get", "put", "swap", "add", "delete"):
        arguments: dict[str, Any] = {}
        if op.name in ("put", "swap", "add"):
            arguments["value"] = op.args["value"]
        if op.name == "swap":
            arguments["if_generation"] = op.args["generation"]
        if op.name == "add":
            arguments["if_absent"] = True
        missing = op.name == "get" and op.result.get("value") is None
        told = ("missing", {}) if missing else (OK, op.result)
        yield from _operation(op, "register", op.args["key"], names.get(op.name, op.name), arguments, *told)


def _tables(history: History) -> Iterator[Operation]:
    for op in history.of("txn", "look"):
        arguments = {"guards": op.args["guards"], "then": op.args["then"], "else": op.args["otherwise"]}
        asked = (op.who, "table", op.args["table"], "txn", op.begun_ns // NS)
        if op.outcome == UNKNOWN:
            yield Operation(*asked, arguments=arguments)
        elif op.ok or op.outcome in REFUSALS:
            assert op.ended_ns is not None
            yield Operation(*asked, op.ended_ns // NS, OK if op.ok else "refused", arguments, op.result)


def _directories(history: History) -> Iterator[Operation]:
    names = {"name": "create", "unname": "delete"}
    for op in history.of("name", "unname", "list", "has"):
        arguments = {} if op.name == "list" else {"name": op.args["name"]}
        yield from _operation(op, "directory", op.args["key"], names.get(op.name, op.name), arguments, OK, op.result)


def _counters(history: History) -> Iterator[Operation]:
    for op in history.of("increment"):
        result = {"value": op.result["read"] + 1} if op.ok else {}
        yield from _operation(op, "counter", f"{op.args['counter']}", "add", {"by": 1}, OK, result)
    for note in history.noted("final counter"):
        at, value = note.at_ns // NS, note.more["value"]
        yield Operation(note.who, "counter", f"{note.more['counter']}", "get", at, at, OK, {}, {"value": value})


def _operation(
    op: Op, model: str, key: str, name: str, arguments: dict[str, Any], outcome: str, result: dict[str, Any]
) -> Iterator[Operation]:
    """With `outcome` and `result` if it was done; none, if it was not and the refusal tells nothing of the object."""
    if op.outcome == UNKNOWN:
        yield Operation(op.who, model, key, name, op.begun_ns // NS, arguments=arguments)
    elif op.outcome == OK or op.outcome in REFUSALS:
        assert op.ended_ns is not None
        told = (outcome, arguments, result) if op.ok else (REFUSALS[op.outcome], arguments)
        yield Operation(op.who, model, key, name, op.begun_ns // NS, op.ended_ns // NS, *told)


def _holds(history: History) -> Iterator[Hold]:
    entered = {(belief.who, belief.number): belief for belief in beliefs(history)}
    for op in history.of("hold"):
        if op.outcome == NOT_DONE:
            continue
        hold = Hold(op.who, f"{op.args['lock']}", f"{op.who} {op.number}", op.args["mode"], op.begun_ns // NS)
        belief = entered.get((op.who, op.number))
        if belief is not None:
            hold.granted, hold.token, hold.sure = belief.from_ns // NS, belief.token, belief.until_ns // NS
        yield hold
