"""What the library hands out: plain, immutable values made from the cell's answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

from coordclient.errors import InternalError


class Stat(NamedTuple):
    """What the cell knows of a node besides its contents.

    `instance`, `content_generation`, `lock_generation`, `acl_generation` and `revision` only rise. `created_ms` and
    `modified_ms` are the master's wall clock, for people, never for decisions. `lock_generation` is None where the
    client has a cache: that knows nothing of locks.
    """

    path: str
    kind: str
    instance: int
    content_generation: int
    lock_generation: int | None
    acl_generation: int
    revision: int
    checksum: str
    size: int
    created_ms: int
    modified_ms: int
    owner: str
    ephemeral: bool
    children: int


class File(NamedTuple):
    """The whole contents of a file and its stat, of one moment."""

    contents: bytes
    stat: Stat


class Entry(NamedTuple):
    """One child of a directory; `contents`: where they were asked for, and it is a file."""

    name: str
    stat: Stat
    contents: bytes | None = None


class CacheInfo(NamedTuple):
    """What a client's cache was good for: reads answered from it (a few may be missing where several threads read at
    once) and by the cell, entries dropped because of a write, entries held now, and their bytes by its own count."""

    hits: int
    misses: int
    invalidations: int
    entries: int
    bytes: int


class Holder(NamedTuple):
    """One holder of a lock. `delayed`: its session has ended, or it was revoked, and its lock-delay still runs.

    `revoked`: the operator's reason, or None. The last four are answered by `why` alone: ms since the last KeepAlive,
    ms left of the lease, ms left of the lock-delay (None unless delayed), and the most that others would wait if the
    holder crashed now.
    """

    session: int
    hold: int
    actor: str
    since_ms: int
    token: int
    mode: str
    delayed: bool
    client: Mapping[str, str]
    principal: str = ""
    permits: int = 0
    lock_delay_ms: int = 0
    revoked: str | None = None
    heard_ms_ago: int | None = None
    left_ms: int | None = None
    delay_left_ms: int | None = None
    crash_wait_ms: int | None = None


class Waiter(NamedTuple):
    """One who waits for a lock; `place` 1 is next. `several`: it waits for several locks at once."""

    session: int
    call: int
    actor: str
    mode: str
    since_ms: int
    place: int
    client: Mapping[str, str]
    principal: str = ""
    permits: int = 0
    several: bool = False


class LockInfo(NamedTuple):
    """Who holds a lock and who waits for it. `permits`: of a semaphore, as its first holder fixed it; else 0."""

    path: str
    mode: str
    token: int
    holders: tuple[Holder, ...]
    waiters: tuple[Waiter, ...]
    permits: int = 0


class Loss(NamedTuple):
    """How one holder came to hold no more. `cause`: released, closed, expired, killed, broken, revoked or transferred;
    `reason`: what the operator said, if one did. Times are the master's wall clock, for people."""

    session: int
    hold: int
    client: Mapping[str, str]
    principal: str
    mode: str
    token: int
    since_ms: int
    ended_ms: int
    cause: str
    reason: str | None = None


class Why(NamedTuple):
    """What can be known of one lock: whether there is a node, who holds and waits (`lock`, or None), and the last
    losses, newest first."""

    path: str
    revision: int
    exists: bool
    lock: LockInfo | None
    losses: tuple[Loss, ...]


class Unlocked(NamedTuple):
    """What `unlock` did: the holds as (session, hold), and whether they were freed at once (`now`) or are revoked and
    end when their holders have stopped, or their leases and lock-delays are over."""

    path: str
    holds: tuple[tuple[int, int], ...]
    now: bool


class Killed(NamedTuple):
    """What `kill_session` did: the session ends when its client has stopped, or its lease of `lease_ms` is over."""

    session: int
    holds: int
    lease_ms: int


class SessionInfo(NamedTuple):
    """One session of the cell. `left_ms`: what is left of its lease at the master; `heard_ms_ago`: since the last
    KeepAlive there (None: not since this mastership began). `incarnation` rises with every resume. `killed`: the
    reason of the operator who has ended it, or None."""

    session: int
    lease_ms: int
    left_ms: int
    client: Mapping[str, str]
    principal: str
    opened_ms: int
    holds: int
    waiters: int
    ephemerals: int
    heard_ms_ago: int | None = None
    incarnation: int = 1
    killed: str | None = None


class SessionHold(NamedTuple):
    """One lock that a session holds."""

    path: str
    mode: str
    token: int
    hold: int
    since_ms: int
    lock_delay_ms: int
    permits: int = 0
    revoked: str | None = None


class SessionWait(NamedTuple):
    """One lock that a session waits for; `place` 1 is next."""

    path: str
    mode: str
    place: int
    since_ms: int
    call: int


class SessionDetails(NamedTuple):
    """One session with all that it holds, waits for and keeps alive."""

    info: SessionInfo
    holds: tuple[SessionHold, ...]
    waiting: tuple[SessionWait, ...]
    ephemeral_paths: tuple[str, ...]


class SequencerCheck(NamedTuple):
    """Whether a sequencer is valid, and if not, why; as of `revision`. `stale`: the replica answered from its own
    state, which may be behind."""

    valid: bool
    reason: str
    revision: int = 0
    stale: bool = False


_Row = TypeVar("_Row", Stat, Holder, Waiter, Loss, Killed, SessionInfo, SessionHold, SessionWait, SequencerCheck)
_STAT_FIELDS = Stat._fields


def stat_of(wire: Mapping[str, Any]) -> Stat:
    """The stat in an answer."""
    try:
        return Stat._make([wire[name] for name in _STAT_FIELDS])
    except (KeyError, TypeError) as error:
        raise _malformed("stat", error) from None


def row_of(cls: type[_Row], wire: Mapping[str, Any]) -> _Row:
    """One of the flat values; what a newer cell adds is passed over."""
    defaults = cls._field_defaults
    try:
        return cls._make([wire.get(name, defaults[name]) if name in defaults else wire[name] for name in cls._fields])
    except (KeyError, TypeError, AttributeError) as error:
        raise _malformed(cls.__name__, error) from None


def lock_of(wire: Mapping[str, Any]) -> LockInfo:
    """One entry of the answer to `locks`."""
    try:
        holders = tuple(row_of(Holder, holder) for holder in wire["holders"])
        waiters = tuple(row_of(Waiter, waiter) for waiter in wire["waiters"])
        return LockInfo(wire["path"], wire["mode"], wire["token"], holders, waiters, wire.get("permits") or 0)
    except (KeyError, TypeError) as error:
        raise _malformed("lock", error) from None


def session_of(wire: Mapping[str, Any]) -> SessionInfo:
    """One entry of the answer to `list_sessions`. One whose end is being decided has nothing left of its lease."""
    try:
        return row_of(SessionInfo, {**wire, "left_ms": wire["left_ms"] or 0})
    except (KeyError, TypeError) as error:
        raise _malformed("session", error) from None


def why_of(wire: Mapping[str, Any]) -> Why:
    """The answer to `why`."""
    try:
        lock = None if wire["lock"] is None else lock_of(wire["lock"])
        losses = tuple(row_of(Loss, loss) for loss in wire["losses"])
        return Why(wire["path"], wire["revision"], wire["exists"], lock, losses)
    except (KeyError, TypeError) as error:
        raise _malformed("why", error) from None


def unlocked_of(wire: Mapping[str, Any]) -> Unlocked:
    """The answer to `unlock`."""
    try:
        holds = tuple((hold["session"], hold["hold"]) for hold in wire["holds"])
        return Unlocked(wire["path"], holds, wire["now"])
    except (KeyError, TypeError) as error:
        raise _malformed("unlock", error) from None


def details_of(wire: Mapping[str, Any]) -> SessionDetails:
    """The answer to `session_info`: where the list of sessions has the number of holds it has the holds themselves."""
    try:
        holds = tuple(row_of(SessionHold, hold) for hold in wire["holds"])
        waiting = tuple(row_of(SessionWait, wait) for wait in wire["waiting"])
        info = session_of({**wire, "holds": len(holds)})
        return SessionDetails(info, holds, waiting, tuple(wire["ephemeral_paths"]))
    except (KeyError, TypeError) as error:
        raise _malformed("session", error) from None


def _malformed(what: str, error: Exception) -> InternalError:
    return InternalError(f"the cell's answer holds no usable {what}: {type(error).__name__}: {error}")
