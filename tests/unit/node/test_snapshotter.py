"""Snapshots by a forked child: of one moment, without stalling, and nothing of the parent is touched."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from coordd.engine.inputs import SnapshotFailed, SnapshotTaken
from coordd.node import snapshotter
from coordd.node.snapshotter import ForkingSnapshotter, InlineSnapshotter, Outcome
from coordd.paxos.membership import Membership
from coordd.storage.disk import RealDisk
from coordd.storage.errors import DiskFailedError, DiskFullError, SyncFailedError
from coordd.storage.store import Store

WAIT_SECONDS = 20.0
MEMBERS = Membership(1, (1,))
# Other tests of the same run may have left threads; the daemon has none before a fork.
pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="SKIPPED: needs fork"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]


class Notes:
    """A storage that keeps notes in a directory, where parent and child both can see them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.fault: BaseException | None = None
        self.nameless = False

    def write_snapshot_temp(self, slot: int, membership: Membership, state: bytes) -> int:
        if self.fault is not None:
            raise self.fault
        (self.directory / "temp").write_bytes(state)
        return len(state)

    def publish_snapshot(self, slot: int) -> int | None:
        if self.nameless:
            raise DiskFullError("no room for a name")
        (self.directory / "temp").rename(self.directory / "snapshot")
        return (self.directory / "snapshot").stat().st_size

    def discard_snapshot_temp(self, slot: int) -> None:
        (self.directory / "discarded").touch()


def finished(by: ForkingSnapshotter) -> Outcome:
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        outcome = by.poll()
        if outcome is not None:
            return outcome
        os.sched_yield()
    raise AssertionError("the child does not end")


def test_a_snapshot_is_of_the_moment_of_the_fork(tmp_path: Path) -> None:
    by = ForkingSnapshotter(Notes(tmp_path))
    state = [b"before"]
    by.begin(7, MEMBERS, lambda: state[0])
    state[0] = b"after"
    assert by.busy
    assert finished(by) == SnapshotTaken(7, 6)
    assert (tmp_path / "snapshot").read_bytes() == b"before"
    assert not by.busy and by.poll() is None


def in_child(tmp_path: Path, look: Callable[[], str]) -> str:
    by = ForkingSnapshotter(Notes(tmp_path))
    by.begin(1, MEMBERS, lambda: look().encode())
    assert isinstance(finished(by), SnapshotTaken)
    return (tmp_path / "snapshot").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="SKIPPED: needs /proc")
def test_the_child_has_none_of_the_parents_descriptors(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    here = {os.readlink(f"/proc/self/fd/{number}") for number in (reading, writing)}

    def look() -> str:
        numbers = [number for number in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{number}")]
        return "\n".join(os.readlink(f"/proc/self/fd/{number}") for number in numbers if int(number) != 2)

    there = set(in_child(tmp_path, look).split("\n"))
    os.close(reading)
    os.close(writing)
    assert not here & there and os.devnull in there


def test_the_child_has_forgotten_the_parents_signal_handlers(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGTERM, lambda *arguments: None)
    try:
        said = in_child(tmp_path, lambda: str(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert said == "True"


@pytest.mark.skipif(sys.platform != "linux", reason="SKIPPED: needs PR_SET_PDEATHSIG")
def test_the_child_dies_with_its_parent(tmp_path: Path) -> None:
    def look() -> str:
        import ctypes

        number = ctypes.c_int()
        ctypes.CDLL(None).prctl(2, ctypes.byref(number))  # PR_GET_PDEATHSIG
        return str(number.value)

    assert in_child(tmp_path, look) == str(int(signal.SIGKILL))


def test_a_child_that_fails_is_an_outcome_and_leaves_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    notes = Notes(tmp_path)
    notes.fault = RuntimeError("a bug in the child")
    by = ForkingSnapshotter(notes)
    by.begin(7, MEMBERS, lambda: b"")
    outcome = finished(by)
    assert isinstance(outcome, SnapshotFailed) and outcome.slot == 7
    assert (tmp_path / "discarded").exists()
    assert "a bug in the child" in capfd.readouterr().err


def test_a_failed_disk_stops_the_replica_and_is_no_bug(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A sync that failed in the child filled the log with a traceback, and the replica went on."""
    notes = Notes(tmp_path)
    notes.fault = SyncFailedError("cannot sync the file")
    by = ForkingSnapshotter(notes)
    by.begin(7, MEMBERS, lambda: b"")
    with pytest.raises(DiskFailedError, match="snapshot 7"):
        finished(by)
    assert not by.busy
    assert (tmp_path / "discarded").exists()
    assert capfd.readouterr().err == "snapshot 7: cannot sync the file\n"


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    notes = Notes(tmp_path)
    notes.fault = DiskFullError("no room")
    by = ForkingSnapshotter(notes)
    by.begin(7, MEMBERS, lambda: b"")
    assert finished(by) == SnapshotFailed(7, "disk full")


def test_a_disk_too_full_for_the_name_of_a_snapshot_ends_no_replica(tmp_path: Path) -> None:
    notes = Notes(tmp_path)
    notes.nameless = True
    by = ForkingSnapshotter(notes)
    by.begin(7, MEMBERS, lambda: b"")
    assert finished(by) == SnapshotFailed(7, "disk full")
    assert (tmp_path / "discarded").exists()


def for_ever() -> bytes:
    signal.pause()
    return b""


def test_a_child_that_takes_for_ever_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshotter, "CHILD_SECONDS_MAX", 0)
    by = ForkingSnapshotter(Notes(tmp_path))
    by.begin(7, MEMBERS, for_ever)
    assert isinstance(finished(by), SnapshotFailed)


def test_what_is_under_way_can_be_given_up(tmp_path: Path) -> None:
    by = ForkingSnapshotter(Notes(tmp_path))
    by.begin(7, MEMBERS, for_ever)
    by.abandon()
    assert not by.busy and by.poll() is None


def open_store(directory: Path) -> Store:
    return Store.open(RealDisk(), str(directory), "cell", 1, MEMBERS, segment_bytes=1024 * 1024)


def test_the_real_storage_survives_its_forked_child(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data")
    by = ForkingSnapshotter(store)
    by.begin(3, MEMBERS, lambda: b"the state")
    assert isinstance(finished(by), SnapshotTaken)
    assert store.snapshot_slot == 3
    second = os.fork()
    if second == 0:  # the lock is still the parent's: another process is refused
        try:
            RealDisk._held.clear()
            open_store(tmp_path / "data")
        except BaseException as error:
            os._exit(0 if type(error).__name__ == "AlreadyRunningError" else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(second, 0)[1]) == 0
    store.close()


def test_without_a_fork_the_outcome_is_the_same(tmp_path: Path) -> None:
    by = InlineSnapshotter(Notes(tmp_path))
    by.begin(7, MEMBERS, lambda: b"state")
    assert by.busy
    assert by.poll() == SnapshotTaken(7, 5)
    assert not by.busy and by.poll() is None
