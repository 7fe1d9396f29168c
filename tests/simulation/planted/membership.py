"""Bugs of membership changes: counted too early, by the wrong ones, too soon after each other, or a voter sent away."""

from __future__ import annotations

from typing import Any

from coordd.engine.changes import Changes
from coordd.paxos.acceptor import Acceptor
from coordd.paxos.effects import ValueKind
from coordd.paxos.election import Election
from coordd.paxos.learner import Learner
from coordd.paxos.lease import MasterLease
from coordd.paxos.membership import Membership
from coordd.paxos.proposer import Proposer
from coordd.paxos.state import State
from tests.simulation.planted import Bug

LATE_MS = 3_000


def _from_acceptance(right: Any) -> Any:
    def accept(self: Any, slot: int, ballot: Any, value: bytes) -> None:
        right(self, slot, ballot, value)
        if value[0] == ValueKind.MEMBERSHIP.value:
            membership = Membership.from_bytes(value[1:])
            if membership.version > self.membership.version:
                self.membership = membership

    return accept


def _tolerant_join(right: Any) -> Any:
    def join(self: Any, membership: Any, slot: int) -> None:
        if membership.version >= self.membership.version:
            right(self, membership, slot)

    return join


def _learners_count(right: Any) -> Any:
    def is_majority(self: Any, replicas: Any) -> bool:
        return len({*self.voters, *self.learners}.intersection(replicas)) >= int(self.majority)

    return is_majority


def _unsettled_change(right: Any) -> Any:
    return lambda self: self.serving and not self._membership_slot


def _next_at_once(right: Any) -> Any:
    """The engine's own rule, that the next change waits for the answer of the last one, would save from it."""
    return lambda self: bool(self._waiting)


def _not_drained(right: Any) -> Any:
    return lambda self: self.can_propose() and self.may_drain()


def _proposes_behind(right: Any) -> Any:
    def change(self: Any, membership: Any) -> int:
        slot = right(self, membership)
        self._membership_slot = 0
        return int(slot)

    return change


def _recovers_behind(right: Any) -> Any:
    def recover(self: Any, ballot: Any, promises: Any) -> None:
        kind, ValueKind.MEMBERSHIP._value_ = ValueKind.MEMBERSHIP.value, 255
        try:
            right(self, ballot, promises)
        finally:
            ValueKind.MEMBERSHIP._value_ = kind

    return recover


def _boost_pauses(right: Any) -> Any:
    """It waits for promises that are let go as soon as the master serves."""

    def recover(self: Any, ballot: Any, promises: Any) -> None:
        right(self, ballot, promises)
        if self._membership_slot:
            self._pause_slot = self._membership_slot

    return recover


def _counts_once(right: Any) -> Any:
    """The promises of the voters from before are good enough for whatever comes behind a change."""

    def winners(self: Any) -> Any:
        found = right(self)
        if found is not None:
            self.won = self.ballot, found
        elif getattr(self, "won", (None, None))[0] == self.ballot:
            return self.won[1]
        return found

    return winners


def _told_at_once(right: Any) -> Any:
    return property(lambda self: self.serving)


def _told_by_anybody(right: Any) -> Any:
    return lambda self, replica: self.membership.has_removed(replica)


def _does_not_ask(right: Any) -> Any:
    return lambda self, *_: None


def _lease_goes_on(right: Any) -> Any:
    return lambda self: None


def _unknown_is_removed(right: Any) -> Any:
    return lambda self, replica: self.version > 0 and replica not in self


def _word_for_grant(right: Any) -> Any:
    return lambda self, message: message.number


def _learns_late(right: Any) -> Any:
    """Who is promoted hears soon enough that it votes, which would save from other bugs of that time."""

    def is_voter(self: Any) -> bool:
        if not right.fget(self):
            self.learnt_ms = self.now_ms
            return False
        return bool(self.now_ms >= getattr(self, "learnt_ms", -LATE_MS) + LATE_MS)

    return property(is_voter)


BUGS = (
    Bug("lease kept over changes in recovery", "membership", "changes", [(MasterLease, "begin_anew", _lease_goes_on)]),
    Bug(
        "unknown members taken for removed ones",
        "membership",
        "changes",
        [(Membership, "has_removed", _unknown_is_removed)],
    ),
    Bug(
        "learner's word taken for a grant",
        "membership",
        "changes",
        [(Acceptor, "_granted", _word_for_grant), (State, "is_voter", _learns_late)],
    ),
    Bug(
        "configuration counted from acceptance",
        "membership",
        "changes",
        [(State, "accept", _from_acceptance), (State, "join_membership", _tolerant_join)],
    ),
    Bug("learner counted", "membership", "changes", [(Membership, "is_majority", _learners_count)]),
    Bug(
        "second change before the first has settled",
        "membership",
        "changes",
        [(Proposer, "may_drain", _unsettled_change), (Changes, "__bool__", _next_at_once)],
    ),
    Bug("change proposed behind slots in flight", "membership", "changes", [(Proposer, "can_change", _not_drained)]),
    Bug("slots proposed behind a change", "membership", "changes", [(Proposer, "change", _proposes_behind)]),
    Bug("recovery proposes behind a change", "membership", "changes", [(Proposer, "recover", _recovers_behind)]),
    Bug("a boost waits behind a change", "membership", "changes", [(Proposer, "recover", _boost_pauses)]),
    Bug("promises not counted again", "membership", "changes", [(Election, "winners", _counts_once)]),
    Bug("removed replica sent away at once", "membership", "changes", [(Proposer, "settled", _told_at_once)]),
    Bug("removed replica sent away by anybody", "membership", "changes", [(State, "may_dismiss", _told_by_anybody)]),
    Bug(
        "nobody asks for what he missed",
        "membership",
        "changes",
        [(Learner, "_seek", _does_not_ask), (Learner, "asked_as_voter", _does_not_ask)],
    ),
)
