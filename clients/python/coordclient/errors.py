"""What the library raises: one tree under `CoordError`, grouped by what the caller can do.

    CoordError                       .code  .message  .retryable  .details
    |- BadRequest (ValueError)       the request itself is wrong: BadPath, TooLarge, UnknownOperation,
    |                                UnsupportedVersion, WrongCell, SessionRequired, NoTransaction
    |- NotFound (FileNotFoundError): StaleHandle; Exists (FileExistsError), Conflict, NotEmpty, Locked,
    |  NotADirectory (NotADirectoryError), IsADirectory (IsADirectoryError), RevisionGone, RevisionAhead
    |- LockTimeout (TimeoutError), LockLost, Deadlock, CallCancelled, GuardFailed, PermitsDiffer, NotWaiting
    |- SessionExpired: SessionKilled; StaleChannel, ClientForked, ClientClosed
    |- PermissionDenied (PermissionError), StaleToken (PermissionError), NeedsCell
    |- Unavailable (ConnectionError) nothing was done; the same call may succeed later: Overloaded, NotMaster
    |- LimitReached: CallWindow
    `- OutcomeUnknown (TimeoutError) it may have taken effect, may still do so, or never: InternalError

Every code of the protocol's table has exactly one class here (`error_of`). A class without a row in that table is made
by the library alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from coordclient.protocol.errors import ERRORS, Action, Refusal


class CoordError(Exception):
    """The root of everything that this library raises on purpose.

    `code` is the stable name of the reason (`coordctl explain CODE` describes it), `message` says it in words,
    `details` holds plain data that came with it (a holder, a cycle, an address).

    >>> try:
    ...     client.get("/config")
    ... except CoordError as error:
    ...     print(error.code, error.retryable)
    """

    code = "internal"

    def __init__(
        self, message: str = "", *, code: str | None = None, details: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, object] = dict(details or {})
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        return self.message or self.code

    def fresh(self) -> Self:
        """The same error as another exception, for each of several callers to raise."""
        return type(self)(self.message, code=self.code, details=self.details)

    @property
    def retryable(self) -> bool:
        """True when nothing was done and the same call may succeed a little later."""
        kind = ERRORS.get(self.code)
        return kind is not None and kind.action in (Action.RETRY, Action.GO_TO_MASTER)


class BadRequest(CoordError, ValueError):
    """The request is malformed; the message says where."""

    code = "bad_request"


class BadPath(BadRequest):
    """The path is malformed; the message says why."""

    code = "bad_path"


class TooLarge(BadRequest):
    """Something is over its limit; the message names the limit and the size."""

    code = "too_large"


class UnknownOperation(BadRequest):
    """The cell knows no operation of this name (it runs another version)."""

    code = "unknown_operation"


class UnsupportedVersion(BadRequest):
    """The other side speaks another version of the format."""

    code = "unsupported_version"


class WrongCell(BadRequest):
    """The endpoint belongs to another cell than the one that was asked for."""

    code = "wrong_cell"


class SessionRequired(BadRequest):
    """This operation needs a session."""

    code = "session_required"


class NotFound(CoordError, FileNotFoundError):
    """There is no node at this path."""

    code = "not_found"


class StaleHandle(NotFound):
    """The node that the handle was opened on is gone, another one may be in its place; or the handle was closed."""

    code = "stale_handle"


class RevisionGone(CoordError):
    """The history of the cell does not reach back to that revision any more; `details["oldest"]` says how far."""

    code = "revision_gone"


class RevisionAhead(CoordError):
    """There is no such revision yet: it is of another cell, perhaps, or of one that was restored."""

    code = "revision_ahead"


class Exists(CoordError, FileExistsError):
    """There is a node at this path already."""

    code = "exists"


class Conflict(CoordError):
    """The condition of the change (`if_generation`, `if_absent`) does not hold; nothing was changed."""

    code = "conflict"


class NotEmpty(CoordError):
    """The directory has children."""

    code = "not_empty"


class NotADirectory(CoordError, NotADirectoryError):
    """A part of the path is a file."""

    code = "not_a_directory"


class IsADirectory(CoordError, IsADirectoryError):
    """The path is a directory."""

    code = "is_a_directory"


class Locked(CoordError):
    """The node is held or waited for, so it cannot be deleted; `details["holder"]` says by whom."""

    code = "locked"


class LockTimeout(CoordError, TimeoutError):
    """The lock was not free within the time that the caller wanted to wait; nothing is left behind in its queue."""

    code = "not_acquired"


class LockLost(CoordError):
    """The lock is not surely held any more. Whatever it protected may belong to somebody else now."""

    code = "not_held"


class Deadlock(CoordError):
    """Waiting would never end; `details["cycle"]` names who waits for whom."""

    code = "deadlock"


class GuardFailed(CoordError):
    """The sequencer that guards the change is not valid any more; nothing was changed, `details["reason"]` says why."""

    code = "guard_failed"


class PermitsDiffer(CoordError):
    """The semaphore is held with another number of permits; `details["permits"]` has it."""

    code = "permits_differ"


class NotWaiting(CoordError):
    """The session that should get the lock does not wait for it in the same mode."""

    code = "not_waiting"


class CallCancelled(CoordError):
    """This call was cancelled by its own client."""

    code = "cancelled"


class SessionExpired(CoordError):
    """The session has ended, and with it every lock and ephemeral file that it had. The next call opens a new one."""

    code = "session_expired"


class SessionKilled(SessionExpired):
    """An operator ended the session; the message has the reason."""

    code = "session_killed"


class StaleChannel(CoordError):
    """Another connection speaks for this session now."""

    code = "stale_channel"


class ClientForked(CoordError):
    """This process was forked off the one that made the client; make a client of its own after the fork."""

    code = "client_forked"


class ClientClosed(CoordError):
    """The client was closed."""

    code = "client_closed"


class PermissionDenied(CoordError, PermissionError):
    """The principal may not do this."""

    code = "permission_denied"


class StaleToken(CoordError, PermissionError):
    """A fencing token is smaller than one that was seen before: its holder has lost the lock. See `Fence`."""

    code = "stale_token"


class NeedsCell(CoordError):
    """The tokens of a semaphore's holders say nothing about each other: only the cell knows whether one still holds.

    See `Fence` and `Client.check_sequencer`.
    """

    code = "needs_cell"


class NoTransaction(BadRequest):
    """The check of a token and the write that it protects would not be one transaction. See `SqlFence`."""

    code = "no_transaction"


class Unavailable(CoordError, ConnectionError):
    """No master could be asked in time, and nothing was done. The message names each address tried, and why."""

    code = "unavailable"


class Overloaded(Unavailable):
    """A queue of the cell is full; nothing was done."""

    code = "overloaded"


class NotMaster(Unavailable):
    """This replica is not the master; `details["address"]` names it if known."""

    code = "not_master"


class LimitReached(CoordError):
    """A limit of the cell is reached; the message names it."""

    code = "limit"


class CallWindow(LimitReached):
    """Too many calls of this session are unanswered."""

    code = "call_window"


class OutcomeUnknown(CoordError, TimeoutError):
    """No answer came in time. The call may have taken effect, may still do so, or never."""

    code = "outcome_unknown"


class InternalError(OutcomeUnknown):
    """A bug in coordd; the daemon's log says more."""

    code = "internal"


_CLASSES: tuple[type[CoordError], ...] = (
    BadRequest, BadPath, TooLarge, UnknownOperation, UnsupportedVersion, WrongCell, SessionRequired, NotFound,
    StaleHandle, RevisionGone, RevisionAhead, Exists,
    Conflict, NotEmpty, NotADirectory, IsADirectory, Locked, LockTimeout, LockLost, Deadlock, CallCancelled,
    GuardFailed, PermitsDiffer, NotWaiting, SessionExpired, SessionKilled, StaleChannel, PermissionDenied, Unavailable,
    Overloaded, NotMaster, LimitReached, CallWindow, OutcomeUnknown, InternalError,
)  # fmt: skip
CLASSES: Mapping[str, type[CoordError]] = {cls.code: cls for cls in _CLASSES}


def error_of(refusal: Refusal) -> CoordError:
    """The exception for a refusal of the cell.

    >>> type(error_of(Refusal("not_found", "no node at /x")))
    <class 'coordclient.errors.NotFound'>
    """
    return CLASSES[refusal.code](refusal.message, details=refusal.details)
