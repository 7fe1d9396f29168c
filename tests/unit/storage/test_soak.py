"""Long lives of one disk: everything that may happen to it, in any order, each by one seed; and bytes of any kind."""

from __future__ import annotations

import contextlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordd.paxos.ballot import CHOSEN, Ballot
from coordd.paxos.effects import AcceptedRecord, ChosenRecord, PromiseRecord, Record
from coordd.storage.errors import DiskFailedError, DiskFullError, StorageError
from coordd.storage.segment import segment_number
from coordd.testing.memory_disk import MemoryDisk, PowerCutError
from tests.fuzz import many
from tests.unit.storage.world import DIRECTORY, MEMBERS, Ledger, accepted, open_store

SEEDS, STEPS = 60, 80


class Life:
    """One replica's disk and what is done to it; `top` is the highest slot used."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.disk = MemoryDisk()
        self.ledger = Ledger()
        self.top = 0
        self.store = self.ledger.recover(self.disk, MEMBERS)

    def step(self) -> None:
        rng = self.rng
        act = rng.choices(
            [self.write, self.sync, self.snapshot, self.install, self.cut, self.die, self.fail, self.fill],
            [40, 20, 3, 2, 5, 4, 3, 3],
        )[0]
        act()

    def records(self) -> list[Record]:
        found: list[Record] = []
        for _ in range(self.rng.randint(1, 3)):
            kind = self.rng.random()
            ballot = Ballot(self.rng.randint(1, 50), self.rng.randint(1, 3))
            if kind < 0.2:
                found.append(PromiseRecord(ballot))
            elif kind < 0.3:
                found.append(ChosenRecord(self.store.snapshot_slot))
            elif kind < 0.5:
                found.append(AcceptedRecord(self.top + 1, CHOSEN, b"learnt %d" % self.top))
                self.top += 1
            else:
                size = self.rng.choice([0, 10, 200, 200, 1500, 6000])
                found.append(accepted(max(1, self.top + self.rng.randint(-2, 1)), ballot, size))
                self.top = max(self.top, self.ledger_top(found))
        return found

    @staticmethod
    def ledger_top(records: list[Record]) -> int:
        return max((record.slot for record in records if isinstance(record, AcceptedRecord)), default=0)

    def write(self) -> None:
        records = self.records()
        try:
            self.ledger.append(self.store, *records)
        except DiskFullError:
            del self.ledger.records[-len(records) :]

    def sync(self) -> None:
        self.ledger.sync(self.store)

    def snapshot(self) -> None:
        slot = self.rng.randint(self.store.snapshot_slot, self.top) + 1
        with contextlib.suppress(DiskFullError):
            self.ledger.snapshot(self.store, slot, b"own %d" % slot * self.rng.randint(1, 200))
        self.top = max(self.top, slot)

    def install(self) -> None:
        slot = self.top + self.rng.randint(1, 5)
        with contextlib.suppress(DiskFullError):
            self.ledger.install(self.store, slot, b"peer's %d" % slot * self.rng.randint(1, 200), 300)
        self.top = slot

    def cut(self) -> None:
        self.store.cut(self.rng.randint(0, self.store.snapshot_slot))

    def fill(self) -> None:
        self.disk.capacity = None if self.disk.capacity else self.disk.used + self.rng.randint(0, 9000)

    def die(self) -> None:
        """By kill or power cut, at once or in the middle of something, and once more while starting."""
        self.disk.cut_at(self.rng.randint(1, 12))
        with contextlib.suppress(PowerCutError):
            self.write()
            self.sync()
            self.snapshot()
        self.end()
        while self.rng.random() < 0.5:
            self.disk.cut_at(self.rng.randint(1, 25))
            with contextlib.suppress(PowerCutError):
                self.ledger.opened(open_store(self.disk))
            self.end()
        self.start()

    def fail(self) -> None:
        self.disk.fail_at(self.rng.randint(1, 6))
        with contextlib.suppress(DiskFailedError):
            self.write()
            self.sync()
            self.snapshot()
        self.end()
        self.start()

    def end(self) -> None:
        self.disk.capacity = None
        if self.rng.random() < 0.5:
            self.disk.kill()
        else:
            self.disk.crash(self.rng, self.rng.choice([0.0, 0.3, 0.7, 1.0]))

    def start(self) -> None:
        self.store = self.ledger.recover(self.disk, MEMBERS)
        self.top = max(self.store.durable.snapshot_slot, *self.store.durable.entries, 0)

    def rot(self) -> None:
        """One bit anywhere in the log: refused, or it was in what nobody needs."""
        self.sync()
        self.disk.capacity = None
        self.disk.kill()
        self.start()
        self.disk.kill()
        names = [name for name in self.disk.list_directory(DIRECTORY) if segment_number(name)]
        path = f"{DIRECTORY}/{self.rng.choice(names)}"
        size = len(self.disk.contents(path))
        self.disk.flip(path, self.rng.randrange(size), 1 << self.rng.randrange(8))
        with contextlib.suppress(StorageError):
            assert self.ledger.check(open_store(self.disk)) == len(self.ledger.records)


@pytest.mark.parametrize("seeds", range(0, SEEDS, 10))
def test_a_long_life_forgets_nothing(seeds):
    for seed in range(seeds, seeds + 10):
        life = Life(seed)
        for step in range(STEPS):
            try:
                life.step()
            except BaseException:
                print(f"seed {seed}, step {step}")  # noqa: T201
                raise
        life.rot()


def a_disk() -> MemoryDisk:
    disk = MemoryDisk()
    store = open_store(disk)
    for slot in range(1, 9):
        store.append([accepted(slot, size=700)])
        store.sync()
    store.write_snapshot(3, MEMBERS, b"state")
    store.close()
    return disk


DISK = a_disk()
NAMES = [name for name in DISK.list_directory(DIRECTORY) if name != "lock"]
CHANGE = st.tuples(st.sampled_from(NAMES), st.integers(0, 4200), st.binary(max_size=60), st.sampled_from("wcz"))


@many(150)
@given(st.lists(CHANGE, min_size=1, max_size=4))
def test_whatever_the_bytes_a_start_works_or_is_refused_by_name(changes):
    disk = DISK.copy()
    for name, at, noise, how in changes:
        data = disk.contents(f"{DIRECTORY}/{name}")
        other = noise if how == "w" else data[: len(noise)] if how == "c" else bytes(len(noise))
        disk.replace(f"{DIRECTORY}/{name}", data[:at] + other + data[at + len(other) :])
    with contextlib.suppress(StorageError):
        store = open_store(disk)
        assert store.durable.start >= 2
