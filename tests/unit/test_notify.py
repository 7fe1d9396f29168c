"""What a supervisor hears; nothing of it can stop the daemon."""

from __future__ import annotations

import socket
from pathlib import Path

from coordd.notify import Supervisor


def test_a_supervisor_hears_ready_status_watchdog_and_stopping(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "notify"))
        supervisor = Supervisor({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"})
        supervisor.ready()
        supervisor.status("master, epoch 3")
        supervisor.alive()
        supervisor.stopping()
        heard = [end.recv(100) for _ in range(4)]
    assert heard == [b"READY=1", b"STATUS=master, epoch 3", b"WATCHDOG=1", b"STOPPING=1"]


def test_an_abstract_socket_is_one_too() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind("\0coordd-test-notify")
        Supervisor({"NOTIFY_SOCKET": "@coordd-test-notify"}).ready()
        assert end.recv(100) == b"READY=1"


def test_without_a_supervisor_or_with_a_deaf_one_nothing_happens(tmp_path: Path) -> None:
    Supervisor({}).ready()
    Supervisor({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).ready()


def test_without_a_watchdog_none_is_fed(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "notify"))
        supervisor = Supervisor({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        supervisor.alive()
        supervisor.ready()
        assert end.recv(100) == b"READY=1"
