"""The master's side of phase 2 [PMS 2.2; PML 5.1]: slots in flight, votes, the epoch entry, heartbeats and the lease.

One object is one mastership: it begins when a majority has promised and the prefix is learnt, ends with a step-down.
`epoch` is the number of its first ballot; a boost changes the ballot, not the epoch. `serving` becomes True when the
entry that begins the epoch is chosen by this master's own count: only then may clients be answered.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from coordd.paxos.ballot import Ballot
from coordd.paxos.caching import CacheLeases
from coordd.paxos.effects import ValueKind
from coordd.paxos.election import WholePromise
from coordd.paxos.lease import MasterLease
from coordd.paxos.membership import Membership
from coordd.paxos.messages import Accept, Accepted, HandOver, Heartbeat, HeartbeatAnswer, Removed, Settled
from coordd.paxos.state import SLOTS_AHEAD_MAX, State, chunks_by_bytes

SETTLED_AGAIN = 10  # heartbeats between two times of saying that the membership is settled
NO_OP = bytes([ValueKind.NO_OP.value])


@dataclass(slots=True)
class InFlight:
    """One slot that is proposed and not yet in the chosen prefix."""

    value: bytes
    ballot: Ballot
    votes: set[int] = field(default_factory=set)
    chosen: bool = False
    resent_ms: int = 0
    number: int = 0  # of the Accept that carried it to everybody
    again: dict[int, int] = field(default_factory=dict)  # peer -> the number of the Accept that repeated it there

    def is_lost(self, peer: int, answered: int) -> bool:
        """`peer` has answered what was sent behind this slot, but not voted for it."""
        return peer not in self.votes and answered > self.again.get(peer, self.number)


class Proposer:
    """One mastership of this replica."""

    def __init__(self, state: State, ballot: Ballot) -> None:
        self._state = state
        self.ballot = ballot
        self.epoch = ballot.number
        self.lease = MasterLease(state.settings.drift_ppm)
        self.caching = CacheLeases(self.lease)
        self.serving = False
        self.boosting = False
        self.deposed = False  # a chosen value was learnt that is not this master's doing
        self.next_slot = state.log.chosen_upto + 1
        self.in_flight: dict[int, InFlight] = {}
        self.began_ms = self.progress_ms = state.now_ms
        self._epoch_slot = 0
        self._pause_slot = 0  # recovery goes on when this slot is applied: before a change, and behind it
        self._membership_slot = 0  # a change is in flight: nothing is proposed behind it
        self._changed_at = 0  # the last heartbeat sent before the present membership was applied
        self._version = state.membership.version  # of the membership that the above is about
        self._farewells: set[int] = set()  # who was a member until the last change, and is to be told
        self._settled_ms: int | None = None  # when it was last said that the present membership is settled
        self._own_votes: deque[tuple[int, Ballot, tuple[int, ...]]] = deque()
        self._new_entries: list[tuple[int, bytes]] = []
        self._round: int | None = None  # the heartbeat that leaves with this turn's messages
        self._round_ms = state.now_ms
        self.heard: dict[int, tuple[int, int]] = {}  # replica -> (when it answered last, its chosen_upto)

    # ---- proposing ----

    def recover(self, ballot: Ballot, promises: list[WholePromise]) -> None:
        """Adopt, above the chosen prefix, the value of the highest ballot per slot; close gaps; begin the epoch.

        [PMS 2.2, P2c; PMS 3 for no-ops.] Also run by a boost, where anything that is not this mastership's own doing
        ends it: a later master has reigned, or an older one left behind what only an election may bring to light.
        """
        state = self._state
        boost = not self.recovering
        self.ballot = ballot
        self.boosting = False
        self._new_entries = []
        chosen_upto = state.log.chosen_upto
        if max(promise.chosen_upto for promise in promises) > chosen_upto:
            assert boost, "the prefix is learnt before anything is proposed"
            self.deposed = True
            return
        best: dict[int, tuple[Ballot, bytes]] = {}
        for promise in promises:
            for slot, (accepted, value) in promise.entries.items():
                if slot > chosen_upto and (slot not in best or best[slot][0] < accepted):
                    best[slot] = (accepted, value)
        if boost and any(slot not in self.in_flight or best[slot][1] != self.in_flight[slot].value for slot in best):
            self.deposed = True
            return
        self._pause_slot = self._membership_slot = 0
        top = max((*best, *self.in_flight), default=chosen_upto)
        for slot in range(chosen_upto + 1, top + 1):
            value = best[slot][1] if slot in best else NO_OP
            if value[0] == ValueKind.MEMBERSHIP.value:
                # It waits until all before it is chosen; and the slots behind it are the business of other voters,
                # whose promises are counted first. In a boost it is this mastership's own: nothing is behind it.
                if slot == chosen_upto + 1:
                    self._membership_slot = slot
                    self._start(slot, value)
                    top = slot
                else:
                    top = slot - 1
                self._pause_slot = 0 if boost else top
                break
            self._start(slot, value)
        self.next_slot = top + 1
        if not boost and not self._pause_slot:
            self._epoch_slot = self.next_slot
            value = bytes([ValueKind.EPOCH.value]) + self.epoch.to_bytes(8, "big")
            self._start(self.next_slot, value)
            self.next_slot += 1
        self._advance()

    @property
    def recovering(self) -> bool:
        """The entry that begins the epoch is not even proposed: there are older values to be seen to first."""
        return self._epoch_slot == 0

    @property
    def resumes(self) -> bool:
        """Recovery has to go on: the slot at which it paused is applied."""
        return 0 < self._pause_slot <= self._state.log.chosen_upto

    def can_propose(self) -> bool:
        """True when another slot may begin."""
        return (
            self.serving
            and not self.boosting
            and not self._pause_slot
            and not self._membership_slot
            and len(self.in_flight) < self._state.settings.window_slots
            and sum(len(flying.value) for flying in self.in_flight.values()) < self._state.settings.window_bytes
            and self.next_slot <= self._state.log.chosen_upto + SLOTS_AHEAD_MAX
        )

    def propose(self, payload: bytes) -> int:
        """Propose a batch for the next slot; returns the slot."""
        assert self.can_propose()
        slot = self.next_slot
        self.next_slot += 1
        if not self.in_flight:
            self.progress_ms = self._state.now_ms
        self._start(slot, bytes([ValueKind.BATCH.value]) + payload)
        return slot

    def can_change(self) -> bool:
        """True when a change of the membership may be proposed.

        The pipeline is drained; and a majority of the present members has answered a heartbeat that was sent after the
        last change was applied: two changes within one lease would otherwise give two masters.
        """
        return self.can_propose() and not self.in_flight and self.may_drain()

    def may_drain(self) -> bool:
        """True when a change could be proposed as soon as nothing is in flight."""
        return self.serving and self.lease.confirmed > self._changed_at and not self._membership_slot

    @property
    def settled(self) -> bool:
        """A majority of the present voters knows durably that the present membership is chosen.

        Until then whoever was removed by it may still be needed: for the voters that do not know of the change he
        counts, and the ones that know may be lost, as many as the new membership can lose.
        """
        state = self._state
        know = {peer for peer, (_, upto) in self.heard.items() if upto >= state.membership_slot}
        if state.persist_done >= state.membership_number:
            know.add(state.replica)
        return self.serving and state.membership.is_majority(know)

    def change(self, membership: Membership) -> int:
        """Propose the next membership; nothing is proposed behind it until it is applied. Returns the slot."""
        assert self.can_change() and membership.follows(self._state.membership)
        slot = self._membership_slot = self.next_slot
        self.next_slot += 1
        self.progress_ms = self._state.now_ms
        self._start(slot, bytes([ValueKind.MEMBERSHIP.value]) + membership.to_bytes())
        return slot

    def _start(self, slot: int, value: bytes) -> None:
        state = self._state
        flying = self.in_flight[slot] = InFlight(value, self.ballot, resent_ms=state.now_ms)
        if state.log.is_chosen(slot):
            assert state.log.entries[slot][1] == value, "a chosen value never changes"
            flying.chosen = True
            return
        state.accept(slot, self.ballot, value)
        self._own_votes.append((state.next_persist, self.ballot, (slot,)))
        self._new_entries.append((slot, value))

    # ---- votes ----

    def persisted(self, number: int) -> None:
        """The own votes that are on disk now count; not one byte further."""
        while self._own_votes and self._own_votes[0][0] <= number:
            _, ballot, slots = self._own_votes.popleft()
            self._vote(self._state.replica, ballot, slots)
        self._advance()
        self._say_settled()

    def receive(self, message: Accepted | HeartbeatAnswer) -> None:
        """A heartbeat is answered; an Accepted, whose Accept was one too, is phase 2b besides."""
        if isinstance(message, Accepted):
            self._vote(message.sender, message.ballot, message.slots)
        self._answer(message)
        self._advance()

    def _answer(self, message: Accepted | HeartbeatAnswer) -> None:
        mine = message.ballot.replica == self._state.replica and self.epoch <= message.ballot.number
        if mine:
            _, upto = self.heard.get(message.sender, (0, 0))
            self.heard[message.sender] = (self._state.now_ms, max(upto, message.chosen_upto))
            self._say_settled()
        if mine and message.number <= self.lease.number:
            self.lease.answer(message.sender, message.number, self._state.membership)

    def _vote(self, replica: int, ballot: Ballot, slots: tuple[int, ...]) -> None:
        for slot in slots:
            flying = self.in_flight.get(slot)
            if flying is not None and flying.ballot == ballot:
                flying.votes.add(replica)
                if len(flying.votes) >= self._state.membership.majority and not flying.chosen:
                    flying.chosen = self._state.membership.is_majority(flying.votes)

    def _advance(self) -> None:
        state = self._state
        while not self.deposed:
            slot = state.log.chosen_upto + 1
            flying = self.in_flight.get(slot)
            if flying is None or not flying.chosen:
                break
            assert state.log.entries[slot][1] == flying.value
            del self.in_flight[slot]
            state.advance()
            self.progress_ms = state.now_ms
            if slot == self._epoch_slot:
                self.serving = True
            if slot == self._membership_slot:
                self._membership_slot = 0
        self._note_membership()

    def _note_membership(self) -> None:
        """After slots were applied: a new membership asks for heartbeats of its own.

        A serving master keeps the lease that it has: any majority of the voters before one change meets any majority
        after it. In recovery several changes may be applied at once, so there the lease begins anew with each.
        """
        membership = self._state.membership
        if membership.version == self._version:
            return
        self._version = membership.version
        self._changed_at = self.lease.number
        if self.serving:
            self.begin_round()
        else:
            self.lease.begin_anew()
        self._farewells = {peer for peer in self.heard if peer not in membership}
        self._settled_ms = None

    def _say_settled(self) -> None:
        """When the membership has settled all are told, and whoever was removed by it; again later, for it may be lost.

        Those that know tell it to any removed replica that turns to them.
        """
        state, now_ms = self._state, self._state.now_ms
        again_ms = SETTLED_AGAIN * state.settings.heartbeat_ms
        if (self._settled_ms is not None and now_ms - self._settled_ms < again_ms) or not self.settled:
            return
        self._settled_ms = now_ms
        version = state.settled_version = state.membership.version
        for peer in state.others():
            state.send(peer, Settled(*state.header(), version=version))
        for peer in sorted(self._farewells):
            del self.heard[peer]
            state.send(peer, Removed(*state.header(), version=version, known_start=state.known_start(peer)))
        self._farewells.clear()

    def check_learnt(self) -> None:
        """After anything was learnt from others: a master that learns a chosen slot from anybody else steps down.

        While it recovers that is no evidence yet: a voter outside the promising majority may know more of the prefix
        than all promisers did. What is chosen there must be what was adopted, and the epoch entry must be its own.
        """
        self._note_membership()
        chosen_upto = self._state.log.chosen_upto
        passed = [slot for slot in self.in_flight if slot <= chosen_upto]
        if self.serving:
            self.deposed |= bool(passed) or self.next_slot <= chosen_upto
            return
        for slot in passed:
            flying, entry = self.in_flight.pop(slot), self._state.log.entries.get(slot)
            # Where a snapshot has brought the slot there is nothing to compare; safety does not rest on it.
            self.deposed |= entry is not None and flying.value != entry[1]
            if slot == self._membership_slot:
                self._membership_slot = 0
        self.deposed |= 0 < self._epoch_slot <= chosen_upto
        self._advance()

    # ---- heartbeats ----

    def begin_round(self) -> int:
        """The number of the heartbeat that leaves with this turn: one per turn, stamped before any frame is made."""
        if self._round is None:
            state = self._state
            self._round = self.lease.begin_round(state.now_ms)
            self._round_ms = state.now_ms
            if state.is_voter:
                holder, lease_ms, caches = (state.replica, state.start), state.membership.lease_ms, self.caching.wanted
                granted = state.grants.grant(holder, self.ballot, self._round, lease_ms, state.now_ms, caches=caches)
                assert granted, "a new ballot is above every one that was handed over"
                self.lease.answer(state.replica, self._round, state.membership)
        return self._round

    def tick(self) -> None:
        """A heartbeat when nothing else has left for a while; what was lost on its way goes out again.

        Only a peer that has answered something later can have lost it: to one that is silent, or whose link is slower
        than what is in flight, every repetition would only make the wait longer, and heartbeats stand behind it.
        """
        if self.boosting:
            return
        state = self._state
        if state.now_ms - self._round_ms >= state.settings.heartbeat_ms or self.lease.number == 0:
            self.begin_round()
        late = [
            slot
            for slot, flying in self.in_flight.items()
            if state.now_ms - flying.resent_ms >= state.settings.retransmit_ms
        ]
        for peer in state.other_voters():
            answered = self.lease.answered_by(peer)
            self._resend(peer, [slot for slot in late if self.in_flight[slot].is_lost(peer, answered)])
        for slot in late:
            self.in_flight[slot].resent_ms = state.now_ms

    def _resend(self, peer: int, lost: list[int]) -> None:
        for entries in chunks_by_bytes((slot, self.in_flight[slot].value) for slot in lost):
            accept = self._accept(entries)
            self._state.send(peer, accept)
            for slot, _ in entries:
                self.in_flight[slot].again[peer] = accept.number

    def _accept(self, entries: tuple[tuple[int, bytes], ...]) -> Accept:
        state = self._state
        number = self.begin_round()
        header = state.header(self.ballot)
        upto, caches = state.log.chosen_upto, self.caching.wanted
        return Accept(*header, number=number, chosen_upto=upto, entries=entries, caches=caches)

    def flush(self) -> None:
        """One Accept for all that was proposed in this turn, or the heartbeat that is due, to every peer."""
        state = self._state
        if self.boosting:
            # The new ballot is not known to be durable and the old one must be silent.
            self._round = None
            return
        if self._new_entries:
            for entries in chunks_by_bytes(self._new_entries):
                accept = self._accept(entries)
                for peer in state.others():
                    state.send(peer, accept)
                for slot, _ in entries:
                    if slot in self.in_flight:
                        self.in_flight[slot].number = accept.number
            self._new_entries = []
        elif self._round is not None:
            header, upto, caches = state.header(self.ballot), state.log.chosen_upto, self.caching.wanted
            beat = Heartbeat(*header, number=self._round, chosen_upto=upto, caches=caches)
            for peer in state.others():
                state.send(peer, beat)
        self._round = None

    def hand_over(self, to: int) -> None:
        """Give the lease up first, then say so; this ballot never holds a lease again."""
        state = self._state
        caches = not self.serving or self.caching.may_be_out(state.now_ms)
        self.lease.give_up()
        header, upto = state.header(self.ballot), state.log.chosen_upto
        for peer in state.others():
            state.send(peer, HandOver(*header, number=self.lease.number, to=to, caches=caches))
            if not self.boosting:
                # The last word on what is chosen. It asks for no lease any more; and it comes second, because a
                # receiver that learns from it that this replica is removed listens to nothing further.
                state.send(peer, Heartbeat(*header, number=self.lease.number, chosen_upto=upto, caches=caches))
        holder = (state.replica, state.start)
        state.grants.void(holder, self.ballot, self.lease.number, state.now_ms, caches=caches)
