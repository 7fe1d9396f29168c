"""What the roles of one replica share: its durable words, its view of the others, and the effects in the making."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from coordd.paxos.ballot import Ballot
from coordd.paxos.effects import (
    AcceptedRecord,
    Chosen,
    ChosenRecord,
    Durable,
    Effects,
    PeersRecord,
    PromiseRecord,
    ValueKind,
)
from coordd.paxos.lease import Grants
from coordd.paxos.log import SlotLog
from coordd.paxos.membership import Membership
from coordd.paxos.messages import Message
from coordd.paxos.starts import count_of, mark_of

SLOTS_AHEAD_MAX = 256  # an acceptor takes no slot further above its chosen prefix: this bounds every Promise
MESSAGE_BYTES = 1024 * 1024  # aim for the values in one message; one value may be larger on its own
LEARN_SLOTS_MAX = 1024
PEERS_MAX = 32  # that are remembered: all members, then those that were removed last


@dataclass(frozen=True, slots=True)
class PaxosSettings:
    """Times in ms. `replica` is the own id; the rest may differ between replicas without harm to safety."""

    replica: int
    drift_ppm: int = 10_000  # the bound on the difference of clock rates, for the master's side of the lease
    heartbeat_ms: int = 300
    retransmit_ms: int = 200
    election_jitter_ms: int = 200
    candidate_ms: int = 5_000  # a candidacy without progress ends
    stuck_ms: int = 5_000  # a master none of whose proposals is chosen for so long hands over
    fsync_ms: int = 2_000  # and so does one whose own disk takes so long
    stay_out_ms: int = 10_000  # and then it stays out of elections
    window_slots: int = 8
    window_bytes: int = 2 * 1024 * 1024  # in flight: a link must carry them in less than a lease


@dataclass(slots=True)
class Known:
    """What a peer has stated to be durable, under its highest start.

    `heard`: the start whose Hello was taken in since this process began; what it stated to an earlier one is not known,
    but `start` is. `number`: when this persist number is durable, its directory will be known to the next process too;
    None as long as nothing of it was written.
    """

    start: int = 0
    ballot: Ballot = Ballot(0, 0)
    upto: int = 0
    heard: int = 0
    number: int | None = None


class State:
    """The shared ground of acceptor, learner, election and proposer. Only this class fills `Effects`."""

    def __init__(self, settings: PaxosSettings, durable: Durable, now_ms: int) -> None:
        self.settings = settings
        self.replica = settings.replica
        self.start = durable.start
        self.now_ms = now_ms
        self.chance = 0
        self.membership = durable.membership
        self.membership_slot = durable.snapshot_slot  # where it was applied, or a later slot
        self.membership_number = 0  # that it is chosen is durable here when this persist number is
        self.promised = durable.promised
        self.round_seen = durable.promised.round
        self.log = SlotLog(durable)
        self._began_ms = now_ms
        # A first start has granted nothing that it could have forgotten; any other may have.
        self.grants = Grants(now_ms if count_of(durable.start) == 1 else now_ms + durable.membership.lease_ms)
        self.known = {peer: Known(start, number=0) for peer, start in durable.peers}
        self.peers_due = False  # what is known of the peers' starts is to be written
        self._peers_recorded = durable.peers
        self.master: int | None = None
        self.master_until_ms = 0  # for how long to believe in `master` without another word of it
        self.mute = False  # the disk is full: no vote, no promise, no grant
        # A change that took this replica out of the cell was applied, maybe in an earlier start, or heard of.
        self.left = durable.membership.has_removed(settings.replica)
        self.dismissed = False  # a master said that enough others know it too: this replica may end
        self.settled_version = 0  # the latest membership that a majority of its voters durably knows to be chosen
        self.ask_at_ms = 0
        self.effects = Effects()
        self.persist_issued = 0
        self.persist_done = 0
        self._unpersisted_since_ms: int | None = None
        self._persist_took_ms = 0
        self._chosen_recorded = 0
        self._record_due = False  # how far the chosen prefix goes is to be durable now
        self._recover(durable)
        self.put_off_asking(max(now_ms, self.grants.boot_until_ms))

    def _recover(self, durable: Durable) -> None:
        log = self.log
        while log.chosen_upto + 1 in log.entries and (
            log.chosen_upto < durable.chosen_upto or log.is_chosen(log.chosen_upto + 1)
        ):
            self.advance()
        assert log.chosen_upto >= durable.chosen_upto, "the log lacks a slot that it says is chosen"
        self._chosen_recorded = log.chosen_upto
        self._record_due, self.membership_number = False, 0

    def follow(self, master: int | None) -> None:
        """Believe in `master` for one lease, or until there is other word."""
        self.master, self.master_until_ms = master, self.now_ms + self.membership.lease_ms

    def is_no_first_start(self) -> None:
        """The cell has lived before, so an empty disk here may be one that was lost, with grants and all."""
        self.grants.boot_until_ms = max(self.grants.boot_until_ms, self._began_ms + self.membership.lease_ms)

    # ---- who is who ----

    @property
    def is_voter(self) -> bool:
        return self.replica in self.membership.voters

    def is_member(self, replica: int) -> bool:
        return replica in self.membership

    def may_dismiss(self, replica: int) -> bool:
        """True when that replica was removed and nobody can need it any more (see `Proposer.settled`)."""
        return self.membership.has_removed(replica) and self.settled_version >= self.membership.version

    def known_start(self, replica: int) -> int:
        """The start of that replica that was heard of last, 0 for none."""
        known = self.known.get(replica)
        return 0 if known is None else known.start

    def others(self) -> list[int]:
        """Every member but this one."""
        return [peer for peer in (*self.membership.voters, *self.membership.learners) if peer != self.replica]

    def other_voters(self) -> list[int]:
        return [peer for peer in self.membership.voters if peer != self.replica]

    # ---- time and chance ----

    def jitter_ms(self) -> int:
        """0 to `election_jitter_ms`, from the chance that came with the last tick."""
        self.chance = (self.chance * 6364136223846793005 + 1442695040888963407) % 2**64  # Knuth's MMIX constants
        return (self.chance >> 33) % (self.settings.election_jitter_ms + 1)

    def put_off_asking(self, until_ms: int) -> None:
        """Do not stand for election before `until_ms` and a little chance, so that two rarely stand at once."""
        self.ask_at_ms = until_ms + self.jitter_ms()

    # ---- effects ----

    def header(self, ballot: Ballot | None = None) -> tuple[int, int, Ballot]:
        """The first three fields of every message."""
        return self.replica, self.start, self.promised if ballot is None else ballot

    def send(self, to: int, message: Message) -> None:
        self.effects.send_now.append((to, message))

    def send_after_persist(self, to: int, message: Message) -> None:
        self.effects.send_after_persist.append((to, message))

    @property
    def next_persist(self) -> int:
        """The number under which what is persisted from here on will be reported durable."""
        return self.persist_issued + 1

    @property
    def disk_takes_ms(self) -> int:
        """How long the last sync took, or how long something has been waiting for the present one.

        A driver that syncs in its only task lets no time pass here meanwhile: then only the first tells.
        """
        waiting_ms = 0 if self._unpersisted_since_ms is None else self.now_ms - self._unpersisted_since_ms
        return max(waiting_ms, self._persist_took_ms)

    def persisted(self, number: int) -> None:
        """Everything up to `number` is durable."""
        assert self.persist_done <= number <= self.persist_issued
        self.persist_done = number
        if self._unpersisted_since_ms is not None:
            self._persist_took_ms = self.now_ms - self._unpersisted_since_ms
        self._unpersisted_since_ms = None if number == self.persist_issued else self.now_ms

    def promise(self, ballot: Ballot) -> None:
        """Counts in memory from here on; whoever speaks of it waits for the disk."""
        assert ballot > self.promised and not self.mute
        self.promised = ballot
        self.round_seen = max(self.round_seen, ballot.round)
        self.effects.persist.append(PromiseRecord(ballot))

    def accept(self, slot: int, ballot: Ballot, value: bytes) -> None:
        """Into the log, in memory and on its way to the disk."""
        assert not self.mute
        self.log.accept(slot, ballot, value)
        self.effects.persist.append(AcceptedRecord(slot, ballot, value))

    def advance(self) -> None:
        """The next slot joins the chosen prefix. A membership counts from here on."""
        value = self.log.advance()
        kind, payload = ValueKind(value[0]), value[1:]
        if kind is ValueKind.MEMBERSHIP:
            self.join_membership(Membership.from_bytes(payload), self.log.chosen_upto)
            self._record_due, self.membership_number = True, self.next_persist
        self.effects.chosen.append(Chosen(self.log.chosen_upto, kind, payload))

    def join_membership(self, membership: Membership, slot: int) -> None:
        """The membership from `slot` on. Ids are given once: one that was given and is not in it has left for good."""
        assert membership.version >= self.membership.version
        self.membership = membership
        self.membership_slot, self.membership_number = slot, 0
        self.left = membership.has_removed(self.replica)
        self.peers_due = True

    def remember_peers(self) -> None:
        """Write of which starts the peers are, where that is news and the disk has room for it."""
        if not self.peers_due or self.mute:
            return
        self.peers_due = False
        members = [peer for peer in self.others() if peer in self.known]
        removed = [peer for peer in self.known if self.membership.has_removed(peer)]
        kept = members + sorted(removed, reverse=True)[: PEERS_MAX - len(members)]
        peers = tuple((peer, self.known[peer].start) for peer in sorted(kept) if self.known[peer].start)
        if peers == self._peers_recorded:
            return
        before, self._peers_recorded = dict(self._peers_recorded), peers
        for peer, start in peers:
            if peer not in before or mark_of(before[peer]) != mark_of(start):
                self.known[peer].number = self.next_persist
        self.effects.persist.append(PeersRecord(peers))

    def advance_learnt(self) -> None:
        """Count to the prefix what follows it and is known to be chosen already."""
        while self.log.is_chosen(self.log.chosen_upto + 1):
            self.advance()

    def take_effects(self) -> Effects:
        """Hand over what has gathered, numbered; see `coordd.paxos.effects` for the duties."""
        effects, self.effects = self.effects, Effects()
        effects.left = self.dismissed
        if self.log.chosen_upto > self._chosen_recorded and (effects.persist or self._record_due):
            self._chosen_recorded = self.log.chosen_upto
            effects.persist.append(ChosenRecord(self.log.chosen_upto))
        self._record_due = False
        if effects.persist:
            self.persist_issued += 1
            if self._unpersisted_since_ms is None:
                self._unpersisted_since_ms = self.now_ms
            effects.persist_number = self.persist_issued
        elif effects.send_after_persist:
            if self.persist_done == self.persist_issued:
                effects.send_now.extend(effects.send_after_persist)
                effects.send_after_persist = []
            else:
                effects.persist_number = self.persist_issued
        return effects


def chunks_by_bytes(entries: Iterable[tuple[int, bytes]]) -> list[tuple[tuple[int, bytes], ...]]:
    """Cut `(slot, value)` pairs into messages of about MESSAGE_BYTES each."""
    chunks: list[tuple[tuple[int, bytes], ...]] = []
    chunk: list[tuple[int, bytes]] = []
    size = 0
    for entry in entries:
        if chunk and size + len(entry[1]) > MESSAGE_BYTES:
            chunks.append(tuple(chunk))
            chunk, size = [], 0
        chunk.append(entry)
        size += len(entry[1])
    if chunk:
        chunks.append(tuple(chunk))
    return chunks
