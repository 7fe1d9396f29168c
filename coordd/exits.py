"""How the daemon ends: the exit status says whether starting it again can help. The systemd units know them."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Everything from SYNC_FAILED on needs a person: the units do not restart the daemon after it."""

    OK = 0
    FAILED = 1  # a bug (a failed assert), or something that may be better at the next start: a port in use
    CONFIG = 2  # wrong settings or usage; every error was printed
    SYNC_FAILED = (
        70  # the disk did not take what was written: what the page cache says from now on is not to be believed
    )
    DAMAGED = 71  # the data are damaged; file, offset and way out were printed
    WRONG_DIRECTORY = 72  # the data are of another cell or replica, of an unknown format, or in use by a running daemon
    REFUSED = 73  # the cell will not have this replica any more: its data went back in time, or its state differs
