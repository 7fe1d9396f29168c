"""Processes that make processes, in the ways that servers do; what became of each is said on stdout, one line each.

argv: endpoints, path, how. `prefork`: a master that has used its client forks workers, as gunicorn does, and each makes
a client of its own. `pool`: multiprocessing by fork and by spawn, with loops in some and threads in others. `loop`: a
fork in the middle of a running event loop whose client holds a lock. `busy`: forks while other threads use the client.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import threading

from coordclient import Client, ClientForked, CoordError, aio
from tests.clients.programs.holder import say

WORKERS = 3


def in_threads(endpoints: str, path: str) -> None:
    """A worker of the thread flavour: two threads that want the same lock."""

    def work() -> None:
        with client.lock(path, timeout=20) as lock:
            lock.verify()
            say(f"token {lock.token}")

    with Client(endpoints) as client:
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def in_a_loop(endpoints: str, path: str) -> None:
    """A worker with a loop of its own."""

    async def work() -> None:
        async with aio.Client(endpoints) as client, client.lock(path, timeout=20) as lock:
            await lock.verify()
            say(f"token {lock.token}")

    asyncio.run(work())


def prefork(endpoints: str, path: str) -> None:
    with Client(endpoints) as client, client.lock(path + "/master") as lock:
        children = []
        for number in range(WORKERS):
            child = os.fork()
            if child == 0:
                try:
                    client.ls("/")
                except ClientForked:
                    say("ClientForked")
                (in_threads if number % 2 else in_a_loop)(endpoints, path + "/work")
                sys.exit(0)
            children.append(child)
        for child in children:
            say(f"exit {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}")
        lock.verify()
        say("the master still holds its lock")


def pool(endpoints: str, path: str) -> None:
    with Client(endpoints) as client, client.lock(path + "/master") as lock:
        for context in (multiprocessing.get_context("fork"), multiprocessing.get_context("spawn")):
            for target in (in_threads, in_a_loop):
                process = context.Process(target=target, args=(endpoints, path + "/work"))
                process.start()
                process.join()
                say(f"exit {process.exitcode}")
        lock.verify()
        say("the master still holds its lock")


def loop(endpoints: str, path: str) -> None:
    async def work() -> None:
        async with aio.Client(endpoints) as client, client.lock(path) as lock:
            child = os.fork()
            if child == 0:
                in_the_child(client, lock)
            await asyncio.to_thread(os.waitpid, child, 0)
            await lock.verify()
            say("the parent still holds it")

    def in_the_child(client: aio.Client, lock: aio.Lock) -> None:
        async def use(what: object) -> None:
            try:
                await what()  # type: ignore[operator]
            except ClientForked:
                say("ClientForked")

        say(f"held {lock.held}, safe {lock.safe}")
        for what in (lambda: client.ls("/"), lock.acquire, lock.release, lock.verify, client.close):
            fresh = asyncio.new_event_loop()
            fresh.run_until_complete(use(what))
            fresh.close()  # or the garbage collection of this child says so on stderr, when there is one
        in_a_loop(endpoints, path + "-child")
        sys.stdout.flush()
        os._exit(0)  # the loop of the parent is not this process's to end

    asyncio.run(work())


def busy(endpoints: str, path: str) -> None:
    ended = threading.Event()
    errors: list[CoordError] = []

    def use() -> None:
        while not ended.is_set():
            try:
                with client.lock(path + "/shared", "shared"):
                    client.ls("/")
            except CoordError as error:
                errors.append(error)

    with Client(endpoints) as client:
        threads = [threading.Thread(target=use) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(WORKERS):
            child = os.fork()
            if child == 0:
                in_threads(endpoints, path + "/work")
                os._exit(0)
            say(f"exit {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}")
        ended.set()
        for thread in threads:
            thread.join()
    say(f"{len(errors)} errors in the parent")


def main() -> None:
    endpoints, path, how = sys.argv[1:]
    {"prefork": prefork, "pool": pool, "loop": loop, "busy": busy}[how](endpoints, path)


if __name__ == "__main__":
    main()
