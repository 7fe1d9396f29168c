"""One client process: several kinds of work over one session of the asyncio flavour of the real library and one of the
thread flavour, its history written to a file.

`python -m tests.nemesis.worker ORDERS` runs until its standard input ends; ORDERS is a JSON object (`Orders`). It ends
with 0, or with 1 when the library raised something that is no CoordError: then the traceback is in its log.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from coordclient import aio
from tests.nemesis.history import Writer, now_ns
from tests.nemesis.work import AGAIN, Bench, count, keep, make, use_registers
from tests.nemesis.work_locks import hold, hold_by_hand
from tests.nemesis.work_names import arrange, ask
from tests.nemesis.work_permits import operate, permit, together
from tests.nemesis.work_tables import transact
from tests.nemesis.work_threads import use_threads
from tests.nemesis.work_watches import end_watch, watch

LAG_EVERY_S = 0.05
LAG_NOTED_MS = 60
HITS_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class Orders:
    """What a worker is told. Times in seconds; `pace`: how much longer than usual it pauses; `cache`: whether the
    session of the asyncio flavour has a cache; that of the threads has one if not."""

    name: str
    endpoints: list[str]
    history: str
    record: str
    seed: int
    session_lease: float
    request_timeout: float
    pace: float
    cache: bool


async def run(orders: Orders, ended: asyncio.Event) -> None:
    writer = Writer(Path(orders.history))
    writer.note(orders.name, "begin", lease_s=orders.session_lease, cache=orders.cache, pid=os.getpid())
    client = aio.Client(
        orders.endpoints,
        session_lease=orders.session_lease,
        request_timeout=orders.request_timeout,
        name=orders.name,
        on_state=lambda state: writer.note(orders.name, "state", state=state, session=client.session_id),
        cache=orders.cache,
    )
    again = AGAIN if orders.cache else 0
    bench = Bench(orders.name, client, writer, random.Random(orders.seed), Path(orders.record), orders.pace, again)
    besides = [asyncio.create_task(one) for one in (_watch_own_lag(orders.name, writer), _note_hits(bench))]
    closing = asyncio.Event()
    threads_stopped = threading.Event()
    threads = asyncio.create_task(_use_threads(orders, writer, threads_stopped))
    async with client:
        jobs = (
            *(use_registers, transact, count, hold, hold_by_hand, make, keep, arrange, ask),
            *(permit, together, operate),
        )
        tasks = [asyncio.create_task(job(bench, f"{orders.name}.{n}-{job.__name__}")) for n, job in enumerate(jobs)]
        watching = asyncio.create_task(watch(bench, f"{orders.name}.{len(jobs)}-watch", closing))
        stopped = asyncio.create_task(ended.wait())
        await asyncio.wait([stopped, threads, watching, *tasks], return_when=asyncio.FIRST_COMPLETED)
        threads_stopped.set()
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(threads, *tasks, return_exceptions=True)
        writer.note(orders.name, "closing")
        await end_watch(bench, watching, closing)
    for task in besides:
        task.cancel()
    stopped.cancel()
    writer.note(orders.name, "closed")
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
            raise result


async def _use_threads(orders: Orders, writer: Writer, stopped: threading.Event) -> None:
    await asyncio.to_thread(
        use_threads,
        orders.endpoints,
        orders.name,
        writer,
        orders.seed,
        orders.session_lease,
        orders.request_timeout,
        orders.pace,
        not orders.cache,
        stopped,
    )


async def _note_hits(bench: Bench) -> None:
    """So that a kill takes few of them away."""
    while True:
        await asyncio.sleep(HITS_EVERY_S)
        bench.history.note(bench.name, "cache", hits=bench.client.cache_info().hits)


async def _watch_own_lag(name: str, writer: Writer) -> None:
    """Note when this process did not run: it was stopped, or the machine is too slow to judge it."""
    before = now_ns()
    while True:
        await asyncio.sleep(LAG_EVERY_S)
        now = now_ns()
        lag_ms = (now - before) // 1_000_000 - round(LAG_EVERY_S * 1_000)
        if lag_ms > LAG_NOTED_MS:
            writer.note(name, "lag", ms=lag_ms)
        before = now


async def main() -> None:
    """Run as the command line says."""
    orders = Orders(**json.loads(sys.argv[1]))
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    os.set_blocking(0, False)

    def readable() -> None:
        if not os.read(0, 65_536):
            loop.remove_reader(0)
            ended.set()

    loop.add_reader(0, readable)
    await run(orders, ended)


if __name__ == "__main__":
    asyncio.run(main())
