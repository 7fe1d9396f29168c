"""What the library hands out: plain, immutable values made from the cell's answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

from coordclient.errors import InternalError


class Stat(NamedTuple):
    """What the cell knows of a node besides its contents.

    `instance`, `content_generation`, `lock_generation`, `acl_generation` and `revision` only rise. `created_ms` and
    `modified_ms` are the master's wall clock, for people, never for decisions.
    """

    path: str
    kind: str
    instance: int
    content_generation: int
    lock_generation: int
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
    """One child of a directory."""

    name: str
    stat: Stat


class Holder(NamedTuple):
    """One holder of a lock. `delayed`: its session has ended and its lock-delay still runs."""

    session: int
    hold: int
    actor: str
    since_ms: int
    token: int
    mode: str
    delayed: bool
    client: Mapping[str, str]


class Waiter(NamedTuple):
    """One who waits for a lock; `place` 1 is next."""

    session: int
    call: int
    actor: str
    mode: str
    since_ms: int
    place: int
    client: Mapping[str, str]


class LockInfo(NamedTuple):
    """Who holds a lock and who waits for it."""

    path: str
    mode: str
    token: int
    holders: tuple[Holder, ...]
    waiters: tuple[Waiter, ...]


class SessionInfo(NamedTuple):
    """One session of the cell. `left_ms`: what is left of its lease at the master."""

    session: int
    lease_ms: int
    left_ms: int
    client: Mapping[str, str]
    principal: str
    opened_ms: int
    holds: int
    waiters: int
    ephemerals: int


class SequencerCheck(NamedTuple):
    """Whether a sequencer is valid now, and if not, why."""

    valid: bool
    reason: str


_Row = TypeVar("_Row", Stat, Holder, Waiter, SessionInfo, SequencerCheck)
_STAT_FIELDS = Stat._fields


def stat_of(wire: Mapping[str, Any]) -> Stat:
    """The stat in an answer."""
    try:
        return Stat._make([wire[name] for name in _STAT_FIELDS])
    except (KeyError, TypeError) as error:
        raise _malformed("stat", error) from None


def row_of(cls: type[_Row], wire: Mapping[str, Any]) -> _Row:
    """One of the flat values; what a newer cell adds is passed over."""
    try:
        return cls._make([wire[name] for name in cls._fields])
    except (KeyError, TypeError) as error:
        raise _malformed(cls.__name__, error) from None


def lock_of(wire: Mapping[str, Any]) -> LockInfo:
    """One entry of the answer to `locks`."""
    try:
        holders = tuple(row_of(Holder, holder) for holder in wire["holders"])
        waiters = tuple(row_of(Waiter, waiter) for waiter in wire["waiters"])
        return LockInfo(wire["path"], wire["mode"], wire["token"], holders, waiters)
    except (KeyError, TypeError) as error:
        raise _malformed("lock", error) from None


def _malformed(what: str, error: Exception) -> InternalError:
    return InternalError(f"the cell's answer holds no usable {what}: {type(error).__name__}: {error}")
