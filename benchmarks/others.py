"""W4 and W6 with etcd and ZooKeeper, where they are installed: three nodes on loopback with their default settings, so
with fsync on, and the clients of `bare_clients`; and our own cell with such a client.

One connection each (*sessions*) goes to the nodes in turn, one for all (*tasks*) to the leader, which is the quicker.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks import fan_out
from benchmarks.bare_clients import HOST, BareClient, Coordd, Etcd, ZooKeeper
from benchmarks.measure import Meter, Result, Step, closed_loop
from benchmarks.workloads import OPENED_AT_ONCE, VALUE
from coordd.dev import free_ports
from coordd.testing.cells import RunningCell

NODES = 3
KEY = "/beside"
START_SECONDS_MAX, STOP_SECONDS_MAX, POLL_SECONDS = 60.0, 10.0, 0.05
WARM_UP_WORKERS, REGISTERED_AT_ONCE = 64, 200
WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")  # a node ends with the bench, however that ends
DEBIANS_ZOOKEEPER = Path("/usr/share/java/zookeeper.jar")

_now = time.perf_counter


@dataclass(frozen=True, slots=True)
class State:
    """What a node says of itself."""

    leads: bool
    version: str


@dataclass(frozen=True, slots=True)
class System:
    """One of the others. `ports` in `commands` are three for each node: for clients, for peers, for elections."""

    name: str
    needs: str
    found: Callable[[], bool]
    commands: Callable[[Path, list[tuple[int, int, int]]], list[list[str]]]
    state: Callable[[int], State | None]
    client: type[BareClient]
    warm_up_seconds: float


@dataclass(frozen=True, slots=True)
class Cell:
    """A running one. Connections go to its ports in turn; one alone, to the first, which is the leader's."""

    name: str
    version: str
    client: type[BareClient]
    ports: list[int]
    pids: list[int]

    @property
    def remark(self) -> str:
        return f"{self.name} {self.version}, bare client"

    async def clients(self, form: str, workers: int) -> list[BareClient]:
        """One for all (tasks) or one each (sessions)."""
        count, opened = 1 if form == "tasks" else workers, list[BareClient]()
        for begin in range(0, count, OPENED_AT_ONCE):
            numbers = range(begin, min(count, begin + OPENED_AT_ONCE))
            opened += await asyncio.gather(*(self.client.open(self.ports[at % len(self.ports)]) for at in numbers))
        return opened


# ---- what each of them is


def _etcd_found() -> bool:
    return shutil.which("etcd") is not None


def _etcd_commands(directory: Path, ports: list[tuple[int, int, int]]) -> list[list[str]]:
    cluster = ",".join(f"n{at}=http://{HOST}:{peer}" for at, (_, peer, _) in enumerate(ports))
    found = []
    for at, (client, peer, _) in enumerate(ports):
        command = ["etcd", "--name", f"n{at}", "--data-dir", str(directory / f"n{at}"), "--initial-cluster", cluster]
        for option, port in (("client", client), ("peer", peer)):
            advertise = "--advertise-client-urls" if option == "client" else "--initial-advertise-peer-urls"
            command += [f"--listen-{option}-urls", f"http://{HOST}:{port}", advertise, f"http://{HOST}:{port}"]
        found.append(command)
    return found


def _etcd_state(port: int) -> State | None:
    with urllib.request.urlopen(f"http://{HOST}:{port}/v3/maintenance/status", b"{}", timeout=1.0) as answer:
        return etcd_state(answer.read())


def etcd_state(answer: bytes) -> State | None:
    """None while it knows no leader."""
    status = json.loads(answer)
    leader = status.get("leader", "0")
    return None if leader == "0" else State(leader == status["header"]["member_id"], status["version"])


def _zookeeper_classes() -> str | None:
    """Its class path: that of ZOOKEEPER_HOME, else of Debian's package; None without either."""
    home = os.environ.get("ZOOKEEPER_HOME")
    if home:
        return f"{home}/conf:{home}/lib/*"
    return str(DEBIANS_ZOOKEEPER) if DEBIANS_ZOOKEEPER.exists() else None


def _zookeeper_found() -> bool:
    return shutil.which("java") is not None and _zookeeper_classes() is not None


def _zookeeper_commands(directory: Path, ports: list[tuple[int, int, int]]) -> list[list[str]]:
    cluster = [f"server.{at}={HOST}:{peer}:{election}" for at, (_, peer, election) in enumerate(ports, 1)]
    found = []
    for at, (client, _, _) in enumerate(ports, 1):
        data, file = directory / f"n{at}", directory / f"n{at}.cfg"
        data.mkdir(parents=True)
        (data / "myid").write_text(f"{at}\n")
        lines = ["tickTime=2000", "initLimit=10", "syncLimit=5", f"dataDir={data}", f"clientPort={client}"]
        lines += [f"clientPortAddress={HOST}", "maxClientCnxns=0", "admin.enableServer=false", *cluster]
        file.write_text("\n".join(lines) + "\n")
        java = ["java", "-Xmx1000m", "-cp", _zookeeper_classes() or ""]  # the heap is that of its own start script
        found.append([*java, "org.apache.zookeeper.server.quorum.QuorumPeerMain", str(file)])
    return found


def _zookeeper_state(port: int) -> State | None:
    with socket.create_connection((HOST, port), timeout=1.0) as asked:
        asked.sendall(b"srvr")
        answer = b""
        while piece := asked.recv(4_096):
            answer += piece
    return zookeeper_state(answer.decode())


def zookeeper_state(answer: str) -> State | None:
    """None while it does not serve."""
    version = re.search(r"^Zookeeper version: ([\d.]+)", answer, re.MULTILINE)
    mode = re.search(r"^Mode: (\w+)", answer, re.MULTILINE)
    return State(mode[1] == "leader", version[1]) if version and mode else None


SYSTEMS = (
    System("etcd", "etcd", _etcd_found, _etcd_commands, _etcd_state, Etcd, 2.0),
    # A JVM is slow before it has compiled what it does often.
    System("ZooKeeper", "java and zookeeper", _zookeeper_found, _zookeeper_commands, _zookeeper_state, ZooKeeper, 10.0),
)


# ---- the nodes


def ours(cell: RunningCell) -> Cell:
    """Our own cell, for the same clients; all of them go to the master, as with the library."""
    master = cell.master()
    pids = [cell.pid(replica) for replica in cell.addresses]
    return Cell("coordd", metadata.version("coordd"), Coordd, [urlsplit(cell.addresses[master]).port or 0], pids)


@contextmanager
def running(system: System, directory: Path) -> Iterator[Cell]:
    """Three nodes that serve, until the end of the block."""
    ports = free_ports(3 * NODES)
    triples = [(ports[at], ports[at + 1], ports[at + 2]) for at in range(0, 3 * NODES, 3)]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for at, command in enumerate(system.commands(directory, triples)):
            with (directory / f"n{at}.log").open("wb") as log:
                processes.append(
                    subprocess.Popen(
                        [*WITH_PARENT, *command],
                        cwd=directory,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
                )
        states = _wait_serving(system, directory, [client for client, _, _ in triples])
        leader_first = sorted(states, key=lambda port: not states[port].leads)
        pids = [process.pid for process in processes]
        yield Cell(system.name, states[leader_first[0]].version, system.client, leader_first, pids)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_serving(system: System, directory: Path, ports: Sequence[int]) -> dict[int, State]:
    """The states by port, as soon as all serve and one leads."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        with suppress(OSError):  # who does not listen yet
            states = {port: state for port in ports if (state := system.state(port)) is not None}
            if len(states) == len(ports) and any(state.leads for state in states.values()):
                return states
        time.sleep(POLL_SECONDS)
    logs = "".join(f"\n--- {path.name}\n{path.read_text()[-2_000:]}" for path in sorted(directory.glob("*.log")))
    raise SystemExit(f"bench: {system.name} does not serve after {START_SECONDS_MAX:.0f} s{logs}")


# ---- the work


def skipped(system: System, work: Sequence[str]) -> Result:
    """The line of a system that is not there: no figure."""
    return Result(f"{', '.join(work)}, {system.name}", None, remark=f"SKIPPED: needs {system.needs}")


async def warm_up(cell: Cell, seconds: float) -> None:
    """Reads for a while, not counted; the key is there then."""
    (client,) = await cell.clients("tasks", 1)
    await client.make(KEY, VALUE)
    for way in client.ways:
        each = seconds / len(client.ways)
        await closed_loop("", WARM_UP_WORKERS, each, _reading([client], way), Meter(cell.pids))
    client.close()


async def reads(cell: Cell, form: str, workers: int, seconds: float) -> list[Result]:
    """W4, in every way that the system has."""
    clients = await cell.clients(form, workers)
    found = []
    for way in cell.client.ways:
        name = f"W4 reads, {form}, {cell.name}, {way}"
        result = await closed_loop(name, workers, seconds, _reading(clients, way), Meter(cell.pids))
        found.append(replace(result, remark=cell.remark))
    _close(clients)
    return found


def _reading(clients: list[BareClient], way: str) -> Step:
    async def read(worker: int) -> float:
        begun = _now()
        answer = await clients[worker % len(clients)].get(KEY, way)
        latency = _now() - begun
        assert VALUE in answer
        return latency

    return read


async def watchers(cell: Cell, form: str, count: int) -> list[Result]:
    """W6. Not ZooKeeper's on one connection: a session has one watch of a node there, whoever waits for it."""
    if form == "tasks" and not cell.client.lasting:
        return []
    writer, *clients = [*await cell.clients("tasks", 1), *await cell.clients(form, count)]
    round_ = fan_out.Round(count)

    async def register() -> None:
        for begin in range(0, count, REGISTERED_AT_ONCE):
            numbers = range(begin, min(count, begin + REGISTERED_AT_ONCE))
            await asyncio.gather(*(clients[at % len(clients)].watch(KEY, round_.told) for at in numbers))

    await register()
    rearm = None if cell.client.lasting else register
    result = await fan_out.rounds(
        f"{form}, {cell.name}",
        round_,
        lambda value: writer.put(KEY, value),
        Meter(cell.pids),
        rearm,
        cell.remark,
    )
    _close([writer, *clients])
    return [result]


def _close(clients: list[BareClient]) -> None:
    for client in clients:
        client.close()
