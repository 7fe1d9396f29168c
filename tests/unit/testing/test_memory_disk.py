"""The disk's twin loses what a real disk may lose, and nothing else, and decides nothing by itself."""

from __future__ import annotations

import errno
import random

import pytest

from coordd.storage.disk import Disk, RealDisk
from coordd.testing.memory_disk import SECTOR_BYTES, MemoryDisk, PowerCutError


def made(disk: Disk, path: str, data: bytes) -> int:
    file = disk.open(path, create=True)
    disk.pwrite(file, data, 0)
    return file


def outcomes(disk: MemoryDisk, path: str, keep: float = 0.5) -> set[bytes | None]:
    """What a power cut can leave of a file, over many of them."""
    found: set[bytes | None] = set()
    for seed in range(200):
        copy = disk.copy()
        copy.crash(random.Random(seed), keep)
        directory, _, name = path.rpartition("/")
        found.add(copy.contents(path) if name in copy.list_directory(directory) else None)
    return found


def test_what_was_synced_stays_and_what_was_not_may_go_sector_by_sector():
    disk = MemoryDisk()
    file = made(disk, "/d/a", b"a" * 3 * SECTOR_BYTES)
    disk.fdatasync(file)
    disk.sync_directory("/d")
    disk.pwrite(file, b"b" * 2 * SECTOR_BYTES, 100)
    sectors = {
        tuple(data[at] for at in (50, 150, SECTOR_BYTES, 2 * SECTOR_BYTES, 2 * SECTOR_BYTES + 99, -1))
        for data in outcomes(disk, "/d/a")
        if data
    }
    a, b = ord("a"), ord("b")
    assert sectors == {(a, x, y, z, z, a) for x in (a, b) for y in (a, b) for z in (a, b)}
    disk.fdatasync(file)
    assert len(outcomes(disk, "/d/a")) == 1


def test_a_sector_written_twice_may_stay_in_either_version():
    disk = MemoryDisk()
    file = made(disk, "/d/a", b"old")
    disk.fdatasync(file)
    disk.sync_directory("/d")
    disk.pwrite(file, b"mid", 0)
    disk.pwrite(file, b"new", 0)
    assert outcomes(disk, "/d/a") == {b"old", b"mid", b"new"}


def test_names_are_durable_only_after_the_directory_is_synced_and_a_rename_is_whole():
    disk = MemoryDisk()
    disk.fdatasync(made(disk, "/d/a", b"old"))
    disk.sync_directory("/d")
    disk.fdatasync(made(disk, "/d/b", b"new"))
    disk.rename("/d/b", "/d/a")
    assert outcomes(disk, "/d/a") == {b"old", b"new"}
    disk.sync_directory("/elsewhere")
    assert outcomes(disk, "/d/a") == {b"old", b"new"}
    disk.sync_directory("/d")
    assert outcomes(disk, "/d/a") == {b"new"}
    disk.unlink("/d/a")
    assert outcomes(disk, "/d/a") == {b"new", None}
    disk.sync_directory("/d")
    assert outcomes(disk, "/d/a") == {None}


def test_a_synced_file_without_a_synced_name_may_be_gone():
    disk = MemoryDisk()
    disk.fdatasync(made(disk, "/d/a", b"x"))
    assert outcomes(disk, "/d/a") == {b"x", None}


def test_a_failed_sync_leaves_pages_that_no_later_sync_writes():
    disk = MemoryDisk()
    file = made(disk, "/d/a", bytes(4 * SECTOR_BYTES))
    disk.fdatasync(file)
    disk.sync_directory("/d")
    disk.pwrite(file, b"x" * 4 * SECTOR_BYTES, 0)
    disk.fail_at(1)
    with pytest.raises(OSError, match="Input/output"):
        disk.fdatasync(file)
    disk.fdatasync(file)
    assert disk.pread(file, 4 * SECTOR_BYTES, 0) == b"x" * 4 * SECTOR_BYTES
    (left,) = outcomes(disk, "/d/a")
    assert left is not None and 0 < left.count(0) < len(left)


def test_a_kill_keeps_the_page_cache_and_drops_files_and_locks():
    disk = MemoryDisk()
    file = made(disk, "/d/a", b"x")
    disk.lock("/d/lock")
    disk.kill()
    assert disk.contents("/d/a") == b"x"
    with pytest.raises(OSError, match="Bad file descriptor"):
        disk.pread(file, 1, 0)
    disk.lock("/d/lock")


def test_the_same_generator_gives_the_same_crash():
    left = []
    for _ in range(2):
        disk = MemoryDisk()
        for name in "abcdef":
            made(disk, f"/d/{name}", name.encode() * 2000)
        disk.sync_directory("/d")
        disk.crash(random.Random(7), 0.5)
        left.append([disk.contents(f"/d/{name}") for name in disk.list_directory("/d")])
    assert left[0] == left[1]


def test_the_nth_call_fails_or_loses_power_with_a_part_done():
    disk = MemoryDisk()
    file = disk.open("/d/a", create=True)
    disk.fail_at(2, errno.ENOSPC)
    disk.pwrite(file, b"1", 0)
    with pytest.raises(OSError, match="No space"):
        disk.pwrite(file, b"2222", 1)
    assert disk.contents("/d/a") == b"122"
    disk.cut_at(1)
    with pytest.raises(PowerCutError, match="write 4 bytes at 0"):
        disk.pwrite(file, b"3333", 0)
    assert disk.contents("/d/a") == b"332"


def test_the_next_sync_fails_whenever_it_comes_and_the_one_after_does_not():
    disk = MemoryDisk()
    disk.fail_next_sync()
    file = made(disk, "/d/a", b"x")
    disk.sync_directory("/d")
    with pytest.raises(OSError, match="Input/output"):
        disk.fdatasync(file)
    disk.fdatasync(file)


def test_a_full_disk_takes_no_new_bytes_but_other_ones_in_the_same_place():
    disk = MemoryDisk()
    file = made(disk, "/d/a", b"12345")
    disk.capacity = disk.used
    disk.pwrite(file, b"abc", 0)
    with pytest.raises(OSError, match="No space"):
        disk.pwrite(file, b"x", 5)
    with pytest.raises(OSError, match="No space"):
        disk.allocate(disk.open("/d/b", create=True), 1)
    disk.capacity += 1
    disk.pwrite(file, b"x", 5)
    assert disk.contents("/d/a") == b"abc45x"


def test_rot_shows_to_readers_and_survives_everything():
    disk = MemoryDisk()
    disk.fdatasync(made(disk, "/d/a", b"abc"))
    disk.sync_directory("/d")
    disk.flip("/d/a", 1, 0x20)
    assert outcomes(disk, "/d/a") == {b"aBc"}


def test_both_disks_answer_alike(tmp_path):
    answers = []
    for disk, directory in ((MemoryDisk(), "/d"), (RealDisk(), str(tmp_path))):
        disk.make_directory(directory)
        file = made(disk, f"{directory}/a", b"0123456789")
        disk.pwrite(file, memoryview(b"abc"), 12)
        disk.allocate(file, 20)
        disk.allocate(file, 5)
        disk.fdatasync(file)
        disk.sync_directory(directory)
        answer: list[object] = [
            disk.size(file),
            disk.pread(file, 100, 8),
            disk.pread(file, 3, 1),
            disk.pread(file, 3, 50),
        ]
        with pytest.raises(FileExistsError):
            disk.open(f"{directory}/a", create=True)
        with pytest.raises(FileNotFoundError):
            disk.open(f"{directory}/none")
        with pytest.raises(FileNotFoundError):
            disk.unlink(f"{directory}/none")
        with pytest.raises(FileNotFoundError):
            disk.rename(f"{directory}/none", f"{directory}/b")
        made(disk, f"{directory}/b", b"other")
        disk.rename(f"{directory}/a", f"{directory}/b")
        lock = disk.lock(f"{directory}/lock")
        with pytest.raises(BlockingIOError):
            disk.lock(f"{directory}/lock")
        disk.unlock(lock)
        disk.unlock(disk.lock(f"{directory}/lock"))
        answer += [disk.list_directory(directory), disk.size(disk.open(f"{directory}/b")), len(disk.nonce())]
        answers.append(answer)
    assert answers[0] == answers[1]
