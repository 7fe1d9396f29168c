"""A holder is told in time: of jeopardy when it begins, and of the loss at `deadline - stop_margin`, measured."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import pytest

from coordclient import Client, LockLost
from tests.clients.conftest import bind, until
from tests.clients.test_lost import forever

MARGINS = [0.3, 0.4, 0.5, 0.6] * 3


class Stalls:
    """How long this process stood still meanwhile, in all, as a thread sees that does nothing but wait."""

    STEP_SECONDS, NOTED_SECONDS = 0.005, 0.05

    def __init__(self) -> None:
        self.seconds = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        before = time.monotonic()
        while not self._over.wait(self.STEP_SECONDS):
            now = time.monotonic()
            if now - before > self.NOTED_SECONDS:
                self.seconds += now - before
            before = now


async def test_everybody_is_told_before_the_deadline_and_the_worst_delay_is_printed(make_client, wire, path):
    """Both flavours at once: bodies of tasks that are cancelled, threads that are called back or look."""
    tasks_client = bind(make_client([wire.address], session_lease=2))
    late: dict[str, list[float]] = {"cancelled": [], "called back": [], "looked": []}

    def note(how, state):
        hold = state.granted()
        late[how].append(hold.stop_margin_ms - hold.left_ms(state.keeper.clocks()))

    async def work(number, margin):
        lock = tasks_client.lock(f"{path}/task/{number}", lock_delay=1, stop_margin=margin)
        with pytest.raises(LockLost):
            async with lock:
                try:
                    await forever()
                finally:
                    note("cancelled", lock._state)

    def thread(client, number, margin, ready):
        called = threading.Event()

        def on_lost(_):
            note("called back", lock._state)
            called.set()

        lock = client.lock(f"{path}/thread/{number}", lock_delay=1, stop_margin=margin, on_lost=on_lost)
        with pytest.raises(LockLost), lock:
            ready.release()
            while lock.safe:
                threading.Event().wait(0.002)
            note("looked", lock._state)
            assert called.wait(10)

    client = Client(wire.address, session_lease=2)
    client._client._endpoints.learn = lambda addresses: None  # type: ignore[method-assign]
    ready = threading.Semaphore(0)
    loop = asyncio.get_running_loop()
    with Stalls() as stalls, ThreadPoolExecutor(len(MARGINS) + 1) as pool:
        async with asyncio.TaskGroup() as group:
            for number, margin in enumerate(MARGINS):
                group.create_task(work(number, margin))
            threads = [
                loop.run_in_executor(pool, thread, client, number, margin, ready)
                for number, margin in enumerate(MARGINS)
            ]
            await loop.run_in_executor(pool, lambda: [ready.acquire() for _ in MARGINS])
            life = tasks_client._keeper.alive()
            await until(lambda: len(life.holds.all) == len(MARGINS), "all tasks to hold")
            stalls.seconds = 0.0  # what came before matters to nobody
            wire.cut()
        await asyncio.gather(*threads)
        wire.mend()
        await loop.run_in_executor(pool, client.close)
    for how, delays in late.items():
        sys.stdout.write(f"told after deadline - stop_margin, {how}: worst {max(delays)} ms of {len(delays)}\n")
        assert len(delays) == len(MARGINS)
        assert min(delays) >= 0
        assert max(delays) < 1_000 * (min(MARGINS) + stalls.seconds), "told before the deadline itself"


async def test_jeopardy_is_told_to_holders_with_the_seconds_that_are_left_and_to_nobody_else(make_client, clocks, path):
    heard: list[tuple[str, float]] = []

    def lock(name, **more):
        return client.lock(f"{path}/{name}", on_jeopardy=lambda left: heard.append((name, left)), **more)

    states: list[str] = []
    client, other = make_client(clocks=clocks, on_state=states.append), make_client()
    async with lock("held"), other.lock(f"{path}/awaited"):
        released = lock("released")
        async with released:
            pass
        waiting = asyncio.create_task(lock("awaited").acquire(timeout=60))
        short = lock("short", lock_delay=0)
        await short.acquire()
        clocks.pass_ms(12_500)  # the lease is over; what has no lock-delay with it
        await until(lambda: states == ["active", "jeopardy", "active"])
        waiting.cancel()
        with pytest.raises(LockLost):
            await short.release()
    ((name, left),) = heard
    assert name == "held"
    assert 3 < left < 4.5, "lease and lock-delay of 17 s, less drift and 12.5 s"


async def test_a_callback_of_jeopardy_that_raises_breaks_nothing(make_client, clocks, path, caplog):
    client = make_client(clocks=clocks)
    async with client.lock(path, on_jeopardy=lambda left: 1 / 0) as lock:
        clocks.pass_ms(12_500)
        await until(lambda: "on_jeopardy" in caplog.text)
        await until(lambda: client.state == "active")
        lock.check()


async def test_a_busy_event_loop_is_jeopardy_and_never_silence(make_client, path):
    """The application's own callback blocks the loop for longer than the lease; no KeepAlive can be sent meanwhile."""
    states: list[str] = []
    left: list[float] = []
    client = make_client(session_lease=1, on_state=states.append)
    try:
        async with client.lock(path, on_jeopardy=left.append) as lock:
            end = time.monotonic() + 1.5
            while time.monotonic() < end:
                pass
            assert lock.safe, "the lock-delay rides it out"
            await until(lambda: len(states) >= 3)
    except LockLost:
        assert states[2] == "expired", "the cell had ended the session before it could hear anything"
    assert states[:2] == ["active", "jeopardy"]
    assert len(left) == 1


def test_a_thread_is_told_of_jeopardy_in_a_thread_that_may_block(cell, clocks, path):
    from tests.clients.test_threads import until as wait_until
    from tests.clients.test_threads import with_clocks

    threads: list[str] = []
    go_on = threading.Event()

    def on_jeopardy(left):
        threads.append(threading.current_thread().name)
        go_on.wait(10)

    with Client(cell.endpoints) as client:
        states: list[str] = []
        with_clocks(client, cell, clocks, states.append)
        with client.lock(path, on_jeopardy=on_jeopardy) as lock:
            clocks.pass_ms(12_500)
            wait_until(lambda: states == ["active", "jeopardy", "active"])
            lock.check()
            go_on.set()
    assert threads == ["coordclient on_jeopardy"]


async def test_a_lock_that_is_forgotten_while_it_is_held_warns_and_stays_held(make_client, path):
    client, other = make_client(), make_client()
    await (lock := client.lock(path)).acquire()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del lock
        gc.collect()
    ((category, text),) = [(warning.category, str(warning.message)) for warning in caught]
    assert category is ResourceWarning
    assert path in text
    assert "release it, or use `with`" in text
    assert not await other.lock(path).acquire(blocking=False), "whoever acquired it may rely on it"


def test_a_forgotten_lock_of_a_thread_warns_too(cell, path):
    with Client(cell.endpoints) as client:
        lock = client.lock(path)
        lock.acquire()
        with pytest.warns(ResourceWarning, match=path):
            del lock
            gc.collect()


async def test_a_lock_that_was_released_lost_or_never_held_is_forgotten_in_silence(make_client, clocks, path):
    client = make_client(clocks=clocks)
    async with client.lock(path):
        pass
    lost = client.lock(path)
    await lost.acquire()
    clocks.pass_ms(16_500)
    assert not lost.safe
    del lost
    client.lock(path)
    gc.collect()
