"""Short names to write histories with: what was told comes after when. An end of None: no answer came."""

from __future__ import annotations

from typing import Any

from tests.histories.operation import UNKNOWN, Operation

History = list[Operation]


def _op(
    model: str, name: str, begun: int, ended: int | None, outcome: str, arguments: dict[str, Any], **result: Any
) -> Operation:
    told = {key: value for key, value in result.items() if value not in (None, 0)} if ended is not None else {}
    return Operation(
        f"p{begun}", model, "x", name, begun, ended, UNKNOWN if ended is None else outcome, arguments, told
    )


def put(
    begun: int, ended: int | None, value: str, number: int = 0, told: str = "ok", *, at: int = 0, absent: bool = False
) -> Operation:
    arguments: dict[str, Any] = {"value": value}
    if at:
        arguments["if_generation"] = at
    if absent:
        arguments["if_absent"] = True
    return _op("register", "put", begun, ended, told, arguments, generation=number)


def get(begun: int, ended: int | None, value: str | None = None, number: int = 0) -> Operation:
    return _op(
        "register", "get", begun, ended, "missing" if value is None else "ok", {}, value=value, generation=number
    )


def erase(begun: int, ended: int | None, told: str = "ok", number: int = 0, *, at: int = 0) -> Operation:
    return _op("register", "delete", begun, ended, told, {"if_generation": at} if at else {}, revision=number)


def acquire(begun: int, ended: int | None, hold: str, token: int = 0, told: str = "ok") -> Operation:
    return _op("lock", "acquire", begun, ended, told, {"hold": hold, "mode": "exclusive"}, token=token)


def share(begun: int, ended: int | None, hold: str, token: int = 0, told: str = "ok") -> Operation:
    return _op("lock", "acquire", begun, ended, told, {"hold": hold, "mode": "shared"}, token=token)


def permit(begun: int, ended: int | None, hold: str, token: int = 0, told: str = "ok", *, of: int = 2) -> Operation:
    arguments = {"hold": hold, "mode": "semaphore", "permits": of}
    return _op("lock", "acquire", begun, ended, told, arguments, token=token)


def all_of(begun: int, ended: int | None, hold: str, paths: str, token: int = 0, mode: str = "exclusive") -> Operation:
    """Paths are letters."""
    parts = [(path, mode, 2 if mode == "semaphore" else 0) for path in paths]
    tokens = dict.fromkeys(paths, token) if token else None
    return _op("several", "acquire", begun, ended, "ok", {"hold": hold, "parts": parts}, tokens=tokens)


def free_all(begun: int, ended: int | None, hold: str) -> Operation:
    return _op("several", "release", begun, ended, "ok", {"hold": hold})


def lapse(begun: int, hold: str, path: str) -> Operation:
    return _op("several", "expire", begun, None, "", {"hold": hold, "path": path})


def release(begun: int, ended: int | None, hold: str) -> Operation:
    return _op("lock", "release", begun, ended, "ok", {"hold": hold})


def expire(begun: int, hold: str) -> Operation:
    return _op("lock", "expire", begun, None, "", {"hold": hold})


def add(begun: int, ended: int | None, by: int = 1, value: int | None = None) -> Operation:
    return _op("counter", "add", begun, ended, "ok", {"by": by}, value=value)


def count(begun: int, ended: int | None, value: int) -> Operation:
    return Operation(f"p{begun}", "counter", "x", "get", begun, ended, "ok", {}, {"value": value})


def create(begun: int, ended: int | None, name: str, told: str = "ok", *, number: int = 0) -> Operation:
    return _op("directory", "create", begun, ended, told, {"name": name}, revision=number)


def delete(begun: int, ended: int | None, name: str, told: str = "ok", *, number: int = 0) -> Operation:
    return _op("directory", "delete", begun, ended, told, {"name": name}, revision=number)


def ls(begun: int, ended: int | None, *names: str) -> Operation:
    return _op("directory", "list", begun, ended, "ok", {}, names=list(names))


def has(begun: int, ended: int | None, name: str, there: bool) -> Operation:
    return Operation(f"p{begun}", "directory", "x", "has", begun, ended, "ok", {"name": name}, {"there": there})


def txn(
    begun: int,
    ended: int | None,
    then: str,
    *seen: str | None,
    guards: str = "",
    otherwise: str = "",
    number: int = 0,
    failed: bool = False,
    refused: int | None = None,
) -> Operation:
    """Steps as "put x a, get x, look x, delete x, make x a"; guards as "x is a, y is nothing"."""
    conditions = tuple(_condition(text) for text in guards.split(", ") if text)
    arguments = {"guards": conditions, "then": _steps(then), "else": _steps(otherwise)}
    if ended is None:
        return Operation(f"p{begun}", "table", "x", "txn", begun, None, UNKNOWN, arguments)
    told: dict[str, Any] = {"succeeded": not failed, "seen": list(seen)} | ({"revision": number} if number else {})
    if refused is not None:
        return Operation(f"p{begun}", "table", "x", "txn", begun, ended, "refused", arguments, {"step": refused})
    return Operation(f"p{begun}", "table", "x", "txn", begun, ended, "ok", arguments, told)


def _condition(text: str) -> tuple[str, str | None]:
    key, _, value = text.partition(" is ")
    return key, None if value == "nothing" else value


def _steps(text: str) -> tuple[tuple[str, str, str | None], ...]:
    parts = [step.split(" ") for step in text.split(", ") if step]
    return tuple((part[0], part[1], part[2] if len(part) > 2 else None) for part in parts)
