"""What the keeper claims in the cell: one lock, a semaphore's permit, or several locks at once, and how it is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from coordctl.errors import Exit, Failure, exit_code_of
from coordctl.order import Order
from coordctl.output import describe_holders

if TYPE_CHECKING:
    from coordclient import LockLost
    from coordclient.aio import Client, Lock, LockSet

    OnLost = Callable[[LockLost], object]


class Claim:
    """The lock object for one order. `on_lost` is called in the loop, at the moment of the loss.

    No stop margin: the margin is the time that the kill needs, and keeper and front see to it. A library that gave the
    lock up before the end of the kill could make it free while the command still runs.
    """

    def __init__(self, client: Client, order: Order, on_lost: OnLost) -> None:
        self.client = client
        self.order = order
        self.lock: Lock | LockSet
        delay, paths = order.lock_delay, order.paths
        if len(paths) > 1:
            mode: Literal["exclusive", "shared"] = "shared" if order.mode == "shared" else "exclusive"
            self.lock = client.locks(list(paths), mode=mode, lock_delay=delay, stop_margin=0.0, on_lost=on_lost)
        elif order.mode == "semaphore":
            permits = order.permits
            self.lock = client.semaphore(paths[0], permits=permits, lock_delay=delay, stop_margin=0.0, on_lost=on_lost)
        else:
            self.lock = client.lock(paths[0], order.mode, lock_delay=delay, stop_margin=0.0, on_lost=on_lost)

    @property
    def remaining(self) -> float:
        """Seconds until the deadline."""
        return self.lock.remaining

    @property
    def lock_delay(self) -> float:
        """Seconds of the lock-delay on which one may count here, however clocks drift."""
        from coordclient.session import DRIFT_PPM, local_ms

        return local_ms(round(self.order.lock_delay * 1_000), DRIFT_PPM) / 1_000

    def grants(self) -> list[tuple[int, str]]:
        """Token and sequencer of each path, in their order; once it is held."""
        from coordclient.aio import LockSet

        if isinstance(self.lock, LockSet):
            return [(self.lock.tokens[path], self.lock.sequencers[path]) for path in self.order.paths]
        return [(self.lock.token, self.lock.sequencer)]

    def reason(self) -> str:
        """Why it is not held."""
        from coordclient import LockLost

        try:
            self.lock.check()
        except LockLost as error:
            return str(error)
        return "the session has ended"

    async def who_holds(self) -> str:
        """'held by web-3:8213 (backup.sh) for 12s', of the first path that is held; empty if none is."""
        for path in self.order.paths:
            for row in await self.client.list_locks(path):
                if text := describe_holders(row) if _is_at(row.path, path) else "":
                    return text if len(self.order.paths) == 1 else f"{path} {text}"
        return ""

    async def write_value(self) -> None:
        """The value of `elect` into the file of the lock, unless the lock is lost already."""
        from coordclient import CoordError

        if self.order.value is None:
            return
        ((_, sequencer),) = self.grants()
        try:
            await self.client.put(self.order.paths[0], self.order.value, if_sequencer=sequencer)
        except CoordError as error:
            if error.code == "guard_failed":
                raise Failure(f"lock lost: {self.order.name}: {error}", Exit.LOST) from None
            text = f"{self.order.name}: the value could not be written, so the lock was given back: {error}"
            raise Failure(text, exit_code_of(error.code)) from None


def _is_at(found: str, asked: str) -> bool:
    """Whether the cell's short path is the one that was asked for (/ls/CELL/x is /x)."""
    return found == asked or (asked.startswith("/ls/") and found == "/" + asked.split("/", 3)[3])
