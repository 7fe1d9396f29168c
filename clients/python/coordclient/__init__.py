"""The client library of coordd, a lock service: `from coordclient import Client, LockLost`.

`Client` is for threads; `coordclient.aio.Client` has the same names with await. `Fence` is for the side that is
protected by a lock. Everything raised on purpose is a `CoordError` (see `coordclient.errors`).

>>> with Client() as client:
...     with client.lock("/billing/nightly", timeout=5) as lock:
...         write_report(fencing_token=lock.token)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from coordclient.changes import Change, Event, History, Node, Resync
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
    from coordclient.aio.steps import Plan, TxnResult
    from coordclient.sync import Client
    from coordclient.synchandle import Handle
    from coordclient.synclock import Lock, LockSet
    from coordclient.synctxn import Txn
    from coordclient.syncwatch import Batches, Watch

__all__ = [
    "BadPath",
    "BadRequest",
    "Batches",
    "CacheInfo",
    "CallCancelled",
    "CallWindow",
    "Change",
    "Client",
    "ClientClosed",
    "ClientForked",
    "Conflict",
    "CoordError",
    "Deadlock",
    "Entry",
    "Event",
    "Exists",
    "Fence",
    "File",
    "GuardFailed",
    "Handle",
    "History",
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
    "Node",
    "NotADirectory",
    "NotEmpty",
    "NotFound",
    "NotMaster",
    "NotWaiting",
    "OutcomeUnknown",
    "Overloaded",
    "PermissionDenied",
    "PermitsDiffer",
    "Plan",
    "Resync",
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
    "Txn",
    "TxnResult",
    "Unavailable",
    "UnknownOperation",
    "Unlocked",
    "UnsupportedVersion",
    "Waiter",
    "Watch",
    "Why",
    "WrongCell",
]


_LATE = {
    "Batches": "coordclient.syncwatch",
    "Client": "coordclient.sync",
    "Handle": "coordclient.synchandle",
    "Lock": "coordclient.synclock",
    "LockSet": "coordclient.synclock",
    "Plan": "coordclient.aio.steps",
    "Txn": "coordclient.synctxn",
    "TxnResult": "coordclient.aio.steps",
    "Watch": "coordclient.syncwatch",
}


def __getattr__(name: str) -> object:
    """What uses the network is imported when it is asked for: `coordclient.protocol` alone needs no aiohttp."""
    if name in _LATE:
        return getattr(importlib.import_module(_LATE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
