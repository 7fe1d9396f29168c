"""What the demo is told with: a narrator with a clock, and worker processes whose lines arrive in one queue."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

WAIT_SECONDS = 20.0
Event = dict[str, Any]


class DemoFailedError(Exception):
    """Something that the demo shows is not so."""


class Narrator:
    """Prints what happens, with the time since the beginning."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self._colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")

    def say(self, text: str) -> None:
        """One line of the story."""
        print(f"{time.monotonic() - self.began:6.2f} s  {text}", flush=True)

    def add(self, text: str) -> None:
        """A line that belongs to the one before."""
        print(f"{'':10}{text}", flush=True)

    def head(self, text: str) -> None:
        """A heading."""
        print(f"\n\033[1m{text}\033[0m" if self._colour else f"\n{text}", flush=True)

    def result(self, good: bool, text: str) -> None:
        """One line of the summary."""
        mark = "ok" if good else "FAILED"
        if self._colour:
            mark = f"\033[{32 if good else 31}m{mark}\033[0m"
        print(f"  {mark}  {text}", flush=True)


@dataclass
class Worker:
    """One process of the demo; `events` holds all that it has told."""

    name: str
    process: subprocess.Popen[str]
    events: list[Event] = field(default_factory=list)

    @property
    def pid(self) -> int:
        return self.process.pid

    def of(self, what: str) -> list[Event]:
        """All events of that kind so far."""
        return [event for event in self.events if event["what"] == what]

    def go_on(self) -> None:
        """Tell it to finish what it does."""
        assert self.process.stdin is not None
        self.process.stdin.write("go on\n")
        self.process.stdin.flush()


class Workers:
    """All worker processes; none outlives the `with`."""

    def __init__(self, endpoints: list[str]) -> None:
        self._endpoints = ",".join(endpoints)
        self._queue: queue.SimpleQueue[tuple[Worker, Event | None]] = queue.SimpleQueue()
        self._all: list[Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._all:
            worker.process.kill()  # also ends a stopped one
            worker.process.wait()

    def start(self, role: str, name: str) -> Worker:
        """A worker of that role (see tools/_demo_worker.py)."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tools._demo_worker", role, self._endpoints],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        worker = Worker(name, process)
        self._all.append(worker)
        threading.Thread(target=self._read, args=(worker,), daemon=True).start()
        return worker

    def _read(self, worker: Worker) -> None:
        assert worker.process.stdout is not None
        for line in worker.process.stdout:
            self._queue.put((worker, json.loads(line)))
        self._queue.put((worker, None))

    def pump(self, seconds: float) -> None:
        """Let time pass and events arrive."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._take(left)

    def wait_for(self, worker: Worker, what: str, count: int = 1, seconds: float = WAIT_SECONDS) -> Event:
        """The `count`-th event of that kind of that worker."""
        until = time.monotonic() + seconds
        while len(found := worker.of(what)) < count:
            left = until - time.monotonic()
            if left <= 0:
                raise DemoFailedError(f"{worker.name} did not say {what!r} within {seconds:.0f} s")
            if not self._take(left) and worker.process.poll() is not None and len(worker.of(what)) < count:
                raise DemoFailedError(f"{worker.name} ended with {worker.process.returncode} and never said {what!r}")
        return found[count - 1]

    def _take(self, seconds: float) -> bool:
        """File the next event; False when none came, or it was the end of a worker."""
        try:
            worker, event = self._queue.get(timeout=seconds)
        except queue.Empty:
            return False
        if event is None:
            return False
        worker.events.append(event)
        return True

    def finish(self, worker: Worker, seconds: float = WAIT_SECONDS) -> int:
        """Tell it to finish, and its exit status."""
        worker.go_on()
        try:
            status = worker.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise DemoFailedError(f"{worker.name} did not end within {seconds:.0f} s") from None
        self.pump(0.1)
        return status
