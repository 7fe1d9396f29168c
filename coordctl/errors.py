"""Exit codes, and the one line that every failure of coordctl's own prints.

Scripts rely on these numbers: a number never changes its meaning. `lock PATH -- CMD` otherwise exits with what CMD
exited with, 126 or 127 as a shell does when CMD cannot be started, 128 + n when signal n ended it.
"""

from __future__ import annotations

import sys
from enum import IntEnum


class Exit(IntEnum):
    """The exit codes that are coordctl's own."""

    OK = 0
    OTHER = 1
    USAGE = 2
    NOT_FOUND = 3
    CONFLICT = 4  # exists already, or the condition of the change does not hold
    PERMISSION = 5
    UNAVAILABLE = 6  # no master, or no answer in time
    NOT_ACQUIRED = 75  # as EX_TEMPFAIL of sysexits.h
    LOST = 76  # the lock was lost while the command ran
    NOT_EXECUTABLE = 126
    COMMAND_NOT_FOUND = 127
    SIGNAL = 128  # + the number of the signal


_BY_CODE = {
    "bad_request": Exit.USAGE,
    "bad_path": Exit.USAGE,
    "wrong_cell": Exit.USAGE,
    "not_found": Exit.NOT_FOUND,
    "revision_gone": Exit.NOT_FOUND,
    "revision_ahead": Exit.NOT_FOUND,
    "stale_handle": Exit.NOT_FOUND,
    "exists": Exit.CONFLICT,
    "conflict": Exit.CONFLICT,
    "not_empty": Exit.CONFLICT,
    "not_a_directory": Exit.CONFLICT,
    "is_a_directory": Exit.CONFLICT,
    "locked": Exit.CONFLICT,
    "permission_denied": Exit.PERMISSION,
    "not_master": Exit.UNAVAILABLE,
    "unavailable": Exit.UNAVAILABLE,
    "overloaded": Exit.UNAVAILABLE,
    "outcome_unknown": Exit.UNAVAILABLE,
    "session_expired": Exit.UNAVAILABLE,
    "session_killed": Exit.UNAVAILABLE,
    "permits_differ": Exit.CONFLICT,
    "guard_failed": Exit.CONFLICT,
    "not_waiting": Exit.CONFLICT,
    "not_acquired": Exit.NOT_ACQUIRED,
    "deadlock": Exit.NOT_ACQUIRED,
    "not_held": Exit.LOST,
}


class Failure(Exception):
    """A failure of coordctl's own: ends the program with `exit_code` after one line on stderr."""

    def __init__(self, message: str, exit_code: int = Exit.OTHER) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code


def exit_code_of(code: str) -> Exit:
    """The exit code for an error code of the protocol or of the client library."""
    return _BY_CODE.get(code, Exit.OTHER)


def one_line(message: str) -> str:
    """`message` on one line, whatever it contains."""
    return " ".join(message.split()) or "no reason was given"


def complain(message: str) -> None:
    """The line of a failure on stderr."""
    print(f"coordctl: {one_line(message)}", file=sys.stderr, flush=True)
