"""What a row of the table of operations is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from coordclient.protocol.arguments import Argument


class Way(Enum):
    """How an operation travels through a replica."""

    WRITE = "write"  # a logged command; needs the master
    READ = "read"  # linearizable, answered by the master from memory
    SESSION = "session"  # decided by the master outside the log (KeepAlive, attach)
    CELL = "cell"  # about the cell itself; needs the master, is no command of the machine
    LOCAL = "local"  # answered by any replica about itself
    WATCH = "watch"  # streams of what changes, kept by the master outside the log


@dataclass(frozen=True, slots=True)
class Operation:
    """One row. `waits`: the answer may take as long as the caller cares to wait. `streams`: there are several answers,
    and more to come until the last. `channel`: of use on a channel only.
    """

    name: str
    way: Way
    arguments: tuple[Argument, ...]
    result: str
    session: bool = False
    waits: bool = False
    streams: bool = False
    channel: bool = False
    by_name: Mapping[str, Argument] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {argument.name: argument for argument in self.arguments})
