"""What client processes do: small workers on the library's public names, each feeding the checkers.

One module per concern, each with its table `WORKERS`; a feature with workers of its own adds a module here and its
table to `_TABLES`. Seeds draw from `ALL`.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.simulation.work import (
    counters,
    directories,
    files,
    handles,
    heirs,
    locks,
    operators,
    past,
    posting,
    readers,
    registers,
    semaphores,
    several,
    transactions,
    transfers,
    watchers,
    watches,
)
from tests.simulation.work.work import Worker

_TABLES = (
    registers.WORKERS,
    counters.WORKERS,
    directories.WORKERS,
    files.WORKERS,
    locks.WORKERS,
    semaphores.WORKERS,
    several.WORKERS,
    transfers.WORKERS,
    operators.WORKERS,
    heirs.WORKERS,
    posting.WORKERS,
    watchers.WORKERS,
    watches.WORKERS,
    transactions.WORKERS,
    handles.WORKERS,
    readers.WORKERS,
    past.WORKERS,
)

ALL: Mapping[str, Worker] = {worker.name: worker for table in _TABLES for worker in table}
