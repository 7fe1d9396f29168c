"""What breaks. One module per concern, each with its table `FAULTS`.

A feature with faults of its own adds a module here and its table to `_TABLES`; seeds draw from `ALL`.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.simulation.faults import clients, clocks, disks, links, replicas
from tests.simulation.faults.fault import Fault

_TABLES = (replicas.FAULTS, disks.FAULTS, links.FAULTS, clocks.FAULTS, clients.FAULTS)

ALL: Mapping[str, Fault] = {fault.name: fault for table in _TABLES for fault in table}
