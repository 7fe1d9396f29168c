"""Joins the consistent cache to the channel: opens its queue, acknowledges invalidations, asks for leases, and makes
the reads whose answers are not held. What is held and believed: `coordclient.cached`.

All of it runs in the client's loop but `look`, which any thread may call. A read is answered by the first that can:

1. the client's own `get`, which looks into one table and compares the lease with the clock in place;
2. `look`: stats, listings, the other names of a path, what is absent, and a stat that is known from the contents;
3. `read`: a lease is asked for where none runs, and the cell for what is not held.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from coordclient.aio.channel import Channel, ChannelError
from coordclient.aio.keeper import Keeper
from coordclient.aio.life import Life
from coordclient.cached import Cached
from coordclient.errors import CoordError, NotFound
from coordclient.protocol.errors import ERRORS, Action, Refusal
from coordclient.protocol.paths import parse_path
from coordclient.values import CacheInfo

ANSWER_MS_MAX = 3_000  # for one request for a lease
OPEN_AGAIN_SECONDS = 1.0  # where the cell has no room for a queue now
ACKNOWLEDGE_AGAIN_SECONDS = 0.1  # where it has none for an acknowledgement
HITS_A_TURN = 4_096  # a power of two: after so many reads a task lets its loop turn once
_T = TypeVar("_T")
_caches: weakref.WeakSet[Cache] = weakref.WeakSet()


class Cache:
    """See the module docstring. `clocks_ns`: the clocks of the keeper, in ns."""

    def __init__(self, keeper: Keeper, bytes_max: int, clocks_ns: tuple[Callable[[], int], Callable[[], int]]) -> None:
        self.held = Cached(bytes_max)
        self._keeper = keeper
        self._clocks_ns = clocks_ns
        self._life: Life | None = None
        self._channel: Channel | None = None
        self._cell: str | None = None
        self._queue: Queue | None = None
        self._refused = False  # the present channel has no queue, and will have none
        self._acknowledge = 0  # the number of the last invalidation that is to be acknowledged; 0: of none
        self._timer: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[None] | None = None
        keeper.followers.append(self)
        _caches.add(self)

    def info(self) -> CacheInfo:
        """What it holds and how often it was of use."""
        held = self.held
        return CacheInfo(held.hits, held.misses, held.invalidations, held.entries, held.bytes)

    # --- reads

    def look(self, table: str, path: str) -> Any:
        """What is held and may be believed for `get`, `stat` or `ls` of this path, or None; raises NotFound where
        nothing is known to be. In any thread."""
        held = self.held
        short = self._short(path)
        if short is None:
            return None
        whole = None
        kept = held.tables[table].get(short)
        if kept is None and table == "stat":
            kept = whole = held.files.get(short)
        if kept is None:
            kept = held.absent.get(short)
        first_ns, wall_ns = self._clocks_ns
        if kept is None or not held.believed(kept, (first_ns(), wall_ns())):
            return None
        kept.used = True
        kept.lease.hits += 1
        if isinstance(kept.value, CoordError):
            raise kept.value.fresh()
        return kept.value if whole is None else kept.value.stat

    async def read(
        self, table: str, path: str, make: Callable[[Mapping[str, Any]], _T], size: Callable[[_T], int]
    ) -> _T:
        """The answer to `get`, `stat` or `ls`, from the cell where it is not held. `make` makes the value of an answer,
        which is held as it is, and `size` says how large it is, in bytes."""
        keeper, held = self._keeper, self.held
        value: _T | None = self.look(table, path)
        if value is not None:
            if not held.lease.hits & (HITS_A_TURN - 1):
                await asyncio.sleep(0)
            return value
        deadline_ms = keeper.clocks()[0] + keeper.request_ms
        life = keeper.alive()
        opened = await self._opened(life, deadline_ms)
        arguments: dict[str, object] = {"path": path}
        short = self._short(path)
        if opened and short is not None:
            if not held.running(keeper.clocks()):
                await self._renew(life, self._holds(short), deadline_ms)
            value = self.look(table, path)
            if value is not None:
                return value
            if self._is_open():  # still
                arguments["cache"] = True
        held.misses += 1
        generation = held.generation
        call = await keeper.begin(life, table, arguments, deadline_ms)
        try:
            answer = await call.tag  # type: ignore[misc]
        except asyncio.CancelledError:
            life.calls.give_up(call)
            raise
        except NotFound as error:
            number = error.details.get("cached")
            if short is not None and isinstance(number, int):
                held.fill("absent", short, error.fresh(), len(error.message), number, generation)
            raise
        value = make(answer)
        number = answer.get("cached")
        if short is not None and isinstance(number, int) and not answer.get("more"):  # of a listing: one page
            held.fill(table, short, value, size(value), number, generation)
        return value

    def _short(self, path: str) -> str | None:
        """The path as the cell names it; None: whatever is wrong with it the cell says, or nothing is held of it.

        That is so of a node "ls" in the root and of all below it, whose short names are long names of other nodes.
        """
        if not path.startswith("/ls/"):
            return path
        try:
            short = parse_path(path, self._cell)
        except Refusal:
            return None
        return None if f"{short}/".startswith("/ls/") else short

    def _holds(self, short: str) -> bool:
        """Whether anything is held of this path, believed or not."""
        return any(short in table for table in self.held.tables.values())

    def _is_open(self) -> bool:
        return self._queue is not None and self._queue.open

    async def _opened(self, life: Life, deadline_ms: int) -> bool:
        """Wait until the queue is open; False where there will be none in time, or the cell has no room for it now."""
        while life.over is None and not self._refused:
            if self._is_open():
                return True
            if self._channel is not None and self._queue is None:
                return False
            left_ms = deadline_ms - self._keeper.clocks()[0]
            if left_ms <= 0 or not await life.change(left_ms):
                return False
        return False

    # --- the queue

    def attached(self, life: Life, channel: Channel) -> None:
        """A channel begins, and a queue with it: before any read that goes out on it."""
        self._life, self._channel, self._cell = life, channel, channel.cell
        self._refused = False
        self._open(channel)

    def detached(self, life: Life) -> None:
        """Nobody says any more what is over."""
        self._stop()
        self._channel = None

    def ended(self, life: Life, error: CoordError) -> None:
        """The session is over."""
        if life is self._life:
            self.detached(life)

    def _open(self, channel: Channel) -> None:
        life = self._life
        if channel is not self._channel or life is None:
            return
        self._queue = queue = Queue(self)
        acked = life.calls.acked
        channel.begin_stream(life.calls.reserve(), acked, "cache", {}, queue)

    def _stop(self) -> None:
        self.held.drop()
        self._queue, self._acknowledge = None, 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def pushed(self, queue: Queue, body: Any) -> None:
        """What the queue says: paths that are about to change, or, at first, nothing."""
        life = self._life
        if queue is not self._queue or life is None:
            return
        match body:
            case {"number": int(number), "epoch": int(epoch)} if not queue.open:
                queue.open = True
                self.held.open(epoch)
                life.wake()
            case {"number": int(number), "invalidate": list(paths)}:
                self.held.invalidate(paths, number)
                self._owe(number)
            case {"number": int(number), "invalidate": None}:
                self.held.invalidate_all(number)
                self._owe(number)
            case _ if self._channel is not None:
                self._channel.lose(f"pushes what is no invalidation: {body!r:.80}")

    def closed(self, queue: Queue, error: Refusal | ChannelError | None) -> None:
        """The queue has ended, perhaps with its channel."""
        channel, life = self._channel, self._life
        if queue is not self._queue or channel is None or life is None:
            return
        self._stop()
        if isinstance(error, ChannelError):
            return
        action = Action.RETRY if error is None else ERRORS[error.code].action
        if action is Action.GO_TO_MASTER and error is not None:
            self._keeper.go_to(error.details.get("address"))
        elif action is Action.RETRY:
            self._timer = asyncio.get_running_loop().call_later(OPEN_AGAIN_SECONDS, self._open, channel)
        else:
            self._refused = True
        life.wake()

    def _owe(self, number: int) -> None:
        """What was said up to this number is done: one acknowledgement for all that came in this message."""
        if not self._acknowledge:
            asyncio.get_running_loop().call_soon(self._send_acknowledgement)
        self._acknowledge = max(number, self._acknowledge)

    def _send_acknowledgement(self) -> None:
        channel, life, queue, number = self._channel, self._life, self._queue, self._acknowledge
        self._acknowledge = 0
        if number and channel is not None and life is not None and queue is not None:
            acked, answer = life.calls.acked, Acknowledgement(self, queue, number)
            channel.begin_stream(life.calls.reserve(), acked, "invalidated", {"number": number}, answer)

    def acknowledged(self, queue: Queue, number: int, error: Refusal | ChannelError | None) -> None:
        """The cell has heard it, or had no room for it: then it is said again, or this client would never again get a
        lease."""
        if isinstance(error, Refusal) and ERRORS[error.code].action is Action.RETRY:
            loop = asyncio.get_running_loop()
            loop.call_later(ACKNOWLEDGE_AGAIN_SECONDS, self._acknowledge_again, queue, number)

    def _acknowledge_again(self, queue: Queue, number: int) -> None:
        if queue is self._queue:
            self._owe(number)

    # --- the lease

    async def _renew(self, life: Life, wait: bool, deadline_ms: int) -> None:
        """Ask for a lease; with `wait` come back when it has been answered."""
        self._ask()
        while wait and self.held.asking:
            left_ms = deadline_ms - self._keeper.clocks()[0]
            if left_ms <= 0 or not await life.change(left_ms):
                return

    def _ask(self) -> None:
        channel, life, held = self._channel, self._life, self.held
        if held.asking or channel is None or life is None or not self._is_open():
            return
        number = held.ask(self._keeper.clocks())
        self._asking = asyncio.get_running_loop().create_task(self._asked(channel, life, number))

    async def _asked(self, channel: Channel, life: Life, number: int) -> None:
        """One request for a lease; the number of its transmission was drawn before."""
        held = self.held
        acked = life.calls.acked
        try:
            answer = await channel.request(
                life.calls.reserve(), acked, "cache_lease", {"number": number}, ANSWER_MS_MAX
            )
            epoch, lease_ms, drop = (answer.get(name) for name in ("epoch", "lease_ms", "drop"))
            if drop is not False and not lease_ms and channel is self._channel:
                self._stop()  # the cell knows of no queue here
                self._open(channel)
            elif isinstance(epoch, int) and isinstance(lease_ms, int) and life.session is not None:
                held.granted(number, epoch, lease_ms, drop is not False, life.session.lease)
        except Refusal as refusal:
            if ERRORS[refusal.code].action is Action.GO_TO_MASTER and channel is self._channel:
                self._keeper.go_to(refusal.details.get("address"))
        except ChannelError:
            pass  # it was no answer
        finally:
            held.unanswered(number)
            life.wake()
            self._arm()

    def _arm(self) -> None:
        """Look again when the lease may have to be renewed; where it is over the next read asks."""
        if self._queue is None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_ms = self.held.due_ms(self._keeper.clocks())
        if due_ms is not None:
            self._timer = asyncio.get_running_loop().call_later(max(1, due_ms) / 1_000, self._tick)

    def _tick(self) -> None:
        if self.held.due_ms(self._keeper.clocks()) == 0:
            self._ask()
        else:
            self._arm()


class Queue:
    """The answers to one `cache` call; `open` from the first on."""

    __slots__ = ("_cache", "open")

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self.open = False

    def pushed(self, body: Any) -> None:
        """One answer; more follow."""
        self._cache.pushed(self, body)

    def ended(self, error: Refusal | ChannelError | None) -> None:
        """No more follows."""
        self._cache.closed(self, error)


class Acknowledgement:
    """The answer to one `invalidated` call, for which nobody waits."""

    __slots__ = ("_cache", "_number", "_queue")

    def __init__(self, cache: Cache, queue: Queue, number: int) -> None:
        self._cache = cache
        self._queue = queue
        self._number = number

    def pushed(self, body: Any) -> None:
        """Never: there is one answer."""

    def ended(self, error: Refusal | ChannelError | None) -> None:
        """That is it."""
        self._cache.acknowledged(self._queue, self._number, error)


def _forked() -> None:
    """In a child. The client will refuse to ask the cell there."""
    for cache in _caches:
        cache.held.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
