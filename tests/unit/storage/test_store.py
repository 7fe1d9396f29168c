"""A directory knows its cell and replica, and only one process at a time has it: on the memory disk and a real one."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from coordd.paxos.ballot import CHOSEN, Ballot
from coordd.paxos.effects import AcceptedRecord, ChosenRecord, PromiseRecord
from coordd.paxos.membership import Membership
from coordd.storage.disk import Disk, RealDisk
from coordd.storage.errors import AlreadyRunningError, DamagedError, DiskFailedError, WrongDirectoryError
from coordd.storage.store import Store
from coordd.testing.memory_disk import MemoryDisk, PowerCutError
from tests.unit.storage.test_power import work
from tests.unit.storage.world import DIRECTORY, LOG, MEMBERS, SMALL, Ledger, accepted, open_store

OPEN = """
import os, sys
from coordd.paxos.ballot import Ballot
from coordd.paxos.effects import AcceptedRecord
from coordd.paxos.membership import Membership
from coordd.storage.disk import RealDisk
from coordd.storage.errors import AlreadyRunningError
from coordd.storage.store import Store
def open_it(bootstrap=None):
    return Store.open(RealDisk(), sys.argv[1], "demo", 2, bootstrap, segment_bytes=4096)
"""

TRY = """
try:
    open_it()
except AlreadyRunningError as error:
    sys.exit(f"refused: {error}")
"""

# A child that outlives the store of its parent, as after kill -9 of a daemon that writes a snapshot.
LEAVE_A_CHILD = """
store = open_it(Membership(1, (1, 2, 3)))
if os.fork() == 0:
    os.read(0, 1)  # until the test lets it go
    os._exit(0)
os._exit(0)
"""

WRITE_IN_A_CHILD = """
store = open_it(Membership(1, (1, 2, 3)))
child = os.fork()
if child == 0:
    os.closerange(3, 256)
    store.write_snapshot_temp(1, Membership(1, (1, 2, 3)), b"state")
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert store.publish_snapshot(1) is not None
try:  # the child's closing of its copies has not taken the lock away
    open_it()
    sys.exit("opened twice")
except AlreadyRunningError:
    pass
store.append([AcceptedRecord(2, Ballot(1, 1), b"value")])
store.sync()
os._exit(0)
"""


def run_in_a_process(script: str, directory: Path, stdin: int | None = None) -> str:
    """Run `script`, which may open the directory; what it says."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", OPEN + script, str(directory)]
    with tempfile.TemporaryFile("w+") as said:  # not a pipe: a child that is left behind would keep it open
        subprocess.run(command, env=environment, stdin=stdin, stdout=said, stderr=said, check=False)
        said.seek(0)
        return said.read().strip()


@pytest.fixture(params=["memory", "real"])
def place(request, tmp_path) -> tuple[Disk, str]:
    return (MemoryDisk(), DIRECTORY) if request.param == "memory" else (RealDisk(), str(tmp_path / "a" / "data"))


def test_both_disks_keep_what_was_written(place):
    disk, directory = place
    ledger = Ledger()
    store = open_store(disk, directory=directory)
    ledger.opened(store)
    work(store, ledger)
    store.close()
    store = open_store(disk, None, directory)
    assert ledger.check(store) == len(ledger.records)
    store.close()


def test_two_opens_at_once_are_refused(place):
    disk, directory = place
    store = open_store(disk, directory=directory)
    for _ in range(2):  # the refused attempt must not have taken the lock away
        with pytest.raises(AlreadyRunningError, match="Way out"):
            open_store(disk, directory=directory)
    store.append([accepted(1)])
    store.close()
    store.close()
    open_store(disk, directory=directory).close()


def test_a_second_process_is_refused_and_told_who_has_the_directory(tmp_path):
    store = open_store(RealDisk(), directory=str(tmp_path))
    with pytest.raises(AlreadyRunningError):
        open_store(RealDisk(), directory=str(tmp_path))  # within the process, too, and the lock outlives the attempt
    assert f"process {os.getpid()} has it" in run_in_a_process(TRY, tmp_path)
    store.close()
    assert run_in_a_process(TRY, tmp_path) == ""


def test_the_lock_is_not_inherited_by_a_fork(tmp_path):
    """The child that writes a snapshot may outlive a killed daemon; the next daemon must not wait for it."""
    held, release = os.pipe()
    assert run_in_a_process(LEAVE_A_CHILD, tmp_path, stdin=held) == ""
    os.close(held)
    assert run_in_a_process(TRY, tmp_path) == ""
    os.write(release, b"x")  # raises if the child were gone already
    os.close(release)


def test_a_forked_child_writes_a_snapshot_that_the_parent_publishes(tmp_path):
    assert run_in_a_process(WRITE_IN_A_CHILD, tmp_path) == ""
    store = open_store(RealDisk(), None, str(tmp_path))
    assert (store.snapshot_state, list(store.durable.entries)) == (b"state", [2])
    store.close()


def test_files_are_for_their_owner_only(tmp_path):
    store = open_store(RealDisk(), directory=str(tmp_path / "data"))
    store.write_snapshot(1, MEMBERS, b"session secrets are in here")
    store.close()
    assert (tmp_path / "data").stat().st_mode & 0o077 == 0
    for file in (tmp_path / "data").iterdir():
        assert file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(("cell", "replica"), [("demo", 3), ("other", 2)])
def test_the_directory_of_another_replica_or_cell_is_refused(place, cell, replica):
    disk, directory = place
    open_store(disk, directory=directory).close()
    with pytest.raises(WrongDirectoryError, match=r"replica 2 of cell 'demo'.*says replica \d of cell .*Way out"):
        Store.open(disk, directory, cell, replica, MEMBERS, segment_bytes=SMALL)
    open_store(disk, directory=directory).close()


@pytest.mark.parametrize(("cell", "replica"), [("demo", 3), ("other", 2)])
def test_a_log_of_another_replica_or_cell_in_this_ones_place_is_refused(cell, replica):
    disk, other = MemoryDisk(), MemoryDisk()
    open_store(disk).close()
    Store.open(other, DIRECTORY, cell, replica, MEMBERS, segment_bytes=SMALL).close()
    disk.replace(LOG, other.contents(LOG))
    with pytest.raises(WrongDirectoryError, match=f"{LOG} belongs to replica {replica}.*Way out"):
        open_store(disk)


def test_the_first_membership_is_kept_whatever_the_configuration_says_later():
    disk = MemoryDisk()
    first = Membership(1, (1, 2, 4), (5,), 2000)
    open_store(disk, first).close()
    assert open_store(disk, MEMBERS).durable.membership == first


def test_nothing_is_begun_unless_told_how(place):
    disk, directory = place
    with pytest.raises(WrongDirectoryError, match=r"holds no data of replica 2 of cell 'demo'.*Way out"):
        open_store(disk, None, directory)
    open_store(disk, MEMBERS, directory).close()


def test_a_directory_with_other_things_in_it_is_refused(tmp_path):
    (tmp_path / "letters.txt").write_text("dear")
    with pytest.raises(WrongDirectoryError, match=r"not empty.*letters\.txt.*Way out"):
        open_store(RealDisk(), directory=str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == ["letters.txt", "lock"]


def test_a_mount_point_counts_as_empty_and_foreign_files_are_left_alone_later(tmp_path):
    (tmp_path / "lost+found").mkdir()
    open_store(RealDisk(), directory=str(tmp_path)).close()
    (tmp_path / "NOTES").write_text("ask before touching")
    open_store(RealDisk(), directory=str(tmp_path)).close()
    assert (tmp_path / "NOTES").read_text() == "ask before touching"


def test_a_lost_identity_is_refused_and_not_made_anew():
    disk = MemoryDisk()
    open_store(disk).close()
    disk.remove(f"{DIRECTORY}/identity")
    with pytest.raises(DamagedError, match="the log is in use, yet the file 'identity' is missing"):
        open_store(disk)
    disk.remove(LOG)
    open_store(disk).write_snapshot(1, MEMBERS, b"")
    disk.kill()
    disk.remove(f"{DIRECTORY}/identity")
    with pytest.raises(WrongDirectoryError, match="lost its identity"):
        open_store(disk)


def test_an_interrupted_beginning_is_begun_again():
    total = MemoryDisk()
    open_store(total)
    for call in range(1, total.calls + 1):
        for seed in range(12):
            disk = MemoryDisk()
            disk.cut_at(call)
            with pytest.raises(PowerCutError):
                open_store(disk)
            disk.crash(random.Random(seed), (0.0, 0.5, 0.5, 1.0)[seed % 4])
            open_store(disk)


def test_a_failed_open_lets_go_of_the_directory(tmp_path):
    open_store(RealDisk(), directory=str(tmp_path)).close()
    log = Path(tmp_path) / "log-00000001"
    log.write_bytes(log.read_bytes()[:-1])
    before = os.listdir("/dev/fd") if os.path.isdir("/dev/fd") else []
    for _ in range(3):
        with pytest.raises(DamagedError):
            open_store(RealDisk(), directory=str(tmp_path))
    if before:
        assert len(os.listdir("/dev/fd")) == len(before)


def test_what_an_earlier_process_left_unfinished_is_removed():
    disk = MemoryDisk()
    store = open_store(disk)
    store.write_snapshot_temp(3, MEMBERS, b"")
    store.store_chunk(9, 1000, 0, b"beginning")
    disk.kill()
    assert [name for name in disk.list_directory(DIRECTORY) if name.endswith(".tmp")] != []
    open_store(disk)
    assert [name for name in disk.list_directory(DIRECTORY) if name.endswith(".tmp")] == []


def test_a_batch_larger_than_a_segment_gets_a_segment_of_its_size():
    disk = MemoryDisk()
    store = open_store(disk)
    large = AcceptedRecord(1, CHOSEN, bytes(3 * SMALL))
    store.append([large, ChosenRecord(1)])
    store.append([PromiseRecord(Ballot(3, 1)), accepted(2, size=3000), accepted(3, size=3000)])
    store.append([large])
    store.close()
    store = open_store(disk)
    assert store.durable.entries[1] == (CHOSEN, large.value)
    assert list(store.durable.entries) == [1, 2, 3]


def test_the_next_segment_is_ready_before_the_first_is_full():
    """Rolling then costs no waiting for zeros, and a full disk is known while there is still room for a while."""
    disk = MemoryDisk()
    store = open_store(disk)
    store.append([accepted(1, size=2000)])
    assert disk.list_directory(DIRECTORY)[-1] == "log-00000002"
    assert disk.contents(f"{DIRECTORY}/log-00000002") == bytes(SMALL)


def test_a_large_segment_is_prepared_in_pieces(tmp_path):
    store = Store.open(RealDisk(), str(tmp_path), "demo", 2, MEMBERS, segment_bytes=1024 * 1024)
    second = tmp_path / "log-00000002"
    sizes = []
    for slot in range(1, 40):
        store.append([accepted(slot, size=25_000)])
        sizes.append(second.exists())
    assert sizes.index(True) > 23 and sizes[-1]
    assert second.read_bytes() == bytes(1024 * 1024)
    for slot in range(40, 60):
        store.append([accepted(slot, size=25_000)])
    store.close()
    store = Store.open(RealDisk(), str(tmp_path), "demo", 2, None, segment_bytes=8192)  # another size is no trouble
    assert list(store.durable.entries) == list(range(1, 60))
    store.close()


def test_a_batch_too_large_for_the_segment_in_preparation_gives_its_room_back():
    disk = MemoryDisk()
    store = Store.open(disk, DIRECTORY, "demo", 2, MEMBERS, segment_bytes=1024 * 1024)
    store.append([accepted(1, size=264_000)])
    store.append([accepted(2, size=264_000)])
    names = disk.list_directory(DIRECTORY)
    store.append([accepted(3, size=2_000_000)])
    assert [name for name in names if name.endswith(".tmp")] == ["log-00000002.tmp"]
    assert "log-00000002.tmp" not in disk.list_directory(DIRECTORY)
    assert len(disk.contents(f"{DIRECTORY}/log-00000002")) > 2_000_000
    store.close()
    assert list(open_store(disk).durable.entries) == [1, 2, 3]


def test_a_batch_beyond_any_segment_is_an_error_of_the_caller(monkeypatch):
    store = open_store(MemoryDisk())
    monkeypatch.setattr("coordd.storage.wal.SEGMENT_BYTES_MAX", 2 * SMALL)
    with pytest.raises(ValueError, match="a batch of"):
        store.append([accepted(1, size=3 * SMALL)])


@pytest.mark.parametrize(
    ("code", "way_out"),
    [(errno.EACCES, "let the daemon's user own"), (errno.EROFS, "for writing"), (errno.EIO, "the kernel's log")],
)
def test_a_directory_that_cannot_be_locked_is_refused_with_the_way_out(monkeypatch, code, way_out):
    disk = MemoryDisk()

    def refuse(_: str) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(disk, "lock", refuse)
    with pytest.raises(DiskFailedError, match=f"cannot lock /data.*{way_out}"):
        open_store(disk)


def test_a_file_that_cannot_be_closed_ends_the_store_but_not_the_caller(monkeypatch):
    disk = MemoryDisk()
    store = open_store(disk)
    store.write_snapshot(1, MEMBERS, b"")
    store.read_snapshot_chunk(1, 0, 1)

    def refuse(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(disk, "close", refuse)
    with pytest.raises(DiskFailedError, match="cannot close"):
        store.write_snapshot(2, MEMBERS, b"")
    store.close()
