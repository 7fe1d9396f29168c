"""One kind of fault: how often it comes, and what it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.faults.nemesis import Nemesis

Strike = Callable[["Nemesis", Random], bool | None]


@dataclass(frozen=True, slots=True)
class Fault:
    """`strike` does it once, and answers False when there was nothing that it could be done to."""

    name: str
    weight: float  # in the draw of a seed
    often_ms: int  # mean time between two, in the seeds that have most of it
    seldom_ms: int  # the same in the seeds that have least
    strike: Strike
    of_clients: bool = False
    on_disks: bool = False  # needs a store of bytes: agreement alone has none
