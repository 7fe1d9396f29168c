"""PURE. The client's half of the consistent cache: what is held, until when it may be believed, and what a fill, an
invalidation and a renewal do to it [Chubby 2.7].

A read from here is linearizable: the cell applies no change of a node before everybody to whom it has shown that node
under a cache lease has dropped it, or that lease is over. What this side owes for that:

* **One lease for all that is held.** It counts from the *sending* of its request, less the drift bound, on every clock
  (`coordclient.session`), and never runs beyond the local lease of the session: in jeopardy nothing is believed.
* **An entry is shown that is held still after its lease was compared with the clock.** Then that it is over was not
  acknowledged, and nobody gets a lease who owes that; so the lease was given before the write was begun, and the write
  waits for its end. Without the second look: 1. the lease is over, and a node is written without waiting for this side;
  2. a thread reads the entry; 3. it is dropped and that acknowledged, and the lease is renewed; 4. the thread compares
  the clock with the renewed lease, and shows a value that was over before it began.
* **A dropped cache begins another `Lease`, and each entry names its own**: the one of before is over for ever.
* **Fills and invalidations have numbers of one queue.** A fill that is not younger than the last invalidation of its
  path is not kept, in whatever order the two are dealt with here: the value was read before the write. Which paths were
  invalidated is remembered for `INVALIDATED_MAX` of them; a fill older than what was forgotten is not kept either.
* **Nothing that was asked for before the last drop is kept**: the cell has forgotten who was shown it.
* **An acknowledgement says that it is done**: it is sent after `invalidate` has returned.
* **A lease is asked for by whoever reads** (`due_ms`): for a client that reads no more no write waits for long.

Other threads read the tables while one thread, and only that one, changes them. All that they rely on is that a look-up
sees what was stored before it, as the GIL has it, and the dictionaries and attributes of a free-threaded Python too. An
answer of the cell to an acknowledgement comes after the socket's system call, so no processor can still see the entry.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from coordclient.session import DRIFT_PPM, Reading, local_ms

INVALIDATED_MAX = 10_000
ENTRY_BYTES = 512  # of one entry besides its path and its value: objects, and two places in dictionaries
LOOKS_MAX = 64  # at entries that were read since they were last looked at, for one that is evicted
LOOK_AGAIN_MS = 100  # whether anything was read, when the lease could be renewed and nothing was
OVER: Reading = (0, 0)
_NS = 1_000_000
_T = TypeVar("_T")


class Lease:
    """`ends`: until when all that names this lease may be believed, in ns by each clock. `hits`: reads from it; a few
    may be missing where several threads read at once."""

    __slots__ = ("ends", "hits")

    def __init__(self) -> None:
        self.ends = OVER
        self.hits = 0


class Kept(Generic[_T]):
    """One entry. Whoever reads it sets `used`. `held`: it was not taken out; it may be shown only if that is so *after*
    the clock was read."""

    __slots__ = ("held", "lease", "size", "used", "value")

    def __init__(self, value: _T, size: int, lease: Lease) -> None:
        self.value = value
        self.size = size
        self.lease = lease
        self.held = True
        self.used = False


class Cached:
    """See the module docstring. The tables by path: `files` (answers to get), `stats`, `listings`, and `absent`: paths
    where nothing is, with the error that says so; `tables`: the same by the names get, stat, ls and absent. At most
    `bytes_max` bytes by its own count; what was not read for the longest time goes first, as far as a mark per entry
    can tell.
    """

    def __init__(self, bytes_max: int, drift_ppm: int = DRIFT_PPM) -> None:
        self.files: dict[str, Kept[Any]] = {}
        self.stats: dict[str, Kept[Any]] = {}
        self.listings: dict[str, Kept[Any]] = {}
        self.absent: dict[str, Kept[Any]] = {}
        self.lease = Lease()
        self.bytes = 0
        self.misses = 0
        self.invalidations = 0  # entries that were dropped because of a write
        self._bytes_max = bytes_max
        self._drift_ppm = drift_ppm
        self.tables = {"get": self.files, "stat": self.stats, "ls": self.listings, "absent": self.absent}
        self._order: dict[tuple[str, str], Kept[Any]] = {}  # of (table, path): what is evicted first comes first
        self._invalidated: dict[str, int] = {}  # path -> number of its last invalidation, the oldest first
        self._forgotten = 0  # no fill up to this number is kept
        self._generation = 0  # rises with every drop
        self._epoch = 0
        self._hits_before = 0  # of earlier leases
        self._number = 0  # of the last request for a lease
        self._sent: Reading | None = None  # when it left; None: it is answered, or there was none
        self._renewed: Reading | None = None  # when the request for the present lease left
        self._length_ms = 0  # of the present lease
        self._hits_seen = 0  # of the present lease, when it was last renewed

    @property
    def entries(self) -> int:
        """How many are held."""
        return len(self._order)

    @property
    def hits(self) -> int:
        """How many reads were answered from here."""
        return self._hits_before + self.lease.hits

    @property
    def generation(self) -> int:
        """To be kept with every read that is sent now, and given to `fill`."""
        return self._generation

    # --- what the queue says

    def open(self, epoch: int) -> None:
        """A queue begins, on a channel to the master of this epoch. Nothing of an earlier one counts any more."""
        self.drop()
        self._epoch = epoch

    def fill(self, table: str, path: str, value: object, size: int, number: int, generation: int) -> bool:
        """An answer that may be kept: whether it is. `table`: get, stat, ls or absent; `number`: its place in the
        queue; `generation`: as it was when the read was sent; `size`: of the value, in bytes."""
        size += ENTRY_BYTES + len(path)
        if generation != self._generation or number <= self._forgotten or size > self._bytes_max:
            return False
        if number <= self._invalidated.get(path, 0):
            return False
        self._remove(table, path)
        kept = self.tables[table][path] = self._order[(table, path)] = Kept(value, size, self.lease)
        self.bytes += kept.size
        while self.bytes > self._bytes_max:
            self._evict()
        return True

    def invalidate(self, paths: Iterable[str], number: int) -> None:
        """What is held of these paths is over. The acknowledgement is sent when this has returned."""
        for path in paths:
            for table in self.tables:
                self.invalidations += self._remove(table, path)
            self._invalidated[path] = max(number, self._invalidated.pop(path, 0))
            if len(self._invalidated) > INVALIDATED_MAX:
                oldest = next(iter(self._invalidated))
                self._forgotten = max(self._forgotten, self._invalidated.pop(oldest))

    def invalidate_all(self, number: int) -> None:
        """As `invalidate`, of every path."""
        self.invalidate([path for _, path in self._order], number)
        self._forgotten = max(number, self._forgotten)

    def drop(self) -> None:
        """Nothing that is held, and no answer that is on its way, may be believed."""
        self.lease.ends = OVER  # first: whoever has read an entry and not the clock yet shall not believe it
        self._hits_before += self.lease.hits
        self.lease = Lease()
        self._generation += 1
        for table in self.tables.values():
            table.clear()
        self._order.clear()
        self.bytes = 0
        self._invalidated.clear()
        self._forgotten = 0
        self._sent = self._renewed = None
        self._length_ms = self._hits_seen = 0

    # --- the lease

    def believed(self, kept: Kept[Any], now_ns: Reading) -> bool:
        """Whether an entry may be shown; `now_ns` is read after the entry was. What the clients' `get` does in place,
        because a call of a function would be a third of its time."""
        first, second = kept.lease.ends
        return now_ns[0] < first and now_ns[1] < second and kept.held

    def running(self, now: Reading) -> bool:
        """Whether what is held may be believed, in ms."""
        return all(ms * _NS < end for ms, end in zip(now, self.lease.ends, strict=True))

    def due_ms(self, now: Reading) -> int | None:
        """In how many ms a lease is to be asked for, 0 is now; None: when somebody has read again.

        Where nothing was read since the last renewal it is only looked after: `LOOK_AGAIN_MS`.
        """
        if self._sent is not None or self._renewed is None or not self.running(now):
            return None
        left_ms = 2 * self._length_ms // 3 - max(ms - sent for ms, sent in zip(now, self._renewed, strict=True))
        if left_ms > 0:
            return left_ms
        return 0 if self.lease.hits != self._hits_seen else LOOK_AGAIN_MS

    @property
    def asking(self) -> bool:
        """Whether a request for a lease is on its way."""
        return self._sent is not None

    def ask(self, now: Reading) -> int:
        """A request for a lease leaves now; its number. Call it *before* the frame is made."""
        self._number += 1
        self._sent = now
        return self._number

    def unanswered(self, number: int) -> None:
        """This request will not be answered."""
        if number == self._number:
            self._sent = None

    def granted(self, number: int, epoch: int, lease_ms: int, drop: bool, session: tuple[Reading, int]) -> None:
        """The answer to request `number`: a lease of `lease_ms` (0: none) by the master of `epoch`. `drop`: the cell
        does not know any more what is held here. `session`: the local lease of the session, which ends this one too.
        """
        sent = self._sent
        if number != self._number or sent is None or epoch < self._epoch:
            return
        self._sent = None
        if drop or epoch != self._epoch:
            self.drop()
            self._epoch = epoch
        length_ms = local_ms(lease_ms, self._drift_ppm)
        begun, session_ms = session
        self._renewed, self._length_ms, self._hits_seen = sent, length_ms, self.lease.hits
        self.lease.ends = tuple(
            min(at + length_ms, session_at + session_ms) * _NS for at, session_at in zip(sent, begun, strict=True)
        )

    def forked(self) -> None:
        """This is a child of the process that held it: nobody tells what is over, and no answer on its way counts."""
        self.lease.ends = OVER
        self._sent = None

    # --- room

    def _remove(self, table: str, path: str) -> int:
        kept = self.tables[table].pop(path, None)
        if kept is None:
            return 0
        kept.held = False  # also for a thread that has read the entry before
        del self._order[(table, path)]
        self.bytes -= kept.size
        return 1

    def _evict(self) -> None:
        """One entry goes: the first that was not read since it was last looked at, of those that are looked at."""
        for _ in range(LOOKS_MAX):
            first = next(iter(self._order))
            kept = self._order[first]
            if not kept.used:
                break
            kept.used = False
            del self._order[first]
            self._order[first] = kept
        self._remove(*next(iter(self._order)))
