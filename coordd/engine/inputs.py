"""What goes into the engine. All of one turn go into one `Engine.step(inputs, now_ms, wall_ms, entropy)`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from coordd.paxos.membership import Membership
from coordd.paxos.messages import Message


@dataclass(frozen=True, slots=True)
class PeerMessage:
    """One message of a peer, taken off the wire before `now_ms` was read."""

    message: Message


@dataclass(frozen=True, slots=True)
class Call:
    """One operation of a client; its arguments have passed `check_arguments`.

    `request` is the hub's number for the reply. `session` 0 means none. `secret` is given by POST, where every request
    proves its session; on a channel `attach` has proved it (`secret` is None), `attachment` is the number it gave, and
    `incarnation` the one that it was told. `channel` tells the channels of this replica apart; 0, as with POST, is for
    those who take one answer and no more.
    """

    request: int
    operation: str
    arguments: Mapping[str, object]
    session: int = 0
    call: int = 0
    acked: int = 0
    attachment: int = 0
    incarnation: int = 1
    channel: int = 0
    secret: str | None = None
    principal: str = "anonymous"


@dataclass(frozen=True, slots=True)
class Gone:
    """Nobody waits for these requests any more (the channel or the POST ended). The calls themselves go on."""

    requests: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Congested:
    """The client of that channel does not read what it was sent (`full`), or does so again."""

    channel: int
    full: bool


@dataclass(frozen=True, slots=True)
class Persisted:
    """Everything up to the effects numbered `number` is durable."""

    number: int


@dataclass(frozen=True, slots=True)
class SnapshotTaken:
    """The own snapshot of `slot` is durable under its name; its file has `size` bytes."""

    slot: int
    size: int


@dataclass(frozen=True, slots=True)
class SnapshotFailed:
    """The own snapshot could not be written; the log is kept, a later one is tried."""

    slot: int
    reason: str


@dataclass(frozen=True, slots=True)
class SnapshotReceived:
    """A whole snapshot from a peer is verified and durable under its name; `state` is the machine's."""

    slot: int
    size: int
    membership: Membership
    state: bytes


@dataclass(frozen=True, slots=True)
class SnapshotDropped:
    """The snapshot that came in from a peer was damaged, or there was no room for it: nothing of it is left."""

    slot: int


@dataclass(frozen=True, slots=True)
class DiskFull:
    """The log cannot grow: this replica votes no more and, as master, hands over."""


@dataclass(frozen=True, slots=True)
class DiskHasRoom:
    """Everything that had no room is written, in order: this replica votes again."""


@dataclass(frozen=True, slots=True)
class HandOverRequest:
    """Give the mastership up in an orderly way (at stop, or by an operator); `to` None: to whom is best."""

    to: int | None = None


Input = (
    PeerMessage
    | Call
    | Gone
    | Congested
    | Persisted
    | SnapshotTaken
    | SnapshotFailed
    | SnapshotReceived
    | SnapshotDropped
    | DiskFull
    | DiskHasRoom
    | HandOverRequest
)
