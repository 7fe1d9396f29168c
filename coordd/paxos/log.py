"""The slots of one replica in memory: what is accepted, and how far it is known to be chosen.

Invariants: every slot from `first_slot` to `chosen_upto` is present and never changes again; an entry whose ballot is
CHOSEN is never replaced. Knows nothing of ballots promised, of peers or of the disk.
"""

from __future__ import annotations

from coordd.paxos.ballot import CHOSEN, Ballot
from coordd.paxos.effects import Durable

KEPT_BYTES = 4 * 1024 * 1024  # of chosen entries below a snapshot, for peers that are only a little behind
KEPT_SLOTS = 1024


class SlotLog:
    """Accepted entries by slot, the chosen prefix, and where the own snapshot stands."""

    def __init__(self, durable: Durable) -> None:
        self.entries: dict[int, tuple[Ballot, bytes]] = dict(sorted(durable.entries.items()))
        self.snapshot_slot = durable.snapshot_slot
        self.snapshot_size = durable.snapshot_size
        self.first_slot = durable.snapshot_slot + 1
        self.chosen_upto = durable.snapshot_slot
        self.upto = max(self.entries, default=durable.snapshot_slot)
        assert min(self.entries, default=self.first_slot) >= self.first_slot, "entries below the snapshot are dropped"

    def is_chosen(self, slot: int) -> bool:
        """Known here to be chosen, inside the prefix or learnt as such."""
        if slot <= self.chosen_upto:
            return True
        entry = self.entries.get(slot)
        return entry is not None and entry[0] == CHOSEN

    def accept(self, slot: int, ballot: Ballot, value: bytes) -> None:
        """Take `value` for `slot`; the caller persists it."""
        assert not self.is_chosen(slot), "a chosen slot is never accepted again"
        entry = self.entries.get(slot)
        assert entry is None or entry[0] <= ballot, "an acceptor never goes back to a lower ballot [PMS 2.2]"
        assert entry is None or entry[0] != ballot or entry[1] == value, "one ballot, one value per slot [PMS 2.2, P2]"
        self.entries[slot] = (ballot, value)
        self.upto = max(self.upto, slot)

    def advance(self) -> bytes:
        """Count the next slot, which the caller knows to be chosen, to the prefix; returns its value."""
        self.chosen_upto += 1
        return self.entries[self.chosen_upto][1]

    def above_chosen(self) -> list[tuple[int, Ballot, bytes]]:
        """What a Promise carries: every accepted entry above the chosen prefix, by slot."""
        if self.upto <= self.chosen_upto:
            return []
        found = ((slot, self.entries.get(slot)) for slot in range(self.chosen_upto + 1, self.upto + 1))
        return [(slot, entry[0], entry[1]) for slot, entry in found if entry is not None]

    def chosen_values(self, first_slot: int, slots_max: int, bytes_max: int) -> list[bytes]:
        """Chosen values from `first_slot` on: at least one where there is one, else bounded by both limits."""
        assert first_slot >= self.first_slot
        values: list[bytes] = []
        size = 0
        for slot in range(first_slot, min(self.chosen_upto, first_slot + slots_max - 1) + 1):
            value = self.entries[slot][1]
            size += len(value)
            if values and size > bytes_max:
                break
            values.append(value)
        return values

    def compact(self, upto: int, size: int) -> None:
        """The own snapshot of everything up to `upto` is durable; keep only a bounded tail of what it covers."""
        assert self.snapshot_slot <= upto <= self.chosen_upto
        self.snapshot_slot, self.snapshot_size = upto, size
        kept_bytes = 0
        first = upto + 1
        while first > self.first_slot and upto + 1 - first < KEPT_SLOTS:
            kept_bytes += len(self.entries[first - 1][1])
            if kept_bytes > KEPT_BYTES:
                break
            first -= 1
        self._drop_below(first)

    def install(self, slot: int, size: int) -> None:
        """A peer's snapshot of everything up to `slot` has replaced what was here."""
        assert slot > self.chosen_upto
        self.snapshot_slot, self.snapshot_size = slot, size
        self.chosen_upto = slot
        self.upto = max(self.upto, slot)
        self._drop_below(slot + 1)

    def _drop_below(self, first: int) -> None:
        if first - self.first_slot > len(self.entries):
            self.entries = {slot: entry for slot, entry in self.entries.items() if slot >= first}
        else:
            for slot in range(self.first_slot, first):
                self.entries.pop(slot, None)
        self.first_slot = first
