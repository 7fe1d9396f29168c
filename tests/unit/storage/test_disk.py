"""The real disk does the whole of what it says, and syncs what it makes."""

from __future__ import annotations

import errno
import fcntl
import os

import pytest

from coordd.storage.disk import RealDisk


def test_a_short_write_is_carried_on_to_the_end(tmp_path, monkeypatch):
    disk, real = RealDisk(), os.pwrite
    file = disk.open(str(tmp_path / "a"), create=True)
    monkeypatch.setattr(os, "pwrite", lambda handle, data, offset: real(handle, bytes(data[:3]), offset))
    disk.pwrite(file, b"0123456789", 5)
    monkeypatch.undo()
    assert disk.pread(file, 100, 0) == bytes(5) + b"0123456789"
    disk.close(file)


def test_a_short_read_is_carried_on_to_the_end(tmp_path, monkeypatch):
    disk, real = RealDisk(), os.pread
    file = disk.open(str(tmp_path / "a"), create=True)
    disk.pwrite(file, b"0123456789", 0)
    monkeypatch.setattr(os, "pread", lambda handle, length, offset: real(handle, min(length, 4), offset))
    assert disk.pread(file, 100, 1) == b"123456789"
    disk.close(file)


def test_new_directories_are_synced_into_their_parents(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(RealDisk, "sync_directory", lambda _self, path: synced.append(path))
    RealDisk().make_directory(str(tmp_path / "a" / "b"))
    assert synced == [str(tmp_path), str(tmp_path / "a")]
    RealDisk().make_directory(str(tmp_path / "a" / "b"))
    assert len(synced) == 2


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EOPNOTSUPP])
def test_a_file_system_that_cannot_reserve_room_is_served_all_the_same(tmp_path, monkeypatch, code):
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    disk = RealDisk()
    file = disk.open(str(tmp_path / "a"), create=True)
    disk.allocate(file, 100)
    disk.close(file)


def test_no_room_to_reserve_is_an_error(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    disk = RealDisk()
    file = disk.open(str(tmp_path / "a"), create=True)
    with pytest.raises(OSError, match="No space"):
        disk.allocate(file, 100)
    disk.close(file)


def test_the_lock_of_another_process_is_named_and_a_failing_one_is_told_and_neither_is_kept(tmp_path, monkeypatch):
    path = tmp_path / "lock"
    path.write_text("4711\n")
    disk, open_files = RealDisk(), len(os.listdir("/dev/fd"))

    codes = iter((errno.EAGAIN, errno.EACCES, errno.EIO))

    def refuse(_file: int, _how: int) -> None:
        code = next(codes)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    for _ in range(2):
        with pytest.raises(BlockingIOError, match="process 4711 has it"):
            disk.lock(str(path))
    with pytest.raises(OSError, match="Input/output error"):
        disk.lock(str(path))
    assert len(os.listdir("/dev/fd")) == open_files
    monkeypatch.undo()
    disk.unlock(disk.lock(str(path)))


def test_where_there_is_no_room_for_the_number_of_the_process_the_lock_is_held_all_the_same(tmp_path, monkeypatch):
    disk, path = RealDisk(), str(tmp_path / "lock")
    with monkeypatch.context() as full:

        def refuse(_file: int, _data: bytes, _offset: int) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        full.setattr(os, "pwrite", refuse)
        lock = disk.lock(path)
    with pytest.raises(BlockingIOError):
        disk.lock(path)
    disk.unlock(lock)


def test_two_directories_of_one_process_are_locked_and_unlocked_each_by_itself(tmp_path):
    disk, one, other = RealDisk(), str(tmp_path / "one"), str(tmp_path / "other")
    first, second = disk.lock(one), disk.lock(other)
    disk.unlock(first)
    with pytest.raises(BlockingIOError):
        disk.lock(other)
    disk.unlock(disk.lock(one))
    disk.unlock(second)
