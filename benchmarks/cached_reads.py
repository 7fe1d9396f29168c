"""W10 and W11 on a running cell: reads from the consistent cache, and a write of what many clients have cached."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack

import coordclient
from benchmarks.measure import Meter, Result, percentile
from benchmarks.workloads import OPENED_AT_ONCE, VALUE, Bench
from coordclient import aio

HOT, DIRECTORY, FILES = "/bench/cached/7", "/bench/cached", 20
BATCH = 1_000  # reads between two looks at the clock
WRITES = 40
HELD_SECONDS_MAX = 20.0

_now = time.perf_counter


def reads_in_a_thread(bench: Bench) -> list[Result]:
    """W10, threads: one thread reads, with nothing else to do."""
    with coordclient.Client(bench.cell.endpoints, name="bench", cache=True) as client:
        for number in range(FILES):
            client.put(f"{DIRECTORY}/{number}", VALUE, parents=True)
        found = []
        for name, read, aim in (
            ("get", lambda: client.get(HOT), "1,000,000 ops/s"),
            ("stat", lambda: client.stat(HOT), ""),
            (f"ls of {FILES}", lambda: client.ls(DIRECTORY), ""),
        ):
            found.append(_in_a_thread(bench, client, name, read, aim))
        return found


def _in_a_thread(bench: Bench, client: coordclient.Client, name: str, read: Callable[[], object], aim: str) -> Result:
    until_held = _now() + HELD_SECONDS_MAX
    while not client.cache_info().hits and _now() < until_held:
        read()
    before, meter, count = client.cache_info(), bench.meter(), 0
    meter.begin()
    end = _now() + bench.seconds
    while _now() < end:
        for _ in range(BATCH):
            read()
        count += BATCH
    return _result(f"W10 cached {name}, thread", count, meter, before.misses, client.cache_info().misses, aim)


async def reads_in_a_task(bench: Bench) -> list[Result]:
    """W10, tasks: one task reads."""
    async with aio.Client(bench.cell.endpoints, name="bench", cache=True) as client:
        for number in range(FILES):
            await client.put(f"{DIRECTORY}/{number}", VALUE, parents=True)
        until_held = _now() + HELD_SECONDS_MAX
        while not client.cache_info().hits and _now() < until_held:
            await client.get(HOT)
        before, meter, count = client.cache_info(), bench.meter(), 0
        meter.begin()
        end = _now() + bench.seconds
        while _now() < end:
            for _ in range(BATCH):
                await client.get(HOT)
            count += BATCH
        missed = client.cache_info().misses
        return [_result("W10 cached get, task", count, meter, before.misses, missed, "500,000 ops/s")]


def _result(name: str, count: int, meter: Meter, missed_before: int, missed: int, aim: str) -> Result:
    passed, servers, client = meter.end()
    return Result(
        name,
        1,
        ops_s=count / passed,
        server_us_op=servers / count * 1e6,
        client_us_op=client / count * 1e6,
        aim=aim,
        remark=f"{missed - missed_before} of {count:,} asked the cell; {count / client:,.0f} in a second of CPU",
    )


async def write_of_what_is_cached(bench: Bench, readers: int) -> list[Result]:
    """W11: every reader holds the node when the write begins; readers and writer share one thread."""
    path = f"/bench/w11/{readers}"
    async with AsyncExitStack() as stack:
        writer = await stack.enter_async_context(aio.Client(bench.cell.endpoints, name="bench"))
        await writer.put(path, VALUE, parents=True)
        clients: list[aio.Client] = []
        for begin in range(0, readers, OPENED_AT_ONCE):
            fresh = [
                aio.Client(bench.cell.endpoints, name="bench", cache=True)
                for _ in range(min(OPENED_AT_ONCE, readers - begin))
            ]
            clients += await asyncio.gather(*(stack.enter_async_context(client) for client in fresh))
            await asyncio.gather(*(client.get(path) for client in fresh))
        plain = sorted([await _put(writer, f"{path}-plain") for _ in range(WRITES)])
        held, latencies, meter, servers, client_cpu = 0, [], bench.meter(), 0.0, 0.0
        for _ in range(WRITES):
            await asyncio.gather(*(client.get(path) for client in clients))
            held += sum(client.cache_info().entries for client in clients)
            meter.begin()
            latencies.append(await _put(writer, path))
            _, server, client = meter.end()
            servers, client_cpu = servers + server, client_cpu + client
        latencies.sort()
        return [
            Result(
                "W11 write of what N clients have cached",
                readers,
                p50_ms=percentile(latencies, 0.5) * 1e3,
                p99_ms=percentile(latencies, 0.99) * 1e3,
                server_us_op=servers / WRITES / readers * 1e6,
                client_us_op=client_cpu / WRITES / readers * 1e6,
                remark=f"{WRITES} writes, each with {held / WRITES:,.0f} readers that held it; us/op is of each;"
                f" a write that nobody has cached took {percentile(plain, 0.5) * 1e3:.2f} ms",
            )
        ]


async def _put(writer: aio.Client, path: str) -> float:
    """Seconds that a write took."""
    begun = _now()
    await writer.put(path, VALUE)
    return _now() - begun
