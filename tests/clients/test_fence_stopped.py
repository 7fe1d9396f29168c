"""A holder that is stopped by SIGSTOP, at whatever moment, never writes to a fenced resource after its successor.

The holders of this test do not look at their locks at all: what stops them is the fence alone.
"""

from __future__ import annotations

import os
import queue
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from coordclient import Client
from tests.clients.programs.stopped_writers import FENCE, MOMENTS, opened, write

HOLDERS = MOMENTS + 8
SECONDS_MAX = 30.0


class Holders:
    """The program, and what it says of each holder."""

    def __init__(self, endpoints: list[str], directory: Path) -> None:
        words = [",".join(endpoints), str(directory), str(HOLDERS), "1"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-m", "tests.clients.programs.stopped_writers", *words]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
        )
        self._pids: dict[int, int] = {}
        self._said: list[queue.SimpleQueue[tuple[str, int]]] = [queue.SimpleQueue() for _ in range(HOLDERS)]
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            word, number, last = line.split()
            if word == "stopped":
                self._pids[int(number)] = int(last)
            else:
                self._pids.pop(int(number), None)
            self._said[int(number)].put((word, int(last)))

    def hears(self, number: int) -> tuple[str, int]:
        try:
            return self._said[number].get(timeout=SECONDS_MAX)
        except queue.Empty:
            if number in self._pids:
                os.kill(self._pids[number], signal.SIGUSR1)  # it says on stderr where its threads are
            raise AssertionError(f"nothing was heard of holder {number} for {SECONDS_MAX} s") from None

    def end(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)  # the holders, too
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def files(tmp_path) -> Path:
    connection = opened(str(tmp_path), 0, 0)
    with connection:
        FENCE.create_table(connection)
        connection.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY, token INTEGER)")
        connection.execute("CREATE TABLE total (count INTEGER)")
        connection.execute("INSERT INTO total VALUES (0)")
    connection.close()
    for number in range(1, HOLDERS):
        shutil.copy(tmp_path / "0.db", tmp_path / f"{number}.db")
    for number in range(HOLDERS):
        os.mkfifo(tmp_path / f"{number}.go")
    return tmp_path


@pytest.fixture
def holders(coord_cell, files) -> Iterator[Holders]:
    made = Holders(coord_cell.endpoints, files)
    yield made
    made.end()


def succeed(client: Client, directory: Path, number: int, holders: Holders) -> tuple[int, int]:
    """Take the lock of a stopped holder, write, wake it up, and write on while it tries; the statuses of its end."""
    word, pid = holders.hears(number)
    assert word == "stopped"
    with client.lock(f"/{number}", timeout=SECONDS_MAX) as lock:
        try:
            with closing(opened(str(directory), number, 0)) as connection:
                write(connection, lock.path, lock.token)
        except sqlite3.OperationalError as error:  # it was stopped in the middle of its transaction
            assert "locked" in str(error)
        os.kill(pid, signal.SIGCONT)
        connection = opened(str(directory), number, SECONDS_MAX)
        write(connection, lock.path, lock.token)
        go = os.open(directory / f"{number}.go", os.O_RDWR)
        word, status = holders.hears(number)
        os.close(go)
        write(connection, lock.path, lock.token)
        connection.close()
        assert word == "ended"
        return status, lock.token


def test_a_stopped_holder_never_writes_after_its_successor(coord_client, holders, files):
    with ThreadPoolExecutor(HOLDERS) as threads:
        ends = list(threads.map(lambda number: succeed(coord_client, files, number, holders), range(HOLDERS)))
    assert [status for status, _ in ends] == [0] * HOLDERS, "each of them was refused by its fence"
    for number, (_, newest) in enumerate(ends):
        connection = opened(str(files), number, 0)
        tokens = [row[0] for row in connection.execute("SELECT token FROM rows ORDER BY number")]
        [(total,)] = connection.execute("SELECT count FROM total")
        connection.close()
        assert tokens == sorted(tokens), f"holder {number} wrote after its successor"
        assert len(set(tokens)) == 2
        assert tokens[-1] == newest
        assert total == len(tokens), "no write was half done"
