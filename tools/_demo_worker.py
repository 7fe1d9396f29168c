"""The programs of the demo: what an application does with coordclient, one process each.

    python -m tools._demo_worker counter|keeper|sleeper ENDPOINTS

Each prints one JSON object per line, {"what": ..., "at": CLOCK_MONOTONIC in seconds, ...}, and goes on until a line
arrives on its standard input, or that ends.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable

from coordclient import Client, LockLost

COUNTER, COUNTER_LOCK = "/demo/counter", "/demo/counter.lock"
KEPT_LOCK = "/demo/kept.lock"
SLEEPER_LOCK = "/demo/sleeper.lock"
SLEEPER_LEASE_SECONDS, SLEEPER_DELAY_SECONDS = 2.0, 1.5
PAUSE_SECONDS = 0.01


def tell(what: str, **more: object) -> None:
    """One line for the demo."""
    print(json.dumps({"what": what, "at": time.monotonic(), **more}), flush=True)


class Told:
    """Whether the demo has said to go on (a line) or to end (the end of the input)."""

    def __init__(self) -> None:
        self.line = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        sys.stdin.readline()
        self.line.set()


def counter(client: Client, told: Told) -> None:
    """Read, add one, write: without the lock two of these would lose increments."""
    while not told.line.is_set():
        begun = time.monotonic()
        with client.lock(COUNTER_LOCK) as lock:
            value = int(client.get(COUNTER).contents)
            client.put(COUNTER, str(value + 1).encode())
        tell("incremented", begun=begun, value=value + 1, token=lock.token)
        told.line.wait(PAUSE_SECONDS)
    tell("ended")


def keeper(client: Client, told: Told) -> None:
    """Holds one lock all the time, and asks the cell now and then whether it really does."""
    with client.lock(KEPT_LOCK) as lock:
        tell("acquired", token=lock.token)
        told.line.wait()
        lock.check()  # what this process believes
        lock.verify()  # what the cell says
        tell("kept", token=lock.token)


def sleeper(client: Client, told: Told) -> None:
    """Writes to the protected side under a lock, and once more when it is told to: it may have been stopped meanwhile.

    The second write is careless on purpose: it looks at the lock only afterwards.
    """
    with client.lock(SLEEPER_LOCK, lock_delay=SLEEPER_DELAY_SECONDS) as lock:
        tell("acquired", token=lock.token)
        tell("write", token=lock.token)
        told.line.wait()
        tell("write", token=lock.token)
        try:
            lock.check()
            tell("still held", token=lock.token)
        except LockLost as error:
            tell("lost", token=lock.token, error=type(error).__name__, reason=str(error))


ROLES: dict[str, Callable[[Client, Told], None]] = {"counter": counter, "keeper": keeper, "sleeper": sleeper}


def main(role: str, endpoints: str) -> None:
    lease = SLEEPER_LEASE_SECONDS if role == "sleeper" else 12.0
    with Client(endpoints.split(","), session_lease=lease, name=f"demo {role}") as client:
        try:
            ROLES[role](client, Told())
        except LockLost as error:  # leaving the `with` of a lost lock says so too
            tell("left", error=type(error).__name__)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
