"""What a process needs from its surroundings: a kit that makes its parts, and a watcher that is told what it does."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from coordd.engine.effects import Effects
from coordd.engine.inputs import Input

if TYPE_CHECKING:
    from tests.simulation.process import Process


class LostDisk(Exception):
    """A start from a rotten disk was refused, or is not to be trusted: the replica is gone for good."""


class RotAccepted(Exception):
    """A start from a rotten disk goes on with less than was durable, or blames the wrong file."""


class Kit(Protocol):
    """Makes the parts of a replica and knows the errors of its store."""

    disk_full: type[Exception]
    disk_failed: type[Exception]  # a failed sync among them
    refused: tuple[type[Exception], ...]  # the store or the engine does not believe what it finds
    snapshot_refused: type[Exception]  # nor a peer's snapshot
    power_cut: type[Exception]  # the power went, or a kill came, in the middle of a disk call

    def open(self, replica: int, now_ms: int) -> tuple[Any, Any]:
        """A started engine over a recovered store; `LostDisk`, `RotAccepted` where the disk has rotted."""
        ...

    def lost_power(self, replica: int) -> bool:
        """Whether it was the power, and no kill, that cut the last disk call off."""
        ...

    def begins_snapshot(self, replica: int) -> None:
        """A snapshot, or a piece of one, is about to be written: a blow at snapshots may wait for it."""
        ...

    def crash(self, replica: int, chance: Random, *, power: bool) -> None:
        """The process is gone; with `power`, so are unsynced bytes."""
        ...


class NoFiles:
    """For a kit whose disks have no calls that could be struck, and no bytes that could rot."""

    def lost_power(self, replica: int) -> bool:
        raise NotImplementedError

    def begins_snapshot(self, replica: int) -> None: ...
    def cut_call(self, replica: int, call: int, *, power: bool) -> None: ...
    def fail_call(self, replica: int, call: int) -> None: ...
    def strike_start(self, replica: int, how: str, call: int) -> None: ...
    def strike_snapshot(self, replica: int, how: str, call: int) -> None: ...
    def empty(self, replica: int) -> None: ...

    def rot(self, replica: int, chance: Random, *, settled: bool) -> bool:
        return False


class Watcher(Protocol):
    """Is told what a process does; the checkers stand behind it."""

    def started(self, process: Process) -> None: ...
    def stepped(self, process: Process, inputs: Sequence[Input], effects: Effects, now_ms: int) -> None: ...
    def synced(self, process: Process, number: int) -> None: ...
    def spoke(self, process: Process, messages: Sequence[tuple[int, Any]]) -> None: ...
    def ended(self, process: Process, how: str) -> None: ...


def brief(message: Any) -> str:
    """A message in few words, for the story."""
    fields = []
    for name in message.__dataclass_fields__:
        if name not in ("sender", "start"):
            value = getattr(message, name)
            text = str(value) if not isinstance(value, bytes) else f"{len(value)} bytes"
            fields.append(f"{name}={text if len(text) < 60 else text[:57] + '...'}")
    return f"{type(message).__name__}({', '.join(fields)})"
