"""Who takes part: voters, learners, and the length of the master lease. Part of the state and of every snapshot.

It changes by one replica at a time, each change an entry of the log, and counts from the moment that entry is
*applied*, never from its acceptance. A replica id is given once: whoever comes back after a lost disk comes under a new
one, because an acceptor that has forgotten its promises must not speak under the name that made them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace

REPLICA_ID_MAX = 255
VOTERS_MAX = 7
LEARNERS_MAX = 7
ADDRESS_BYTES_MAX = 255
_HEAD = struct.Struct(">QIBBBB")
_ADDRESS = struct.Struct(">BB")


@dataclass(frozen=True, slots=True)
class Membership:
    """`version` rises with every change; `voters` and `learners` are sorted replica ids (from 1).

    Version 0 is the view of a replica that is about to join and has not learnt the cell's own membership yet.
    `highest` is the highest replica id ever given (0: whatever is highest among the members). `addresses` has, sorted
    by id, where members that were added at run time are dialled; the configuration knows where the first ones are.
    `founders`: the voters of version 1, () where they are not known (a replica that is about to join, old data).
    """

    version: int
    voters: tuple[int, ...]
    learners: tuple[int, ...] = ()
    lease_ms: int = 1500
    highest: int = 0
    addresses: tuple[tuple[int, str], ...] = ()
    founders: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        assert 1 <= len(self.voters) <= VOTERS_MAX, "a cell has 1 to 7 voters"
        assert len(self.learners) <= LEARNERS_MAX
        assert self.voters == tuple(sorted(set(self.voters))) and self.voters[0] >= 1
        assert self.learners == tuple(sorted(set(self.learners)))
        assert not set(self.voters) & set(self.learners)
        assert self.lease_ms >= 100
        object.__setattr__(self, "highest", max(self.highest, *self.voters, *self.learners))
        assert self.highest <= REPLICA_ID_MAX
        if self.version == 1:
            object.__setattr__(self, "founders", self.voters)
        assert len(self.founders) <= VOTERS_MAX and self.founders == tuple(sorted(set(self.founders) - {0}))
        assert self.addresses == tuple(sorted(self.addresses))
        named = {replica for replica, _ in self.addresses}
        assert len(named) == len(self.addresses) and all(replica in self for replica in named)
        assert all(0 < len(address.encode()) <= ADDRESS_BYTES_MAX for _, address in self.addresses)

    @property
    def majority(self) -> int:
        """How many voters make a majority."""
        return len(self.voters) // 2 + 1

    def is_majority(self, replicas: Iterable[int]) -> bool:
        """True when the voters among `replicas` are a majority."""
        return len(set(self.voters).intersection(replicas)) >= self.majority

    def __contains__(self, replica: int) -> bool:
        return replica in self.voters or replica in self.learners

    def has_removed(self, replica: int) -> bool:
        """True when this id was given and taken away again: it never comes back.

        An id above `highest` is of somebody who was added later, or will be. A replica that is about to join knows
        nothing of either.
        """
        return self.version > 0 and replica <= self.highest and replica not in self

    # ---- changes ----

    def with_learner(self, replica: int, address: str = "") -> Membership:
        """A new replica joins; its id was never given before. `address`: where it is dialled."""
        assert replica > self.highest, "a replica id is given once"
        added = replace(self, version=self.version + 1, learners=(*self.learners, replica), highest=replica)
        return replace(added, addresses=(*self.addresses, (replica, address))) if address else added

    def with_voter(self, replica: int) -> Membership:
        """A learner is promoted."""
        assert replica in self.learners
        learners = tuple(learner for learner in self.learners if learner != replica)
        return replace(self, version=self.version + 1, learners=learners, voters=tuple(sorted((*self.voters, replica))))

    def without(self, replica: int) -> Membership:
        """A member leaves, for good."""
        assert replica in self
        return replace(
            self,
            version=self.version + 1,
            voters=tuple(voter for voter in self.voters if voter != replica),
            learners=tuple(learner for learner in self.learners if learner != replica),
            addresses=tuple(pair for pair in self.addresses if pair[0] != replica),
        )

    def follows(self, before: Membership) -> bool:
        """True when this is `before` after one change of one replica."""
        moved = set(self.voters) ^ set(before.voters)
        same = (self.lease_ms, self.founders) == (before.lease_ms, before.founders)
        return self.version == before.version + 1 and len(moved) <= 1 and same

    @property
    def founding(self) -> str:
        """What the replicas of a cell must have begun with alike, for people and for comparing; "" where not known."""
        voters = ",".join(str(founder) for founder in self.founders)
        return f"lease_ms {self.lease_ms}, voters {voters}" if voters else ""

    # ---- bytes ----

    def to_wire(self) -> list[object]:
        """`[version, [voters], [learners], lease_ms, highest, [[replica, address]], [founders]]`, for snapshots."""
        addresses = [list(pair) for pair in self.addresses]
        lists = [list(self.voters), list(self.learners)]
        return [self.version, *lists, self.lease_ms, self.highest, addresses, list(self.founders)]

    @classmethod
    def from_wire(cls, wire: object) -> Membership:
        """The inverse of `to_wire`; earlier builds wrote no founders."""
        assert isinstance(wire, list)
        version, voters, learners, lease_ms, highest, addresses, *founders = wire
        pairs = tuple((replica, address) for replica, address in addresses)
        return cls(version, tuple(voters), tuple(learners), lease_ms, highest, pairs, *map(tuple, founders))

    def to_bytes(self) -> bytes:
        """The payload of a log entry.

        Version u64, lease_ms u32, then in one byte each: highest, how many voters, learners and addresses; the ids of
        voters and learners; per address its replica, its length, and the text; the ids of the founders, one byte each
        to the end (earlier builds wrote none).
        """
        counts = (len(self.voters), len(self.learners), len(self.addresses))
        head = _HEAD.pack(self.version, self.lease_ms, self.highest, *counts) + bytes((*self.voters, *self.learners))
        texts = [(replica, address.encode()) for replica, address in self.addresses]
        addresses = b"".join(_ADDRESS.pack(replica, len(text)) + text for replica, text in texts)
        return head + addresses + bytes(self.founders)

    @classmethod
    def from_bytes(cls, data: bytes) -> Membership:
        """The inverse of `to_bytes`; AssertionError, ValueError or struct.error where there is none."""
        version, lease_ms, highest, voters, learners, count = _HEAD.unpack_from(data)
        at = _HEAD.size + voters + learners
        ids = tuple(data[_HEAD.size : at])
        addresses: list[tuple[int, str]] = []
        for _ in range(count):
            replica, size = _ADDRESS.unpack_from(data, at)
            at += _ADDRESS.size + size
            addresses.append((replica, data[at - size : at].decode()))
        assert len(ids) == voters + learners and len(data) >= at
        founders = tuple(data[at:])
        return cls(version, ids[:voters], ids[voters:], lease_ms, highest, tuple(addresses), founders)
