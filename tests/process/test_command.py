"""The command `coordd`: what it refuses, how it ends, and that each end has an exit status of its own."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordd.dev import free_ports, is_free, write_cell
from coordd.testing.cells import RunningCell, start_cell

SECONDS = 30


def coordd(*arguments: object, code: tuple[str, ...] = ("-m", "coordd")) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *code, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL, check=False
    )


@pytest.fixture
def single(tmp_path: Path) -> Iterator[RunningCell]:
    with start_cell(1, tmp_path) as cell:
        yield cell


def test_without_settings_every_error_is_told_and_the_status_is_2() -> None:
    ended = coordd()
    assert ended.returncode == 2
    assert "cell.name" in ended.stderr and "replica.id" in ended.stderr


def test_every_error_of_a_file_is_told_at_once(tmp_path: Path) -> None:
    file = write_cell(tmp_path, free_ports(3))[1]
    text = file.read_text().replace("id = 1", "id = 999").replace("port = ", "prot = ")
    file.write_text(text + "\n[limits]\nwindow = 0\n")
    ended = coordd("--config", file, "--check-config")
    assert ended.returncode == 2
    assert all(word in ended.stderr for word in ("replica.id", "prot", "limits.window"))


def test_good_settings_are_said_to_be_good(tmp_path: Path) -> None:
    ended = coordd("--config", write_cell(tmp_path, free_ports(3))[1], "--check-config")
    assert (ended.returncode, ended.stdout) == (0, "the settings are good\n")
    assert not (tmp_path / "replica-1").exists(), "looking changes nothing"


def test_it_says_which_version_it_is() -> None:
    ended = coordd("--version")
    assert ended.returncode == 0 and ended.stdout.startswith("coordd ")


def test_python_without_assertions_is_refused(tmp_path: Path) -> None:
    ended = coordd("--config", write_cell(tmp_path, free_ports(3))[1], code=("-O", "-m", "coordd"))
    assert ended.returncode == 2 and "python -O" in ended.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--replicas", 3),
        ("--dev", "--replicas", 0),
        ("--dev", "--replicas", 8),
        ("--dev", "--config", "x"),
        ("--dev", "--replica", 2),
        ("--dev", "--port", 70_000),
        ("--dev", "--host", "0.0.0.0"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(arguments: tuple[object, ...]) -> None:
    assert coordd(*arguments).returncode == 2


def test_a_port_in_use_is_said_so(single: RunningCell, tmp_path: Path) -> None:
    text = single.configs[1].read_text().replace("replica-1", "replica-elsewhere")
    (tmp_path / "other.toml").write_text(text)
    ended = coordd("--config", tmp_path / "other.toml")
    assert ended.returncode == 69 and "cannot listen" in ended.stderr


def test_a_directory_of_another_cell_is_refused(single: RunningCell) -> None:
    single.kill(1)
    text = single.configs[1].read_text()
    single.configs[1].write_text(text.replace('name = "test"', 'name = "other"'))
    ended = coordd("--config", single.configs[1])
    assert ended.returncode == 65 and "WrongDirectoryError" in ended.stderr


def test_damage_is_refused_by_file_offset_and_way_out(single: RunningCell) -> None:
    for number in range(20):
        assert "stat" in single.post(1, "put", {"path": f"/{number}", "contents": {"text": "x" * 100}})
    single.kill(1)
    (segment,) = (single.directory / "replica-1").glob("log-*")
    data = bytearray(segment.read_bytes())
    at = data.index(b"x" * 50)
    data[at] ^= 1
    segment.write_bytes(bytes(data))
    ended = coordd("--config", single.configs[1])
    assert ended.returncode == 65
    assert segment.name in ended.stderr and "damaged at byte" in ended.stderr and "Way out" in ended.stderr


FAILING_SYNC = """
import os, sys
real, left = os.fdatasync, [40]
def fdatasync(file):
    left[0] -= 1
    if left[0] < 0:
        raise OSError(5, "Input/output error")
    real(file)
os.fdatasync = fdatasync
from coordd.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def _acknowledged(cell: RunningCell, number: int) -> bool:
    try:
        return "stat" in cell.post(1, "put", {"path": f"/{number}"})
    except OSError:
        return False


def test_a_failed_sync_ends_the_daemon_with_a_status_of_its_own(tmp_path: Path) -> None:
    cell = RunningCell(tmp_path, 1, "test", None, temporary=False)
    process = subprocess.Popen(
        [sys.executable, "-c", FAILING_SYNC, "--config", str(cell.configs[1])], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    cell.wait_for(lambda: cell.ready(1), "ready")
    acknowledged = list(itertools.takewhile(lambda number: _acknowledged(cell, number), range(100)))
    assert process.wait(SECONDS) == 74
    assert "SyncFailedError" in process.stderr.read()
    process.stderr.close()
    cell.start(1)
    cell.wait_ready()
    for number in acknowledged:
        assert "stat" in cell.post(1, "stat", {"path": f"/{number}"}), "what was acknowledged is there"
    cell.stop()


BARE = """
import sys
sys.modules["uvloop"] = sys.modules["msgspec"] = None
from coordd.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def test_without_the_extras_it_is_the_same_daemon(tmp_path: Path) -> None:
    cell = RunningCell(tmp_path, 1, "test", None, temporary=False)
    process = subprocess.Popen(
        [sys.executable, "-c", BARE, "--config", str(cell.configs[1])], stderr=subprocess.DEVNULL
    )
    cell.wait_for(lambda: cell.ready(1), "ready")
    assert "stat" in cell.post(1, "put", {"path": "/a", "contents": {"text": "slow but sure"}})
    process.kill()
    process.wait(SECONDS)
    cell.start(1)
    cell.wait_ready()
    assert cell.post(1, "get", {"path": "/a"})["contents"] == {"text": "slow but sure"}
    cell.stop()


FEW_FILES = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300))
from coordd.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def test_strangers_cannot_use_up_the_open_files(tmp_path: Path) -> None:
    cell = RunningCell(tmp_path, 1, "test", None, temporary=False)
    command = [sys.executable, "-c", FEW_FILES, "--config", str(cell.configs[1])]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    cell.wait_for(lambda: cell.ready(1), "ready")
    port = int(cell.addresses[1].rpartition(":")[2])
    crowd = [socket.create_connection(("127.0.0.1", port)) for _ in range(400)]
    last = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
    assert b"overloaded" in last.recv(4096)
    for connection in (*crowd, last):
        connection.close()
    cell.wait_for(lambda: cell.ready(1), "room again")
    process.terminate()
    assert process.wait(SECONDS) == 0
    assert process.stderr is not None
    said = process.stderr.read()
    process.stderr.close()
    assert "fewer connections than configured" in said and "a bug" not in said


def test_a_daemon_whose_starter_is_gone_stops(single: RunningCell) -> None:
    process = single._processes[1]
    assert process.stdin is not None
    process.stdin.close()
    assert single.wait_exit(1) == 0


def test_a_development_cell_says_what_it_is_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "coordd", "--dev", "--replicas", "3", "--port", "0", "--data", str(tmp_path / "data")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if "role=master" in line:
            break
    process.send_signal(signal.SIGINT)
    lines += process.stdout.readlines()
    process.stdout.close()
    assert process.wait(SECONDS) == 0
    assert "not for production" in lines[0] and "loopback only" in lines[0]
    for replica in (1, 2, 3):
        assert f"[{replica}] ended with 0\n" in lines
        assert (tmp_path / "data" / f"replica-{replica}").is_dir()


def test_a_development_cell_does_not_begin_where_one_of_its_ports_is_in_use() -> None:
    """The replicas whose ports were free ran on, for ever without a master, at addresses of the cell that was there."""
    first = next(port for port in free_ports(100) if all(map(is_free, (port, port + 1, port + 2))))
    with socket.create_server(("127.0.0.1", first + 1)):
        ended = coordd("--dev", "--replicas", 3, "--port", first)
    assert ended.returncode == 69 and f"port {first + 1}; " in ended.stderr and "--port 0" in ended.stderr


def test_a_development_replica_alone_needs_nothing_but_the_flag() -> None:
    (port,) = free_ports(1)
    process = subprocess.Popen(
        [sys.executable, "-m", "coordd", "--dev", "--port", str(port), "--stop-on-eof"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None and process.stdin is not None
    for line in process.stderr:
        if "master" in line and f"{port}" not in line:
            break
    process.stdin.close()
    process.stderr.read()
    process.stderr.close()
    assert process.wait(SECONDS) == 0
