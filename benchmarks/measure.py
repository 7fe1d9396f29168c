"""Clocks, CPU time, memory, percentiles, and the closed loop."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

WARM_UP_SECONDS = 1.0
SYNCS = 300
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table; None where a column does not apply."""

    name: str
    workers: int | None
    ops_s: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    server_us_op: float | None = None
    client_us_op: float | None = None
    aim: str = ""
    remark: str = ""
    errors: dict[str, int] = field(default_factory=dict)


def server_cpu_seconds(pids: Sequence[int]) -> list[float]:
    """User and system time of each process so far."""
    found = []
    for pid in pids:
        tail = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        found.append((int(tail[11]) + int(tail[12])) / _TICKS)
    return found


def rss_mib(pids: Sequence[int]) -> list[float]:
    """Resident memory of each process."""
    return [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / 2**20 for pid in pids]


def client_cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def percentile(samples: Sequence[float], part: float) -> float:
    """Of sorted samples."""
    return samples[min(len(samples) - 1, int(len(samples) * part))]


class Meter:
    """CPU time of servers and client between `begin` and `end`."""

    def __init__(self, pids: Sequence[int]) -> None:
        self.pids = pids

    def begin(self) -> None:
        gc.collect()
        gc.freeze()
        self._servers = sum(server_cpu_seconds(self.pids))
        self._client = client_cpu_seconds()
        self._at = time.perf_counter()

    def end(self) -> tuple[float, float, float]:
        """(seconds passed, of the servers' CPU, of the client's CPU)."""
        passed = time.perf_counter() - self._at
        return passed, sum(server_cpu_seconds(self.pids)) - self._servers, client_cpu_seconds() - self._client


Step = Callable[[int], Awaitable[float]]
"""One operation of one worker; returns the latency that counts, in seconds."""


async def closed_loop(name: str, workers: int, seconds: float, step: Step, meter: Meter, aim: str = "") -> Result:
    """`workers` workers run `step` again and again; what ends within the counted time counts."""
    samples: list[float] = []
    errors: dict[str, int] = {}
    counting, stopping = False, False

    async def work(worker: int) -> None:
        while not stopping:
            try:
                latency = await step(worker)
            except OSError as error:  # every error of the library that a cell can cause now and then is one
                errors[type(error).__name__] = errors.get(type(error).__name__, 0) + 1
                continue
            if counting:
                samples.append(latency)

    async with asyncio.TaskGroup() as group:
        for worker in range(workers):
            group.create_task(work(worker))
        await asyncio.sleep(WARM_UP_SECONDS)
        meter.begin()
        counting = True
        await asyncio.sleep(seconds)
        counting = False
        passed, servers, client = meter.end()
        stopping = True
    samples.sort()
    count = max(1, len(samples))
    return Result(
        name,
        workers,
        ops_s=len(samples) / passed,
        p50_ms=percentile(samples, 0.5) * 1e3 if samples else None,
        p99_ms=percentile(samples, 0.99) * 1e3 if samples else None,
        server_us_op=servers / count * 1e6,
        client_us_op=client / count * 1e6,
        aim=aim,
        errors=errors,
    )


def sync_microseconds(directory: Path) -> tuple[float, float]:
    """p50 and p99 of appending 256 bytes and fdatasync in that directory."""
    samples = []
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        for _ in range(SYNCS):
            begun = time.perf_counter()
            file.write(b"x" * 256)
            os.fdatasync(file.fileno())
            samples.append((time.perf_counter() - begun) * 1e6)
    samples.sort()
    return percentile(samples, 0.5), percentile(samples, 0.99)
