"""The asyncio flavour: `from coordclient.aio import Client` has the names of `coordclient.Client`, with await."""

from coordclient.aio.client import Client
from coordclient.aio.lock import Lock, LockSet

__all__ = ["Client", "Lock", "LockSet"]
