"""Who may hold what in a cache, and who must have dropped it before a change may be seen [Chubby 2.7]. Volatile, pure.

A client opens one *queue* on its channel; in it come the invalidations, numbered. What a read with `cache` shows it is
*held* by that queue from then on, by path: the contents, the stat, the listing, or that there is nothing. A change is
*asked* about: whoever holds one of its paths is told to drop it, and what is to happen waits (`Wait`) until all of
those whose *cache lease* still runs have acknowledged. Here are the rules of the design, by their numbers there:

2. A lease is given only for a request, and ends with the master lease under which it was given; the caller says until
   when that is. The client counts from when it sent the request, so it ends there before it ends here.
3. `mark`: a path is not held anew while a change of it is on its way. Otherwise: 1. the old value is dropped
   everywhere; 2. a client reads the old value anew, because the change is not chosen yet; 3. it is chosen, and nobody
   is asked.
4. Fills and invalidations have numbers of one counter, so a client can tell an answer that was overtaken.
5. Nobody gets a lease who owes an acknowledgement: the request waits for it. Nothing is ever skipped, not even for who
   has no lease at the moment: so what it holds beyond what it was told to drop is good when it has a lease again.
6. Only an acknowledgement or the clock ends a wait. A channel that has ended, a session that has ended, or being the
   writer oneself is neither. A queue outlives its channel until its lease is over; a newer queue of the same process
   is an acknowledgement, for it says that nothing of the older one is believed any more.

What was asked and is not acknowledged is remembered by path: a second change of it waits for the same answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from itertools import chain

from coordd.engine.effects import Push
from coordd.engine.inputs import Call
from coordd.engine.reads import WaitingCall

ALL = 2**62  # above every number
LISTED_BYTES_MAX = 256 * 1024  # of the paths in one push, which is one frame


def _listed(paths: tuple[str, ...]) -> list[str] | None:
    """What is told of these: None, which is every path, where they would not fit."""
    size = sum(len(path.encode()) for path in paths)
    return list(paths) if size <= LISTED_BYTES_MAX else None


class Wait:
    """Something that waits until nobody may believe in what it changes. `then`: what it is, for who made it."""

    __slots__ = ("left", "then")

    def __init__(self, then: object) -> None:
        self.then = then
        self.left = 0  # queues that may believe in it still


class Queue:
    """One queue: the holder of its streaming request, and what its client holds and owes."""

    __slots__ = (
        "_left",
        "asked",
        "attachment",
        "call",
        "gone",
        "incarnation",
        "keys",
        "owed",
        "owing",
        "until_ms",
        "waits",
    )
    proposed = False  # never: at the end of the mastership it is told `not_master`

    def __init__(self, call: Call, left: list[Queue]) -> None:
        self._left = left
        self.call = call
        self.incarnation = call.incarnation
        self.attachment = call.attachment
        self.gone = False  # the channel, or a newer queue, has ended it
        self.keys: dict[str, None] = {}  # paths that are held, the longest held first
        self.owed: deque[tuple[int, tuple[str, ...]]] = deque()  # told to drop, not acknowledged
        self.owing = 0  # how many paths that are
        self.until_ms = 0  # of the last lease, by the master's clock
        self.asked: WaitingCall | None = None  # the request for a lease that waits
        self.waits: dict[int, list[Wait]] = {}  # by the number that is to be acknowledged, one of those in `owed`

    def leave(self, request: int) -> None:
        """The channel has ended."""
        assert request == self.call.request
        self.gone = True
        self._left.append(self)


class Caches:
    """All queues of one mastership. `push` tells clients something; `ready` gathers the waits that are over."""

    def __init__(self, keys_max: int, total_max: int, push: Callable[[Push], None]) -> None:
        assert 0 < keys_max <= total_max
        self._push = push
        self._keys_max = keys_max
        self._total_max = total_max
        self.queues: dict[int, Queue] = {}  # by session, the present one
        self._left: list[Queue] = []  # whose channel has ended since the last tick
        self._ended: dict[int, list[Queue]] = {}  # by session, those whose channel has ended while their lease ran
        self._look_ms = 0  # when one of those is over
        self._waited: dict[Queue, None] = {}  # those that something waits for
        self._holders: dict[str, dict[Queue, int]] = {}  # path -> who holds it (0) or was told to drop it (number)
        self._total = 0
        self._marks: dict[str, int] = {}  # path -> changes of it that are on their way
        self._marked: dict[object, tuple[str, ...]] = {}
        self._number = 0  # rises for ever, so that a word of an earlier mastership is none of a later one
        self._now_ms = 0
        self.ready: list[Wait] = []

    @property
    def in_use(self) -> bool:
        """True while anybody may believe in anything."""
        return bool(self.queues or self._ended)

    @property
    def held(self) -> int:
        """How many paths are held or owed, in all queues together."""
        return self._total

    @property
    def believed(self) -> bool:
        """True while somebody may believe in something: he has a lease, and has not said that he dropped it all."""
        queues = chain(self.queues.values(), chain.from_iterable(self._ended.values()))
        return any(queue.until_ms > self._now_ms and (queue.keys or queue.owed) for queue in queues)

    def knows(self, paths: Iterable[str]) -> bool:
        """Whether anybody holds one of these, or owes the word that he does not."""
        return any(path in self._holders for path in paths)

    # ---- queues ----

    def open(self, call: Call, epoch: int) -> Queue | None:
        """A queue begins; returns the one of the same session that ends with it.

        One of the same process has said, by asking for a new one, that it believes in nothing of the old one.
        """
        old = self.queues.get(call.session)
        queue = self.queues[call.session] = Queue(call, self._left)
        for earlier in ([] if old is None else [old]) + self._ended.pop(call.session, []):
            if earlier.incarnation == queue.incarnation:
                self._forget(earlier)
            else:
                self._end(earlier)
        self._number += 1
        body: dict[str, object] = {"number": self._number, "invalidate": [], "epoch": epoch}
        self._push(Push((call.request,), body))
        return old

    def find(self, call: Call) -> Queue | None:
        """The queue of the channel that this call came by."""
        queue = self.queues.get(call.session)
        if queue is None or queue.gone or call.attachment == 0:
            return None
        return queue if (queue.incarnation, queue.attachment) == (call.incarnation, call.attachment) else None

    def tick(self, now_ms: int) -> None:
        """Let time pass: leases end, and with them the waits, and what is left of queues whose channel is gone."""
        self._now_ms = now_ms
        if self._left:
            left, self._left[:] = list(self._left), []
            for queue in left:
                self.end(queue)
        for queue in [queue for queue in self._waited if queue.until_ms <= now_ms]:
            waits, queue.waits = queue.waits, {}
            self._end_waits(queue, list(chain.from_iterable(waits.values())))
        if self._ended and self._look_ms <= now_ms:
            ended, self._ended = self._ended, {}
            for queue in chain.from_iterable(ended.values()):
                self._end(queue)

    def end(self, queue: Queue) -> None:
        """That queue is over, if it is not so already; what its client may believe in is waited for by the clock."""
        if self.queues.get(queue.call.session) is queue:
            del self.queues[queue.call.session]
            self._end(queue)

    def _end(self, queue: Queue) -> None:
        """Its channel has ended: it is waited for as long as its lease runs."""
        queue.gone = True
        if queue.until_ms <= self._now_ms:
            self._forget(queue)
            return
        self._look_ms = min(self._look_ms, queue.until_ms) if self._ended else queue.until_ms
        self._ended.setdefault(queue.call.session, []).append(queue)

    def _forget(self, queue: Queue) -> None:
        """Nobody believes in anything that this queue has shown."""
        queue.gone = True
        self.acknowledge(queue, ALL)
        for path in queue.keys:
            self._drop(path, queue)
        queue.keys.clear()
        assert not queue.owed and not queue.waits

    def _drop(self, path: str, queue: Queue) -> None:
        holders = self._holders[path]
        del holders[queue]
        self._total -= 1
        if not holders:
            del self._holders[path]

    # ---- fills ----

    def fill(self, queue: Queue, path: str) -> int | None:
        """The number under which the present answer about `path` may be kept; None: it may not."""
        if path in self._marks or queue.owing >= self._keys_max:
            return None
        if path not in queue.keys:
            is_new = queue not in self._holders.get(path, ())  # else it is owed, and held anew before it is forgotten
            if is_new and self._total >= self._total_max:
                if queue.keys and not queue.owed:
                    self._ask_one(queue)  # what is owed counts too: there is room when that is acknowledged
                return None
            if len(queue.keys) >= self._keys_max:
                self._ask_one(queue)
            self._total += is_new
            self._holders.setdefault(path, {})[queue] = 0
            queue.keys[path] = None
        self._number += 1
        return self._number

    def _ask_one(self, queue: Queue) -> None:
        """Make room: the path that was held longest goes. Nothing waits for it."""
        self._number += 1
        paths = (next(iter(queue.keys)),)
        self._owe(queue, self._number, paths)
        self._push(Push((queue.call.request,), {"number": self._number, "invalidate": list(paths)}))

    # ---- changes ----

    def mark(self, change: object, paths: Iterable[str]) -> None:
        """A change of these is on its way."""
        marked = self._marked[change] = tuple(paths)
        for path in marked:
            self._marks[path] = self._marks.get(path, 0) + 1

    def unmark(self, change: object) -> None:
        """It was applied, or will never be."""
        for path in self._marked.pop(change, ()):
            self._marks[path] -= 1
            if not self._marks[path]:
                del self._marks[path]

    def ask(self, paths: Iterable[str], then: object) -> Wait | None:
        """Tell whoever holds one of these to drop it; the wait for all that may believe in it, if there is anybody.

        `then` comes back in `ready`.
        """
        wait = Wait(then)
        told: dict[Queue, list[str]] = {}
        waits_for: dict[Queue, int] = {}
        for path in sorted(paths):
            for queue, number in self._holders.get(path, {}).items():
                if number:
                    waits_for[queue] = max(number, waits_for.get(queue, 0))
                else:
                    told.setdefault(queue, []).append(path)
        if told:
            self._tell(told, waits_for)
        for queue, number in waits_for.items():
            self._wait_for(queue, number, wait)
        return wait if wait.left else None

    def ask_all(self, then: object) -> Wait | None:
        """Tell everybody to drop everything."""
        wait = Wait(then)
        self._number += 1
        for queue in (*self.queues.values(), *chain.from_iterable(self._ended.values())):
            if queue.keys:
                self._owe(queue, self._number, tuple(queue.keys))
                if not queue.gone:
                    self._push(Push((queue.call.request,), {"number": self._number, "invalidate": None}))
            if queue.owed:
                self._wait_for(queue, queue.owed[-1][0], wait)
        return wait if wait.left else None

    def _wait_for(self, queue: Queue, number: int, wait: Wait) -> None:
        if queue.until_ms > self._now_ms:
            queue.waits.setdefault(number, []).append(wait)
            self._waited[queue] = None
            wait.left += 1

    def _tell(self, told: dict[Queue, list[str]], waits_for: dict[Queue, int]) -> None:
        """One number for all, and one body for all that hold the same of it."""
        self._number += 1
        requests: dict[tuple[str, ...], list[int]] = {}
        for queue, listed in told.items():
            paths = tuple(listed)
            waits_for[queue] = self._number
            self._owe(queue, self._number, paths)
            if not queue.gone:
                requests.setdefault(paths, []).append(queue.call.request)
        for paths, to in requests.items():
            self._push(Push(tuple(to), {"number": self._number, "invalidate": _listed(paths)}))

    def _owe(self, queue: Queue, number: int, paths: tuple[str, ...]) -> None:
        queue.owed.append((number, paths))
        queue.owing += len(paths)
        for path in paths:
            del queue.keys[path]
            self._holders[path][queue] = number

    # ---- acknowledgements and leases ----

    def acknowledge(self, queue: Queue, number: int) -> None:
        """The client has dropped all that it was told to up to this number."""
        over: list[Wait] = []
        while queue.owed and queue.owed[0][0] <= number:
            asked, paths = queue.owed.popleft()
            queue.owing -= len(paths)
            over += queue.waits.pop(asked, ())
            for path in paths:
                if self._holders.get(path, {}).get(queue) == asked:  # else it is held anew since
                    self._drop(path, queue)
        self._end_waits(queue, over)

    def _end_waits(self, queue: Queue, over: list[Wait]) -> None:
        """These wait for that queue no more: by its word, or by the end of its lease."""
        if over and not queue.waits:
            del self._waited[queue]
        for wait in over:
            wait.left -= 1
            if not wait.left:
                self.ready.append(wait)

    def lease(self, queue: Queue, until_ms: int) -> bool:
        """Give that client a lease until then, if it owes nothing; whether it has one now."""
        if queue.owed or queue.gone or until_ms <= self._now_ms:
            return False
        queue.until_ms = max(queue.until_ms, until_ms)
        return True

    def clear(self) -> None:
        """The mastership is over: what runs on is known to the acceptors, and the next master waits for it."""
        self.queues, self._ended, self._waited, self._holders, self._total = {}, {}, {}, {}, 0
        self._left.clear()
        self._marks, self._marked = {}, {}
        self.ready = []
