"""How the daemon ends: the exit status says whether starting it again can help. The systemd units know them.

The numbers follow sysexits.h where it has one.
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Those in NEEDS_A_PERSON are not answered by another start."""

    OK = 0
    CONFIG = 2  # wrong settings or usage; every error was printed
    DATA = 65  # the data are damaged, of another cell or replica, of an unknown format, or behind what the peers know
    IN_USE = 69  # the data directory or the port is in use
    BUG = 70  # a failed assertion or an unexpected exception
    REMOVED = 72  # the replica is no member of the cell any more; its id is never given again
    DISK = 74  # the disk did not take what was written: what the page cache says from now on is not to be believed
    DIVERGED = 76  # the state is not that of the other replicas: a bug, or bad memory


NEEDS_A_PERSON = frozenset({Exit.CONFIG, Exit.DATA, Exit.REMOVED, Exit.DISK, Exit.DIVERGED})
