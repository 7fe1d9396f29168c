"""W6: one write, told to many watchers of one node; the rounds, for whatever system, and coordd's watchers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from benchmarks.measure import Meter, Result, percentile
from benchmarks.workloads import VALUE, Bench, clients
from coordclient.aio import Client
from coordclient.aio.watch import Watch

PATH = "/bench/w6"
ROUNDS, ROUNDS_NOT_COUNTED = 50, 5
ROUND_SECONDS_MAX = 20.0
PAUSE_SECONDS = 0.02  # after the last callback: what a round leaves behind is done before the next, and is counted

_now = time.perf_counter


class Round:
    """When each watcher of one round was told."""

    def __init__(self, watchers: int) -> None:
        self.watchers = watchers
        self.begin()

    def begin(self) -> None:
        self.times: list[float] = []
        self._whole = asyncio.Event()

    def told(self) -> None:
        """The callback of a watcher."""
        self.times.append(_now())
        if len(self.times) == self.watchers:
            self._whole.set()

    async def whole(self) -> None:
        """Until all have been told."""
        async with asyncio.timeout(ROUND_SECONDS_MAX):
            await self._whole.wait()


async def rounds(
    name: str,
    round_: Round,
    write: Callable[[bytes], Awaitable[object]],
    meter: Meter,
    rearm: Callable[[], Awaitable[object]] | None = None,
    remark: str = "",
) -> Result:
    """Every watcher is registered and calls `round_.told`. Latency is from just before the write until the callback of
    the last one; CPU time is that of one watcher. `rearm`: what watches that tell once need after each round; it is not
    part of either."""
    last, middle, acknowledged, servers, client = [], [], [], 0.0, 0.0
    for number in range(-ROUNDS_NOT_COUNTED, ROUNDS):
        round_.begin()
        meter.begin()
        begun = _now()
        await write(b"%-100d" % number)
        written = _now()
        await round_.whole()
        await asyncio.sleep(PAUSE_SECONDS)
        _, server_cpu, client_cpu = meter.end()
        assert len(round_.times) == round_.watchers, "a watcher was told twice"
        if number >= 0:
            last.append(round_.times[-1] - begun)
            middle.append(round_.times[round_.watchers // 2] - begun)
            acknowledged.append(written - begun)
            servers, client = servers + server_cpu, client + client_cpu
        if rearm is not None:
            await rearm()
    last.sort()
    half, wrote = (percentile(sorted(samples), 0.5) * 1e3 for samples in (middle, acknowledged))
    words = f"{ROUNDS} rounds (p99: the worst); half were told after {half:.2f} ms, written after {wrote:.2f} ms"
    return Result(
        f"W6 write to the last watcher, {name}",
        round_.watchers,
        p50_ms=percentile(last, 0.5) * 1e3,
        p99_ms=last[-1] * 1e3,
        server_us_op=servers / ROUNDS / round_.watchers * 1e6,
        client_us_op=client / ROUNDS / round_.watchers * 1e6,
        remark="; ".join(part for part in (remark, words) if part),
    )


async def watchers(bench: Bench, form: str, count: int) -> Result:
    """W6 with the library: each watcher is a task that iterates."""
    round_ = Round(count)

    async def iterate(watch: Watch) -> None:
        async for _ in watch:
            round_.told()

    async with Client(bench.cell.endpoints, name="bench") as writer, clients(bench, form, count) as client_of:
        await writer.put(PATH, VALUE, parents=True)
        watches = [client_of(worker).watch(PATH) for worker in range(count)]
        async with asyncio.TaskGroup() as group:
            await asyncio.gather(*(watch.__aenter__() for watch in watches))
            for watch in watches:
                group.create_task(iterate(watch))
            result = await rounds(form, round_, lambda contents: writer.put(PATH, contents), bench.meter())
            for watch in watches:
                await watch.close()
    return result
