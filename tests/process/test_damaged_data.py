"""Real data directories, damaged in every way that an operator meets: what the daemon says, and that it does not run.

Each refusal has an exit status that a supervisor understands, names the file (and the byte, where bytes are wrong), and
says the way out.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from zlib import crc32

import pytest

from coordd.dev import free_ports
from coordd.testing.cells import RunningCell, start_cell

SECONDS = 60
MIB = 1024 * 1024
EXTRA = {"log": {"segment_bytes": MIB, "snapshot_after_bytes": MIB}}


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCell]:
    """Three replicas with snapshots and several segments, killed by kill -9; nothing in there is changed by tests."""
    with start_cell(3, tmp_path_factory.mktemp("cell"), extra=EXTRA) as cell:
        master = cell.master()
        for number in range(20):
            answer = cell.post(master, "put", {"path": f"/f{number % 3}", "contents": {"text": f"{number}" * 100_000}})
            assert "stat" in answer, answer
        for replica in cell.addresses:
            cell.wait_for(partial(has_snapshot, cell, replica), "a snapshot")
        for replica in cell.addresses:
            cell.kill(replica)
        yield cell


def directory_of(cell: RunningCell, replica: int) -> Path:
    return cell.directory / f"replica-{replica}"


def has_snapshot(cell: RunningCell, replica: int) -> bool:
    """One, durable, and the log is cut behind it."""
    names = [path.name for path in directory_of(cell, replica).iterdir()]
    found = [name for name in names if name.startswith("snapshot-") and not name.endswith(".tmp")]
    return len(found) == 1 and "log-00000001" not in names


def copy_of(cell: RunningCell, replica: int, place: Path) -> tuple[Path, Path]:
    """The data directory of a killed replica and its configuration, for one test to spoil.

    Without what a start may remove: the segment that was perhaps being prepared at the kill, and the older snapshot,
    if a newer one had just got its name.
    """
    data, config = place / "data", place / "coordd.toml"
    shutil.copytree(directory_of(cell, replica), data, ignore=shutil.ignore_patterns("*.tmp"))
    remove(*sorted(data.glob("snapshot-*"))[:-1])
    text = cell.configs[replica].read_text()
    own = str(directory_of(cell, replica))
    assert own in text
    config.write_text(text.replace(own, str(data)))
    return data, config


def refusal(config: Path) -> tuple[int, str, str]:
    """Exit status, error name and reason of a daemon that does not start."""
    command = [sys.executable, "-m", "coordd", "--config", str(config)]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL, check=False
    )
    last = json.loads(ended.stderr.splitlines()[-1])
    assert last["event"] == "this replica cannot go on" and last["status"] == ended.returncode, ended.stderr
    return ended.returncode, last["kind"], last["reason"]


def oldest(data: Path) -> Path:
    return min(data.glob("log-*"))


def contents(data: Path) -> dict[str, int]:
    """The checksum of every file."""
    return {path.name: crc32(path.read_bytes()) for path in data.iterdir() if path.is_file() and path.name != "lock"}


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(bytes(data))


def only(data: Path, pattern: str) -> Path:
    (found,) = data.glob(pattern)
    return found


def replace_by_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def truncate(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)


def remove(*paths: Path) -> None:
    for path in paths:
        path.unlink()


DAMAGE: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "a flipped bit in the oldest segment": (
        lambda data: flip(oldest(data), 700),
        "DamagedError",
        r"/log-\d{8} is damaged at byte [1-9]",
    ),
    "a flipped bit in a header": (
        lambda data: flip(oldest(data), 30),
        "DamagedError",
        r"/log-\d{8} is damaged at byte 0: the header",
    ),
    "a flipped bit in the snapshot": (
        lambda data: flip(only(data, "snapshot-*"), 50_000),
        "DamagedError",
        r"/snapshot-\d{20} is damaged at byte 0: the checksum",
    ),
    "a flipped bit in the identity": (
        lambda data: flip(data / "identity", 40),
        "DamagedError",
        "/identity is damaged at byte 0: its checksum",
    ),
    "a truncated segment": (
        lambda data: truncate(oldest(data), 5_000),
        "DamagedError",
        r"/log-\d{8} is damaged at byte 5000: 5000 bytes where \d+ should be",
    ),
    "a truncated snapshot": (
        lambda data: truncate(only(data, "snapshot-*"), 50_000),
        "DamagedError",
        r"/snapshot-\d{20} is damaged at byte 0: the checksum",
    ),
    "a missing identity": (
        lambda data: remove(data / "identity"),
        "WrongDirectoryError",
        "has no file 'identity', but 'log-.*it lost its identity",
    ),
    "a missing snapshot": (
        lambda data: remove(only(data, "snapshot-*")),
        "DamagedError",
        r"/log-\d{8} is damaged at byte 0: the log was cut behind a snapshot",
    ),
    "all segments missing": (
        lambda data: remove(*data.glob("log-*")),
        "DamagedError",
        "/log-00000001 is damaged at byte 0: the directory has an identity but no log at all",
    ),
    "a segment that is a directory": (
        lambda data: replace_by_directory(oldest(data)),
        "DiskFailedError",
        r"cannot open .*/log-\d{8}: Is a directory.*move that directory away",
    ),
    "a directory under a temporary name": (
        lambda data: (data / "x.tmp").mkdir(),
        "DiskFailedError",
        "cannot remove .*/x.tmp: Is a directory.*move that directory away",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_refused_by_file_byte_and_way_out(lives: RunningCell, tmp_path: Path, damage: str) -> None:
    data, config = copy_of(lives, 1, tmp_path)
    spoil, kind, said = DAMAGE[damage]
    spoil(data)
    before = contents(data)
    for _ in range(2):  # a supervisor that starts it again gets the same answer, and the evidence stays as it is
        status, error, reason = refusal(config)
        assert (status, error) == (74 if kind == "DiskFailedError" else 65, kind), reason
        assert re.search(said, reason) and "Way out: " in reason, reason
    assert contents(data) == before


def test_a_directory_copied_from_another_replica_is_refused_and_not_touched(lives: RunningCell, tmp_path: Path) -> None:
    data, config = copy_of(lives, 1, tmp_path)
    shutil.rmtree(data)
    shutil.copytree(directory_of(lives, 2), data)
    before = contents(data)
    status, error, reason = refusal(config)
    assert (status, error) == (65, "WrongDirectoryError")
    assert "/identity: the directory belongs to replica 2 of cell 'test', the configuration says replica 1" in reason
    assert "Way out: correct the configuration or the mount" in reason
    assert contents(data) == before


def test_the_log_of_another_replica_is_refused(lives: RunningCell, tmp_path: Path) -> None:
    data, config = copy_of(lives, 1, tmp_path)
    remove(*data.glob("log-*"))
    for segment in directory_of(lives, 2).glob("log-*"):
        shutil.copy(segment, data)
    status, error, reason = refusal(config)
    assert (status, error) == (65, "WrongDirectoryError")
    assert re.search(r"/log-\d{8} belongs to replica 2 .* Way out: put back the file", reason), reason


def test_a_file_where_the_directory_should_be_is_refused(lives: RunningCell, tmp_path: Path) -> None:
    data, config = copy_of(lives, 1, tmp_path)
    shutil.rmtree(data)
    data.write_text("not a directory")
    status, _, reason = refusal(config)
    assert status == 74 and reason.endswith("Way out: name a directory; there is a file of that name"), reason


def test_a_second_process_on_a_directory_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    with start_cell(1, tmp_path) as cell:
        text = cell.configs[1].read_text()
        port, (other,) = cell.addresses[1].rpartition(":")[2], free_ports(1)
        second = tmp_path / "second.toml"
        second.write_text(text.replace(port, str(other)))
        status, error, reason = refusal(second)
        assert (status, error) == (69, "AlreadyRunningError")
        assert f"{directory_of(cell, 1)} is in use: process {cell.pid(1)} has it. Way out: stop that process" in reason
        assert "stat" in cell.post(1, "put", {"path": "/a"})


def test_the_first_start_with_an_empty_directory_is_told_loudly(tmp_path: Path) -> None:
    """Where a mount is missing, an empty directory looks like a new replica: an operator has to see it."""
    with start_cell(1, tmp_path) as cell:
        (said,) = [line for line in cell.log(1).splitlines() if "a new data directory was begun" in line]
        assert '"level": "warning"' in said and str(directory_of(cell, 1)) in said
        cell.restart(1)
        assert cell.log(1).count("a new data directory was begun") == 1
