"""The end of a listener in a process that goes on: no connection is left half made."""

from __future__ import annotations

import asyncio


async def stop_listening(server: asyncio.Server) -> None:
    """Accept nobody any more; whoever was accepted has reached its protocol.

    `Server.close` alone forgets a connection that was accepted in the same turn: nobody reads it and nobody closes it
    [python/cpython#109564], so its client hangs until the garbage collector comes by, and warns.
    """
    for listener in server.sockets:
        asyncio.get_running_loop().remove_reader(listener)
    await asyncio.sleep(0)  # what was accepted gets its transport
    server.close()
    await asyncio.sleep(0)  # and its protocol hears of it
