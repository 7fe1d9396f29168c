"""What caches may cost: a cache lease ends with the master lease at the latest, nothing waits longer than one for a
client that does not answer, and who uses no cache pays nothing. Locks are not cached: what may be kept says nothing of
them, and a lock on what is there waits for no cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from coordd.engine.effects import Effects, Reply
from coordd.engine.inputs import Input
from coordd.engine.reads import WaitingCall
from coordd.paxos.messages import Promise
from tests.simulation.checkers.panel import Checker
from tests.simulation.world import World

ROUNDING_MS = 10

if TYPE_CHECKING:
    from tests.simulation.process import Process


class CacheWaits(Checker):
    """See the module docstring. `lease_ms` is that of the cell."""

    name = "cache waits"

    def __init__(self, world: World, lease_ms: int, in_use: bool) -> None:
        super().__init__(world)
        self._lease_ms = lease_ms
        self._in_use = in_use
        self._since: dict[tuple[int, int], dict[Any, int]] = {}  # replica and its life -> what waits, since when
        self._revisions: dict[tuple[int, int], int] = {}  # replica and its life -> its revision before this step
        self.waits = self.longest_ms = 0

    def stepped(self, process: Process, inputs: Sequence[Input], effects: Effects, now_ms: int) -> None:
        engine = process.engine
        leases, caches = engine.replica.caching, engine._mastership.caching.caches
        if leases is None:
            self._since.pop((process.name, process.life), None)
            self._revisions.pop((process.name, process.life), None)
            return
        if not self._in_use:
            if leases.wanted or caches.in_use:
                raise self.broken(f"replica {process.name} speaks of caches, and nobody has one")
            return
        if leases.earlier_until_ms - now_ms > self._lease_ms + ROUNDING_MS:
            raise self.broken(f"replica {process.name} waits {leases.earlier_until_ms - now_ms} ms for earlier leases")
        before = self._since.get((process.name, process.life), {})
        waiting: dict[Any, int] = {}
        for queue in _queues(caches):
            if queue.until_ms > engine.replica.proposer.lease.until_ms:
                raise self.broken(f"replica {process.name} gave session {queue.call.session} more than its own lease")
            for wait in chain.from_iterable(queue.waits.values()):
                waiting[wait] = before.get(wait, now_ms)
        for change in caches._marked:
            if isinstance(change, WaitingCall):  # again the same request, where it has to wait once more
                if change.call.request not in before:
                    self._check_lock(process, change)
                waiting[change.call.request] = before.get(change.call.request, now_ms)
        for what, since_ms in waiting.items():
            self.longest_ms = max(self.longest_ms, now_ms - since_ms)
            if now_ms - since_ms > self._lease_ms:
                words = f"request {what}" if isinstance(what, int) else f"{what.then}"
                raise self.broken(f"replica {process.name}: {words} has waited for {now_ms - since_ms} ms")
        self.waits += len(waiting.keys() - before.keys())
        self._since[process.name, process.life] = waiting
        self._revisions[process.name, process.life] = engine.machine.revision
        for answer in effects.answers:
            if isinstance(answer, Reply) and isinstance(answer.result, dict) and "cached" in answer.result:
                self._check_kept(process, answer.result)

    def _check_lock(self, process: Process, waiting: WaitingCall) -> None:
        """It begins to wait; the node was there before this step, and is still."""
        call = waiting.call
        node = process.engine.machine.state.nodes.get(call.arguments.get("path"))
        before = self._revisions.get((process.name, process.life), 0)
        if call.operation == "acquire" and node is not None and node.instance <= before:
            raise self.broken(f"replica {process.name}: a lock on {node.path}, which is there, waits for caches")

    def _check_kept(self, process: Process, result: dict[str, Any]) -> None:
        stats = [entry["stat"] for entry in result["entries"]] if "entries" in result else [result["stat"]]
        if any(stat["lock_generation"] is not None for stat in stats):
            raise self.broken(f"replica {process.name}: an answer that may be kept tells of locks: {result}")

    def spoke(self, process: Process, messages: Sequence[tuple[int, Any]]) -> None:
        """Who uses no cache waits for none: only a promise from before a restart, repeated, says more than nothing."""
        if self._in_use:
            return
        for _, message in messages:
            if isinstance(message, Promise) and message.cached_ms:
                left_ms = process.engine.replica.state.grants.boot_until_ms - process.clock.now_ms()
                if message.cached_ms > max(0, left_ms) + ROUNDING_MS:
                    raise self.broken(f"replica {process.name} speaks of cache leases, and nobody has one: {message}")


def _queues(caches: Any) -> Iterator[Any]:
    return chain(caches.queues.values(), chain.from_iterable(caches._ended.values()))
