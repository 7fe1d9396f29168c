"""The same work in the thread flavour of the library: three threads share one client with a session of its own."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from coordclient import Client, CoordError, Lock, LockLost
from coordclient.errors import Conflict, GuardFailed, NotFound
from tests.nemesis.history import NOT_DONE, OK, THREADS, Writer, now_ns
from tests.nemesis.work import AGAIN, COUNTERS, LOCK_DELAYS_S, PERIOD_NS, REGISTERS, outcome_of
from tests.nemesis.work_locks import LOOK_EVERY_S, PATIENCE_S, STOP_MARGIN_S, how_long_ns, which_lock

OPENING_S = 0.5


@dataclass
class ThreadBench:
    """What the threads share. `stopped` ends them."""

    name: str
    client: Client
    history: Writer
    stopped: threading.Event
    pace: float
    again: int

    def rest(self, chance: random.Random, low: float = 0.02, high: float = 0.12) -> bool:
        """A pause; True when the work is over."""
        return self.stopped.wait(chance.uniform(low, high) * self.pace)

    def outcome(self, error: CoordError) -> str:
        return outcome_of(error, self.history, self.name)


def use_threads(
    endpoints: list[str],
    name: str,
    history: Writer,
    seed: int,
    lease_s: float,
    timeout_s: float,
    pace: float,
    cache: bool,
    stopped: threading.Event,
) -> None:
    """Until `stopped`; then the client is closed under its threads. Raises what one of them raised."""
    name += THREADS
    history.note(name, "begin", lease_s=lease_s, cache=cache)
    client = Client(
        endpoints,
        session_lease=lease_s,
        request_timeout=timeout_s,
        name=name,
        on_state=lambda state: history.note(name, "state", state=state, session=client.session_id),
        cache=cache,
    )
    bench = ThreadBench(name, client, history, stopped, pace, AGAIN if cache else 0)
    jobs: tuple[Callable[[ThreadBench, str, random.Random], None], ...] = (use_registers, count, hold)
    with ThreadPoolExecutor(len(jobs)) as pool:
        running = [
            pool.submit(job, bench, f"{name}.{number}-{job.__name__}", random.Random(f"{seed} {number}"))
            for number, job in enumerate(jobs)
        ]
        while not stopped.wait(OPENING_S) and not any(future.done() for future in running):
            history.note(name, "cache", hits=client.cache_info().hits)
        stopped.set()
        history.note(name, "closing")
        client.close()
        history.note(name, "closed")
    for future in running:
        future.result()


def use_registers(bench: ThreadBench, who: str, chance: random.Random) -> None:
    """Plain reads and writes of the files that everybody uses."""
    written = 0
    while not bench.rest(chance):
        path = f"/reg/{now_ns() // PERIOD_NS}/{chance.randrange(REGISTERS)}"
        if chance.random() < 0.6:
            _read(bench, who, path)
            for _ in range(bench.again):
                bench.rest(chance, 0, 0.02)
                _read(bench, who, path)
            continue
        written += 1
        value = f"{who}-{written}"
        number = bench.history.begin(who, "put", key=path, value=value, expected=None, generation=None)
        try:
            stat = bench.client.put(path, value.encode(), parents=True)
        except CoordError as error:
            bench.history.end(who, number, bench.outcome(error))
        else:
            bench.history.end(who, number, OK, revision=stat.revision, generation=stat.content_generation)


def _read(bench: ThreadBench, who: str, path: str) -> None:
    number = bench.history.begin(who, "get", key=path)
    try:
        contents, stat = bench.client.get(path)
    except NotFound:
        bench.history.end(who, number, OK, value=None)
    except CoordError as error:
        bench.history.end(who, number, bench.outcome(error))
    else:
        value = contents.rstrip(b".").decode()
        bench.history.end(who, number, OK, value=value, generation=stat.content_generation)


def count(bench: ThreadBench, who: str, chance: random.Random) -> None:
    """Increments of the counters that everybody uses."""
    while not bench.rest(chance):
        counter = chance.randrange(COUNTERS)
        number = bench.history.begin(who, "increment", counter=counter)
        sent, read, put = False, None, ""
        try:
            with bench.client.lock(f"/lock/count/{counter}", lock_delay=chance.choice(LOCK_DELAYS_S)) as lock:
                contents, stat = bench.client.get(f"/count/{counter}")
                read, sent = int(contents), True
                put = _put_next(bench, who, lock, counter, read, stat.content_generation)
        except CoordError as error:
            put = put or (bench.outcome(error) if sent else NOT_DONE)
            bench.history.end(who, number, put, read=read, said=type(error).__name__)
        else:
            bench.history.end(who, number, put, read=read)


def _put_next(bench: ThreadBench, who: str, lock: Lock, counter: int, read: int, generation: int) -> str:
    """A thread goes on with its call when the lock is lost: its sequencer keeps a late one from doing harm. Who is
    refused for that and is safe still was robbed of the lock."""
    value = str(read + 1).encode()
    try:
        bench.client.put(f"/count/{counter}", value, if_generation=generation, if_sequencer=lock.sequencer)
    except GuardFailed as refused:
        note = {"what": "exclusion", "held": False, "token": lock.token, "said": str(refused)}
        bench.history.note(who, "asked", safe=lock.safe, **note)
        return NOT_DONE
    except Conflict:  # tasks put without a sequencer: one may have come late
        return NOT_DONE
    return OK


def hold(bench: ThreadBench, who: str, chance: random.Random) -> None:
    """Holds the locks that everybody holds; nothing can end a thread's body, so it waits for the word that tells it."""
    while not bench.rest(chance):
        which, mode = which_lock(chance)
        number = bench.history.begin(who, "hold", lock=which, mode=mode)
        told = threading.Event()
        lock = bench.client.lock(
            f"/lock/hold/{which}",
            "shared" if mode == "shared" else "exclusive",
            timeout=chance.uniform(*PATIENCE_S),
            lock_delay=chance.choice(LOCK_DELAYS_S),
            on_lost=lambda _, told=told: told.set(),  # type: ignore[misc]
            stop_margin=STOP_MARGIN_S,
        )
        token: int | None = None
        try:
            with lock:
                token = lock.token
                _held(bench, who, number, lock, told, f"{which}", how_long_ns(chance))
        except CoordError as error:
            ended = OK if token else bench.outcome(error)
            bench.history.end(who, number, ended, token=token, said=f"{type(error).__name__}: {error}")
        else:
            bench.history.end(who, number, OK, token=token)


def _held(
    bench: ThreadBench, who: str, number: int, lock: Lock, told: threading.Event, name: str, length_ns: int
) -> None:
    """The body, as in `work_locks`; `check` raises as soon as a look would say no."""
    history = bench.history
    until_ns = now_ns() + length_ns
    try:
        lock.check()
    except LockLost:
        history.note(who, "unsafe at entry", n=number)
        return
    history.note(who, "enter", n=number, lock=name, mode=lock.mode, token=lock.token)
    try:
        while True:
            before_ns = now_ns()
            safe = lock.safe
            history.note(who, "look", n=number, before_ns=before_ns, safe=safe)
            if not safe or now_ns() > until_ns or bench.stopped.is_set():
                return
            if told.wait(LOOK_EVERY_S):
                history.note(who, "told", n=number)
    finally:
        history.note(who, "leave", n=number)
