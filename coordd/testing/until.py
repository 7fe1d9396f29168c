"""Waiting for a condition in tests, instead of sleeping for a guessed time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

WAIT_SECONDS = 10.0


async def until(condition: Callable[[], object], seconds: float = WAIT_SECONDS) -> None:
    """Let the loop turn until `condition` is true; TimeoutError when it never is."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - there is no event for "whatever a test wants to see"
            await asyncio.sleep(0)
