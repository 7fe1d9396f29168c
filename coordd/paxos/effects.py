"""What the core wants done, as data. The driver performs it for real, the simulator on virtual time.

Duties of whoever performs one `Effects`, in this order:
1. write `persist` to the log (not yet synced);
2. send `send_now`; carry out `snapshot_transfers`;
3. sync, in one go with whatever else is written;
4. only now send `send_after_persist`, and report `persist_number` to `Replica.persisted`. If the process dies before
   the sync is over, these messages must never leave.
`chosen` is for the engine: apply in order, at once. So are `digests`: compare.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import Enum

from coordd.paxos.ballot import ZERO, Ballot
from coordd.paxos.membership import Membership
from coordd.paxos.messages import Digest, Message, SnapshotChunk

# ---- records: what the log holds, in the order of writing ----


@dataclass(frozen=True, slots=True)
class PromiseRecord:
    """This replica promised `ballot`: it will accept nothing below it, ever."""

    ballot: Ballot


@dataclass(frozen=True, slots=True)
class AcceptedRecord:
    """This replica accepted `value` for `slot` in `ballot` (CHOSEN: it learnt the value as chosen)."""

    slot: int
    ballot: Ballot
    value: bytes


@dataclass(frozen=True, slots=True)
class ChosenRecord:
    """What this log holds for all slots up to `upto` is chosen.

    A hint that spares re-proposing; only behind a change of the membership does anybody wait for its sync.
    """

    upto: int


@dataclass(frozen=True, slots=True)
class PeersRecord:
    """The start number last heard of each peer, `(replica, start)` by replica. It takes the place of earlier ones.

    What makes a peer whose directory was lost known for it, even when all were restarted meanwhile.
    """

    peers: tuple[tuple[int, int], ...]


Record = PromiseRecord | AcceptedRecord | ChosenRecord | PeersRecord


@dataclass(slots=True)
class Durable:
    """What a replica finds on its disk at start.

    `start`: the number of this very start. `entries`: slot -> (ballot, value) for slots above `snapshot_slot`. `peers`:
    what the last `PeersRecord` says.
    """

    start: int
    membership: Membership
    promised: Ballot = ZERO
    entries: dict[int, tuple[Ballot, bytes]] = field(default_factory=dict)
    chosen_upto: int = 0
    snapshot_slot: int = 0
    snapshot_size: int = 0
    peers: tuple[tuple[int, int], ...] = ()


# ---- values of slots ----


class ValueKind(Enum):
    """First byte of every slot's value; the rest is the payload."""

    NO_OP = 0  # closes a gap [PMS 3]
    EPOCH = 1  # begins a mastership; payload: its epoch, 8 bytes big-endian
    BATCH = 2  # commands, opaque here
    MEMBERSHIP = 3  # the membership from this slot on; payload: Membership.to_bytes


_KINDS = frozenset(kind.value for kind in ValueKind)


def is_value(data: bytes) -> bool:
    """True when a slot may hold these bytes: whatever else were chosen would end every replica at its apply."""
    if not data or data[0] not in _KINDS:
        return False
    if data[0] == ValueKind.EPOCH.value:
        return len(data) == 9
    if data[0] == ValueKind.MEMBERSHIP.value:
        try:
            Membership.from_bytes(data[1:])
        except (AssertionError, ValueError, struct.error):
            return False
    return True


@dataclass(frozen=True, slots=True)
class Chosen:
    """`payload` (opaque bytes of `kind`) is chosen for `slot`; comes in slot order without gaps."""

    slot: int
    kind: ValueKind
    payload: bytes


# ---- snapshot transfers ----


@dataclass(frozen=True, slots=True)
class SendSnapshotChunk:
    """Read the own snapshot file of `chunk.slot` at `chunk.offset` and send `chunk`, with these bytes as data, to `to`.

    Where the file is gone meanwhile, nothing is sent: the peer asks again.
    """

    to: int
    chunk: SnapshotChunk


@dataclass(frozen=True, slots=True)
class StoreSnapshotChunk:
    """Put `data` at `offset` of the incoming snapshot of `slot`.

    When `offset + len(data) == size` it is whole: verify, sync, rename; then `Replica.install` with what it holds.
    """

    slot: int
    size: int
    offset: int
    data: bytes


@dataclass(slots=True)
class Effects:
    """One batch. `persist_number` is 0 when `persist` is empty and `send_after_persist` needs nothing new on disk."""

    persist: list[Record] = field(default_factory=list)
    persist_number: int = 0
    send_now: list[tuple[int, Message]] = field(default_factory=list)
    send_after_persist: list[tuple[int, Message]] = field(default_factory=list)
    chosen: list[Chosen] = field(default_factory=list)
    snapshot_transfers: list[SendSnapshotChunk | StoreSnapshotChunk] = field(default_factory=list)
    digests: list[Digest] = field(default_factory=list)  # what members say came of the chosen slots there
    stop: str | None = None
    left: bool = False  # this replica is no member any more and is not needed: it ends when this batch is performed
