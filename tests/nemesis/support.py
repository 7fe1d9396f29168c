"""Small things that several faults need."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence

from tests.nemesis.schedule import Fault

POLL_S = 0.05


async def paused(pid: int, seconds: float) -> None:
    """Stop a process for so long. A process of its own does it, so nothing stays stopped if we are killed meanwhile."""
    script = f"kill -STOP {pid} && sleep {seconds:.3f}; kill -CONT {pid}"
    helper = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", script, start_new_session=True, stderr=asyncio.subprocess.DEVNULL
    )
    await asyncio.shield(helper.wait())


async def until(
    condition: Callable[[], bool], seconds: float, meanwhile: Callable[[], Awaitable[None]] | None = None
) -> bool:
    """Wait for it (it may block), at most so long; whether it came."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if await asyncio.to_thread(condition):
            return True
        if meanwhile is not None:
            await meanwhile()
        await asyncio.sleep(POLL_S)
    return False


def any_of(replicas: Sequence[int], fault: Fault) -> int:
    """One of them, as drawn."""
    return replicas[fault.chance // 8 % len(replicas)]


def two_of(replicas: Sequence[int], fault: Fault) -> tuple[int, int]:
    """Two of them, as drawn."""
    one, other = random.Random(fault.chance).sample(replicas, 2)
    return one, other
