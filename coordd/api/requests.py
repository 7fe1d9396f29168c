"""The checks that both doors make, in one place, so that both refuse alike. Nothing unchecked reaches the node."""

from __future__ import annotations

from coordclient.protocol.codec import DEPTH_MAX
from coordclient.protocol.errors import Refusal
from coordclient.protocol.operations import NUMBER_MAX, Kind, Operation, check_arguments, find_operation
from coordclient.protocol.paths import parse_path


def check_call(cell: str, name: object, arguments: object) -> tuple[Operation, dict[str, object]]:
    """The operation and its checked arguments, paths in their short form; `Refusal` names whatever is wrong."""
    operation = find_operation(name)
    if isinstance(arguments, dict):
        for value in arguments.values():
            if isinstance(value, dict | list) and too_deep(value):
                raise Refusal("bad_request", f"{operation.name}: the arguments are nested deeper than {DEPTH_MAX}")
        arguments = _own_paths(cell, operation, arguments)
    return operation, check_arguments(operation, arguments)


def _own_paths(cell: str, operation: Operation, arguments: dict[object, object]) -> dict[object, object]:
    """`/ls/<this cell>/...` becomes the short form; another cell is refused by its name."""
    for argument in operation.arguments:
        if argument.kind is Kind.PATH:
            value = arguments.get(argument.name)
            if isinstance(value, str) and value.startswith("/ls/"):
                arguments = {**arguments, argument.name: parse_path(value, cell)}
        elif argument.kind is Kind.PATHS:
            listed = arguments.get(argument.name)
            if isinstance(listed, list):
                arguments = {**arguments, argument.name: [_short(cell, one) for one in listed]}
        elif argument.kind in (Kind.LOCKS, Kind.GUARDS, Kind.STEPS):
            listed = arguments.get(argument.name)
            if isinstance(listed, list):
                where = f"{operation.name}: {argument.name}"
                own = [_own_path(cell, f"{where}[{index}]", one) for index, one in enumerate(listed)]
                arguments = {**arguments, argument.name: own}
    return arguments


def _short(cell: str, path: object) -> object:
    return parse_path(path, cell) if isinstance(path, str) and path.startswith("/ls/") else path


def _own_path(cell: str, where: str, one: object) -> object:
    """Of one of several locks, guards or steps; an error says of which."""
    path = one.get("path") if isinstance(one, dict) else None
    if isinstance(one, dict) and isinstance(path, str) and path.startswith("/ls/"):
        try:
            return {**one, "path": parse_path(path, cell)}
        except Refusal as refusal:
            raise Refusal(refusal.code, f"{where}: {refusal.message}") from None
    return one


def too_deep(value: object) -> bool:
    """True when lists and maps are nested deeper than DEPTH_MAX; does not recurse."""
    level: list[object] = [value]
    for _ in range(DEPTH_MAX):
        inner: list[object] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
        level = [item for item in inner if isinstance(item, dict | list)]
        if not level:
            return False
    return True


def check_cell(cell: str, named: object) -> None:
    """The name in a channel's hello: this cell's, or "" for any."""
    if not isinstance(named, str):
        raise Refusal("bad_request", "the hello names a cell, or says '' for any")
    if named not in ("", "local", cell):
        raise Refusal("wrong_cell", f"this is the cell {cell}, not {named[:80]!r}")


def require_session(operation: Operation, session: int) -> None:
    """Refuse what needs a session where there is none."""
    if operation.session and not session:
        raise Refusal("session_required", f"{operation.name} needs a session; open one first")


def is_number(value: object, low: int) -> bool:
    """True for an integer from `low` to what is exact in JSON; True and False are no numbers."""
    return type(value) is int and low <= value <= NUMBER_MAX
