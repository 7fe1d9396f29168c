"""Development cells: the files that are made are good settings, and what is there stays."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from coordd.config import load_settings
from coordd.dev import FREE_PORTS, HOST, PORTS_PER_PROCESS, free_ports, write_cell


def test_free_ports_are_free_and_differ() -> None:
    ports = free_ports(7)
    assert len(set(ports)) == 7 and all(port in FREE_PORTS for port in ports)
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the daemon does: old connections may rest
            probe.bind((HOST, port))
            probe.listen()


def test_no_port_is_given_twice_in_one_answer() -> None:
    with pytest.raises(OSError, match="fewer than"):
        free_ports(PORTS_PER_PROCESS)


def test_no_two_processes_are_given_the_same_port() -> None:
    """A test elsewhere took the port of a replica that had been killed, and answered its readers from another cell."""
    ask = "from coordd.dev import free_ports; print(free_ports(1)[0], flush=True); input()"
    children = [
        subprocess.Popen([sys.executable, "-c", ask], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(10)
    ]
    try:
        parts = [int(child.stdout.readline()) // PORTS_PER_PROCESS for child in children if child.stdout]
    finally:
        for child in children:
            child.communicate(b"\n")
    assert len(set(parts)) == len(children)


def test_every_file_is_good_and_names_one_replica_of_the_same_cell(tmp_path: Path) -> None:
    files = write_cell(tmp_path / "new", [7420, 7421, 7422], "mine", {"cell": {"lease_ms": 900}})
    settings = {replica: load_settings(path, {}) for replica, path in files.items()}
    assert {replica: one.replica.id for replica, one in settings.items()} == {1: 1, 2: 2, 3: 3}
    assert all(one.cell == settings[1].cell and one.cell.lease_ms == 900 for one in settings.values())
    assert all(one.replica.host == "127.0.0.1" for one in settings.values()), "loopback only"
    assert len({one.replica.data for one in settings.values()}) == 3
    assert settings[1].secret() == settings[2].secret() != b""


def test_something_may_stand_before_the_replicas(tmp_path: Path) -> None:
    files = write_cell(tmp_path, [7420, 7421], dialled=[8420, 8421])
    for number, path in files.items():
        settings = load_settings(path, {})
        assert settings.addresses == {1: "http://127.0.0.1:8420", 2: "http://127.0.0.1:8421"}
        assert settings.replica.port == 7419 + number


def test_the_secret_of_a_directory_stays(tmp_path: Path) -> None:
    first = load_settings(write_cell(tmp_path, [7420])[1], {}).secret()
    assert load_settings(write_cell(tmp_path, [7420])[1], {}).secret() == first
