"""Who speaks: membership, start numbers, and peers whose data went back in time.

A message of an older start than the newest known is dropped: the process that sent it is dead. A new start is listened
to only after its Hello: what a peer once acknowledged as durable is remembered here, and one that knows less has lost
its disk and is refused. Of which directory a peer is, and its start, is remembered durably, before anything that it
says can make a difference: so one that begins anew with an empty directory is known even where all were restarted.

By the same marks a replica of another cell of this name and secret is told from a peer: the two remember each other's
ids with other directories.
"""

from __future__ import annotations

from typing import assert_never

from coordd.paxos import messages as m
from coordd.paxos.ballot import ZERO
from coordd.paxos.starts import mark_of, start_text
from coordd.paxos.state import Known, State

FROM_ANYBODY = (
    m.Hello,
    m.Regressed,
    m.Settled,
    m.Removed,
    m.LearnRequest,
    m.Learned,
    m.SnapshotOffer,
    m.SnapshotRequest,
    m.SnapshotChunk,
)  # what is true, or may be answered, whoever is a member: a replica that missed changes learns from new ones

_ANOTHER = (
    "Its directory is not the one that it had: where a mount is missing, put that right and start again; where the cell"
    " is a new one, stop the replica that is left of an earlier cell of the same name and secret. Else: "
)


class Hellos:
    """Says Hello after the start, and judges what the others say."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._greeted = False

    def receive(self, message: m.Hello | m.Regressed | m.Settled | m.Removed) -> None:
        """One admitted message of these kinds."""
        match message:
            case m.Hello():
                self._on_hello(message)
            case m.Regressed():
                self._on_regressed(message)
            case m.Settled():
                self._state.settled_version = max(self._state.settled_version, message.version)
            case m.Removed():
                self._on_removed(message)
            case _:
                assert_never(message)

    def tick(self) -> None:
        """The first Hello; where it is lost, whoever hears anything else of this start asks for it."""
        self._state.remember_peers()
        if not self._greeted:
            self._greeted = True
            for peer in self._state.others():
                self._say(peer, asks=False)

    def _say(self, peer: int, *, asks: bool) -> None:
        state = self._state
        # What it states must be durable: it leaves behind everything that is on its way to the disk.
        hello = m.Hello(*state.header(), log_upto=state.log.upto, asks=asks, remembers=state.known_start(peer))
        state.send_after_persist(peer, hello)

    def admit(self, message: m.Message) -> bool:
        """True when the message may be acted upon; keeps the books on its sender."""
        state = self._state
        sender = message.sender
        if sender == state.replica:
            return False
        if isinstance(message, m.Removed):
            return True
        if state.membership.has_removed(sender):
            self._tell_stranger(message)
            return False
        known = state.known.get(sender)
        if known is None:
            known = state.known[sender] = Known()
        if known.start and (mark_of(message.start) != mark_of(known.start) or message.start < known.start):
            if isinstance(message, m.Hello):
                self._refuse(message, known)
            return False
        if isinstance(message, m.Regressed):
            return True
        if isinstance(message, m.Hello):
            if not self._take_in(message, known):
                return False
        elif message.start != known.heard:
            self._say(sender, asks=True)
            return False
        elif state.is_member(sender) and (known.number is None or known.number > state.persist_done):
            return False  # whose vote counts has to be known to the next process too
        state.round_seen = max(state.round_seen, message.ballot.round)
        match message:
            case m.Promise() if message.ballot > known.ballot:
                known.ballot = message.ballot
            case m.Accepted() if message.slots:
                known.ballot = max(known.ballot, message.ballot)
                known.upto = max(known.upto, *message.slots)
        return True

    def _take_in(self, hello: m.Hello, known: Known) -> bool:
        """False: it is not to be listened to."""
        state = self._state
        if hello.remembers and mark_of(hello.remembers) != mark_of(state.start):
            return False  # it knows somebody else by this id, and says so when it hears of this start
        if hello.ballot < known.ballot or hello.log_upto < known.upto:
            self._refuse(hello, known)
            return False
        if hello.start != known.heard:
            known.start = known.heard = hello.start
            state.peers_due = True
            state.remember_peers()
            if hello.ballot > ZERO or hello.log_upto > 0:
                state.is_no_first_start()
            if not hello.asks:
                self._say(hello.sender, asks=False)
        return True

    def _tell_stranger(self, message: m.Message) -> None:
        """A removed replica is told so, but only when it cannot be needed any more (see `Proposer.settled`)."""
        dismissal = self.dismissal(message.sender)
        if dismissal is not None:
            self._state.send(message.sender, m.Removed(*self._state.header(), *dismissal))

    def dismissal(self, replica: int) -> tuple[int, int] | None:
        """What `Removed` says, version and known start; None where that replica is not to be told so."""
        state = self._state
        return (state.membership.version, state.known_start(replica)) if state.may_dismiss(replica) else None

    def _on_removed(self, message: m.Removed) -> None:
        """A master says that this replica is a member no more. Ids are given once: it is final.

        One that has never heard of this replica may be of another cell, and is not believed against a present master.
        """
        state = self._state
        known = message.known_start
        meant = mark_of(known) == mark_of(state.start) if known else state.left or state.master is None
        if meant and (state.left or message.version > state.membership.version):
            state.left = state.dismissed = True

    def _on_hello(self, message: m.Hello) -> None:
        """A new start (or a repeated Hello) of a peer that knows at least what it acknowledged."""
        known = self._state.known[message.sender]
        known.ballot = max(known.ballot, message.ballot)
        known.upto = max(known.upto, message.log_upto)
        if message.asks:
            self._say(message.sender, asks=False)

    def _refuse(self, hello: m.Hello, known: Known) -> None:
        state = self._state
        regressed = m.Regressed(
            *state.header(),
            refused_start=hello.start,
            known_start=known.start,
            known_ballot=known.ballot,
            known_upto=known.upto,
        )
        state.send(hello.sender, regressed)

    def _on_regressed(self, message: m.Regressed) -> None:
        """A peer remembers more of this replica than a Hello of this start said.

        That may have been a late copy: whatever was acknowledged since is known here, in memory at least.
        """
        state = self._state
        another = mark_of(message.known_start) != mark_of(state.start)
        if another and not state.is_member(message.sender):
            return  # of another cell of this name, more likely
        knows_less = (
            another
            or state.start < message.known_start
            or state.promised < message.known_ballot
            or state.log.upto < message.known_upto
        )
        if message.refused_start == state.start and knows_less:
            state.effects.stop = (
                f"this replica's data went back in time: replica {message.sender} remembers start"
                f" {start_text(message.known_start)}, ballot {message.known_ballot} and slot {message.known_upto}; here"
                f" are start {start_text(state.start)}, ballot {state.promised} and slot {state.log.upto}. It must not"
                f" vote. {_ANOTHER if another else ''}Remove it from the cell and add it again under a new replica id"
                " with an empty data directory"
            )
