"""Development cells: several real daemons of this machine, on loopback only, with throw-away defaults.

`write_cell` makes what `--config` reads (one file per replica and a common secret); `run_replicas` runs one process per
file in the foreground, each line of its log with the replica in front, until a signal ends them all.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import secrets
import signal
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from urllib.parse import urlsplit

HOST = "127.0.0.1"
CELL_DEFAULT = "dev"
STOP_SECONDS_MAX = 15.0
LINE_BYTES_MAX = 1024 * 1024
# Below the range from which Linux takes the ports of outgoing connections: one of those could otherwise sit on a
# replica's port while the replica is down, and its restart would fail.
FREE_PORTS = range(20_000, 32_000)
PORTS_PER_PROCESS = 400  # and of these one is kept to show that the others are taken

Extra = Mapping[str, Mapping[str, int | str | bool]]

_ports: dict[int, Iterator[int]] = {}  # by process (one may fork): those that it may take, in turn


def free_ports(count: int) -> list[int]:
    """`count` ports of loopback on which nobody listens now, and that no other process gets while this one lives: it
    would take the port of a replica that is down just now, and answer those who look for that."""
    if os.getpid() not in _ports:
        _ports[os.getpid()] = cycle(_claim())
    found: list[int] = []
    for port in islice(_ports[os.getpid()], PORTS_PER_PROCESS - 1):
        if is_free(port):
            found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"fewer than {count} of this process's {PORTS_PER_PROCESS - 1} ports are free")


def is_free(port: int) -> bool:
    """Whether nobody listens on this port of loopback now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _claim() -> range:
    """A part of the ports for this process, whose first one it keeps bound as long as it lives."""
    starts = FREE_PORTS[::PORTS_PER_PROCESS]
    for start in random.SystemRandom().sample(starts, len(starts)):
        guard = socket.socket()
        try:
            guard.bind((HOST, start))
        except OSError:
            guard.close()
        else:
            guard.detach()
            return range(start + 1, start + PORTS_PER_PROCESS)
    raise OSError(f"{len(starts)} other processes have all ports between {FREE_PORTS.start} and {FREE_PORTS.stop}")


def write_cell(
    directory: Path,
    ports: Sequence[int],
    cell: str = CELL_DEFAULT,
    extra: Extra | None = None,
    dialled: Sequence[int] | None = None,
) -> dict[int, Path]:
    """Files for a cell of `len(ports)` replicas below `directory`: replica id -> its configuration file.

    A secret that is there already stays. `extra`: further keys per section, the same for every replica. `dialled`: the
    ports that peers and clients are told, where something stands before the replicas.
    """
    directory.mkdir(parents=True, exist_ok=True)
    secret_file = directory / "secret"
    if not secret_file.exists():
        secret_file.touch(mode=0o600)
        secret_file.write_text(secrets.token_hex(32) + "\n")
    addresses = {number: f"http://{HOST}:{port}" for number, port in enumerate(dialled or ports, 1)}
    return {
        number: write_replica(directory, number, addresses, cell, extra, port) for number, port in enumerate(ports, 1)
    }


def write_replica(
    directory: Path,
    replica: int,
    addresses: Mapping[int, str],
    cell: str = CELL_DEFAULT,
    extra: Extra | None = None,
    port: int | None = None,
) -> Path:
    """The configuration file of one replica of a cell made by `write_cell`; `addresses` are those of all members.

    It listens on `port`; without one, on that of its own address.
    """
    tables: dict[str, dict[str, int | str | bool]] = {
        "cell": {"name": cell, "secret_file": str(directory / "secret")},
        "replica": {
            "id": replica,
            "data": str(directory / f"replica-{replica}"),
            "host": HOST,
            "port": port or urlsplit(addresses[replica]).port or 0,
        },
    }
    for section, keys in (extra or {}).items():
        tables.setdefault(section, {}).update(keys)
    path = directory / f"replica-{replica}.toml"
    path.write_text(_toml(tables, sorted(addresses.items())))
    return path


def _toml(tables: Mapping[str, Mapping[str, int | str | bool]], members: Sequence[tuple[int, str]]) -> str:
    lines: list[str] = []
    for section, keys in tables.items():
        lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items()), ""]
    for replica, address in members:
        lines += ["[[cell.member]]", f"replica = {replica}", f"address = {json.dumps(address)}", ""]
    return "\n".join(lines)


def command(config_file: Path) -> list[str]:
    """How one replica of a development cell is started: it stops when its standard input ends (we may be killed)."""
    return [sys.executable, "-m", "coordd", "--config", str(config_file), "--stop-on-eof"]


async def run_replicas(files: Mapping[int, Path], log_level: str = "info") -> int:
    """Run every replica until SIGINT or SIGTERM, or until all have ended; 0 when all that ended did so in order."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    processes = {replica: await _start(path, log_level) for replica, path in files.items()}
    async with asyncio.TaskGroup() as tasks:
        for replica, process in processes.items():
            tasks.create_task(_print_lines(replica, process))
        stopping = tasks.create_task(_set(stop))
        everyone = tasks.create_task(_wait_all(processes.values()))
        await asyncio.wait((stopping, everyone), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        await _stop_all(processes.values(), everyone)
    return max(abs(process.returncode or 0) for process in processes.values())


async def _start(config_file: Path, log_level: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *command(config_file),
        *("--log-level", log_level, "--log-format", "console"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=LINE_BYTES_MAX,
        start_new_session=True,  # Ctrl-C reaches the parent alone, which then ends the children in order
    )


async def _print_lines(replica: int, process: asyncio.subprocess.Process) -> None:
    assert process.stdout is not None
    async for line in process.stdout:
        sys.stdout.write(f"[{replica}] {line.decode(errors='replace')}")
        sys.stdout.flush()
    status = await process.wait()
    sys.stdout.write(f"[{replica}] ended with {status}\n")
    sys.stdout.flush()


async def _set(event: asyncio.Event) -> None:
    await event.wait()


async def _wait_all(processes: Iterable[asyncio.subprocess.Process]) -> None:
    for process in processes:
        await process.wait()


async def _stop_all(processes: Iterable[asyncio.subprocess.Process], everyone: asyncio.Task[None]) -> None:
    running = [process for process in processes if process.returncode is None]
    for process in running:
        process.terminate()
    try:
        await asyncio.wait_for(asyncio.shield(everyone), STOP_SECONDS_MAX)
    except TimeoutError:
        for process in running:
            if process.returncode is None:
                process.kill()
        await everyone
