"""The asyncio flavour: `from coordclient.aio import Client` has the names of `coordclient.Client`, with await."""

from coordclient.aio.client import Client
from coordclient.aio.handle import Handle
from coordclient.aio.lock import Lock, LockSet
from coordclient.aio.txn import Txn
from coordclient.aio.watch import Batches, Watch

__all__ = ["Batches", "Client", "Handle", "Lock", "LockSet", "Txn", "Watch"]
