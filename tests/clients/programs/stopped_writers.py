"""Many holders, each of a lock and a fenced SQLite file of its own; each is stopped by SIGSTOP while it writes.

argv: endpoints, directory, how many, seed. The holders are children of this process, forked before any thread begins.
A holder writes as fast as it can and looks at nothing but its fence. The first `MOMENTS` stop themselves at the n-th
line of code of a write, the others are stopped from here, in the middle of whatever they do. What happens is said on
stdout:
"stopped NUMBER PID" when a holder stands still, "ended NUMBER STATUS" when it is gone; a holder ends in order (0) only
by a StaleToken. Nobody but the reader of these words lets a holder go on.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import sys
from types import FrameType
from typing import Any

from coordclient import Client, StaleToken
from coordclient.fence_sql import SqlFence

FENCE = SqlFence()
LEASE_SECONDS = 1.0
MOMENTS = 24  # a write has 22 lines, with what it calls
WARM = 3  # writes before anything happens
TOLD_MAX = 20  # writes that a holder tells of: one that told of all would fill its pipe while another is late, and hang


def opened(directory: str, number: int, timeout: float) -> sqlite3.Connection:
    """Its file; what a power cut would lose is not the matter here."""
    connection = sqlite3.connect(os.path.join(directory, f"{number}.db"), timeout=timeout)
    connection.execute("PRAGMA synchronous = OFF")
    return connection


def write(connection: sqlite3.Connection, name: str, token: int) -> None:
    """The whole life of a protected write; its lines are the moments at which a holder stops itself."""
    with connection:
        FENCE.admit(connection, name, token)
        connection.execute("INSERT INTO rows (token) VALUES (?)", (token,))
        connection.execute("UPDATE total SET count = count + 1")


class Stop:
    """SIGSTOP to this very process at the `line`-th line from now on, in `write` and in everything that it calls."""

    def __init__(self, line: int) -> None:
        self._left = line

    def __call__(self, frame: FrameType, event: str, _: Any) -> Stop | None:
        if event in ("line", "return"):
            if self._left == 0:
                sys.settrace(None)
                os.kill(os.getpid(), signal.SIGSTOP)
                return None
            self._left -= 1
        return self


def hold(endpoints: str, directory: str, number: int, told: int) -> None:
    """One holder, until its fence refuses it."""
    connection = opened(directory, number, 20)
    client = Client(endpoints, session_lease=LEASE_SECONDS)
    lock = client.lock(f"/{number}", lock_delay=0, stop_margin=0.1)
    lock.acquire()
    token, written = lock.token, 0
    try:
        while True:
            if written == WARM and number < MOMENTS:
                sys.settrace(Stop(number))
            write(connection, lock.path, token)
            written += 1
            if WARM <= written < WARM + TOLD_MAX:
                os.write(told, b".")
    except StaleToken:
        os._exit(0)


def main() -> None:
    endpoints, directory, count, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    chance = random.Random(seed)
    holders: dict[int, int] = {}
    pipes: dict[int, int] = {}
    for number in range(count):
        read, told = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                hold(endpoints, directory, number, told)
            finally:
                os._exit(1)
        os.close(told)
        holders[pid] = number
        pipes[number] = read
    for pid, number in holders.items():
        if number >= MOMENTS:
            for _ in range(chance.randrange(1, TOLD_MAX)):
                os.read(pipes[number], 1)
            os.kill(pid, signal.SIGSTOP)
    while holders:
        pid, status = os.waitpid(-1, os.WUNTRACED)
        word, last = ("stopped", pid) if os.WIFSTOPPED(status) else ("ended", status)
        sys.stdout.write(f"{word} {holders[pid]} {last}\n")
        sys.stdout.flush()
        if word == "ended":
            del holders[pid]


if __name__ == "__main__":
    main()
