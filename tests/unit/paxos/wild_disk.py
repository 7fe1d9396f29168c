"""The disk of `wild_cell`: a list of records of which a power cut keeps a prefix of the unsynced ones, and a snapshot.

It remembers what its replica spoke of, and refuses to start one that has forgotten any of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from coordd.paxos import messages as m
from coordd.paxos.ballot import CHOSEN, ZERO, Ballot
from coordd.paxos.effects import (
    AcceptedRecord,
    ChosenRecord,
    Durable,
    PeersRecord,
    PromiseRecord,
    Record,
    StoreSnapshotChunk,
)
from coordd.paxos.membership import Membership

SNAPSHOT_BYTES = 8


def snapshot_of(slot: int) -> bytes:
    """The whole file, the same everywhere."""
    return b"%08d" % slot


class WildDisk:
    """See the module docstring. `membership` is the snapshot's, or what the replica began with."""

    def __init__(self, number: int, membership: Membership) -> None:
        self.number = number
        self.membership = membership
        self.starts = 0
        self.records: list[Record] = []
        self.snapshot_slot = 0
        self._synced = 0
        self._incoming: dict[int, bytearray] = {}
        self._promised = ZERO  # spoken of
        self._accepted: dict[int, Ballot] = {}

    def start(self) -> Durable:
        """What the next life finds; it is synced before the replica says a word."""
        self.starts += 1
        self._synced = len(self.records)
        self._incoming.clear()
        slot = self.snapshot_slot
        size = SNAPSHOT_BYTES if slot else 0
        found = Durable(self.starts, self.membership, snapshot_slot=slot, snapshot_size=size, chosen_upto=slot)
        for record in self.records:
            match record:
                case PromiseRecord(ballot):
                    found.promised = max(found.promised, ballot)
                case ChosenRecord(upto):
                    found.chosen_upto = max(found.chosen_upto, upto)
                case PeersRecord(peers):
                    found.peers = peers
                case AcceptedRecord(at, ballot, value):
                    found.promised = found.promised if ballot == CHOSEN else max(found.promised, ballot)
                    if at > slot:
                        found.entries[at] = (ballot, value)
        assert found.promised >= self._promised, f"replica {self.number} has forgotten its promise of {self._promised}"
        for at, ballot in self._accepted.items():
            assert at <= found.chosen_upto or found.entries.get(at, (ZERO, b""))[0] >= ballot, (
                f"replica {self.number} has forgotten what it accepted for slot {at} in {ballot}"
            )
        return found

    def sync(self) -> None:
        self._synced = len(self.records)

    def crash(self, power: Random | None) -> None:
        """With `power` some of what was not synced is lost."""
        if power is not None:
            kept = self._synced + power.randint(0, len(self.records) - self._synced)
            self.records = self.records[:kept]

    def note_spoken(self, messages: Iterable[m.Message]) -> None:
        for message in messages:
            if isinstance(message, m.Promise | m.Accepted):
                self._promised = max(self._promised, message.ballot)
            if isinstance(message, m.Accepted):
                for slot in message.slots:
                    self._accepted[slot] = max(self._accepted.get(slot, ZERO), message.ballot)

    def cut(self, upto: int) -> None:
        """Forget entries up to `upto` that are synced; the highest promise stays, as in a segment's header."""
        if upto > self.snapshot_slot:
            return
        old, new = self.records[: self._synced], self.records[self._synced :]
        promised = max(
            (r.ballot for r in old if isinstance(r, PromiseRecord | AcceptedRecord) and r.ballot != CHOSEN),
            default=ZERO,
        )
        kept = [record for record in old if not (isinstance(record, AcceptedRecord) and record.slot <= upto)]
        self.records = [PromiseRecord(promised), *kept, *new]
        self._synced = len(kept) + 1

    def store_chunk(self, chunk: StoreSnapshotChunk, membership: Membership) -> bool:
        """True when that made the snapshot whole: it is the durable one now."""
        if chunk.slot <= self.snapshot_slot:
            return False
        data = self._incoming.setdefault(chunk.slot, bytearray())
        if not chunk.offset <= len(data) < chunk.offset + len(chunk.data):
            return False
        data[chunk.offset :] = chunk.data
        if len(data) < chunk.size:
            return False
        assert bytes(data) == snapshot_of(chunk.slot)
        del self._incoming[chunk.slot]
        self.snapshot_slot, self.membership = chunk.slot, membership
        return True
