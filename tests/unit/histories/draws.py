"""Small random histories: an object is really used; then some answers are changed or forgotten."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import product
from random import Random
from typing import Any

from tests.histories.models import MODELS
from tests.histories.models.base import Model
from tests.histories.operation import UNKNOWN, Operation

Answer = tuple[str, Mapping[str, Any]]


def draw(model: Model[Any], chance: Random) -> list[Operation]:
    """At most seven operations in at most 24 moments; some histories are nearly in sequence, some nearly unanswered."""
    moments, lasts, unknown = chance.choice((5, 10, 24)), chance.choice((2, 6, 24)), chance.choice((0.1, 0.2, 0.6))
    asked = [_asked(model.name, chance, place) for place in range(chance.randint(2, 7))]
    at = {}
    for op in asked:
        moment = chance.randrange(moments)
        at[id(op)] = moment
        op["begun"], op["ended"] = max(0, moment - chance.randrange(lasts)), moment + chance.randrange(lasts)
    state = model.initial
    history: list[Operation] = []
    for op in sorted(asked, key=lambda op: at[id(op)]):
        made = Operation("", model.name, "k", op["name"], op["begun"], None, UNKNOWN, op["arguments"])
        if chance.random() < unknown:
            if chance.random() < 0.5:
                state = _after(model, state, made)
            history.append(made)
            continue
        fits = [
            answered
            for outcome, result in _answers(made, chance)
            for answered in (replace(made, ended=op["ended"], outcome=outcome, result=result),)
            if model.step(state, answered) is not None
        ]
        if fits:
            history.append(chance.choice(fits))
            state = _after(model, state, history[-1])
    if history and chance.random() < 0.6:
        place = chance.randrange(len(history))
        if answers := _answers(history[place], chance):
            outcome, result = chance.choice(answers)
            ended = 48 if (was := history[place].ended) is None else was
            history[place] = replace(history[place], ended=ended, outcome=outcome, result=result)
    chance.shuffle(history)
    return [replace(op, process=f"p{place}") for place, op in enumerate(history)]


def _after(model: Model[Any], state: Any, op: Operation) -> Any:
    after = model.step(state, op)
    assert after is not None
    return after


def _asked(kind: str, chance: Random, place: int) -> dict[str, Any]:
    name, arguments = ASKED[kind](chance, place)
    return {"name": name, "arguments": arguments}


def _register(chance: Random, place: int) -> tuple[str, dict[str, Any]]:
    name = chance.choice(("put", "put", "get", "get", "delete"))
    arguments: dict[str, Any] = {}
    if name != "get" and chance.random() < 0.3:
        arguments["if_generation"] = chance.randint(1, 4)
    if name == "put":
        arguments["value"] = chance.choice("aabc")
        if not arguments.get("if_generation") and chance.random() < 0.3:
            arguments["if_absent"] = True
    return name, arguments


def _lock(chance: Random, place: int) -> tuple[str, dict[str, Any]]:
    name = chance.choice(("acquire", "acquire", "release", "expire"))
    if name == "acquire":
        mode = chance.choice(("exclusive", "shared", "semaphore"))
        permits = {"permits": chance.choice((1, 2, 2))} if mode == "semaphore" else {}
        return name, {"hold": f"h{place}", "mode": mode, **permits}
    return name, {"hold": f"h{chance.randrange(5)}"}


def _several(chance: Random, place: int) -> tuple[str, dict[str, Any]]:
    name = chance.choice(("acquire", "acquire", "release", "expire"))
    if name == "acquire":
        modes = (chance.choice((("exclusive", 0), ("shared", 0), ("semaphore", 2))) for _ in "ab")
        parts = [(path, *mode) for path, mode in zip("ab", modes, strict=True) if chance.random() < 0.7]
        return name, {"hold": f"h{place}", "parts": parts or [("a", "exclusive", 0)]}
    hold = {"hold": f"h{chance.randrange(5)}"}
    return name, hold if name == "release" else {**hold, "path": chance.choice("ab")}


def _counter(chance: Random, place: int) -> tuple[str, dict[str, Any]]:
    return ("get", {}) if chance.random() < 0.4 else ("add", {"by": chance.choice((1, 1, 2, 3))})


def _directory(chance: Random, place: int) -> tuple[str, dict[str, Any]]:
    name = chance.choice(("create", "create", "delete", "has", "list"))
    return name, {} if name == "list" else {"name": chance.choice("ab")}


def _table(chance: Random, place: int) -> tuple[str, dict[str, Any]]:
    guards = tuple((key, chance.choice(("a", "b", None))) for key in "xy" if chance.random() < 0.3)
    return "txn", {"guards": guards, "then": _steps(chance), "else": _steps(chance) if guards else ()}


def _steps(chance: Random) -> tuple[tuple[str, str, str | None], ...]:
    steps = []
    for key in "xyx"[: chance.randint(1, 3)]:
        what = chance.choice(("get", "look", "put", "put", "make", "delete"))
        steps.append((what, key, chance.choice("aab") if what in ("put", "make") else None))
    return tuple(steps)


ASKED: Mapping[str, Callable[[Random, int], tuple[str, dict[str, Any]]]] = {
    "register": _register,
    "lock": _lock,
    "several": _several,
    "counter": _counter,
    "directory": _directory,
    "table": _table,
}


def _answers(op: Operation, chance: Random) -> list[Answer]:
    """Answers of the right form, whether they fit or not."""
    number = {} if chance.random() < 0.4 else {"number": chance.randint(1, 5)}
    told = dict.fromkeys(("generation", "revision", "token"), number.get("number"))
    some = {name: value for name, value in told.items() if value}

    def only(name: str) -> dict[str, Any]:
        return {name: some[name]} if name in some else {}

    parts = op.arguments.get("parts", ())
    tokens = {"tokens": {path: chance.randint(number["number"], 5) for path, *_ in parts}} if number else {}
    if op.arguments.get("mode") == "semaphore" and chance.random() < 0.3:
        return [("differs", {})]
    names = [name for name in "ab" if chance.random() < 0.5]
    table: Mapping[tuple[str, str], list[Answer]] = {
        ("register", "get"): [("missing", {})] + [("ok", {"value": value, **only("generation")}) for value in "abc"],
        ("register", "put"): [("ok", only("generation")), ("missing", {}), ("exists", {})],
        ("register", "delete"): [("ok", only("revision")), ("missing", {})],
        ("lock", "acquire"): [("ok", only("token")), ("held", {})],
        ("lock", "release"): [("ok", {})],
        ("several", "acquire"): [("ok", tokens)],
        ("several", "release"): [("ok", {})],
        ("counter", "get"): [("ok", {"value": chance.randint(0, 6)}) for _ in range(3)],
        ("counter", "add"): [("ok", {})] + [("ok", {"value": chance.randint(0, 6)}) for _ in range(3)],
        ("directory", "create"): [("ok", only("revision")), ("exists", {})],
        ("directory", "delete"): [("ok", only("revision")), ("missing", {})],
        ("directory", "has"): [("ok", {"there": True}), ("ok", {"there": False})],
        ("directory", "list"): [("ok", {"names": names}), ("ok", {"names": []})],
        ("table", "txn"): _table_answers(op, chance, only("revision")) if op.model == "table" else [],
    }
    answers = table.get((op.model, op.name), [])  # nobody is told of an expiry
    if op.arguments.get("if_generation"):
        answers = [*answers, ("conflict", only("generation"))]
    if op.model == "register" and op.name == "put" and not op.arguments.get("if_absent"):
        answers = [answer for answer in answers if answer[0] != "exists"]
    return answers


def _table_answers(op: Operation, chance: Random, number: dict[str, Any]) -> list[Answer]:
    answers: list[Answer] = [("refused", {"step": chance.randrange(3)})]
    for succeeded in (True, False):
        steps = op.arguments["then" if succeeded else "else"]
        gets = sum(what in ("get", "look") for what, _, _ in steps)
        told = number if gets < len(steps) else {}
        answers += (
            ("ok", {"succeeded": succeeded, "seen": list(seen), **told})
            for seen in product(("a", "b", None), repeat=gets)
        )
    return answers


assert set(MODELS) == set(ASKED), "a new model needs its draws here"
