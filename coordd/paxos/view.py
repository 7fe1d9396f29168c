"""What others may read of a replica: who it is to the cell, what it may say at this moment. It changes nothing."""

from __future__ import annotations

from enum import Enum

from coordd.paxos.ballot import Ballot
from coordd.paxos.caching import CacheLeases
from coordd.paxos.hellos import Hellos
from coordd.paxos.membership import Membership
from coordd.paxos.proposer import Proposer
from coordd.paxos.state import State


class Role(Enum):
    """What this replica is."""

    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    MASTER = "master"


class View:
    """The read-only half of `Replica`."""

    state: State
    hellos: Hellos
    proposer: Proposer | None
    _standing_since_ms: int | None

    @property
    def role(self) -> Role:
        if self.proposer is not None:
            return Role.MASTER
        return Role.FOLLOWER if self._standing_since_ms is None else Role.CANDIDATE

    @property
    def serving(self) -> bool:
        """The epoch entry of this mastership is chosen and has been handed out."""
        return self.proposer is not None and self.proposer.serving

    @property
    def epoch(self) -> int:
        """The number of the ballot that began the present mastership, as far as this replica knows."""
        return self.proposer.epoch if self.proposer is not None else self.state.promised.number

    @property
    def master(self) -> int | None:
        """Who reigns, as far as this replica knows."""
        return self.state.replica if self.proposer is not None else self.state.master

    @property
    def ballot(self) -> Ballot:
        """The highest ballot promised here."""
        return self.state.promised

    @property
    def membership(self) -> Membership:
        return self.state.membership

    def dismissal(self, replica: int) -> tuple[int, int] | None:
        """Where that replica was removed and may be told to end: what `Removed` says, version and known start."""
        return self.hellos.dismissal(replica)

    @property
    def chosen_upto(self) -> int:
        return self.state.log.chosen_upto

    @property
    def log_first_slot(self) -> int:
        return self.state.log.first_slot

    @property
    def snapshot_slot(self) -> int:
        return self.state.log.snapshot_slot

    @property
    def confirmed(self) -> int:
        """The highest heartbeat of this mastership that a majority answered; 0 without a mastership."""
        return self.proposer.lease.confirmed if self.proposer is not None else 0

    def lease_valid(self, now_ms: int) -> bool:
        """True when no other replica can be master at `now_ms`, and this one serves."""
        return self.proposer is not None and self.proposer.serving and now_ms < self.proposer.lease.until_ms

    def may_show(self, now_ms: int) -> bool:
        """True when no cache lease of an earlier mastership can run: what is known here may be seen, and changed.

        KeepAlives do not wait for that; `can_propose` does.
        """
        return self.proposer is not None and self.proposer.caching.earlier_over(now_ms)

    @property
    def caching(self) -> CacheLeases | None:
        """Of the present mastership."""
        return None if self.proposer is None else self.proposer.caching
