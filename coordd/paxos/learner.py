"""The learner: what is chosen, in order, without holes [PMS 2.3], and catching up when something was missed.

Rule (a model broke the design without it): `chosen_upto` in a message makes a slot chosen here only if what was
accepted here bears the ballot of that very message. Any other slot is asked for: an older value may have lost.
"""

from __future__ import annotations

from typing import assert_never

from coordd.paxos.ballot import CHOSEN, Ballot
from coordd.paxos.effects import SendSnapshotChunk, StoreSnapshotChunk
from coordd.paxos.membership import Membership
from coordd.paxos.messages import (
    Learned,
    LearnRequest,
    SnapshotChunk,
    SnapshotOffer,
    SnapshotRequest,
)
from coordd.paxos.state import LEARN_SLOTS_MAX, MESSAGE_BYTES, State

SNAPSHOT_BYTES_MAX = 4 * 1024**3
PATIENCE_MS_MAX = 2_000
SEEK_LEASES = 4


class Learner:
    """Keeps at most one request under way: for slots, or for the next chunk of a snapshot.

    It asks again when no answer came, but ever less often: an answer is large, and on a slow link the second one would
    stand before everything else. How long answers take is remembered from one question to the next.

    Who was silent is asked for slots again, even in the middle of a snapshot: the source may be another one now, which
    has that snapshot, or a later one, or an earlier one or none and the slots themselves. It says which.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._source: int | None = None
        self._wanted_upto = 0
        self._began_ms = 0  # when the present question was asked first
        self._asked_at_ms = 0
        self._patience_ms = state.settings.retransmit_ms
        self._snapshot: tuple[int, int] | None = None  # (slot, size) of the snapshot that is coming in
        self._offset = 0
        self._stored_whole = False
        self._unsure = False  # the source was silent, or is a new one: it may not have that snapshot
        self._sought_ms = state.now_ms

    def receive(self, message: LearnRequest | Learned | SnapshotOffer | SnapshotRequest | SnapshotChunk) -> None:
        """One message of these kinds."""
        match message:
            case LearnRequest():
                self._on_learn_request(message)
            case Learned():
                self._on_learned(message)
            case SnapshotOffer():
                self._on_snapshot_offer(message)
            case SnapshotRequest():
                self._on_snapshot_request(message)
            case SnapshotChunk():
                self._on_snapshot_chunk(message)
            case _:
                assert_never(message)

    # ---- what this replica lacks ----

    def believe(self, ballot: Ballot, chosen_upto: int, sender: int) -> None:
        """The master of `ballot` says that everything up to `chosen_upto` is chosen."""
        log = self._state.log
        while log.chosen_upto < chosen_upto:
            entry = log.entries.get(log.chosen_upto + 1)
            if entry is None or entry[0] not in (ballot, CHOSEN):
                self.want(chosen_upto, sender)
                break
            self._state.advance()
        self._state.advance_learnt()

    def want(self, upto: int, source: int) -> None:
        """Ask `source` for what is missing up to `upto`, unless a question is under way."""
        if self._state.mute:
            return  # there is no room for the answer
        self._wanted_upto = max(self._wanted_upto, upto)
        if self._snapshot is not None and source != self._source:
            return  # a snapshot is coming in from somebody; `tick` gives up on a source that is silent
        waited_ms = self._state.now_ms - self._asked_at_ms
        if self._source is None or (source != self._source and waited_ms >= self._patience_ms):
            self._source = source
            self._ask()

    def tick(self) -> None:
        """Ask again when no answer came; turn to the master when the source stays silent."""
        state = self._state
        self._seek()
        if self._source is None or self._stored_whole:
            return
        if state.log.chosen_upto >= self._wanted_upto and self._snapshot is None:
            self._source = None
        elif state.now_ms - self._asked_at_ms >= self._patience_ms:
            self._patience_ms = min(2 * self._patience_ms, PATIENCE_MS_MAX)
            if state.master is not None and state.master not in (self._source, state.replica):
                self._source = state.master
            self._unsure = True
            self._ask_again()

    def _seek(self) -> None:
        """Who hears no master asks around: what it lacks may be that it is a voter, or no member any more.

        A voter stands for election too, so it is in less of a hurry; but learners, whom it does not ask for a promise,
        may be the voters of today.
        """
        state = self._state
        patience_ms = state.membership.lease_ms * (SEEK_LEASES if state.is_voter else 1)
        if state.master is not None or state.now_ms - self._sought_ms < patience_ms:
            return
        self._sought_ms = state.now_ms
        for peer in state.others():
            state.send(peer, LearnRequest(*state.header(), first_slot=state.log.chosen_upto + 1))

    def asked_as_voter(self, sender: int) -> None:
        """A candidate takes this replica for a voter, which it is not: one of the two has missed something."""
        state = self._state
        upto = state.log.chosen_upto
        if state.left:
            state.send(sender, Learned(*state.header(), first_slot=upto + 1, values=(), chosen_upto=upto))
        else:
            self.want(upto + 1, sender)

    def _ask(self) -> None:
        """The first question, or the next one after an answer."""
        state = self._state
        self._began_ms = state.now_ms
        self._ask_again()

    def _answered(self) -> None:
        """What was asked for has come."""
        state = self._state
        self._unsure = False
        took_ms = state.now_ms - self._began_ms
        self._patience_ms = min(max(2 * took_ms, state.settings.retransmit_ms), PATIENCE_MS_MAX)

    def _ask_again(self) -> None:
        state = self._state
        assert self._source is not None
        self._asked_at_ms = state.now_ms
        if self._snapshot is not None and not self._unsure:
            request = SnapshotRequest(*state.header(), slot=self._snapshot[0], offset=self._offset)
            state.send(self._source, request)
        else:
            state.send(self._source, LearnRequest(*state.header(), first_slot=state.log.chosen_upto + 1))

    def _on_learned(self, message: Learned) -> None:
        """Chosen values: into the log, unless the same value stands there already."""
        state = self._state
        log = state.log
        before = log.chosen_upto
        for slot, value in enumerate(message.values, message.first_slot):
            if slot <= log.chosen_upto:
                continue
            if slot > log.chosen_upto + 1 or state.mute:
                break
            entry = log.entries.get(slot)
            if entry is None or entry[1] != value:
                state.accept(slot, CHOSEN, value)
            state.advance()
        state.advance_learnt()
        if message.sender == self._source and log.chosen_upto > before and not self._stored_whole:
            self._snapshot, self._offset = None, 0  # its log goes on from here: no snapshot is needed of it
        if message.sender == self._source and self._snapshot is None:
            self._wanted_upto = max(self._wanted_upto, message.chosen_upto)
            if log.chosen_upto > before:
                self._answered()
            if log.chosen_upto >= self._wanted_upto:
                self._source = None
            elif log.chosen_upto > before:  # a second answer to one question asks nothing
                self._ask()
        elif self._source is None and message.chosen_upto > log.chosen_upto and not state.mute:
            self.want(message.chosen_upto, message.sender)

    # ---- snapshots coming in ----

    def _on_snapshot_offer(self, message: SnapshotOffer) -> None:
        """What was asked for is cut away there; take the snapshot instead, from where the last chunk ended."""
        if message.sender != self._source or self._stored_whole or not 0 < message.size <= SNAPSHOT_BYTES_MAX:
            return
        if message.slot <= self._state.log.chosen_upto:
            return
        if self._snapshot != (message.slot, message.size):
            self._snapshot = (message.slot, message.size)
            self._offset = 0
        self._unsure = False
        self._ask()

    def _on_snapshot_chunk(self, message: SnapshotChunk) -> None:
        """The next chunk, and only that one, goes to the disk."""
        if self._snapshot != (message.slot, message.size) or message.offset != self._offset or self._stored_whole:
            return
        end = message.offset + len(message.data)
        if message.sender != self._source or not message.data or end > message.size:
            return
        store = StoreSnapshotChunk(message.slot, message.size, message.offset, message.data)
        self._state.effects.snapshot_transfers.append(store)
        self._offset = end
        self._answered()
        if end == message.size:
            self._stored_whole = True  # nothing more until `install` or `forget_snapshot`
        else:
            self._ask()

    def install(self, slot: int, size: int, membership: Membership) -> None:
        """The whole snapshot is durable here and the machine stands at `slot`."""
        state = self._state
        state.log.install(slot, size)
        state.join_membership(membership, slot)
        self.forget_snapshot()
        state.advance_learnt()

    def forget_snapshot(self) -> None:
        """No snapshot is coming in (any more): it is installed, overtaken or was damaged on the way."""
        self._snapshot = None
        self._offset = 0
        self._stored_whole = False
        self._source = None

    # ---- what others lack ----

    def _on_learn_request(self, message: LearnRequest) -> None:
        """Chosen values from the slot asked for, or the offer of the snapshot that covers it."""
        state = self._state
        log = state.log
        if message.first_slot > log.chosen_upto:
            return
        if message.first_slot < log.first_slot:
            self._offer(message.sender)
            return
        values = log.chosen_values(message.first_slot, LEARN_SLOTS_MAX, MESSAGE_BYTES)
        header = state.header()
        learned = Learned(*header, first_slot=message.first_slot, values=tuple(values), chosen_upto=log.chosen_upto)
        # Chosen values need no disk of ours: a majority has them.
        state.send(message.sender, learned)

    def _on_snapshot_request(self, message: SnapshotRequest) -> None:
        """The bytes at that offset, or the offer of the newer snapshot that has replaced it."""
        state = self._state
        log = state.log
        if message.slot != log.snapshot_slot:
            self._offer(message.sender)
        elif 0 <= message.offset < log.snapshot_size:
            chunk = SnapshotChunk(
                *state.header(), slot=message.slot, size=log.snapshot_size, offset=message.offset, data=b""
            )
            state.effects.snapshot_transfers.append(SendSnapshotChunk(message.sender, chunk))

    def _offer(self, to: int) -> None:
        state = self._state
        log = state.log
        if log.snapshot_slot:
            state.send(to, SnapshotOffer(*state.header(), slot=log.snapshot_slot, size=log.snapshot_size))
