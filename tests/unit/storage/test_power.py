"""Persist, then speak: what was acknowledged survives kill -9 and power cuts at every moment, recovery included."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable

import pytest

from coordd.paxos.ballot import CHOSEN, Ballot
from coordd.paxos.effects import AcceptedRecord, ChosenRecord, PromiseRecord
from coordd.paxos.starts import count_of
from coordd.storage.errors import DiskFailedError, SyncFailedError
from coordd.storage.record import RECORD_HEAD_BYTES
from coordd.storage.store import Store
from coordd.testing.memory_disk import MemoryDisk, PowerCutError
from tests.unit.storage.world import LOG, MEMBERS, Ledger, accepted, open_store


def work(store: Store, ledger: Ledger) -> None:
    """Rolls, group commits of several appends, own and foreign snapshots, cuts, a batch above a segment's size."""
    for slot in range(1, 13):
        ledger.append(store, accepted(slot, Ballot(2, 1), 250), accepted(slot, Ballot(3, 3), 90))
        if slot % 3:
            ledger.append(store, ChosenRecord(slot - 1), PromiseRecord(Ballot(slot, 2)))
        if slot % 2:
            ledger.sync(store)
    ledger.sync(store)
    ledger.snapshot(store, 9, b"state at nine" * 50)
    store.cut(9)
    ledger.append(store, accepted(13, Ballot(20, 1), 5000), AcceptedRecord(12, CHOSEN, b"twelve"))
    ledger.sync(store)
    ledger.install(store, 40, b"state at forty" * 60, 300)
    store.cut(40)
    ledger.append(store, accepted(41, Ballot(21, 1)), ChosenRecord(41))
    ledger.append(store, accepted(42, Ballot(21, 1), 700))
    ledger.sync(store)


def run_until_cut(disk: MemoryDisk, ledger: Ledger) -> bool:
    """True when the power went before the work was done."""
    try:
        store = open_store(disk)
        ledger.opened(store)
        work(store, ledger)
    except PowerCutError:
        return True
    return False


def calls_of_work() -> int:
    disk = MemoryDisk()
    assert not run_until_cut(disk, Ledger())
    return disk.calls


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.9, 1.0])
def test_a_power_cut_at_any_call_loses_nothing_acknowledged(keep):
    for call in range(1, calls_of_work() + 1):
        rng = random.Random(call)
        disk, ledger = MemoryDisk(), Ledger()
        disk.cut_at(call)
        assert run_until_cut(disk, ledger)
        disk.crash(rng, keep)
        store = ledger.recover(disk, MEMBERS)
        ledger.append(store, accepted(43, Ballot(50, 1)))  # what comes after a recovery is as safe as what was before
        ledger.sync(store)
        disk.crash(rng, keep)
        ledger.recover(disk)


def test_a_power_cut_at_any_call_of_a_recovery_loses_nothing_acknowledged():
    for first in range(1, calls_of_work() + 1, 5):
        disk, ledger = MemoryDisk(), Ledger()
        disk.cut_at(first)
        assert run_until_cut(disk, ledger)
        disk.crash(random.Random(first), 0.6)
        call = 0
        while True:
            call += 1
            again = disk.copy()
            again.cut_at(call)
            try:
                open_store(again)
            except PowerCutError:
                again.crash(random.Random(call), 0.5)
                ledger.copy().check(open_store(again))
                continue
            break
        assert call > 8


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.9])
def test_a_kill_9_at_any_call_and_then_a_power_cut_at_any_moment_lose_nothing_acknowledged(keep):
    """What the killed process left in the page cache, names included, is made durable before it is believed."""
    for call in range(1, calls_of_work() + 1):
        disk, ledger = MemoryDisk(), Ledger()
        disk.cut_at(call)
        assert run_until_cut(disk, ledger)
        disk.kill()
        in_recovery = disk.copy()
        in_recovery.cut_at(1 + call * 7 % 20)
        with contextlib.suppress(PowerCutError):
            open_store(in_recovery)
        in_recovery.crash(random.Random(call), keep)
        ledger.copy().recover(in_recovery, MEMBERS)
        store = ledger.recover(disk, MEMBERS)
        ledger.append(store, accepted(43, Ballot(50, 1)))
        ledger.sync(store)
        disk.crash(random.Random(call), keep)
        ledger.recover(disk)


@pytest.mark.parametrize("keep", [0.0, 0.5])
def test_a_power_cut_in_the_recovery_from_a_kill_9_at_a_roll_is_no_damage(keep):
    """The next header may be in the page cache only: nothing speaks of it on the disk before it is durable."""
    cuts = 0
    for call in range(1, calls_of_work() + 1):
        disk, ledger = MemoryDisk(), Ledger()
        disk.cut_at(call)
        assert run_until_cut(disk, ledger)
        if not disk.last_call.startswith("sync "):
            continue
        disk.kill()
        for start_call in range(8, 30):
            again = disk.copy()
            again.cut_at(start_call)
            with contextlib.suppress(PowerCutError):
                open_store(again)
            again.crash(random.Random(start_call), keep)
            ledger.copy().recover(again, MEMBERS)
            cuts += 1
    assert cuts > 500


@pytest.mark.parametrize("keep", [0.0, 0.5])
def test_what_a_start_found_after_kill_9_survives_the_power_cut_that_follows(keep):
    """The killed process left records in the page cache only; the next one believes them, so it makes them durable."""
    disk, ledger = MemoryDisk(), Ledger()
    store = open_store(disk)
    ledger.append(store, accepted(1))
    ledger.sync(store)
    ledger.append(store, accepted(2, size=600), accepted(3), PromiseRecord(Ballot(9, 1)))
    disk.kill()
    ledger.recover(disk)
    assert ledger.acknowledged == 4
    disk.crash(random.Random(5), keep)
    ledger.recover(disk)


def test_a_power_cut_in_the_start_that_follows_a_kill_9_is_not_taken_for_damage():
    """What the start believes is durable before its own records say so."""
    killed, ledger = MemoryDisk(), Ledger()
    store = open_store(killed)
    ledger.append(store, accepted(1, size=100))
    ledger.sync(store)
    ledger.append(store, accepted(2, size=900), accepted(3, size=900))
    killed.kill()
    call = 0
    while True:
        call += 1
        for seed in range(30):
            disk = killed.copy()
            disk.cut_at(call)
            try:
                open_store(disk)
            except PowerCutError:
                disk.crash(random.Random(seed), 0.5)
                ledger.copy().check(open_store(disk))
            else:
                assert call > 10
                return


def test_a_sync_that_failed_is_not_believed_by_the_next_start_either():
    """After a failed sync the kernel calls pages clean that the medium never saw: a second sync would write nothing."""
    disk, ledger = MemoryDisk(), Ledger()
    store = open_store(disk)
    ledger.append(store, accepted(1, size=1500))
    disk.fail_at(1)
    with pytest.raises(SyncFailedError):
        store.sync()
    disk.kill()
    ledger.recover(disk)
    disk.crash(random.Random(1), 1.0)
    ledger.recover(disk)
    assert ledger.acknowledged == 1


def test_after_a_failed_sync_the_store_refuses_all_further_use():
    disk = MemoryDisk()
    store = open_store(disk)
    store.append([accepted(1)])
    disk.fail_at(1)
    with pytest.raises(SyncFailedError, match=r"log-00000001.*Way out"):
        store.sync()
    uses: list[Callable[[], object]] = [
        store.sync,
        lambda: store.append([accepted(2)]),
        lambda: store.cut(0),
        lambda: store.write_snapshot(1, MEMBERS, b""),
        lambda: store.store_chunk(1, 100, 0, b"x"),
    ]
    for use in uses:
        with pytest.raises(SyncFailedError):
            use()


def test_a_sync_covers_all_appends_before_it_with_one_call_and_an_empty_one_with_none():
    disk = MemoryDisk()
    store = open_store(disk)
    calls = disk.calls
    store.append([accepted(1), accepted(2)])
    store.append([accepted(3)])
    assert disk.calls == calls + 2
    store.sync()
    assert disk.calls == calls + 3
    store.sync()
    store.append([])
    assert disk.calls == calls + 3


def test_any_call_that_fails_is_named_and_loses_nothing_acknowledged():
    for call in range(1, calls_of_work() + 1):
        disk, ledger = MemoryDisk(), Ledger()
        disk.fail_at(call)
        with pytest.raises(DiskFailedError, match=r"cannot .* /data.*Way out"):
            store = open_store(disk)
            ledger.opened(store)
            work(store, ledger)
        disk.kill()
        after_power, restarted = disk.copy(), disk.copy()
        ledger.copy().check(open_store(disk))
        after_power.crash(random.Random(call), 0.5)
        ledger.copy().check(open_store(after_power))
        store = ledger.recover(restarted, MEMBERS)  # believes nothing that the failed call may have left behind
        ledger.append(store, accepted(43, Ballot(50, 1)))
        ledger.sync(store)
        restarted.crash(random.Random(call), 0.0)
        ledger.recover(restarted)


def test_the_tail_may_be_torn_at_every_byte():
    """Exhaustive for one group of three: a cut at any byte leaves a prefix of its records, and the group before."""
    disk = MemoryDisk()
    store, ledger = open_store(disk), Ledger()
    ledger.append(store, PromiseRecord(Ballot(4, 2)), accepted(1))
    ledger.sync(store)
    start = disk.contents(LOG).rstrip(b"\0")
    ledger.append(store, accepted(2, size=9), ChosenRecord(2), accepted(3, size=17))
    end = disk.contents(LOG).rstrip(b"\0")
    disk.kill()
    found = set()
    for cut in range(len(start), len(end) + 1):
        torn = disk.copy()
        torn.replace(LOG, end[:cut] + bytes(4096 - cut))
        found.add(ledger.copy().check(open_store(torn)))
    assert found == {2, 3, 4, 5}


def test_any_stretch_of_the_unsynced_group_may_be_lost():
    """Sectors land in any order: whole records behind a hole are of the unfinished group, not proof of damage."""
    disk = MemoryDisk()
    store, ledger = open_store(disk), Ledger()
    ledger.append(store, accepted(1))
    ledger.sync(store)
    start = len(disk.contents(LOG).rstrip(b"\0"))
    for slot in (2, 3, 4):
        ledger.append(store, accepted(slot, size=10))
    whole = disk.contents(LOG)
    end = len(whole.rstrip(b"\0"))
    disk.kill()
    for first in range(start, end):
        for last in range(first + 1, end + 1, RECORD_HEAD_BYTES // 3):
            torn = disk.copy()
            torn.replace(LOG, whole[:first] + bytes(last - first) + whole[last:])
            copy = ledger.copy()
            store = copy.recover(torn)
            copy.append(store, accepted(9, size=10))
            copy.sync(store)
            torn.kill()
            copy.recover(torn)  # what lay behind the hole does not come back


@pytest.mark.parametrize("keep", [0.0, 0.5, 1.0])
def test_the_rest_behind_the_tail_is_zeroed_and_durable_before_the_replica_says_a_word(keep):
    disk = MemoryDisk()
    store = open_store(disk)
    store.append([accepted(1)])
    store.sync()
    start = len(disk.contents(LOG).rstrip(b"\0"))
    store.append([accepted(slot, size=300) for slot in range(2, 6)])
    disk.kill()
    data = disk.contents(LOG)
    disk.replace(LOG, data[: start + 5] + bytes(100) + data[start + 105 :])
    assert open_store(disk).durable.entries.keys() == {1}
    disk.crash(random.Random(1), keep)
    assert disk.contents(LOG)[start + 2 * (RECORD_HEAD_BYTES + 8) :].strip(b"\0") == b""


@pytest.mark.parametrize("seed", range(6))
def test_a_power_cut_while_the_log_is_cut_leaves_no_hole(seed):
    whole = MemoryDisk()
    store, ledger = open_store(whole), Ledger()
    for slot in range(1, 14):
        ledger.append(store, accepted(slot, size=1500))
    ledger.sync(store)
    ledger.snapshot(store, 12, b"state")
    store.close()
    call = 0
    while True:
        call += 1
        disk = whole.copy()
        store = open_store(disk)
        disk.cut_at(call)
        try:
            store.cut(12)
        except PowerCutError:
            disk.crash(random.Random(seed), 0.5)
            ledger.copy().check(open_store(disk))
            continue
        break
    assert call > 8


def test_the_promise_survives_when_the_log_that_held_it_is_cut_away():
    disk, ledger = MemoryDisk(), Ledger()
    store = open_store(disk)
    ledger.append(store, PromiseRecord(Ballot(70, 3)))
    for slot in range(1, 20):
        ledger.append(store, accepted(slot, size=900))
    ledger.sync(store)
    ledger.snapshot(store, 19, b"state")
    store.cut(19)
    assert "log-00000001" not in disk.list_directory("/data")
    disk.crash(random.Random(1), 0.0)
    assert ledger.recover(disk).durable.promised == Ballot(70, 3)


def test_a_vote_in_a_ballot_is_a_promise_of_it_but_a_learnt_value_is_not():
    disk = MemoryDisk()
    store = open_store(disk)
    store.append([accepted(1, Ballot(5, 3)), AcceptedRecord(2, CHOSEN, b"learnt")])
    store.close()
    store = open_store(disk)
    assert store.durable.promised == Ballot(5, 3)
    for slot in range(3, 9):  # over several segments, whose headers carry the promise
        store.append([AcceptedRecord(slot, CHOSEN, bytes(2000))])
    store.close()
    assert open_store(disk).durable.promised == Ballot(5, 3)


def test_a_chosen_value_is_never_replaced():
    disk = MemoryDisk()
    store = open_store(disk)
    store.append([AcceptedRecord(1, CHOSEN, b"chosen"), AcceptedRecord(1, Ballot(9, 1), b"late")])
    store.append([AcceptedRecord(2, Ballot(1, 1), b"old"), AcceptedRecord(2, Ballot(2, 1), b"new")])
    store.close()
    assert open_store(disk).durable.entries == {1: (CHOSEN, b"chosen"), 2: (Ballot(2, 1), b"new")}


def test_the_start_number_rises_with_every_open_and_survives_power_cuts():
    disk = MemoryDisk()
    for start in range(1, 40):
        store = open_store(disk)
        assert count_of(store.durable.start) == start
        if start % 3:
            disk.crash(random.Random(start), 0.0)
        else:
            store.append([accepted(start, size=2000)])
            disk.kill()
