"""The client library of coordd, a lock service: `from coordclient import Client, LockLost`.

`Client` is for threads; `coordclient.aio.Client` has the same names with await. `Fence` is for the side that is
protected by a lock. Everything raised on purpose is a `CoordError` (see `coordclient.errors`).

>>> with Client() as client:
...     with client.lock("/billing/nightly", timeout=5) as lock:
...         write_report(fencing_token=lock.token)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordclient.errors import (
    BadPath,
    BadRequest,
    CallCancelled,
    CallWindow,
    ClientClosed,
    ClientForked,
    Conflict,
    CoordError,
    Deadlock,
    Exists,
    GuardFailed,
    InternalError,
    IsADirectory,
    LimitReached,
    Locked,
    LockLost,
    LockTimeout,
    NeedsCell,
    NotADirectory,
    NotEmpty,
    NotFound,
    NotMaster,
    NoTransaction,
    NotWaiting,
    OutcomeUnknown,
    Overloaded,
    PermissionDenied,
    PermitsDiffer,
    RevisionAhead,
    RevisionGone,
    SessionExpired,
    SessionKilled,
    SessionRequired,
    StaleChannel,
    StaleHandle,
    StaleToken,
    TooLarge,
    Unavailable,
    UnknownOperation,
    UnsupportedVersion,
    WrongCell,
)
from coordclient.fence import Fence
from coordclient.values import (
    CacheInfo,
    Entry,
    File,
    Holder,
    Killed,
    LockInfo,
    Loss,
    SequencerCheck,
    SessionDetails,
    SessionHold,
    SessionInfo,
    SessionWait,
    Stat,
    Unlocked,
    Waiter,
    Why,
)

if TYPE_CHECKING:
    from coordclient.sync import Client
    from coordclient.synclock import Lock, LockSet

__all__ = [
    "BadPath",
    "BadRequest",
    "CacheInfo",
    "CallCancelled",
    "CallWindow",
    "Client",
    "ClientClosed",
    "ClientForked",
    "Conflict",
    "CoordError",
    "Deadlock",
    "Entry",
    "Exists",
    "Fence",
    "File",
    "GuardFailed",
    "Holder",
    "InternalError",
    "IsADirectory",
    "Killed",
    "LimitReached",
    "Lock",
    "LockInfo",
    "LockLost",
    "LockSet",
    "LockTimeout",
    "Locked",
    "Loss",
    "NeedsCell",
    "NoTransaction",
    "NotADirectory",
    "NotEmpty",
    "NotFound",
    "NotMaster",
    "NotWaiting",
    "OutcomeUnknown",
    "Overloaded",
    "PermissionDenied",
    "PermitsDiffer",
    "RevisionAhead",
    "RevisionGone",
    "SequencerCheck",
    "SessionDetails",
    "SessionExpired",
    "SessionHold",
    "SessionInfo",
    "SessionKilled",
    "SessionRequired",
    "SessionWait",
    "StaleChannel",
    "StaleHandle",
    "StaleToken",
    "Stat",
    "TooLarge",
    "Unavailable",
    "UnknownOperation",
    "Unlocked",
    "UnsupportedVersion",
    "Waiter",
    "Why",
    "WrongCell",
]


def __getattr__(name: str) -> object:
    """`Client` and the locks are imported when they are asked for: `coordclient.protocol` alone needs no aiohttp."""
    if name == "Client":
        from coordclient.sync import Client

        return Client
    if name in ("Lock", "LockSet"):
        from coordclient import synclock

        return getattr(synclock, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
