"""W1, W3, W4, W7 and W9 on a running cell; see the package's docstring for what they are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from benchmarks.measure import Meter, Result, closed_loop, percentile, rss_mib, server_cpu_seconds
from coordclient import CoordError
from coordclient.aio import Client
from coordd.testing.cells import RunningCell

VALUE = b"v" * 100
OPENED_AT_ONCE = 32
WRITE_PAUSE_SECONDS = 0.01
BEFORE_KILL_SECONDS, AFTER_KILL_SECONDS, FAILOVER_SECONDS_MAX = 1.5, 3.0, 40.0
IDLE_SECONDS = 5.0

_now = time.perf_counter


@dataclass(frozen=True, slots=True)
class Bench:
    """The cell and how long each measurement lasts."""

    cell: RunningCell
    seconds: float

    def meter(self) -> Meter:
        return Meter([self.cell.pid(replica) for replica in self.cell.addresses if self.cell.running(replica)])


@asynccontextmanager
async def clients(bench: Bench, form: str, workers: int) -> AsyncIterator[Callable[[int], Client]]:
    """The client of each worker: one for all (tasks) or one each (sessions)."""
    count = 1 if form == "tasks" else workers
    async with AsyncExitStack() as stack:
        opened: list[Client] = []
        for begin in range(0, count, OPENED_AT_ONCE):
            fresh = [Client(bench.cell.endpoints, name="bench") for _ in range(min(OPENED_AT_ONCE, count - begin))]
            opened += await asyncio.gather(*(stack.enter_async_context(client) for client in fresh))
            await asyncio.gather(*(client.stat("/") for client in fresh))
        yield lambda worker: opened[worker % count]


async def lock_cycles(bench: Bench, form: str, workers: int, aim: str = "") -> Result:
    """W1."""
    async with clients(bench, form, workers) as client_of:
        locks = [client_of(worker).lock(f"/bench/w1/{form}-{worker}") for worker in range(workers)]

        async def cycle(worker: int) -> float:
            lock = locks[worker]
            begun = _now()
            await lock.acquire()
            latency = _now() - begun
            await lock.release()
            return latency

        return await closed_loop(f"W1 lock cycles, {form}", workers, bench.seconds, cycle, bench.meter(), aim)


async def writes(bench: Bench, form: str, workers: int, aim: str = "") -> Result:
    """W3."""
    async with clients(bench, form, workers) as client_of:
        paths = [f"/bench/w3/{form}-{worker}" for worker in range(workers)]
        for worker, path in enumerate(paths):
            await client_of(worker).put(path, VALUE, parents=True)

        async def write(worker: int) -> float:
            begun = _now()
            await client_of(worker).put(paths[worker], VALUE)
            return _now() - begun

        return await closed_loop(f"W3 writes, {form}", workers, bench.seconds, write, bench.meter(), aim)


async def reads(bench: Bench, form: str, workers: int, aim: str = "") -> Result:
    """W4."""
    async with clients(bench, form, workers) as client_of:
        await client_of(0).put("/bench/hot", VALUE, parents=True)

        async def read(worker: int) -> float:
            begun = _now()
            await client_of(worker).get("/bench/hot")
            return _now() - begun

        return await closed_loop(f"W4 reads, {form}", workers, bench.seconds, read, bench.meter(), aim)


async def failover(bench: Bench, rounds: int, aim: str = "") -> Result:
    """W7: the median over the rounds, and how many locks were kept."""
    times, kept, total, before = [], 0, 0, []
    for round_ in range(rounds):
        async with Client(bench.cell.endpoints, name="bench") as writer, Client(bench.cell.endpoints) as holder:
            locks = [client.lock(f"/bench/w7/{round_}-{at}") for at, client in enumerate((writer, holder))]
            for lock in locks:
                await lock.acquire()
            seconds, latencies = await _one_failover(bench, writer)
            times.append(seconds)
            before += latencies
            await asyncio.sleep(AFTER_KILL_SECONDS)
            for lock in locks:
                total += 1
                try:
                    await lock.verify()
                    kept += 1
                except CoordError:
                    continue  # counted as not kept
        await asyncio.to_thread(bench.cell.wait_ready)
    times.sort()
    before.sort()
    return Result(
        "W7 kill -9 of the master to the next write",
        1,
        p50_ms=percentile(times, 0.5) * 1e3,
        p99_ms=times[-1] * 1e3,
        aim=aim,
        remark=f"{rounds} rounds, p99 = the worst; locks kept {kept}/{total};"
        f" a write before took {percentile(before, 0.5) * 1e3:.2f} ms",
    )


async def _one_failover(bench: Bench, writer: Client) -> tuple[float, list[float]]:
    """Seconds from the kill to the end of the first write that began after it; latencies of the writes before."""
    done: list[tuple[float, float]] = []
    killed: float | None = None
    recovered = asyncio.Event()
    await writer.put("/bench/w7/file", VALUE, parents=True)

    async def write_on() -> None:
        while True:
            begun = _now()
            try:
                await writer.put("/bench/w7/file", VALUE)
            except OSError:
                continue  # not acknowledged: tried again, and the time goes on
            done.append((begun, _now()))
            if killed is not None and begun > killed:
                recovered.set()
            await asyncio.sleep(WRITE_PAUSE_SECONDS)

    writing = asyncio.create_task(write_on())
    try:
        await asyncio.sleep(BEFORE_KILL_SECONDS)
        before = [end - begun for begun, end in done]
        master = await asyncio.to_thread(bench.cell.master)
        killed = _now()
        await asyncio.to_thread(bench.cell.kill, master)
        async with asyncio.timeout(FAILOVER_SECONDS_MAX):
            await recovered.wait()
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
    bench.cell.start(master)
    return next(end for begun, end in done if begun > killed) - killed, before


async def idle(bench: Bench) -> list[Result]:
    """W9: CPU and memory of each replica, with nobody connected."""
    await asyncio.sleep(1.0)
    replicas = [replica for replica in bench.cell.addresses if bench.cell.running(replica)]
    pids = [bench.cell.pid(replica) for replica in replicas]
    master = await asyncio.to_thread(bench.cell.master)
    before, begun = server_cpu_seconds(pids), _now()
    await asyncio.sleep(IDLE_SECONDS)
    after, passed = server_cpu_seconds(pids), _now() - begun
    return [
        Result(
            f"W9 idle, replica {replica} ({'master' if replica == master else 'follower'})",
            None,
            aim="2 % CPU, 80 MiB",
            remark=f"{(end - start) / passed * 100:.1f} % of a core, {memory:.0f} MiB",
        )
        for replica, start, end, memory in zip(replicas, before, after, rss_mib(pids), strict=True)
    ]
