"""Reads by plain POST, sent to every replica past the proxies, each with time enough to be answered late.

Clients of the library leave a replica that does not serve; these do not. A read that was sent to a master while it was
stopped, or cut off from its peers, is answered when it goes on, if at all: by then it must know that it was deposed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping

import aiohttp

from tests.nemesis.history import OK, UNKNOWN, Writer, now_ns
from tests.nemesis.work import PERIOD_NS, REGISTERS

EVERY_S = 0.15
PATIENCE_S = 10.0


class Readers:
    """One stream of reads to each replica, until `stop`."""

    def __init__(self, addresses: Callable[[], Mapping[int, str]], history: Writer, chance: random.Random) -> None:
        self._addresses = addresses
        self._history = history
        self._chance = chance
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        self._stopped.set()

    async def run(self) -> None:
        """Ends when the last read is answered or given up."""
        timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as http, asyncio.TaskGroup() as tasks:
            number = 0
            while not self._stopped.is_set():
                for replica, address in self._addresses().items():
                    number += 1
                    tasks.create_task(self._read(http, address, f"reader.r{replica}-{number}"))
                await asyncio.sleep(self._chance.uniform(0, 2 * EVERY_S))

    async def _read(self, http: aiohttp.ClientSession, address: str, who: str) -> None:
        key = f"/reg/{now_ns() // PERIOD_NS}/{self._chance.randrange(REGISTERS)}"
        number = self._history.begin(who, "get", key=key)
        try:
            async with http.post(f"{address}/v1/get", json={"path": key}, allow_redirects=False) as answer:
                said = await answer.json()
        except (aiohttp.ClientError, OSError, ValueError):
            self._history.end(who, number, UNKNOWN)
            return
        if answer.status == 200:
            self._history.end(who, number, OK, value=said["contents"]["text"].rstrip("."))
        elif said.get("code") == "not_found":
            self._history.end(who, number, OK, value=None)
        else:
            self._history.end(who, number, UNKNOWN)
