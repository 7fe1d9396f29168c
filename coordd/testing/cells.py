"""A real cell of real daemons for tests, benchmarks and the demo: free ports, own directory, faults by signal.

    with start_cell(3) as cell:
        cell.addresses                      # {1: "http://127.0.0.1:23456", ...}
        cell.kill(cell.master())            # SIGKILL
        cell.restart(1)

Synchronous on purpose, so that any kind of program can use it; from asyncio call it in a thread. Nothing here sleeps
for a guessed time: every wait is for a condition, with a deadline, and its failure prints the logs of the replicas.
A daemon started here ends when this process ends, however that happens.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeVar
from urllib.parse import urlsplit

from coordd.dev import Extra, command, free_ports, write_cell, write_replica

_T = TypeVar("_T")
POLL_SECONDS = 0.02
START_SECONDS_MAX = 60.0
LOG_TAIL_CHARS = 4_000


class CellError(AssertionError):
    """The cell did not do what was waited for in time; the message carries the ends of the logs."""


class RunningCell:
    """Handle of a cell; made by `start_cell`. `addresses` and `configs`: replica -> URL, configuration file."""

    def __init__(
        self,
        directory: Path,
        replicas: int,
        cell: str,
        extra: Extra | None,
        temporary: bool,
        dialled: Sequence[int] | None = None,
    ) -> None:
        ports = free_ports(replicas)
        self._dialled = {number: f"http://127.0.0.1:{port}" for number, port in enumerate(dialled or ports, 1)}
        self.cell = cell
        self.directory = directory
        self.configs = write_cell(directory, ports, cell, extra, dialled)
        self.environment: dict[int, dict[str, str]] = {}  # of single replicas, besides our own
        self.addresses = {number: f"http://127.0.0.1:{port}" for number, port in enumerate(ports, 1)}
        self._temporary = temporary
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def endpoints(self) -> list[str]:
        """All addresses, as clients take them."""
        return list(self.addresses.values())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def prepare_join(self, replica: int, extra: Extra | None = None, dialled: int | None = None) -> str:
        """Write the file of a new replica of this cell, to be added and started; the address to add it by.

        `dialled`: the port that peers and clients are told, where something stands before it.
        """
        (port,) = free_ports(1)
        self.addresses[replica] = f"http://127.0.0.1:{port}"
        self._dialled[replica] = address = f"http://127.0.0.1:{dialled or port}"
        tables = {**(extra or {}), "replica": {"join": True}}
        self.configs[replica] = write_replica(self.directory, replica, self._dialled, self.cell, tables, port)
        return address

    def forget(self, replica: int) -> None:
        """It was removed from the cell: whoever joins from now on is not told of it."""
        del self._dialled[replica]

    # ---- processes ----

    def start(self, replica: int, python_options: Sequence[str] = (), program: str = "coordd") -> None:
        """Start a replica that is not running; returns at once (see `wait_ready`).

        `python_options` come before -m; `program` stands behind it: a module that runs the daemon its own way.
        """
        assert not self.running(replica), f"replica {replica} is running"
        python, _, _, *rest = command(self.configs[replica])
        clean = {name: value for name, value in os.environ.items() if not name.startswith("COORDD_")}
        with self.log_file(replica).open("ab") as log:
            self._processes[replica] = subprocess.Popen(
                [python, *python_options, "-m", program, *rest],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in a demo or a test run is for the parent to handle
                env=clean | self.environment.get(replica, {}),
            )

    def running(self, replica: int) -> bool:
        """True while the process of that replica lives (stopped by SIGSTOP included)."""
        process = self._processes.get(replica)
        return process is not None and process.poll() is None

    def pid(self, replica: int) -> int:
        """The process id of a running replica."""
        assert self.running(replica), f"replica {replica} is not running"
        return self._processes[replica].pid

    def kill(self, replica: int, number: signal.Signals = signal.SIGKILL) -> int | None:
        """Send a signal. SIGKILL and SIGTERM are waited for: the exit status comes back (negative: by signal)."""
        process = self._processes[replica]
        process.send_signal(number)
        if number not in (signal.SIGKILL, signal.SIGTERM):
            return None
        return self.wait_exit(replica)

    def wait_exit(self, replica: int, seconds: float = START_SECONDS_MAX) -> int:
        """The exit status of a replica that is ending by itself."""
        process = self._processes[replica]
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise CellError(f"replica {replica} does not end{self.log_tails()}") from None
        _close(process.stdin)
        return status

    def restart(self, replica: int, wait: bool = True) -> None:
        """Start it again (killing it first if it runs), and wait until it is ready."""
        if self.running(replica):
            self.kill(replica)
        self.start(replica)
        if wait:
            self.wait_ready([replica])

    def stop(self) -> None:
        """End every process (SIGTERM, then SIGKILL) and remove the directory if it was made here."""
        alive = [process for process in self._processes.values() if process.poll() is None]
        for process in alive:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in alive:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for process in self._processes.values():
            _close(process.stdin)
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    # ---- questions ----

    def post(
        self, replica: int, operation: str, arguments: dict[str, Any] | None = None, seconds: float = 5.0
    ) -> dict[str, Any]:
        """One operation by POST in JSON, to that very replica: the result, or {"code", "message", ...}."""
        status, _, body = self.http(
            replica,
            "POST",
            f"/v1/{operation}",
            json.dumps(arguments or {}).encode(),
            {"Content-Type": "application/json"},
            seconds,
        )
        answer: dict[str, Any] = json.loads(body)
        assert (status == 200) == ("code" not in answer), (status, answer)
        return answer

    def http(
        self,
        replica: int,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        seconds: float = 5.0,
    ) -> tuple[int, dict[str, str], bytes]:
        """One plain HTTP request to that replica: status, headers, body. OSError when it does not answer."""
        url = urlsplit(self.addresses[replica])
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=seconds)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        except http.client.HTTPException as error:
            raise ConnectionError(f"replica {replica}: {error!r}") from error
        finally:
            connection.close()

    def ready(self, replica: int) -> bool:
        """True when /readyz of that replica says so."""
        try:
            return self.http(replica, "GET", "/readyz")[0] == 200
        except OSError:
            return False

    def status(self, replica: int) -> dict[str, Any] | None:
        """The operation `status` of that replica, or None when it does not answer."""
        try:
            return self.post(replica, "status")
        except (OSError, ValueError):
            return None

    def master(self, seconds: float = START_SECONDS_MAX) -> int:
        """The replica that says of itself that it is the master and serves; waits for one."""
        return self.wait_for(self._find_master, "a master", seconds)

    def _find_master(self) -> int | None:
        for replica in self.addresses:
            if self.running(replica):
                status = self.status(replica)
                if status is not None and status.get("role") == "master" and self.ready(replica):
                    return replica
        return None

    # ---- waiting ----

    def wait_ready(self, replicas: list[int] | None = None, seconds: float = START_SECONDS_MAX) -> None:
        """Until all these replicas (default: all that run) are ready."""
        for replica in replicas or [number for number in self.addresses if self.running(number)]:
            self.wait_for(partial(self._ready_or_dead, replica), f"replica {replica} to be ready", seconds)

    def _ready_or_dead(self, replica: int) -> bool:
        if not self.running(replica):
            raise CellError(f"replica {replica} ended with {self._processes[replica].poll()}{self.log_tails()}")
        return self.ready(replica)

    def wait_for(self, condition: Callable[[], _T | None], what: str, seconds: float = START_SECONDS_MAX) -> _T:
        """The first true (or, for numbers, not None and not False) value of `condition`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            value = condition()
            if value is not None and value is not False:
                return value
            time.sleep(POLL_SECONDS)
        raise CellError(f"waited {seconds} s for {what}{self.log_tails()}")

    # ---- logs ----

    def log_file(self, replica: int) -> Path:
        """Where the replica's log goes."""
        return self.directory / f"replica-{replica}.log"

    def log(self, replica: int) -> str:
        """Everything that the replica has logged."""
        path = self.log_file(replica)
        return path.read_text(errors="replace") if path.exists() else ""

    def log_tails(self) -> str:
        """The ends of all logs, for error messages."""
        return "".join(f"\n--- replica {number}\n{self.log(number)[-LOG_TAIL_CHARS:]}" for number in self.addresses)


def start_cell(
    replicas: int = 3,
    directory: Path | None = None,
    *,
    cell: str = "test",
    extra: Extra | None = None,
    wait: bool = True,
) -> RunningCell:
    """Start `replicas` daemons on free ports and wait until there is a master and all are ready.

    `directory` None: a temporary one, removed by `stop`. `extra`: further configuration, {"cell": {"lease_ms": 600}}.
    """
    temporary = directory is None
    running = RunningCell(directory or Path(tempfile.mkdtemp(prefix="coordd-")), replicas, cell, extra, temporary)
    with _stopped_on_error(running):
        for replica in running.addresses:
            running.start(replica)
        if wait:
            running.wait_ready()
            running.master()
    return running


@contextlib.contextmanager
def _stopped_on_error(running: RunningCell) -> Iterator[None]:
    try:
        yield
    except BaseException:
        running.stop()
        raise


def _close(stream: IO[bytes] | None) -> None:
    if stream is not None:
        with contextlib.suppress(OSError):
            stream.close()
