"""Arguments of operations: their kinds, and the check of each kind, with the words of its errors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

from coordclient.protocol.addresses import parse_address
from coordclient.protocol.errors import Refusal
from coordclient.protocol.paths import parse_path

NUMBER_MAX = 2**53 - 1  # exact in JSON
TEXT_BYTES_MAX = 1024
PERMITS_MAX = 4096
LOCKS_MAX = 64  # of one acquire_all
PATHS_MAX = 256  # of one get_many
PAGE_MAX = 1000  # rows of one page
STEPS_MAX = 128  # of one transaction, in both branches
GUARDS_MAX = 128
MODES = ("exclusive", "shared", "semaphore")

_Sized = TypeVar("_Sized", str, bytes)


class Kind(Enum):
    """Type of one argument."""

    PATH = "path"
    BYTES = "bytes"
    TEXT = "text"
    INT = "integer"
    BOOL = "boolean"
    MODE = "mode"
    CHOICE = "one of several texts"
    ADDRESS = "address"
    LABELS = "map of texts"
    PATHS = "list of paths"
    LOCKS = "list of locks"
    GUARDS = "list of guards"
    STEPS = "list of steps"


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument: `low` and `high` bound an integer, or the length in bytes of a text or of bytes; `choices` are all
    the values of a CHOICE; `steps` has what each step of STEPS takes, and what is added to it."""

    name: str
    kind: Kind
    default: object = None
    required: bool = False
    low: int = 0
    high: int = NUMBER_MAX
    choices: tuple[str, ...] = ()
    steps: Mapping[str, StepTable] = field(default_factory=dict, compare=False)


StepTable = tuple[Mapping[str, Argument], Mapping[str, object]]


def fill(operation: str, table: Mapping[str, Argument], given: Mapping[str, object]) -> dict[str, object]:
    """All arguments of the table, checked, with defaults for those that were not given; no others may be there."""
    for name in given:
        if name not in table:
            known = ", ".join(table) or "none"
            raise Refusal("bad_request", f"{operation}: no argument is called {repr(name)[:80]}; there are: {known}")
    checked: dict[str, object] = {}
    for name, argument in table.items():
        value = given.get(name)
        if value is None:
            if argument.required:
                raise Refusal("bad_request", f"{operation}: argument {name} is missing")
            checked[name] = argument.default
        else:
            checked[name] = check_value(operation, argument, value)
    return checked


def check_value(operation: str, argument: Argument, value: object) -> object:
    """The value as the machine wants it (paths in their short form); refuses by name what the argument forbids."""
    return _CHECKS[argument.kind](operation, argument, value)


def check_permits(operation: str, mode: str, permits: int) -> None:
    """A semaphore has permits, and nothing else has."""
    if (mode == "semaphore") != (permits > 0):
        needed = f"1 to {PERMITS_MAX}" if mode == "semaphore" else "0"
        raise Refusal("bad_request", f"{operation}: with mode {mode} permits must be {needed}, not {permits}")


def _wrong_type(operation: str, argument: Argument, value: object) -> Refusal:
    return Refusal(
        "bad_request",
        f"{operation}: argument {argument.name} must be {argument.kind.value}, not {type(value).__name__}",
    )


def _check_path(operation: str, argument: Argument, value: object) -> str:
    if not isinstance(value, str):
        raise _wrong_type(operation, argument, value)
    if not value and argument.default == "":
        return ""  # a path that may be left out
    return parse_path(value)


def _check_bytes(operation: str, argument: Argument, value: object) -> bytes:
    if not isinstance(value, bytes):
        raise _wrong_type(operation, argument, value)
    return _check_length(operation, argument, value, len(value))


def _check_text(operation: str, argument: Argument, value: object) -> str:
    if not isinstance(value, str):
        raise _wrong_type(operation, argument, value)
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise Refusal("bad_request", f"{operation}: argument {argument.name} is not valid text") from None
    return _check_length(operation, argument, value, size)


def _check_length(operation: str, argument: Argument, value: _Sized, size: int) -> _Sized:
    if size > argument.high:
        raise Refusal("too_large", f"{operation}: {argument.name} has {size} bytes; the limit is {argument.high}")
    if size < argument.low:
        raise Refusal(
            "bad_request", f"{operation}: {argument.name} has {size} bytes; at least {argument.low} are needed"
        )
    return value


def _check_int(operation: str, argument: Argument, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong_type(operation, argument, value)
    if not argument.low <= value <= argument.high:
        raise Refusal(
            "bad_request", f"{operation}: {argument.name} is {value}; it must be {argument.low} to {argument.high}"
        )
    return value


def _check_bool(operation: str, argument: Argument, value: object) -> bool:
    if not isinstance(value, bool):
        raise _wrong_type(operation, argument, value)
    return value


def _check_mode(operation: str, argument: Argument, value: object) -> str:
    if value not in MODES or not isinstance(value, str):
        raise Refusal("bad_request", f"{operation}: {argument.name} must be one of {', '.join(MODES)}")
    return value


def _check_choice(operation: str, argument: Argument, value: object) -> str:
    if value not in argument.choices or not isinstance(value, str):
        raise Refusal("bad_request", f"{operation}: {argument.name} must be one of {', '.join(argument.choices)}")
    return value


def _check_address(operation: str, argument: Argument, value: object) -> str:
    text = _check_text(operation, argument, value)
    try:
        return parse_address(text)
    except ValueError as error:
        raise Refusal("bad_request", f"{operation}: {argument.name} = {text!r:.80}: {error}") from None


def _check_labels(operation: str, argument: Argument, value: object) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > 16:
        raise _wrong_type(operation, argument, value)
    for key, text in value.items():
        if not (isinstance(key, str) and isinstance(text, str)):
            raise _wrong_type(operation, argument, value)
        if len(key) + len(text) > TEXT_BYTES_MAX // 4:
            raise Refusal(
                "too_large", f"{operation}: an entry of {argument.name} is over {TEXT_BYTES_MAX // 4} characters"
            )
        try:
            (key + text).encode()
        except UnicodeEncodeError:  # a lone surrogate, which JSON can spell; it must not reach an encoder
            raise Refusal("bad_request", f"{operation}: argument {argument.name} is not valid text") from None
    return value


def _check_paths(operation: str, argument: Argument, value: object) -> list[str]:
    paths = [_check_path(operation, argument, path) for path in _check_list(operation, argument, value, PATHS_MAX)]
    if not paths:
        raise Refusal("bad_request", f"{operation}: {argument.name} is empty")
    return paths


_LOCK_PATH = Argument("path", Kind.PATH, required=True)
_LOCK_MODE = Argument("mode", Kind.MODE, "exclusive")
_LOCK_PERMITS = Argument("permits", Kind.INT, 0, high=PERMITS_MAX)
_LOCK = {argument.name: argument for argument in (_LOCK_PATH, _LOCK_MODE, _LOCK_PERMITS)}


def _check_locks(operation: str, argument: Argument, value: object) -> list[dict[str, object]]:
    """Each a map {path, mode, permits} with all three, paths distinct."""
    if not isinstance(value, list):
        raise _wrong_type(operation, argument, value)
    if not 1 <= len(value) <= LOCKS_MAX:
        raise Refusal(
            "bad_request", f"{operation}: {argument.name} has {len(value)} locks; 1 to {LOCKS_MAX} are allowed"
        )
    checked = [_check_lock(operation, argument, one) for one in value]
    paths = {one["path"] for one in checked}
    if len(paths) < len(checked):
        raise Refusal("bad_request", f"{operation}: a path is twice in {argument.name}")
    return checked


def _check_lock(operation: str, argument: Argument, value: object) -> dict[str, object]:
    if not isinstance(value, dict) or not set(value) <= set(_LOCK):
        raise Refusal("bad_request", f"{operation}: each of {argument.name} is a map of {', '.join(_LOCK)}")
    given = {name: one.default if value.get(name) is None else value[name] for name, one in _LOCK.items()}
    if given["path"] is None:
        raise Refusal("bad_request", f"{operation}: one of {argument.name} has no path")
    path = _check_path(operation, _LOCK_PATH, given["path"])
    mode = _check_mode(operation, _LOCK_MODE, given["mode"])
    permits = _check_int(operation, _LOCK_PERMITS, given["permits"])
    check_permits(operation, mode, permits)
    return {"path": path, "mode": mode, "permits": permits}


_NUMBERS = ("instance", "content_generation", "lock_generation", "acl_generation", "revision")
_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
_GUARDED: Mapping[str, Argument] = {
    "exists": Argument("exists", Kind.BOOL),
    "held": Argument("held", Kind.BOOL),
    "checksum": Argument("checksum", Kind.TEXT, low=16, high=16),
    **{name: Argument(name, Kind.INT) for name in _NUMBERS},
}
_SEQUENCER = Argument("sequencer", Kind.TEXT, low=1, high=4096)
_hex = re.compile("[0-9a-f]*").fullmatch


def _check_guards(operation: str, argument: Argument, value: object) -> list[dict[str, object]]:
    """Each a map {path, one of `_GUARDED`, is: for a number}, or {sequencer}."""
    return [
        _check_guard(f"{operation}: {argument.name}[{index}]", one)
        for index, one in enumerate(_check_list(operation, argument, value, GUARDS_MAX))
    ]


def _check_list(operation: str, argument: Argument, value: object, bound: int) -> list[object]:
    if not isinstance(value, list):
        raise _wrong_type(operation, argument, value)
    if len(value) > bound:
        raise Refusal("bad_request", f"{operation}: {argument.name} has {len(value)} entries; {bound} are allowed")
    return value


def _check_guard(where: str, guard: object) -> dict[str, object]:
    if not isinstance(guard, dict):
        raise Refusal("bad_request", f"{where} must be a map, not {type(guard).__name__}")
    if list(guard) == ["sequencer"]:
        return {"sequencer": check_value(where, _SEQUENCER, guard["sequencer"])}
    names = [name for name in guard if name not in ("path", "is")]
    if len(names) != 1 or names[0] not in _GUARDED:
        known = ", ".join(_GUARDED)
        raise Refusal("bad_request", f"{where} has path and one of {known}, or sequencer alone")
    [name] = names
    try:
        path = _check_path(where, _LOCK_PATH, guard.get("path"))
    except Refusal as refusal:
        raise _placed(where, refusal) from None
    checked = {"path": path, name: check_value(where, _GUARDED[name], guard[name])}
    if name in _NUMBERS:
        checked["is"] = guard.get("is", "==")
    if checked.get("is", "==") not in _COMPARISONS or ("is" in guard and "is" not in checked):
        raise Refusal("bad_request", f"{where}: is, of a number, must be one of {' '.join(_COMPARISONS)}")
    if name == "checksum" and not _hex(str(guard[name])):
        raise Refusal("bad_request", f"{where}: a checksum is 16 hex digits, small letters")
    return checked


def _check_steps(operation: str, argument: Argument, value: object) -> list[dict[str, object]]:
    """Each a map {do, and the arguments of that operation}; all its arguments are there afterwards."""
    return [
        _check_step(f"{operation}: {argument.name}[{index}]", argument.steps, one)
        for index, one in enumerate(_check_list(operation, argument, value, STEPS_MAX))
    ]


def _check_step(where: str, tables: Mapping[str, StepTable], step: object) -> dict[str, object]:
    if not isinstance(step, dict):
        raise Refusal("bad_request", f"{where} must be a map, not {type(step).__name__}")
    do = step.get("do")
    if not isinstance(do, str) or do not in tables:
        raise Refusal("bad_request", f"{where}: do must be one of {', '.join(tables)}, not {repr(do)[:80]}")
    table, fixed = tables[do]
    given = {name: argument for name, argument in step.items() if name != "do"}
    where = f"{where} {do}"
    try:
        return {"do": do, **fill(where, table, given), **fixed}
    except Refusal as refusal:
        raise _placed(where, refusal) from None


def _placed(where: str, refusal: Refusal) -> Refusal:
    """What is said of a path names only the path: of several, say which."""
    return Refusal("bad_path", f"{where}: {refusal.message}") if refusal.code == "bad_path" else refusal


_CHECKS = {
    Kind.PATH: _check_path,
    Kind.BYTES: _check_bytes,
    Kind.TEXT: _check_text,
    Kind.INT: _check_int,
    Kind.BOOL: _check_bool,
    Kind.MODE: _check_mode,
    Kind.CHOICE: _check_choice,
    Kind.ADDRESS: _check_address,
    Kind.LABELS: _check_labels,
    Kind.PATHS: _check_paths,
    Kind.LOCKS: _check_locks,
    Kind.GUARDS: _check_guards,
    Kind.STEPS: _check_steps,
}
