"""The cell under test and everything around it: daemons behind proxies, client processes, the record, the shims.

What may be blocking (starting, killing, asking a daemon) runs in threads; the proxies run in the loop of the nemesis.
Whoever ends a daemon on purpose says so first (`down`): any other end is a finding.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from coordclient import aio
from coordd.dev import Extra, free_ports
from coordd.exits import Exit
from coordd.testing.cells import CellError, RunningCell
from tests.nemesis import mounts, shim
from tests.nemesis.dialers import Dialers
from tests.nemesis.history import Writer
from tests.nemesis.proxy import Link, Proxies
from tests.nemesis.record import Record
from tests.nemesis.schedule import SHIM, SMALL_DISK
from tests.nemesis.support import until
from tests.nemesis.worker import Orders

ROOT = Path(__file__).resolve().parents[2]
PYTHONPATH = os.pathsep.join((str(ROOT), str(ROOT / "clients" / "python")))
CELL = "nemesis"
SMALL_DISK_BYTES = 96 * 1024 * 1024
# Small, so that segments roll, snapshots are taken and logs are cut while faults happen.
SEGMENT_BYTES = 1 << 20
EXTRA: Extra = {
    "log": {"segment_bytes": SEGMENT_BYTES, "snapshot_after_bytes": 2 * SEGMENT_BYTES},
    "observe": {"format": "json"},
}
LEASES_S = (6.0, 3.0, 4.0, 2.0)  # of the sessions; the first worker is sheltered: nothing is done to it
SHELTERED = "c1"
USUAL_CLIENTS = 4  # more of them work more slowly, so that the machine bears them
ASK_S = 2.0
OPERATOR_S = 5.0
START_SECONDS_MAX = 60.0


@dataclass
class Worker:
    """One client process. `life` counts the processes of this name."""

    orders: Orders
    process: subprocess.Popen[bytes]
    life: int = 1


class World:
    """See the module docstring. `findings`: what went wrong; `impossible`: what this machine does not allow."""

    def __init__(self, directory: Path, replicas: int, workers: int, seed: int) -> None:
        self.directory = directory
        self.seed = seed
        self.chance = random.Random(f"{seed} bytes")
        self.notes = Writer(directory / "history-nemesis.jsonl")
        self.findings: list[str] = []
        self.impossible: dict[str, str] = {}
        self.dialers = Dialers()
        self.proxies = Proxies(self.dialers, self.chance)
        ports = free_ports(2 * replicas)
        self.dialled = dict(enumerate(ports[:replicas], 1))
        self.cell = RunningCell(directory / "cell", replicas, CELL, EXTRA, False, ports[:replicas])
        self.replicas = tuple(self.cell.addresses)  # the members; not those that were removed
        self.size = replicas
        self.shims: dict[int, shim.Shim] = {}
        self.workers: dict[str, Worker] = {}
        self.worker_names = [f"c{number}" for number in range(1, workers + 1)]
        self.down: set[int] = set()  # those that we ended, or told to end
        self.small: int | None = None  # the replica whose data are on the small file system
        self.filler = mounts.Filler(directory / "small")
        self._library: Path | None = None
        self._sockets = tempfile.TemporaryDirectory(prefix="nemesis-")  # a Unix socket's path must be short
        self.record = Record(Path(self._sockets.name) / "record", self.notes)
        self._operator: aio.Client | None = None

    @property
    def operator(self) -> aio.Client:
        """Who changes the members: a client of the library like all others."""
        if self._operator is None:
            self._operator = aio.Client(self.endpoints, name="operator", request_timeout=OPERATOR_S)
        return self._operator

    async def dismiss_operator(self) -> None:
        """Its session ends; the next change has another one."""
        if self._operator is not None:
            await self._operator.close()
            self._operator = None

    # ---- setting up ----

    async def start(self, namespace_fault: str) -> None:
        """Everything up and serving. `namespace_fault`: why no mount namespace of our own was to be had, or ""."""
        self._prepare_shims()
        self._prepare_small_disk(namespace_fault)
        for replica in self.replicas:
            await self._listen(replica)
        await self.record.start()
        for replica in self.replicas:
            self.start_replica(replica)
        await asyncio.to_thread(self.cell.wait_ready)

    async def _listen(self, replica: int) -> None:
        target = int(self.cell.addresses[replica].rpartition(":")[2])
        await self.proxies.listen(replica, self.dialled[replica], target)

    async def see_through(self) -> None:
        """Every connection goes through a link of the proxies; one that goes past them would never be hurt."""
        wanted = [(f"r{one}", other) for one in self.replicas for other in self.replicas if one != other]

        def missing() -> list[str]:
            found = [
                f"{dialler} to r{replica}" for dialler, replica in wanted if not self.link(dialler, replica).accepted
            ]
            return found + [
                name for name in self.workers if not any(link.accepted for link in self.links_of_worker(name))
            ]

        if not await until(lambda: not missing(), START_SECONDS_MAX):
            raise CellError(f"these do not go through the proxies: {', '.join(missing())}")

    @property
    def allowed(self) -> set[str]:
        """What the machine allows."""
        return {need for need in (SHIM, SMALL_DISK) if need not in self.impossible}

    @property
    def endpoints(self) -> list[str]:
        """The addresses that clients and peers know."""
        return [f"http://127.0.0.1:{port}" for port in self.dialled.values()]

    def _prepare_shims(self) -> None:
        self._library, why = shim.build(self.directory)
        if why:
            self.impossible[SHIM] = why
        for replica in self.replicas:
            self._prepare_shim(replica)

    def _prepare_shim(self, replica: int) -> None:
        self.cell.environment[replica] = {"PYTHONPATH": PYTHONPATH}
        if self._library is not None:
            self.shims[replica] = shim.Shim(self.directory / f"shim-{replica}")
            self.cell.environment[replica] |= self.shims[replica].environment(self._library)

    def _prepare_small_disk(self, namespace_fault: str) -> None:
        small = self.directory / "small"
        why = namespace_fault or mounts.mount_small(small, SMALL_DISK_BYTES)
        if why:
            self.impossible[SMALL_DISK] = why
            return
        self.small = 1 + self.seed % len(self.replicas)
        (small / "data").mkdir(mode=0o700)
        (self.cell.directory / f"replica-{self.small}").symlink_to(small / "data")

    # ---- replicas ----

    def start_replica(self, replica: int) -> None:
        """Start one that does not run; returns at once."""
        self.down.discard(replica)
        self.cell.start(replica)
        self.dialers.add(self.cell.pid(replica), f"r{replica}")

    async def kill(self, replica: int, number: signal.Signals = signal.SIGKILL) -> None:
        """End one on purpose, if it runs, and wait for its end."""
        if self.cell.running(replica) and replica not in self.down:
            self.down.add(replica)
            status = await asyncio.to_thread(self.cell.kill, replica, number)
            # One that has only just been started does not know SIGTERM yet and ends by it.
            if status not in (-number, Exit.OK if number == signal.SIGTERM else -number):
                self.findings.append(f"replica {replica} was sent {number.name} and ended with {status}")

    async def restart(self, replica: int) -> None:
        """Start one that was ended on purpose, if nobody else has; returns at once."""
        if replica in self.down and not self.cell.running(replica):
            self.start_replica(replica)

    async def prepare_member(self) -> tuple[int, str]:
        """A replica that may join, with everything around it; its id, never used before, and its address."""
        replica = max(self.cell.addresses) + 1
        (self.dialled[replica],) = free_ports(1)
        address = self.cell.prepare_join(replica, EXTRA, self.dialled[replica])
        self._prepare_shim(replica)
        await self._listen(replica)
        return replica, address

    def joined(self, replica: int) -> None:
        self.replicas = (*self.replicas, replica)

    def left(self, replica: int) -> None:
        self.replicas = tuple(other for other in self.replicas if other != replica)
        del self.dialled[replica]
        self.cell.forget(replica)

    def direct_addresses(self) -> dict[int, str]:
        """Of the members, past the proxies."""
        return {replica: self.cell.addresses[replica] for replica in self.replicas}

    async def status(self, replica: int) -> dict[str, Any] | None:
        """What a replica says about itself, past the proxies; None when it does not."""
        try:
            return await asyncio.to_thread(self.cell.post, replica, "status", None, ASK_S)
        except (OSError, ValueError):
            return None

    async def statuses(self) -> dict[int, dict[str, Any]]:
        """Of all that answer."""
        answers = await asyncio.gather(*(self.status(replica) for replica in self.replicas))
        return {replica: answer for replica, answer in zip(self.replicas, answers, strict=True) if answer is not None}

    async def master(self) -> int:
        """Who reigns, as far as can be said: the master of the highest epoch; any replica when there is none."""
        statuses = await self.statuses()
        reigning = [(status["epoch"], replica) for replica, status in statuses.items() if status["role"] == "master"]
        return max(reigning)[1] if reigning else self.replicas[self.chance.randrange(len(self.replicas))]

    async def follower(self, chance: int) -> int:
        """One that is not the master."""
        master = await self.master()
        others = [replica for replica in self.replicas if replica != master] or [master]
        return others[chance % len(others)]

    def look_for_the_dead(self) -> None:
        """Any process that ended without being told to is a finding."""
        for replica in self.replicas:
            if replica not in self.down and not self.cell.running(replica):
                status = self.cell.wait_exit(replica)
                said = f"{status} ({Exit(status).name})" if status in set(Exit) else f"{status}"
                self.findings.append(f"replica {replica} ended by itself with {said}")
                self.down.add(replica)
        for name, worker in list(self.workers.items()):
            ended = worker.process.poll()
            if ended is not None and ended != -signal.SIGKILL:
                self.findings.append(f"client {name} ended by itself with {ended}: see {self._log_of(name).name}")
                self._spawn(name, worker.life + 1)

    # ---- clients ----

    def start_workers(self) -> None:
        for name in self.worker_names:
            self._spawn(name, 1)

    def _spawn(self, name: str, life: int) -> None:
        number = self.worker_names.index(name)
        called = name if life == 1 else f"{name}+{life - 1}"
        orders = Orders(
            name=called,
            endpoints=self.endpoints,
            history=str(self.directory / f"history-{called}.jsonl"),
            record=str(Path(self._sockets.name) / "record"),
            seed=self.seed * 1_000 + number * 100 + life,
            session_lease=LEASES_S[number % len(LEASES_S)],
            request_timeout=4.0,
            pace=max(1.0, len(self.worker_names) / USUAL_CLIENTS),
            cache=(number + life) % 2 == 0,
        )
        with self._log_of(name).open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.nemesis.worker", json.dumps(asdict(orders))],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": PYTHONPATH},
                start_new_session=True,
            )
        self.dialers.add(process.pid, name)
        self.workers[name] = Worker(orders, process, life)

    async def kill_worker(self, name: str) -> None:
        process = self.workers[name].process
        process.kill()
        await asyncio.to_thread(process.wait)

    def respawn(self, name: str) -> None:
        self._spawn(name, self.workers[name].life + 1)

    async def stop_workers(self, seconds: float) -> None:
        """Let them close their sessions and end; one that does not is a finding."""
        for worker in self.workers.values():
            if worker.process.stdin is not None:
                worker.process.stdin.close()
        for name, worker in self.workers.items():
            try:
                status = await asyncio.to_thread(worker.process.wait, seconds)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                self.findings.append(f"client {name} did not end within {seconds} s")
                continue
            if status != 0:
                self.findings.append(f"client {name} ended with {status}: see {self._log_of(name).name}")
        self.workers.clear()

    def _log_of(self, name: str) -> Path:
        return self.directory / f"log-{name}"

    # ---- links ----

    def link(self, dialler: str, replica: int) -> Link:
        return self.proxies.link(dialler, replica)

    def links_between(self, one: int, other: int) -> list[Link]:
        """Both links between two replicas."""
        return [self.link(f"r{one}", other), self.link(f"r{other}", one)]

    def links_of(self, replica: int) -> list[Link]:
        """All links between a replica and its peers."""
        return [link for other in self.replicas if other != replica for link in self.links_between(replica, other)]

    def links_of_worker(self, name: str) -> list[Link]:
        return [self.link(name, replica) for replica in self.replicas]

    # ---- the end ----

    def histories(self) -> list[Path]:
        return sorted(self.directory.glob("history-*.jsonl"))

    async def close(self) -> None:
        """End whatever still runs."""
        for worker in self.workers.values():
            worker.process.kill()
            worker.process.wait()
        await self.dismiss_operator()
        await asyncio.to_thread(self.cell.stop)
        await self.proxies.close()
        self.record.close()
        self._sockets.cleanup()
