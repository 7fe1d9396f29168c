"""Holds a lock in a process of its own; what happens to it is said on stdout, one word per line.

argv: endpoints, path, how. `stopped`: says "held TOKEN", then looks at the lock in a busy loop until it is lost, and
says what it found. `exit`: acquires and ends without closing. `fork`: forks while it holds, uses everything in the
child, and says what became of it. `late`: makes the client before the fork and uses it only in the child.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from coordclient import Client, ClientForked, Lock, LockLost

KEPT: list[Lock] = []


def say(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


def stopped(client: Client, path: str) -> None:
    try:
        with client.lock(path, lock_delay=0.5, stop_margin=0.2) as lock:
            say(f"held {lock.token}")
            while lock.safe:
                pass
            say("not safe")
            lock.check()
            say("check passed")
    except LockLost:
        say("LockLost")


def leave(client: Client, path: str) -> None:
    KEPT.append(client.lock(path))
    KEPT[0].acquire()
    say("held")


def fork(client: Client, path: str) -> None:
    with client.lock(path) as lock:
        child = os.fork()
        if child == 0:
            calls: list[Callable[[], object]] = [
                lambda: client.get("/"),
                lambda: client.lock(path).acquire(),
                lock.check,
                lock.verify,
                lock.release,
                lambda: lock.__exit__(None, None, None),
            ]
            for call in calls:
                try:
                    call()
                    say("done")
                except ClientForked:
                    say("ClientForked")
            client.close()
            say(f"held {lock.held}, safe {lock.safe}")
            sys.exit(0)  # an ordinary end, with everything that runs at it
        os.waitpid(child, 0)
        lock.verify()
        say("the parent still holds it")


def late(client: Client, path: str) -> None:
    child = os.fork()
    if child == 0:
        with client.lock(path):
            say("held by the child")
        client.close()
        sys.exit(0)
    os.waitpid(child, 0)


def main() -> None:
    endpoints, path, how = sys.argv[1:]
    client = Client(endpoints, session_lease=1.0 if how == "stopped" else 12.0)
    {"stopped": stopped, "exit": leave, "fork": fork, "late": late}[how](client, path)
    if how != "exit":
        client.close()


if __name__ == "__main__":
    main()
