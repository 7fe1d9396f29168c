"""Small things that several faults need."""

from __future__ import annotations

import asyncio


async def paused(pid: int, seconds: float) -> None:
    """Stop a process for so long. A process of its own does it, so nothing stays stopped if we are killed meanwhile."""
    script = f"kill -STOP {pid} && sleep {seconds:.3f}; kill -CONT {pid}"
    helper = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", script, start_new_session=True, stderr=asyncio.subprocess.DEVNULL
    )
    await asyncio.shield(helper.wait())
