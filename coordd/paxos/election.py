"""Becoming master: the question, Prepare, and counting whole Promises [PMS 2.2 phase 1; PML 5.2].

1. *Asking*: "would you promise?" changes nothing anywhere, so a replica that was cut off deposes no healthy master.
2. *Preparing*: own promise durable, then Prepare. A Promise counts only when whole.
3. *Learning*: nothing is proposed up to the largest `chosen_upto` of the promises; that prefix is learnt first.
4. Then the promises are counted again by the membership that the replica now has; `winners` is what the proposer needs.

The same preparing serves the *boost* of a sitting master, without the question and without the learning.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from coordd.paxos.ballot import ZERO, Ballot
from coordd.paxos.lease import ROUNDING_MS
from coordd.paxos.messages import Ask, Prepare, Promise, Willing
from coordd.paxos.starts import count_of
from coordd.paxos.state import State


@dataclass(slots=True)
class WholePromise:
    """One voter's Promise: its chosen prefix and its accepted entries above it, slot -> (ballot, value)."""

    chosen_upto: int
    entries: dict[int, tuple[Ballot, bytes]]


@dataclass(slots=True)
class _Parts:
    """Parts of one transmission of a Promise; parts of another one (other `chosen_upto` or count) start anew."""

    chosen_upto: int
    parts: int
    entries: dict[int, tuple[Ballot, bytes]] = field(default_factory=dict)
    seen: set[int] = field(default_factory=set)


class Election:
    """The question and the promises of one ballot at a time; the replica decides what follows."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.ballot = ZERO
        self.durable = False  # the own promise of `ballot` is
        self._own_number = 0
        self._asked: set[int] = set()
        self._parts: dict[int, _Parts] = {}
        self._whole: dict[int, WholePromise] = {}
        self._gathers = False
        self._sent_ms = 0
        self._patience_ms = 0
        self.cached_until_ms = 0  # until then cache leases may run that the promisers of this ballot know of
        self._heard: set[int] = set()  # voters of whose Promise a part came in since the last Prepare
        self._ask_number = count_of(state.start) << 32  # so that no answer to an earlier start is one to this one
        self._willing: set[int] | None = None  # None: not asking

    # ---- the question ----

    def ask(self) -> None:
        """Ask all voters, this one included; the answers count until the next question."""
        state = self._state
        self._ask_number += 1
        ballot = Ballot(max(state.round_seen, state.promised.round) + 1, state.replica)
        self._willing = {state.replica}
        for peer in state.other_voters():
            state.send(peer, Ask(*state.header(ballot), number=self._ask_number))

    def on_willing(self, message: Willing) -> None:
        """A yes to the present question."""
        if self._willing is not None and message.yes and message.number == self._ask_number:
            self._willing.add(message.sender)

    @property
    def is_wanted(self) -> bool:
        """A majority would promise."""
        return self._willing is not None and self._state.membership.is_majority(self._willing)

    def stop_asking(self) -> None:
        self._willing = None

    # ---- prepare ----

    def prepare(self) -> None:
        """A new ballot above everything seen: promise it oneself, then ask the others to."""
        state = self._state
        self._willing = None
        self.ballot = Ballot(max(state.round_seen, state.promised.round) + 1, state.replica)
        self.durable = False
        self._parts, self._whole, self._asked = {}, {}, set()
        self._gathers = True
        self.cached_until_ms = 0
        state.promise(self.ballot)
        self._own_number = state.next_persist
        self._patience_ms = state.settings.retransmit_ms
        self._heard.clear()
        self._send_prepare()

    def _send_prepare(self) -> None:
        state = self._state
        self._sent_ms = state.now_ms
        for peer in state.other_voters():
            if peer not in self._whole and peer not in self._heard:
                self._asked.add(peer)
                state.send_after_persist(peer, Prepare(*state.header(self.ballot)))
        self._heard.clear()

    def ask_the_rest(self) -> None:
        """The membership has changed since Prepare was sent: ask the voters that have not been asked."""
        if self.durable and not self._asked.issuperset(self._state.other_voters()):
            self._send_prepare()

    def tick(self) -> None:
        """Prepare again towards whoever has not promised yet, but ever less often, and not while a Promise comes in.

        Each Prepare asks for a whole Promise: on a slow link they would stand before everything else.
        """
        if self.durable and self._state.now_ms - self._sent_ms >= self._patience_ms:
            self._patience_ms *= 2
            self._send_prepare()

    def persisted(self, number: int) -> None:
        """The own promise counts from here on."""
        if not self.durable and self.ballot != ZERO and number >= self._own_number:
            self.durable = True

    def on_promise(self, message: Promise) -> None:
        """One part of a Promise for the present ballot."""
        if message.ballot != self.ballot or not self._gathers or message.sender in self._whole:
            return
        gathered = self._parts.get(message.sender)
        if gathered is None or (gathered.chosen_upto, gathered.parts) != (message.chosen_upto, message.parts):
            gathered = self._parts[message.sender] = _Parts(message.chosen_upto, message.parts)
        gathered.seen.add(message.part)
        # Counted from the receipt, which is later than where the promiser counts from; and nobody knows of more than
        # a lease, whatever the bytes say.
        cached_ms = min(message.cached_ms, self._state.membership.lease_ms)
        if cached_ms:
            self.cached_until_ms = max(self.cached_until_ms, self._state.now_ms + cached_ms + ROUNDING_MS)
        self._heard.add(message.sender)
        for slot, ballot, value in message.entries:
            gathered.entries[slot] = (ballot, value)
        if len(gathered.seen) == message.parts:
            del self._parts[message.sender]
            self._whole[message.sender] = WholePromise(gathered.chosen_upto, gathered.entries)

    def forget(self) -> None:
        """The promises have done their work, or this ballot is over: hold what they carried no longer."""
        self._willing = None
        self._parts, self._whole, self._gathers = {}, {}, False

    def winners(self) -> list[WholePromise] | None:
        """The whole promises of a majority of the present voters, the own one included; None while there is none."""
        state = self._state
        if not self.durable:
            return None
        promised = {replica: whole for replica, whole in self._whole.items() if replica in state.membership.voters}
        if not state.membership.is_majority((*promised, state.replica)):
            self.ask_the_rest()
            return None
        own = {slot: (ballot, value) for slot, ballot, value in state.log.above_chosen()}
        return [WholePromise(state.log.chosen_upto, own), *promised.values()]

    def furthest(self) -> tuple[int, int]:
        """`(chosen_upto, replica)` of the promiser that knows most; learn from it before proposing anything."""
        return max(
            ((whole.chosen_upto, replica) for replica, whole in self._whole.items()),
            default=(self._state.log.chosen_upto, self._state.replica),
        )
