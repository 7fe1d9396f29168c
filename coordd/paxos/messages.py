"""What replicas say to each other. Plain values; `transport` makes bytes of them.

Every message carries its sender, the sender's start number (rising with every start of the process, durable, and
marked with its data directory: see `starts`) and a ballot; the cell is named once by the hello of the channel that
carries it.

| message | from -> to | ballot | needs the sender's disk first |
|---|---|---|---|
| Hello | any -> any | promised | yes: it states what is durable |
| Regressed | any -> any | promised | no |
| Ask / Willing | follower <-> voters | the ballot it would use / promised | no |
| Prepare / Promise | candidate <-> voters | its ballot | Prepare: own promise; Promise: the promise |
| Accept / Accepted | master <-> all | its ballot | Accept: no (but the own vote: yes); Accepted: the entries |
| Heartbeat / HeartbeatAnswer | master <-> all | its ballot | no (a restarted acceptor waits one lease instead) |
| Nack | any -> proposer | promised | no |
| AlreadyChosen | any -> proposer | the ballot of the Accept | no |
| LearnRequest / Learned | behind <-> ahead | promised | no |
| SnapshotOffer / SnapshotRequest / SnapshotChunk | ahead <-> behind | promised | no |
| HandOver | master -> all | its ballot | no |
| Settled | master -> all | promised | no |
| Removed | member -> one that is none | promised | no |
| Digest | any -> all | promised | no |
"""

from __future__ import annotations

from dataclasses import dataclass

from coordd.paxos.ballot import Ballot


@dataclass(frozen=True, slots=True)
class Header:
    """The fields of every message."""

    sender: int
    start: int
    ballot: Ballot


@dataclass(frozen=True, slots=True)
class Hello(Header):
    """Said after every start, to each peer that starts anew, and when asked. `log_upto`: the highest slot on this disk.

    `asks`: please say Hello too; nothing else of a new start is listened to before its Hello. `remembers`: the start of
    the receiver that the sender heard of last, 0 for none.
    """

    log_upto: int
    asks: bool
    remembers: int


@dataclass(frozen=True, slots=True)
class Regressed(Header):
    """The Hello of the receiver's start `refused_start` knows less than it once acknowledged, or has another directory.

    A receiver whose present start this is must stop; any other has been restarted since and ignores it.
    """

    refused_start: int
    known_start: int
    known_ballot: Ballot
    known_upto: int


@dataclass(frozen=True, slots=True)
class Ask(Header):
    """Would you promise this ballot? Changes nothing at the receiver."""

    number: int


@dataclass(frozen=True, slots=True)
class Willing(Header):
    """Answer to Ask `number`."""

    number: int
    yes: bool


@dataclass(frozen=True, slots=True)
class Prepare(Header):
    """Phase 1a [PMS 2.2]."""


@dataclass(frozen=True, slots=True)
class Promise(Header):
    """Phase 1b: all accepted entries above the promiser's `chosen_upto`, in `parts` parts; counts only when whole.

    An entry is `(slot, ballot, value)`. `cached_ms`: for how long from now on a cache lease may run that an earlier
    master gave under a grant of the promiser; in every part.
    """

    chosen_upto: int
    part: int
    parts: int
    entries: tuple[tuple[int, Ballot, bytes], ...]
    cached_ms: int


@dataclass(frozen=True, slots=True)
class Accept(Header):
    """Phase 2a for every `(slot, value)` in `entries`; also a heartbeat, so the other fields as there."""

    number: int
    chosen_upto: int
    entries: tuple[tuple[int, bytes], ...]
    caches: bool


@dataclass(frozen=True, slots=True)
class Accepted(Header):
    """Phase 2b: these slots are durable here in this ballot; `number` as in HeartbeatAnswer."""

    number: int
    chosen_upto: int
    slots: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Heartbeat(Header):
    """Asks for a lease grant. `number` rises with every heartbeat and Accept of one mastership.

    `caches`: cache leases may be given under this grant.
    """

    number: int
    chosen_upto: int
    caches: bool


@dataclass(frozen=True, slots=True)
class HeartbeatAnswer(Header):
    """Granted, counted from the receipt of `number`; 0 from a learner, which grants nothing but is to be seen."""

    number: int
    chosen_upto: int


@dataclass(frozen=True, slots=True)
class Nack(Header):
    """`refused` is below the header's ballot, which the sender has promised."""

    refused: Ballot


@dataclass(frozen=True, slots=True)
class AlreadyChosen(Header):
    """Answer to an Accept of slots inside the chosen prefix `chosen_upto` of the sender."""

    chosen_upto: int


@dataclass(frozen=True, slots=True)
class LearnRequest(Header):
    """Please send chosen values from `first_slot` on."""

    first_slot: int


@dataclass(frozen=True, slots=True)
class Learned(Header):
    """Chosen values of consecutive slots from `first_slot`; the sender knows all up to `chosen_upto`."""

    first_slot: int
    values: tuple[bytes, ...]
    chosen_upto: int


@dataclass(frozen=True, slots=True)
class SnapshotOffer(Header):
    """The slots asked for are cut away; there is a snapshot of everything up to `slot`, `size` bytes long."""

    slot: int
    size: int


@dataclass(frozen=True, slots=True)
class SnapshotRequest(Header):
    """Please send the bytes of the snapshot of `slot` from `offset` on."""

    slot: int
    offset: int


@dataclass(frozen=True, slots=True)
class SnapshotChunk(Header):
    """`data` stands at `offset` of the snapshot file of `slot`, `size` bytes in all."""

    slot: int
    size: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class HandOver(Header):
    """The sender gave its lease up: grants for heartbeats up to `number` of this ballot are void; `to` may stand.

    `caches`: cache leases may run on nevertheless, until these grants would have ended.
    """

    number: int
    to: int
    caches: bool


@dataclass(frozen=True, slots=True)
class Settled(Header):
    """A majority of the voters of the membership of this `version` knows durably that it is chosen."""

    version: int


@dataclass(frozen=True, slots=True)
class Removed(Header):
    """The receiver is no member of the cell in the membership of this `version`.

    `known_start`: the start of the receiver that the sender heard of last, 0 for none.
    """

    version: int
    known_start: int


@dataclass(frozen=True, slots=True)
class Digest(Header):
    """What the sender's engine made of everything up to `slot`, in a few bytes: equal everywhere, or one is wrong."""

    slot: int
    digest: bytes


Message = (
    Hello
    | Regressed
    | Ask
    | Willing
    | Prepare
    | Promise
    | Accept
    | Accepted
    | Heartbeat
    | HeartbeatAnswer
    | Nack
    | AlreadyChosen
    | LearnRequest
    | Learned
    | SnapshotOffer
    | SnapshotRequest
    | SnapshotChunk
    | HandOver
    | Settled
    | Removed
    | Digest
)
