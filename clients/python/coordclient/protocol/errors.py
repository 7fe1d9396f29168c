"""The error table: code -> HTTP status -> what the caller may do.

One table serves every door: the channel, POST, the client library's exceptions and coordctl's exit codes are read
from it. A code never changes its meaning; a new meaning is a new code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Action(Enum):
    """What the caller may do after an error."""

    GIVE_UP = "give up"  # the same request will fail again
    RETRY = "retry"  # nothing was done; the same request may succeed a little later, here or elsewhere
    GO_TO_MASTER = "go to master"  # nothing was done; the answer names where
    NEW_SESSION = "new session"  # the session and all that it held are lost
    OUTCOME_UNKNOWN = "outcome unknown"  # it may have taken effect, may still do so, or never


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """One row of the table. `status` is the HTTP status of the POST door."""

    code: str
    status: int
    action: Action
    meaning: str


_ROWS = (
    # shape of the request
    ErrorKind("bad_request", 400, Action.GIVE_UP, "the request is malformed; the message says where"),
    ErrorKind("bad_path", 400, Action.GIVE_UP, "the path is malformed; the message says why"),
    ErrorKind("too_large", 413, Action.GIVE_UP, "something is over its limit; the message names limit and size"),
    ErrorKind("unknown_operation", 404, Action.GIVE_UP, "no operation has this name"),
    ErrorKind("unsupported_version", 400, Action.GIVE_UP, "the other side speaks another format version"),
    ErrorKind("wrong_cell", 421, Action.GIVE_UP, "the request names another cell than this one"),
    # namespace
    ErrorKind("not_found", 404, Action.GIVE_UP, "there is no node at this path"),
    ErrorKind("stale_handle", 410, Action.GIVE_UP, "the node is gone; another one may be in its place"),
    ErrorKind("exists", 409, Action.GIVE_UP, "there is a node at this path already"),
    ErrorKind("conflict", 409, Action.GIVE_UP, "the condition of the change does not hold"),
    ErrorKind("not_empty", 409, Action.GIVE_UP, "the directory has children"),
    ErrorKind("not_a_directory", 409, Action.GIVE_UP, "a part of the path is a file"),
    ErrorKind("is_a_directory", 409, Action.GIVE_UP, "the path is a directory"),
    ErrorKind("revision_gone", 410, Action.GIVE_UP, "the history reaches back less far; the answer has the oldest"),
    ErrorKind("revision_ahead", 409, Action.GIVE_UP, "the revision is yet to come; the answer has the present one"),
    ErrorKind("locked", 409, Action.GIVE_UP, "the node is held or waited for; the answer names a holder"),
    # locks
    ErrorKind(
        "guard_failed", 409, Action.GIVE_UP, "the sequencer that guards the change is not valid; nothing was done"
    ),
    ErrorKind("not_acquired", 409, Action.GIVE_UP, "the lock is not free and the caller did not want to wait"),
    ErrorKind("cancelled", 409, Action.GIVE_UP, "this call was cancelled by its own client"),
    ErrorKind("not_held", 409, Action.GIVE_UP, "this session does not have that hold"),
    ErrorKind("deadlock", 409, Action.GIVE_UP, "waiting would never end; the answer names the cycle"),
    ErrorKind("permits_differ", 409, Action.GIVE_UP, "the semaphore is held with another number of permits"),
    ErrorKind("not_waiting", 409, Action.GIVE_UP, "the session that should get the lock does not wait for it"),
    # sessions and calls
    ErrorKind("session_required", 401, Action.GIVE_UP, "this operation needs a session"),
    ErrorKind("session_expired", 410, Action.NEW_SESSION, "the session has ended, or the id or secret is wrong"),
    ErrorKind("session_killed", 410, Action.NEW_SESSION, "an operator ended the session; the answer has the reason"),
    ErrorKind("stale_channel", 409, Action.GIVE_UP, "the session has moved to a newer channel"),
    ErrorKind("call_window", 429, Action.GIVE_UP, "too many calls of this session are unanswered"),
    ErrorKind("permission_denied", 403, Action.GIVE_UP, "the principal may not do this"),
    # the cell
    ErrorKind("not_master", 307, Action.GO_TO_MASTER, "this replica is not the master; the answer names it if known"),
    ErrorKind("unavailable", 503, Action.RETRY, "no master is ready now; nothing was done"),
    ErrorKind("overloaded", 503, Action.RETRY, "a queue is full; nothing was done"),
    ErrorKind("limit", 429, Action.GIVE_UP, "a limit of the cell is reached; the message names it"),
    ErrorKind("outcome_unknown", 504, Action.OUTCOME_UNKNOWN, "the call may or may not take effect"),
    ErrorKind("internal", 500, Action.OUTCOME_UNKNOWN, "a bug in coordd; the daemon's log says more"),
)

ERRORS: Mapping[str, ErrorKind] = {row.code: row for row in _ROWS}


class Refusal(Exception):
    """A named refusal of one request: the only way in which a request fails, on every layer of either side.

    `details` is plain data that travels with it: for `not_master` {"master": replica id | None, "address": url | None},
    for `locked` {"holder": ...} (None where nobody holds and somebody waits), for `deadlock` {"cycle": [...]}, for
    `session_killed` and `guard_failed` {"reason": text}, for `permits_differ` {"permits", "asked"}, for `revision_gone`
    {"oldest"}, for `revision_ahead` {"revision"}: the present one, for `stale_handle` {"instance"}: of the node that is
    there now, or None.
    """

    def __init__(self, code: str, message: str, /, **details: object) -> None:
        if code not in ERRORS:
            raise AssertionError(f"unknown error code {code!r}")
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details

    def to_wire(self) -> dict[str, object]:
        """The map that travels: {"code", "message", **details}."""
        return {"code": self.code, "message": self.message, **self.details}

    @classmethod
    def from_wire(cls, wire: Mapping[str, object]) -> Refusal:
        """The inverse of `to_wire`; a code that this build does not know becomes `internal` with the code named."""
        details = {str(key): value for key, value in wire.items() if key not in ("code", "message")}
        code, message = str(wire.get("code", "internal")), str(wire.get("message", ""))
        if code not in ERRORS:
            code, message = "internal", f"unknown error code {code!r}: {message}"
        return cls(code, message, **details)

    def __repr__(self) -> str:
        return f"Refusal({self.code!r}, {self.message!r})"
