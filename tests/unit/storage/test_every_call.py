"""The n-th call of the disk fails, finds no room, or is the last one of the process: for all n, recovery included."""

from __future__ import annotations

import errno
import random
import re
from collections.abc import Callable
from copy import copy

import pytest

from coordd.paxos.ballot import CHOSEN, Ballot
from coordd.paxos.effects import AcceptedRecord, ChosenRecord, PromiseRecord, Record
from coordd.storage.errors import DiskFailedError, DiskFullError, SyncFailedError
from coordd.storage.store import Store
from coordd.testing.memory_disk import MemoryDisk, PowerCutError
from tests.unit.storage.test_power import calls_of_work, work
from tests.unit.storage.world import LATER_MEMBERS, MEMBERS, Ledger, accepted, open_store, snapshot_bytes


def killed_lives(step: int) -> list[tuple[MemoryDisk, Ledger]]:
    """Directories as kill -9 left them at every `step`-th call of a busy life."""
    found: list[tuple[MemoryDisk, Ledger]] = []
    for call in range(1, calls_of_work() + 1, step):
        disk, ledger = MemoryDisk(), Ledger()
        disk.cut_at(call)
        with pytest.raises(PowerCutError):
            store = open_store(disk)
            ledger.opened(store)
            work(store, ledger)
        disk.kill()
        found.append((disk, ledger))
    return found


def each_call_of_a_start(
    lives: list[tuple[MemoryDisk, Ledger]], fault: Callable[[MemoryDisk, int], None]
) -> list[tuple[MemoryDisk, Ledger, int, BaseException]]:
    """Every life, with the fault at every call of its recovery: what is left, and how the start ended."""
    found: list[tuple[MemoryDisk, Ledger, int, BaseException]] = []
    for disk, ledger in lives:
        call = 0
        while True:
            call += 1
            again = disk.copy()
            fault(again, call)
            try:
                store = open_store(again)
            except (DiskFailedError, DiskFullError, PowerCutError) as error:
                again.kill()
                found.append((again, ledger.copy(), call, error))
                continue
            ledger.copy().check(store)
            if again.calls < call:
                break
    return found


def goes_on(disk: MemoryDisk, ledger: Ledger, seed: int) -> None:
    """Everything acknowledged is there at the next start, and after the power cut that follows it."""
    lost = disk.copy()
    lost.crash(random.Random(seed), 0.5)
    ledger.copy().recover(lost, MEMBERS)
    store = ledger.recover(disk, MEMBERS)
    ledger.append(store, accepted(43, Ballot(50, 1)))
    ledger.sync(store)
    disk.crash(random.Random(seed), 0.0)
    ledger.recover(disk)


def test_any_call_of_a_recovery_that_fails_is_named_and_loses_nothing_acknowledged():
    ended = each_call_of_a_start(killed_lives(6), lambda disk, call: disk.fail_at(call))
    for disk, ledger, call, error in ended:
        assert isinstance(error, DiskFailedError) and "cannot " in str(error) and "/data" in str(error)
        assert "Way out: " in str(error)
        goes_on(disk, ledger, call)
    assert len(ended) > 300 and sum(isinstance(error, SyncFailedError) for *_, error in ended) > 60


def test_no_room_at_any_call_of_a_recovery_is_named_and_loses_nothing_acknowledged():
    ended = each_call_of_a_start(killed_lives(6), lambda disk, call: disk.fail_at(call, errno.ENOSPC))
    for disk, ledger, call, error in ended:
        assert "/data" in str(error) and "Way out: " in str(error)
        goes_on(disk, ledger, call)
    assert sum(isinstance(error, DiskFullError) for *_, error in ended) > 100


@pytest.mark.parametrize("power", [False, True])
def test_a_kill_at_any_call_of_a_recovery_loses_nothing_acknowledged(power):
    ended = each_call_of_a_start(killed_lives(6), lambda disk, call: disk.cut_at(call))
    for disk, ledger, call, _ in ended:
        if power:
            disk.crash(random.Random(call), 0.5)
        goes_on(disk, ledger, call)
    assert len(ended) > 300


@pytest.mark.parametrize("keep", [None, 0.0, 0.5])
def test_kills_of_one_recovery_after_the_other_lose_nothing_acknowledged(keep):
    """Each attempt gets one call further than the one before; what they leave behind does not add up."""
    for life, (disk, ledger) in enumerate(killed_lives(5)):
        call = 0
        while True:
            call += 1
            disk.cut_at(call)
            try:
                store = open_store(disk, MEMBERS)
            except PowerCutError:
                disk.kill()
                if keep is not None and call % 3 == 0:
                    disk.crash(random.Random(life * 100 + call), keep)
                continue
            break
        assert call > 8
        ledger.check(store)


# ---- a full disk, for a while ----


class Patient:
    """Does what has no room again, as the driver does, and goes on; `refusals` counts."""

    def __init__(self, store: Store, ledger: Ledger) -> None:
        self.store = store
        self.ledger = ledger
        self.refusals = 0

    def append(self, *records: Record) -> None:
        count = len(self.ledger.records)
        while True:
            try:
                self.ledger.append(self.store, *records)
            except DiskFullError:
                self.refusals += 1
                del self.ledger.records[count:]
            else:
                return

    def until_it_fits(self, act: Callable[[], object]) -> None:
        while True:
            try:
                act()
            except DiskFullError:
                self.refusals += 1
            else:
                return

    def sync(self) -> None:
        self.ledger.sync(self.store)

    def install(self, slot: int, state: bytes) -> None:
        data = snapshot_bytes(slot, state)
        self.ledger.snapshots[slot] = state
        at = 0
        while at < len(data):
            try:
                stored = self.store.store_chunk(slot, len(data), at, data[at : at + 300])
                at += 300
                assert stored is not None or at < len(data) or self.store.snapshot_slot == slot
            except DiskFullError:
                self.refusals += 1
                at = 0  # what had come is thrown away, and is asked for again
        self.ledger.snapshot_acknowledged = slot

    def work(self) -> None:
        for slot in range(1, 13):
            self.append(accepted(slot, Ballot(2, 1), 250), accepted(slot, Ballot(3, 3), 90))
            if slot % 3:
                self.append(ChosenRecord(slot - 1), PromiseRecord(Ballot(slot, 2)))
            if slot % 2:
                self.sync()
        self.sync()
        self.ledger.snapshots[9] = b"state at nine" * 50
        self.until_it_fits(lambda: self.store.write_snapshot(9, LATER_MEMBERS, self.ledger.snapshots[9]))
        self.ledger.snapshot_acknowledged = 9
        self.store.cut(9)
        self.append(accepted(13, Ballot(20, 1), 5000), AcceptedRecord(12, CHOSEN, b"twelve"))
        self.sync()
        self.install(40, b"state at forty" * 60)
        self.store.cut(40)
        self.append(accepted(41, Ballot(21, 1)), ChosenRecord(41))
        self.append(accepted(42, Ballot(21, 1), 700))
        self.sync()


@pytest.mark.parametrize("times", [1, 2, 3, 5, 20])
def test_no_room_from_any_call_on_for_a_while_is_waited_out_or_ends_the_store(times):
    """Also for calls that need no room on most file systems: one that copies on write needs it for all of them."""
    done = waited = ended = 0
    for call in range(calls_of_work() + 1):
        disk, ledger = MemoryDisk(), Ledger()
        store = open_store(disk)
        ledger.opened(store)
        patient = Patient(store, ledger)
        disk.fail_at(call + 1, errno.ENOSPC, times)
        try:
            patient.work()
        except DiskFailedError as error:
            assert re.search("cannot (sync|read|list|open)|half written|was prepared", str(error)), error
            assert "Way out: " in str(error)
            ended += 1
        else:
            done += 1
        waited += patient.refusals > 0
        disk.kill()
        goes_on(disk, ledger, call)
    assert done > 5 and waited > 10 and ended > 5, (done, waited, ended)


# ---- the child that writes a snapshot ----


def calls_of_a_snapshot() -> int:
    disk = MemoryDisk()
    store = open_store(disk)
    before = disk.calls
    store.write_snapshot_temp(5, LATER_MEMBERS, b"the state")
    return disk.calls - before


@pytest.mark.parametrize("fault", ["killed", "failed", "full"])
@pytest.mark.parametrize("discarded", [True, False])
def test_a_child_that_ends_at_any_stage_of_a_snapshot_harms_nothing(fault, discarded):
    """The parent writes on meanwhile, makes the same snapshot again, or dies itself; the log has all of it."""
    assert calls_of_a_snapshot() == 5  # create, head, state, digest, sync
    for call in range(1, calls_of_a_snapshot() + 1):
        disk, ledger = MemoryDisk(), Ledger()
        parent = open_store(disk)
        ledger.opened(parent)
        ledger.append(parent, accepted(5), accepted(6))
        ledger.sync(parent)
        child = fork(parent)
        if fault == "killed":
            disk.cut_at(call)
        else:
            disk.fail_at(call, errno.ENOSPC if fault == "full" else errno.EIO)
        with pytest.raises((PowerCutError, DiskFailedError, DiskFullError)):
            child.write_snapshot_temp(5, LATER_MEMBERS, b"the state")
        disk.cut_at(None)
        disk.fail_at(None)
        ledger.append(parent, accepted(7))
        ledger.sync(parent)
        if discarded:
            parent.discard_snapshot_temp(5)
            assert not [name for name in disk.list_directory("/data") if "snapshot" in name]
            dead = disk.copy()
            dead.crash(random.Random(call), 0.5)
            ledger.copy().recover(dead)
        else:
            dead = disk.copy()
            dead.kill()
            ledger.copy().recover(dead)
        ledger.snapshot(parent, 5, b"the state")
        disk.crash(random.Random(call), 0.0)
        ledger.recover(disk)


def fork(parent: Store) -> Store:
    """The same directory seen by another process: nothing of what fails there is known here."""
    child = copy(parent)
    child._snapshots = copy(parent._snapshots)
    child._snapshots._disk = copy(parent._snapshots._disk)
    child._snapshots._disk._open = {}
    return child
