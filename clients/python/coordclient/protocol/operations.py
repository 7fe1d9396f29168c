"""The table of operations: one row makes the checks of both doors, and the words of their errors.

Results are maps. `stat` below stands for
  {"path", "kind": "file" | "directory", "instance", "content_generation", "lock_generation", "acl_generation",
   "revision", "checksum": 16 hex digits, "size", "created_ms", "modified_ms" (wall clock, for people),
   "owner", "ephemeral": bool, "children": int}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

from coordclient.protocol.addresses import ADDRESS_BYTES_MAX, parse_address
from coordclient.protocol.errors import Refusal
from coordclient.protocol.paths import parse_path

NUMBER_MAX = 2**53 - 1  # exact in JSON
CONTENTS_BYTES_MAX = 256 * 1024
LEASE_MS_MIN, LEASE_MS_MAX, LEASE_MS_DEFAULT = 1_000, 60_000, 12_000
LOCK_DELAY_MS_MAX, LOCK_DELAY_MS_DEFAULT = 60_000, 5_000
TEXT_BYTES_MAX = 1024

_Sized = TypeVar("_Sized", str, bytes)


class Way(Enum):
    """How an operation travels through a replica."""

    WRITE = "write"  # a logged command; needs the master
    READ = "read"  # linearizable, answered by the master from memory
    SESSION = "session"  # decided by the master outside the log (KeepAlive, attach)
    CELL = "cell"  # about the cell itself; needs the master, is no command of the machine
    LOCAL = "local"  # answered by any replica about itself


class Kind(Enum):
    """Type of one argument."""

    PATH = "path"
    BYTES = "bytes"
    TEXT = "text"
    INT = "integer"
    BOOL = "boolean"
    MODE = "mode"
    ADDRESS = "address"
    LABELS = "map of texts"


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument: `low` and `high` bound an integer, or the length in bytes of a text or of bytes."""

    name: str
    kind: Kind
    default: object = None
    required: bool = False
    low: int = 0
    high: int = NUMBER_MAX


@dataclass(frozen=True, slots=True)
class Operation:
    """One row. `waits`: the answer may take as long as the caller cares to wait."""

    name: str
    way: Way
    arguments: tuple[Argument, ...]
    result: str
    session: bool = False
    waits: bool = False
    by_name: Mapping[str, Argument] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {argument.name: argument for argument in self.arguments})


_PATH = Argument("path", Kind.PATH, required=True)
_CONTENTS = Argument("contents", Kind.BYTES, b"", high=CONTENTS_BYTES_MAX)
_PARENTS = Argument("parents", Kind.BOOL, False)
_REPLICA = Argument("replica", Kind.INT, required=True, low=1, high=255)
_MEMBERS = (
    "{version, highest, master, members: [{replica, voter, address, chosen_upto, heard_ms_ago}], voters, answering,"
    " majority, can_lose}: answering and can_lose count the voters that answer and keep up"
)
_IF_GENERATION = Argument("if_generation", Kind.INT, None)

_ROWS = (
    Operation(
        "open_session",
        Way.WRITE,
        (
            Argument("lease_ms", Kind.INT, LEASE_MS_DEFAULT, low=LEASE_MS_MIN, high=LEASE_MS_MAX),
            Argument("client", Kind.LABELS, {}),  # host, pid, program, name: for people
        ),
        "{session, secret, lease_ms, epoch}",
    ),
    Operation(
        "attach",
        Way.SESSION,
        (
            Argument("session", Kind.INT, required=True, low=1),
            Argument("secret", Kind.TEXT, required=True, high=128),
            Argument("attachment", Kind.INT, required=True, low=1),  # rises with every channel of the session
        ),
        "{session, lease_ms, epoch}: from now on this channel speaks for the session; it renews no lease",
    ),
    Operation(
        "keep_alive",
        Way.SESSION,
        (Argument("number", Kind.INT, required=True),),  # rises with every transmission
        "{number, epoch, lease_ms, members}: the lease counts from when number was sent (client), received (master);"
        " members is the version of the membership, to be asked for (status) when it is another than before",
        session=True,
    ),
    Operation("close_session", Way.WRITE, (), "{}", session=True),
    Operation(
        "list_sessions",
        Way.READ,
        (),
        "{revision, sessions: [{session, lease_ms, left_ms, client, principal, opened_ms, holds, waiters,"
        " ephemerals}]}",
    ),
    Operation("get", Way.READ, (_PATH,), "{contents, stat}"),
    Operation("stat", Way.READ, (_PATH,), "{stat}"),
    Operation("ls", Way.READ, (_PATH,), "{revision, entries: [{name, stat}] sorted by name}"),
    Operation(
        "put",
        Way.WRITE,
        (_PATH, _CONTENTS, _IF_GENERATION, Argument("if_absent", Kind.BOOL, False), _PARENTS),
        "{stat}: writes the whole file, makes it if it is missing (not with if_generation)",
    ),
    Operation(
        "create",
        Way.WRITE,
        (_PATH, _CONTENTS, Argument("ephemeral", Kind.BOOL, False), _PARENTS),
        "{stat}: an ephemeral file needs a session, which opens it",
    ),
    Operation("open", Way.WRITE, (_PATH,), "{stat}: this session keeps the ephemeral node alive too", session=True),
    Operation("mkdir", Way.WRITE, (_PATH, _PARENTS), "{stat}"),
    Operation("delete", Way.WRITE, (_PATH, _IF_GENERATION), "{revision}"),
    Operation(
        "acquire",
        Way.WRITE,
        (
            _PATH,
            Argument("mode", Kind.MODE, "exclusive"),
            Argument("wait", Kind.BOOL, True),
            Argument("lock_delay_ms", Kind.INT, LOCK_DELAY_MS_DEFAULT, high=LOCK_DELAY_MS_MAX),
            Argument("actor", Kind.TEXT, "", high=128),
        ),
        "{path, mode, token, hold, sequencer}: hold is the call number of the acquire",
        session=True,
        waits=True,
    ),
    Operation(
        "release",
        Way.WRITE,
        (_PATH, Argument("hold", Kind.INT, required=True, low=1)),
        "{revision}",
        session=True,
    ),
    Operation(
        "cancel",
        Way.WRITE,
        (Argument("target", Kind.INT, required=True, low=1),),  # the call number of an acquire of this session
        "{did: 'withdrew' | 'released' | 'marked' | 'nothing'}",
        session=True,
    ),
    Operation(
        "check_sequencer",
        Way.READ,
        (Argument("sequencer", Kind.TEXT, required=True, low=1, high=4096),),
        "{valid, reason}",
    ),
    Operation(
        "locks",
        Way.READ,
        (Argument("path", Kind.PATH, "/"),),
        "{revision, locks: [{path, mode, token,"
        " holders: [{session, hold, actor, since_ms, token, mode, delayed, client}],"
        " waiters: [{session, call, actor, mode, since_ms, place, client}]}]} of the subtree",
    ),
    Operation("members", Way.CELL, (), _MEMBERS),
    Operation(
        "add_member",
        Way.CELL,
        (
            Argument("replica", Kind.INT, 0, high=255),  # 0: the next free id
            Argument("address", Kind.ADDRESS, required=True, low=1, high=ADDRESS_BYTES_MAX),
        ),
        "as members, and {replica, changed}: a new replica, which learns and does not vote yet; an id is given once",
    ),
    Operation("promote_member", Way.CELL, (_REPLICA,), "as add_member: a learner that has caught up votes from now on"),
    Operation("remove_member", Way.CELL, (_REPLICA,), "as add_member: it leaves, for good, and its process ends"),
    Operation(
        "transfer_master",
        Way.CELL,
        (Argument("to", Kind.INT, 0, high=255),),  # 0: whoever is best
        "{master, to, changed}: the master that was gives its lease up, and this one may stand first",
    ),
    Operation(
        "status",
        Way.LOCAL,
        (),
        "{cell, replica, version, role, master, master_address, epoch, ballot, revision, chosen_upto, log_first_slot,"
        " snapshot_slot, sessions, uptime_ms, membership_version,"
        " standing: 'voter' | 'learner' | 'joining' | 'removed', differs_from: [replica], disk_full,"
        " members: [{replica, voter, address, heard_ms_ago}]}",
    ),
)

OPERATIONS: Mapping[str, Operation] = {row.name: row for row in _ROWS}
MODES = ("exclusive", "shared")


def find_operation(name: object) -> Operation:
    """The row of that name, or `unknown_operation`."""
    operation = OPERATIONS.get(name) if isinstance(name, str) else None
    if operation is None:
        shown = repr(name)[:80]
        raise Refusal("unknown_operation", f"no operation is called {shown}; there are {', '.join(sorted(OPERATIONS))}")
    return operation


def check_arguments(operation: Operation, arguments: object) -> dict[str, object]:
    """The arguments with defaults filled in and paths normalised; refuses anything else by name."""
    if not isinstance(arguments, dict):
        raise Refusal("bad_request", f"{operation.name}: arguments must be a map, not {type(arguments).__name__}")
    by_name = operation.by_name
    for name in arguments:
        if name not in by_name:
            known = ", ".join(by_name) or "none"
            raise Refusal(
                "bad_request", f"{operation.name}: no argument is called {repr(name)[:80]}; there are: {known}"
            )
    checked: dict[str, object] = {}
    for argument in operation.arguments:
        value = arguments.get(argument.name)
        if value is None:
            if argument.required:
                raise Refusal("bad_request", f"{operation.name}: argument {argument.name} is missing")
            checked[argument.name] = argument.default
        else:
            checked[argument.name] = _CHECKS[argument.kind](operation.name, argument, value)
    return checked


def _wrong_type(operation: str, argument: Argument, value: object) -> Refusal:
    return Refusal(
        "bad_request",
        f"{operation}: argument {argument.name} must be {argument.kind.value}, not {type(value).__name__}",
    )


def _check_path(operation: str, argument: Argument, value: object) -> str:
    if not isinstance(value, str):
        raise _wrong_type(operation, argument, value)
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


_CHECKS = {
    Kind.PATH: _check_path,
    Kind.BYTES: _check_bytes,
    Kind.TEXT: _check_text,
    Kind.INT: _check_int,
    Kind.BOOL: _check_bool,
    Kind.MODE: _check_mode,
    Kind.ADDRESS: _check_address,
    Kind.LABELS: _check_labels,
}
