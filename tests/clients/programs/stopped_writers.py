"""Many holders, each of a lock and a fenced SQLite file of its own; each is stopped by SIGSTOP while it writes.

argv: endpoints, directory, how many, seed. The holders are children of this process, forked before any thread begins.
A holder writes as fast as it can and looks at nothing but its fence. The first `MOMENTS` stop themselves at the n-th
line of code of a write, the others are stopped from here, in the middle of whatever they do. After `TOLD_MAX` writes it
waits until somebody opens the FIFO "NUMBER.go": one that was woken in the middle of a transaction and wrote on without
a pause would keep its successor out of the database for seconds. What happens is said on stdout:
"stopped NUMBER PID" when a holder stands still, "ended NUMBER STATUS" when it is gone; a holder ends in order (0) only
by a StaleToken. Nobody but the reader of these words lets a holder go on. SIGUSR1 makes one say on stderr where it is.
"""

from __future__ import annotations

import faulthandler
import os
import random
import select
import signal
import sqlite3
import sys
import traceback
from contextlib import suppress
from types import FrameType
from typing import Any

from coordclient import Client, SessionExpired, StaleToken
from coordclient.fence_sql import SqlFence

FENCE = SqlFence()
LEASE_SECONDS = 1.0
MOMENTS = 24  # a write has 22 lines, with what it calls
WARM = 3  # writes before anything happens
TOLD_MAX = 200  # writes that a holder tells of before it waits: its pipe is read no more once it was stopped


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
    faulthandler.register(signal.SIGUSR1)
    connection = opened(directory, number, 20)
    client = Client(endpoints, session_lease=LEASE_SECONDS)
    lock = client.lock(f"/{number}", lock_delay=0, stop_margin=0.1)
    while not lock.held:
        with suppress(SessionExpired):  # so short a lease may be over before the first KeepAlive of a busy machine
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
            elif written == WARM + TOLD_MAX:
                os.close(os.open(os.path.join(directory, f"{number}.go"), os.O_RDONLY))
    except StaleToken:
        os._exit(0)


def stop_each(pids: dict[int, int], left: dict[int, int]) -> None:
    """SIGSTOP to each as soon as it has told of so many writes; both by the pipe. One that is late keeps nobody."""
    while left:
        for pipe in select.select(list(left), [], [])[0]:
            told = len(os.read(pipe, left[pipe]))
            left[pipe] -= told
            if not (told and left[pipe]):
                del left[pipe]
                os.kill(pids[pipe], signal.SIGSTOP)


def main() -> None:
    endpoints, directory, count, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    chance = random.Random(seed)
    holders: dict[int, int] = {}
    stopped_here: dict[int, int] = {}
    for number in range(count):
        read, told = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                hold(endpoints, directory, number, told)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        os.close(told)
        holders[pid] = number
        if number >= MOMENTS:
            stopped_here[read] = pid
    stop_each(stopped_here, {pipe: chance.randrange(1, TOLD_MAX // 2) for pipe in stopped_here})
    while holders:
        pid, status = os.waitpid(-1, os.WUNTRACED)
        word, last = ("stopped", pid) if os.WIFSTOPPED(status) else ("ended", status)
        sys.stdout.write(f"{word} {holders[pid]} {last}\n")
        sys.stdout.flush()
        if word == "ended":
            del holders[pid]


if __name__ == "__main__":
    main()
