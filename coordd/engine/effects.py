"""What one step of the engine wants done, in the order of `coordd.paxos.effects`, and for the clients.

The driver: write `persist`; send `send_now`; perform `transfers`; hand out `answers`, in their order; begin
`snapshot`; sync; only then send `send_after_persist`, and step again with `Persisted(persist_number)`. After `stop`
nothing of this is done, after `diverged` only `send_now`, and the process ends.

Long work for clients is cut into turns: after `unfinished` the driver steps again at once, whether anything came in or
not.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from coordclient.protocol.errors import Refusal
from coordd.paxos.effects import Record, SendSnapshotChunk, StoreSnapshotChunk
from coordd.paxos.membership import Membership
from coordd.paxos.messages import Message


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to the Call numbered `request`."""

    request: int
    result: dict[str, object] | Refusal


@dataclass(frozen=True, slots=True)
class Push:
    """One answer of several, the same for every Call numbered in `requests`; whoever encodes it does so once.

    More follow, or a Reply, which is the last one.
    """

    requests: tuple[int, ...]
    body: dict[str, object]


@dataclass(frozen=True, slots=True)
class TakeSnapshot:
    """Write the machine's state (`Engine.snapshot_state()` right now) as the snapshot of `slot`, then SnapshotTaken."""

    slot: int
    membership: Membership


@dataclass(frozen=True, slots=True)
class CutLog:
    """Everything up to `upto` is in a durable snapshot: segments that hold nothing above it may go."""

    upto: int


@dataclass(frozen=True, slots=True)
class RoleChange:
    """For logs and health: what this replica has become."""

    role: str  # "follower" | "candidate" | "master"
    master: int | None
    epoch: int


@dataclass(slots=True)
class Effects:
    """One batch; see the module docstring for the order of duties."""

    persist: list[Record] = field(default_factory=list)
    persist_number: int = 0
    send_now: list[tuple[int, Message]] = field(default_factory=list)
    send_after_persist: list[tuple[int, Message]] = field(default_factory=list)
    answers: list[Reply | Push] = field(default_factory=list)  # what was put first goes out first
    unfinished: bool = False
    transfers: list[SendSnapshotChunk | StoreSnapshotChunk] = field(default_factory=list)
    snapshot: TakeSnapshot | None = None
    cut: CutLog | None = None
    role: RoleChange | None = None
    membership: Membership | None = None  # the one that counts now, where it is another than before; first at start
    stop: str | None = None
    diverged: str | None = None  # the state here is not that of the others, who may be told once more
    differs: str | None = None  # somebody's state is not that of this replica: for people to know
    left: bool = False  # this replica was removed: it ends when all of this is performed
