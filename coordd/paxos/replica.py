"""One replica of the cell: the only door to this package.

Inputs are method calls with `now_ms`, read by the caller after the last input was taken; outputs gather until
`take_effects`. Roles: *follower*, *candidate* (asks, prepares, learns), *master* (reigns, and `serving` once its epoch
entry is chosen). What a role may say ends the moment this replica promises a higher ballot: `_settle` compares after
every input, before anything is handed out.
"""

from __future__ import annotations

from typing import assert_never

from coordd.paxos import messages as m
from coordd.paxos.acceptor import Acceptor
from coordd.paxos.ballot import Ballot
from coordd.paxos.effects import Durable, Effects
from coordd.paxos.election import Election
from coordd.paxos.hellos import FROM_ANYBODY, Hellos
from coordd.paxos.learner import Learner
from coordd.paxos.membership import Membership
from coordd.paxos.proposer import Proposer
from coordd.paxos.state import PaxosSettings, State
from coordd.paxos.view import Role, View

__all__ = ["Replica", "Role"]


class Replica(View):
    """See the module docstring; `coordd.paxos.effects` has the duties of the caller."""

    def __init__(self, settings: PaxosSettings, durable: Durable, now_ms: int) -> None:
        self.state = State(settings, durable, now_ms)
        self.acceptor = Acceptor(self.state)
        self.learner = Learner(self.state)
        self.election = Election(self.state)
        self.hellos = Hellos(self.state)
        self.proposer: Proposer | None = None
        self._standing_since_ms: int | None = None  # a candidacy (from Prepare on) is under way
        self._asked_ms = 0
        self._leaving: tuple[int | None, int] | None = None  # hand-over: (to, when at the latest)
        self._out_until_ms = 0
        self._boosted_ms = 0

    @property
    def leaving(self) -> bool:
        """A hand-over has begun: it waits a little for what is in flight, and for the end of all cache leases."""
        return self._leaving is not None

    def can_propose(self) -> bool:
        """True when `propose` may be called."""
        proposer = self.proposer
        if proposer is None or self._leaving is not None or self.state.mute:
            return False
        return proposer.caching.earlier_over(self.state.now_ms) and proposer.can_propose()

    # ---- inputs ----

    def receive(self, message: m.Message, now_ms: int) -> None:
        """One message of a peer."""
        state = self.state
        state.now_ms = now_ms
        if self.hellos.admit(message):
            if state.is_member(message.sender) or isinstance(message, FROM_ANYBODY):
                self._dispatch(message)
            else:  # added since, as far as can be known here; whatever it wants, the change comes first
                self.learner.want(state.log.chosen_upto + 1, message.sender)
            self._settle()

    def _dispatch(self, message: m.Message) -> None:
        match message:
            case m.Accept():
                self.acceptor.on_accept(message)
                self._believe(message.ballot, message.chosen_upto, message.sender)
            case m.Heartbeat():
                self.acceptor.on_heartbeat(message)
                self._believe(message.ballot, message.chosen_upto, message.sender)
            case m.Accepted() | m.HeartbeatAnswer():
                if self.proposer is not None:
                    self.proposer.receive(message)
            case m.Ask() | m.Prepare() if not self.state.is_voter:
                self.learner.asked_as_voter(message.sender)
            case m.Ask():
                self.acceptor.on_ask(message, reigning=self.lease_valid(self.state.now_ms))
            case m.Willing():
                self.election.on_willing(message)
                self._stand_if_wanted()
            case m.Prepare():
                self.acceptor.on_prepare(message)
            case m.Promise():
                self.election.on_promise(message)
                self._count_promises()
            case m.Nack():
                self._on_nack(message)
            case m.AlreadyChosen():
                self._on_already_chosen(message)
            case m.HandOver():
                self.acceptor.on_hand_over(message)
            case m.Hello() | m.Regressed() | m.Settled() | m.Removed():
                self.hellos.receive(message)
            case m.Digest():
                self.state.effects.digests.append(message)
            case m.LearnRequest() | m.Learned() | m.SnapshotOffer() | m.SnapshotRequest() | m.SnapshotChunk():
                self.learner.receive(message)
                self._after_learning()
            case _:
                assert_never(message)

    def persisted(self, number: int, now_ms: int) -> None:
        """Everything up to the effects numbered `number` is durable."""
        self.state.now_ms = now_ms
        self.state.persisted(number)
        self.election.persisted(number)
        if self.proposer is not None:
            self.proposer.persisted(number)
        self._count_promises()
        self._settle()

    def tick(self, now_ms: int, chance: int) -> None:
        """Time has passed; `chance` is a random number of 64 bits."""
        state = self.state
        state.now_ms = now_ms
        state.chance ^= chance
        self.hellos.tick()
        self.learner.tick()
        if state.master is not None and self.proposer is None and now_ms >= state.master_until_ms:
            state.master = None
        if self.proposer is not None:
            self._tick_master(self.proposer)
        elif self._standing_since_ms is not None:
            self._tick_candidate()
        elif self._may_ask(now_ms):
            self._asked_ms = now_ms
            state.put_off_asking(now_ms + state.settings.retransmit_ms)
            self.election.ask()
            self._stand_if_wanted()
        self._settle()

    def propose(self, payload: bytes, now_ms: int) -> int:
        """Propose a batch of commands; only when `can_propose()`. Returns its slot."""
        assert self.proposer is not None and self.can_propose()
        self.state.now_ms = now_ms
        return self.proposer.propose(payload)

    def can_change(self) -> bool:
        """True when `change` may be called: this master serves, nothing is in flight, the last change has settled."""
        return self.can_propose() and self.proposer is not None and self.proposer.can_change()

    def may_drain(self) -> bool:
        """True when `can_change` will hold as soon as nothing is in flight."""
        proposer = self.proposer
        return proposer is not None and self._leaving is None and not self.state.mute and proposer.may_drain()

    def change(self, membership: Membership, now_ms: int) -> int:
        """Propose the next membership, one change of one replica; only when `can_change()`. Returns its slot."""
        assert self.proposer is not None and self.can_change()
        self.state.now_ms = now_ms
        return self.proposer.change(membership)

    def confirm(self, now_ms: int) -> int:
        """Begin a heartbeat round; reads that arrived before this call are good once `confirmed` reaches its number."""
        assert self.proposer is not None
        self.state.now_ms = now_ms
        return self.proposer.begin_round()

    def hand_over(self, now_ms: int, to: int | None = None) -> None:
        """Begin a planned hand-over: no new proposals; the lease is given up when what is in flight has landed and no
        cache lease is out, or a little later.
        """
        self.state.now_ms = now_ms
        if self.proposer is not None and self._leaving is None and self.state.other_voters():
            self._leaving = (to, now_ms + self.state.settings.retransmit_ms * 2)

    def disk_full(self, now_ms: int) -> None:
        """The log cannot grow: vote no more, and let somebody else be master.

        What is in flight may not be on this disk, but it may still be chosen by the others: a master waits a little for
        that. A candidacy, a recovery and a boost would have to write: they end at once.
        """
        self.state.mute = True
        if self.proposer is None or self.proposer.recovering or self.proposer.boosting:
            self._step_down()
        self.hand_over(now_ms)

    def disk_has_room(self, now_ms: int) -> None:
        """Everything that had no room on the disk is written, in order: this replica takes part again."""
        self.state.now_ms = now_ms
        if self.state.mute:
            self.state.mute = False
            self.state.put_off_asking(now_ms + self.state.membership.lease_ms)

    def compact(self, upto: int, size: int) -> None:
        """The own snapshot of everything up to `upto` is durable, `size` bytes long."""
        self.state.log.compact(upto, size)

    def install(self, slot: int, size: int, membership: Membership, now_ms: int) -> None:
        """A peer's snapshot is durable here and applied; only above the chosen prefix (else `forget_snapshot`)."""
        self.state.now_ms = now_ms
        self.learner.install(slot, size, membership)
        self._after_learning()
        self._settle()

    def forget_snapshot(self) -> None:
        """The incoming snapshot was overtaken or turned out damaged."""
        self.learner.forget_snapshot()

    def tell(self, slot: int, digest: bytes) -> None:
        """Say to all others what came of everything up to `slot` here. Opaque to this package."""
        message = m.Digest(*self.state.header(), slot=slot, digest=digest)
        for peer in self.state.others():
            self.state.send(peer, message)

    def take_effects(self) -> Effects:
        """What is to be done now; see `coordd.paxos.effects`."""
        if self.proposer is not None:
            self.proposer.flush()
        return self.state.take_effects()

    # ---- transitions ----

    def _settle(self) -> None:
        """End what a higher promise, or a chosen value of somebody else's, has ended."""
        state = self.state
        if state.left and self.proposer is not None:
            self._leave(self.proposer, None)  # a master that removes itself stops serving when that is applied
        elif self.proposer is not None:
            if self.proposer.resumes:
                self._count_promises()
            own = self.election.ballot
            if self.proposer.deposed or state.promised != own:
                self._step_down()
        elif self._standing_since_ms is not None and (state.left or state.promised != self.election.ballot):
            self._step_down()

    def _step_down(self) -> None:
        self.proposer = None
        self._standing_since_ms = self._leaving = None
        self.election.forget()
        if self.state.master == self.state.replica:
            self.state.master = None
        self.state.put_off_asking(max(self.state.ask_at_ms, self.state.now_ms + self.state.settings.retransmit_ms))

    def _may_ask(self, now_ms: int) -> bool:
        state = self.state
        free = state.is_voter and not state.mute and now_ms >= max(state.ask_at_ms, self._out_until_ms)
        return free and state.grants.may_promise(state.replica, state.start, now_ms)

    def _stand_if_wanted(self) -> None:
        state = self.state
        free = state.grants.may_promise(state.replica, state.start, state.now_ms)
        if self.role is not Role.FOLLOWER or not self.election.is_wanted or not free:
            return
        if state.mute or state.now_ms - self._asked_ms > state.settings.retransmit_ms * 2:
            self.election.stop_asking()
            return
        self._standing_since_ms = state.now_ms
        self.election.prepare()

    def _count_promises(self) -> None:
        counts = self.proposer is not None and (self.proposer.boosting or self.proposer.resumes)
        idle = self.state.left or (self._standing_since_ms is None and not counts)
        promises = None if idle else self.election.winners()
        if promises is None:
            return
        upto, ahead = self.election.furthest()
        if upto > self.state.log.chosen_upto and (self.proposer is None or self.proposer.recovering):
            self.learner.want(upto, ahead)
            return
        if self.proposer is None:
            self._standing_since_ms = None
            self.proposer = Proposer(self.state, self.election.ballot)
            self.state.master = self.state.replica
        if self.proposer.recovering:  # a boost is of this very mastership, which knows what cache leases it gave
            own_until_ms = self.state.now_ms + self.state.grants.cached_ms(self.state.now_ms)
            self.proposer.caching.wait_for(max(self.election.cached_until_ms, own_until_ms))
        self.proposer.recover(self.election.ballot, promises)

    def _after_learning(self) -> None:
        if self.proposer is not None:
            self.proposer.check_learnt()
        self._count_promises()

    def _believe(self, ballot: Ballot, chosen_upto: int, sender: int) -> None:
        if ballot == self.state.promised and ballot.replica == sender != self.state.replica:
            self.learner.believe(ballot, chosen_upto, sender)

    def _on_nack(self, nack: m.Nack) -> None:
        """A candidate gives way; a master within its lease prepares again above a voter that is stuck high (boost)."""
        state = self.state
        if nack.refused != self.election.ballot or nack.ballot <= nack.refused:
            return
        if self.proposer is None:
            if self._standing_since_ms is not None:
                self._step_down()
        elif nack.sender not in state.membership.voters or self.proposer.boosting:
            return
        elif not state.now_ms < self.proposer.lease.until_ms:
            self._step_down()
        elif state.now_ms - self._boosted_ms >= state.settings.retransmit_ms and not state.mute:
            self._boosted_ms = state.now_ms
            self.proposer.boosting = True
            self.election.prepare()

    def _on_already_chosen(self, message: m.AlreadyChosen) -> None:
        proposer = self.proposer
        if proposer is None or message.ballot != proposer.ballot or message.chosen_upto <= self.chosen_upto:
            return
        if proposer.serving:
            proposer.deposed = True
        else:
            self.learner.want(message.chosen_upto, message.sender)

    # ---- time ----

    def _tick_candidate(self) -> None:
        assert self._standing_since_ms is not None
        self.election.tick()
        self._count_promises()
        if self.proposer is None and self.state.now_ms - self._standing_since_ms > self.state.settings.candidate_ms:
            self._step_down()

    def _tick_master(self, proposer: Proposer) -> None:
        state = self.state
        if proposer.boosting or proposer.resumes:
            self.election.tick()
        elif proposer.serving:
            self.election.forget()
        if state.now_ms > max(proposer.lease.until_ms, proposer.began_ms) + state.membership.lease_ms:
            self._step_down()  # no silent reign: a deaf master must not keep the others from electing
            return
        stuck = bool(proposer.in_flight) and state.now_ms - proposer.progress_ms > state.settings.stuck_ms
        slow = state.disk_takes_ms > state.settings.fsync_ms
        if (stuck or slow) and self._leaving is None and state.other_voters():
            self._out_until_ms = state.now_ms + state.settings.stay_out_ms
            self._leaving = (None, state.now_ms)
        busy = bool(proposer.in_flight) or proposer.caching.wanted
        if self._leaving is not None and (not busy or state.now_ms >= self._leaving[1]):
            self._leave(proposer, self._leaving[0])
            return
        if not state.mute:
            proposer.tick()

    def _leave(self, proposer: Proposer, to: int | None) -> None:
        state = self.state
        if to is None or to not in state.other_voters():
            others, answered = state.other_voters(), proposer.lease.answered_by
            to = max(others, key=lambda peer: (answered(peer), -peer), default=state.replica)  # a change left nobody
        proposer.hand_over(to)
        self._step_down()
        state.follow(to if to != state.replica else None)  # whoever asks here is sent on, and waits there
        state.put_off_asking(state.now_ms + state.membership.lease_ms)
