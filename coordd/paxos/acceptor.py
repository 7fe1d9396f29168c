"""The acceptor [PMS 2.2, "Phase 1b" and "Phase 2b"], and the lease grants that go with its answers.

Duties: never promise or accept below a promise; persist, then speak; promise to nobody against a live grant, nor within
one lease of a restart. Raising `state.promised` is how it deposes this replica's own candidacy or mastership: the
replica compares after every message, before anything of this turn is sent.
"""

from __future__ import annotations

from coordd.paxos.ballot import Ballot
from coordd.paxos.messages import (
    Accept,
    Accepted,
    AlreadyChosen,
    Ask,
    HandOver,
    Header,
    Heartbeat,
    HeartbeatAnswer,
    Nack,
    Prepare,
    Promise,
    Willing,
)
from coordd.paxos.state import MESSAGE_BYTES, SLOTS_AHEAD_MAX, State


class Acceptor:
    """Answers proposers. A learner takes values and says so, to be seen; it grants nothing and promises nobody."""

    def __init__(self, state: State) -> None:
        self._state = state

    def on_ask(self, ask: Ask, *, reigning: bool) -> None:
        """Would you promise? Changes nothing; `reigning`: this replica is master within its lease."""
        state = self._state
        if state.mute or not state.is_voter:
            return
        yes = (
            not reigning
            and ask.ballot > state.promised
            and state.grants.may_promise(ask.sender, ask.start, state.now_ms)
        )
        state.send(ask.sender, Willing(*state.header(), number=ask.number, yes=yes))

    def on_prepare(self, prepare: Prepare) -> None:
        """Phase 1b. A Prepare that a grant forbids is dropped: the candidate asks again, or somebody else reigns."""
        state = self._state
        if state.mute or not state.is_voter:
            return
        if prepare.ballot < state.promised:
            self._refuse(prepare)
            return
        if prepare.ballot > state.promised:
            if not state.grants.may_promise(prepare.sender, prepare.start, state.now_ms):
                return
            state.promise(prepare.ballot)
            state.put_off_asking(state.now_ms + state.membership.lease_ms)
        for message in self._promise(prepare.ballot):
            state.send_after_persist(prepare.sender, message)

    def _promise(self, ballot: Ballot) -> list[Promise]:
        """The Promise in one part, or where that is too large, in one part for each slot.

        Parts of two transmissions may be put together, and in between the candidate may have had a slot accepted here;
        so which slot a part speaks of depends on nothing but the ends of the log.
        """
        state = self._state
        header, upto, entries = state.header(ballot), state.log.chosen_upto, state.log.above_chosen()
        cached_ms = state.grants.cached_ms(state.now_ms)
        parts: list[tuple[tuple[int, Ballot, bytes], ...]] = [tuple(entries)]
        if sum(len(value) for _, _, value in entries) > MESSAGE_BYTES:
            held = {entry[0]: (entry,) for entry in entries}
            parts = [held.get(slot, ()) for slot in range(upto + 1, state.log.upto + 1)]
        return [
            Promise(*header, chosen_upto=upto, part=index, parts=len(parts), entries=part, cached_ms=cached_ms)
            for index, part in enumerate(parts)
        ]

    def on_accept(self, accept: Accept) -> None:
        """Phase 2b: take the entries, answer when they are durable; the answer grants the lease too."""
        state = self._state
        if not self._obeys(accept, accept.number):
            return
        slots: list[int] = []
        already_chosen = False
        for slot, value in accept.entries:
            if state.log.is_chosen(slot):
                already_chosen = True
            elif slot <= state.log.chosen_upto + SLOTS_AHEAD_MAX:
                entry = state.log.entries.get(slot)
                if entry is None or entry[0] != accept.ballot:
                    state.accept(slot, accept.ballot, value)
                slots.append(slot)
        header, upto = state.header(accept.ballot), state.log.chosen_upto
        answer = Accepted(*header, number=self._granted(accept), chosen_upto=upto, slots=tuple(slots))
        state.send_after_persist(accept.sender, answer)
        if already_chosen:
            answer_chosen = AlreadyChosen(*state.header(accept.ballot), chosen_upto=state.log.chosen_upto)
            state.send(accept.sender, answer_chosen)

    def on_heartbeat(self, heartbeat: Heartbeat) -> None:
        """Grant, counted from now, unless a higher ballot is promised."""
        state = self._state
        if not self._obeys(heartbeat, heartbeat.number):
            return
        header, upto = state.header(heartbeat.ballot), state.log.chosen_upto
        answer = HeartbeatAnswer(*header, number=self._granted(heartbeat), chosen_upto=upto)
        # A ballot first heard of through a heartbeat is promised by it: that must be durable before it is spoken of.
        state.send_after_persist(heartbeat.sender, answer)

    def _granted(self, message: Accept | Heartbeat) -> int:
        """The number whose lease this answer grants: none as long as this replica does not know itself to be a voter.

        The master may know earlier, and then count the answer; a grant that binds nobody would give two masters.
        """
        return message.number if self._state.is_voter else 0

    def _obeys(self, message: Accept | Heartbeat, number: int) -> bool:
        """True when this replica follows the sender in this ballot; promises and grants as needed."""
        state = self._state
        if state.mute or message.ballot.replica != message.sender:
            return False
        if message.ballot < state.promised:
            self._refuse(message)
            return False
        holder = (message.sender, message.start)
        if message.ballot > state.promised:
            if state.is_voter and not state.grants.may_promise(*holder, state.now_ms):
                return False
            state.promise(message.ballot)
        if state.is_voter and not self._grant(holder, message, number):
            return False
        state.follow(message.sender)
        return True

    def _grant(self, holder: tuple[int, int], message: Accept | Heartbeat, number: int) -> bool:
        state = self._state
        if not state.grants.is_free_for(holder, state.now_ms):
            return False
        lease_ms = state.membership.lease_ms
        if not state.grants.grant(holder, message.ballot, number, lease_ms, state.now_ms, caches=message.caches):
            return False
        state.put_off_asking(state.grants.until_ms)
        return True

    def on_hand_over(self, message: HandOver) -> None:
        """The master gave its lease up: who it names may stand at once, the others a little later."""
        state = self._state
        holder = (message.sender, message.start)
        if not state.grants.void(holder, message.ballot, message.number, state.now_ms, caches=message.caches):
            return
        state.master_until_ms = state.now_ms
        if message.to == state.replica:
            state.ask_at_ms = state.now_ms
        else:
            state.put_off_asking(state.now_ms + state.settings.retransmit_ms)

    def _refuse(self, message: Header) -> None:
        state = self._state
        state.send(message.sender, Nack(*state.header(), refused=message.ballot))
