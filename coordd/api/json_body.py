"""JSON in which bytes are spelled out: `{"text": ...}` or `{"base64": ...}`, both ways, never guessed.

A result's bytes are given as text where they are valid UTF-8, else as base64; the key says which.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any, NoReturn

from coordclient.protocol.errors import Refusal
from coordclient.protocol.operations import Argument, Kind, Operation


def parse(body: bytes) -> object:
    """The JSON value of a request's body; `Refusal` for anything else."""
    try:
        return json.loads(body, parse_constant=_no_constant, object_pairs_hook=_once)
    except RecursionError:
        raise Refusal("bad_request", "the body is nested too deep") from None
    except ValueError as error:  # not UTF-8 and not JSON alike
        raise Refusal("bad_request", f"the body is not JSON: {str(error)[:200]}") from None


def spelled_bytes(operation: Operation, arguments: object) -> object:
    """The arguments with `{"text": ...}` and `{"base64": ...}` turned into bytes where the operation takes bytes."""
    if not isinstance(arguments, dict):
        return arguments
    return _spelled(operation.name, operation.by_name, arguments)


def _spelled(where: str, table: Mapping[str, Argument], given: dict[str, Any]) -> dict[str, Any]:
    return {name: _spelled_one(where, table.get(name), value) for name, value in given.items()}


def _spelled_one(where: str, argument: Argument | None, value: object) -> object:
    if argument is not None and value is not None:
        if argument.kind is Kind.BYTES:
            return _bytes(where, argument.name, value)
        if argument.kind is Kind.STEPS and isinstance(value, list):
            name = f"{where}: {argument.name}"
            return [_spelled_step(f"{name}[{index}]", argument, step) for index, step in enumerate(value)]
    return value


def _spelled_step(where: str, argument: Argument, step: object) -> object:
    do = step.get("do") if isinstance(step, dict) else None
    if not isinstance(step, dict) or not isinstance(do, str) or do not in argument.steps:
        return step
    return _spelled(f"{where} {do}", argument.steps[do][0], step)


def render(value: object) -> bytes:
    """The JSON text of a result."""
    return json.dumps(value, default=_spell, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _bytes(where: str, name: str, value: object) -> object:
    if isinstance(value, dict) and len(value) == 1:
        ((key, text),) = value.items()
        if isinstance(text, str) and key == "text":
            try:
                return text.encode()
            except UnicodeEncodeError:
                raise Refusal("bad_request", f"{where}: argument {name} is not valid text") from None
        if isinstance(text, str) and key == "base64":
            try:
                return base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError):
                raise Refusal("bad_request", f"{where}: argument {name} is not valid base64") from None
    raise Refusal("bad_request", f'{where}: argument {name} must be {{"text": ...}} or {{"base64": ...}} in JSON')


def _spell(value: object) -> dict[str, str]:
    if not isinstance(value, bytes):
        raise TypeError(f"a result holds {type(value).__name__}")
    try:
        return {"text": value.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A map, unless a key stands there twice: two readers could take different ones."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
