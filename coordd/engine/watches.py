"""Watches: who is told of changes, and when. Volatile, and only a master has them; all of it belongs to one reign.

What has changed is in the replicated state (`machine.changes_since`), and found there by place (`places`): here is only
who was told up to which revision. So a watcher costs the same whether it reads or not. After each step of the engine
`work` does a bounded piece of what there is to do, and says whether more is left: a write waits for one such piece at
most, however many watch. What it tells is put behind the replies of the step, so that a read that follows an event sees
it.

- *Events* are told in order and in whole revisions. All who watch the same and lack the same get one body.
- *Marks* say that nothing was missed: about every `MARK_MS` when the revision has moved, and earlier where the changes
  that a watcher would ask for by its last mark are soon kept no more. Who does not rest when its turn comes, or is not
  read, is told when it does: no write may come for long that would begin another round.
- A *resync* (`resyncs`) takes the place of events that are not kept any more, or never were here.

Registering, and the end of gathering a resync, are reads: only where the state is sure to be the cell's present one.
While what was applied must not be seen yet, because somebody may believe otherwise from a cache, nothing is told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from itertools import islice

from coordclient.protocol.errors import Refusal
from coordd.engine import deliveries
from coordd.engine.caching import Caching
from coordd.engine.deliveries import Delivery
from coordd.engine.effects import Push, Reply
from coordd.engine.inputs import Call
from coordd.engine.places import Places, lineage
from coordd.engine.resyncing import Resyncing
from coordd.engine.settings import EngineSettings
from coordd.engine.watchers import Group, Watch
from coordd.engine.watchlist import WatchList
from coordd.machine.changes import change_bytes
from coordd.machine.machine import Machine
from coordd.machine.state import Change

LOOKS_PER_STEP = 128  # watches that are looked at, or told something, in one step
BYTES_PER_STEP = 1024 * 1024  # told in one step, all watches together
MARK_MS = 5_000
_STALE_ENTRIES_MAX = 64  # in the heap, besides as many as there are true ones

Answers = list[Reply | Push]
_Lack = tuple[int, Delivery | None, bool]  # its first revision (negative: nothing is lacking), what to tell, all of it?


class Watches:
    """See the module docstring. `machine` is replaced where a snapshot brings another."""

    def __init__(
        self,
        settings: EngineSettings,
        machine: Machine,
        answers: Answers,
        wait: Callable[[Call, int], None],
        caching: Caching,
    ) -> None:
        self._settings = settings
        self.machine = machine
        self._answers = answers
        self._wait = wait  # for the lease, or for a confirming round
        self._caching = caching
        self._leaving: dict[int, Refusal] = {}  # requests that are to be told of the end of their reign
        self.handlers: dict[str, Callable[[Call, int, bool], None]] = {
            "watch": self._on_watch,
            "watched": self._on_watched,
            "unwatch": self._on_unwatch,
        }
        self._reign = 0
        self._full: set[int] = set()  # channels whose clients do not read, whether they watch or not
        self._clear()

    def _clear(self) -> None:
        self._list = WatchList(self._settings, self._full)
        self._queue: deque[Group] = deque()  # with something to do
        self._places: Places | None = None  # none while nobody watches
        self._resyncs = Resyncing(self._answers, self._drop, self._caught_up)
        self._dues: list[tuple[int, int]] = []  # when a watch that takes one answer has to have it, request
        self._marking: list[Watch] = []
        self._marked_upto = 0
        self._mark_due_ms = 0
        self._unmarked = (0, 0)  # changes and their bytes since the last round of marks began

    def __len__(self) -> int:
        return len(self._list.watches)

    # ---- calls ----

    def _on_watch(self, call: Call, since_ms: int, sure: bool) -> None:
        if not sure:
            self._wait(call, since_ms)
        elif not self._caching.view.clear:
            self._caching.wait_until_clear(call, since_ms)
        else:
            self._register(call, since_ms)

    def _register(self, call: Call, since_ms: int) -> None:
        since, revision = call.arguments["since"], self.machine.revision
        assert since is None or isinstance(since, int)
        if since is None and not call.channel:
            self._answers.append(Reply(call.request, deliveries.mark(revision).body))
            return
        objection = self._list.objection(call)
        if objection is not None:
            self._answers.append(Reply(call.request, objection))
            return
        if self._places is None:
            self._places = Places(revision)
        watch = self._list.add(call, revision if since is None else since)
        if watch.once:
            self._set_due(call, since_ms)
        if since is None:
            self._tell(watch, deliveries.mark(revision))
            watch.group.rest[watch] = None
        else:
            watch.lost = not self.machine.changes_after <= since <= revision
            watch.group.todo[watch] = since
            self._enqueue(watch.group)

    def _set_due(self, call: Call, since_ms: int) -> None:
        wait_ms = call.arguments["wait_ms"]
        assert isinstance(wait_ms, int)
        heappush(self._dues, (since_ms + wait_ms, call.request))
        if len(self._dues) > 2 * len(self._list.watches) + _STALE_ENTRIES_MAX:
            self._dues = [one for one in self._dues if one[1] in self._list.watches]
            heapify(self._dues)

    def _on_watched(self, call: Call, since_ms: int, sure: bool) -> None:
        watch, count = self._list.named(call), call.arguments["deliveries"]
        assert isinstance(count, int)
        if watch is not None and count > watch.sent:
            refusal = Refusal("bad_request", f"watched: {count} deliveries; only {watch.sent} were made")
            self._answers.append(Reply(call.request, refusal))
            return
        if watch is not None:
            watch.acknowledge(count)
            if watch.held and watch.has_room:
                self._resume(watch)
        self._answers.append(Reply(call.request, {}))

    def _on_unwatch(self, call: Call, since_ms: int, sure: bool) -> None:
        watch = self._list.named(call)
        if watch is not None:
            self._drop(watch)
            self._answers.append(Reply(watch.request, deliveries.mark(watch.told).body))
        self._answers.append(Reply(call.request, {}))

    # ---- ends, and clients that do not read ----

    def gone(self, requests: Sequence[int]) -> None:
        """Nobody waits for these any more."""
        for request in requests:
            watch = self._list.watches.get(request)
            if watch is not None:
                self._drop(watch)
            self._leaving.pop(request, None)

    def notice(self, reign: int, not_master: Callable[[], Refusal]) -> None:
        """The reign is that now. Everybody of an earlier one is to go elsewhere, and is told so in turns."""
        if reign != self._reign and self._list.watches:
            self._leaving |= dict.fromkeys(self._list.watches, not_master())
            self._clear()
        self._reign = reign

    def congested(self, channel: int, full: bool) -> None:
        """The client of that channel does not read any more what it was sent, or does again."""
        (self._full.add if full else self._full.discard)(channel)
        line = self._list.lines.get(channel)
        if line is None:
            return
        line.full = full
        if not full:
            held, line.held = line.held, {}
            for watch in held:
                self._go_on(watch)

    def _drop(self, watch: Watch) -> None:
        """It is over; whoever calls this answers it, if anybody."""
        self._resyncs.leave(watch)
        self._list.remove(watch)
        if not self._list.watches:
            self._clear()

    def _resume(self, watch: Watch) -> None:
        """It waits, and there is room in its window: it goes on, or waits for its client to read alone."""
        assert watch.line is not None, "who takes one answer needs no room"
        if watch.line.full:
            watch.line.held[watch] = None
        else:
            self._go_on(watch)

    def _go_on(self, watch: Watch) -> None:
        """There may be room for it again."""
        assert watch.held and watch.line is not None
        watch.held = False
        watch.line.held.pop(watch, None)
        if not self._resyncs.go_on(watch):
            watch.group.todo[watch] = watch.cursor
            self._enqueue(watch.group)

    def _caught_up(self, watch: Watch, revision: int) -> None:
        """It has had all of a resync."""
        watch.cursor = watch.told = revision
        watch.lost = False
        watch.group.todo[watch] = revision
        self._enqueue(watch.group)

    def _enqueue(self, group: Group) -> None:
        if not group.queued:
            group.queued = True
            self._queue.append(group)

    # ---- the turn ----

    def work(self, now_ms: int, ruling: bool) -> bool:
        """Tell a piece of what there is to tell; True when more is left. `ruling`: this master is in its lease."""
        left = LOOKS_PER_STEP - self._say_goodbye(LOOKS_PER_STEP)
        places = self._places
        if places is None or not self._caching.view.clear:
            return bool(self._leaving)
        self._follow(places)
        while self._dues and self._dues[0][0] <= now_ms:
            self._fall_due(heappop(self._dues)[1], places.upto)
        room = BYTES_PER_STEP
        short = False
        while self._queue and left > 0 and room > 0 and not short:
            group = self._queue.popleft()
            looks, told, short = self._look(group, places, left, room)
            left, room = left - looks, room - told
            group.queued = bool(group.todo)
            if group.queued:
                self._queue.append(group)
        if short:
            places.reach_back(self.machine)
        more = self._resyncs.work(self.machine, places, now_ms, ruling, left, room)
        more = self._mark(places, now_ms, max(left, LOOKS_PER_STEP // 8)) or more
        return more or bool(self._queue) or bool(self._leaving)

    def _say_goodbye(self, count: int) -> int:
        gone = list(islice(self._leaving.items(), count))
        for request, refusal in gone:
            del self._leaving[request]
            self._answers.append(Reply(request, refusal))
        return len(gone)

    def _follow(self, places: Places) -> None:
        """Find out whom the new changes are for."""
        known_upto = places.upto
        new = places.follow(self.machine)
        if new is None:
            for alike in self._list.groups.values():
                for group in alike.values():
                    self._wake(group, known_upto)
            return
        count, size = self._unmarked
        for change in new:
            size += change_bytes(change)
            self._wake_at(change, known_upto)
        self._unmarked = (count + len(new), size)

    def _wake_at(self, change: Change, known_upto: int) -> None:
        groups, path = self._list.groups, change.path
        above = lineage(path)
        keys = [("node", path), ("children", above[0]), ("subtree", path)]
        keys += [("subtree", directory) for directory in above]
        for key in keys:
            alike = groups.get(key)
            if alike is not None:
                for group in alike.values():
                    self._wake(group, known_upto)

    def _wake(self, group: Group, known_upto: int) -> None:
        group.wake(known_upto)
        if group.todo:
            self._enqueue(group)

    def _fall_due(self, request: int, known_upto: int) -> None:
        watch = self._list.watches.get(request)
        if watch is None:
            return
        watch.due, group = True, watch.group
        if watch in group.rest:
            del group.rest[watch]
            group.todo[watch] = known_upto if group.again is None else group.again
            self._enqueue(group)

    # ---- events ----

    def _look(self, group: Group, places: Places, looks_max: int, room: int) -> tuple[int, int, bool]:
        """Look at some of a group's watches, each once: how many, what they were told in bytes, and whether older
        changes have to be found first."""
        todo, rest, kept_after, floor = group.todo, group.rest, self.machine.changes_after, places.floor
        lacks: dict[int, _Lack] = {}  # known up to -> what whoever knows so much is to be told
        out: dict[int, tuple[Delivery, list[int]]] = {}
        more: dict[Watch, int] = {}
        looks = told = 0
        short = False
        while todo and looks < looks_max and told < room:
            watch, known_upto = todo.popitem()
            looks += 1
            if known_upto < watch.cursor:
                known_upto = watch.cursor
            if watch.lost or known_upto < kept_after:
                self._resync(watch)
                continue
            if known_upto < floor:
                todo[watch] = known_upto
                short = True
                break
            lack = lacks.get(known_upto)
            if lack is None:
                lack = lacks[known_upto] = self._lack(group, places, known_upto)
            first, delivery, is_all = lack
            if first < 0 and not (watch.due or self._owes_mark(watch)):
                rest[watch] = None
            elif delivery is None:
                self._resync(watch)
            elif watch.line is None:
                told += delivery.size
                self._drop(watch)
                self._answers.append(Reply(watch.request, delivery.body))
            elif watch.line.full or not watch.has_room:
                watch.hold(known_upto)
            else:
                told += delivery.size
                watch.note(delivery)
                watch.cursor = watch.told = delivery.upto
                if first in out:
                    out[first][1].append(watch.request)
                else:
                    out[first] = (delivery, [watch.request])
                if is_all:
                    rest[watch] = None
                else:
                    more[watch] = delivery.upto
        for delivery, requests in out.values():
            self._answers.append(Push(tuple(requests), delivery.body))
        todo.update(more)
        if not todo:
            group.end_round()
        return looks, told, short

    def _lack(self, group: Group, places: Places, known_upto: int) -> _Lack:
        changes, upto = places.after(group.scope, group.path, known_upto), places.upto
        first = changes[0].revision if changes else -1 - upto
        if first not in group.bodies:
            made = deliveries.events(changes, group.values, upto) if changes else deliveries.mark(upto)
            group.bodies[first] = made
        delivery = group.bodies[first]
        return first, delivery, not changes or delivery is None or changes[-1].revision <= delivery.upto

    def _resync(self, watch: Watch) -> None:
        watch.lost = True
        self._resyncs.want(watch)

    def _tell(self, watch: Watch, delivery: Delivery) -> None:
        watch.note(delivery)
        self._answers.append(Push((watch.request,), delivery.body))

    # ---- marks ----

    def _owes_mark(self, watch: Watch) -> bool:
        """Whether it is to be told that it missed nothing, though there is no event: it knows nothing yet, or less than
        those that the last round of marks found at rest."""
        return not watch.once and (watch.fresh or watch.told < self._marked_upto)

    def _mark(self, places: Places, now_ms: int, looks_max: int) -> bool:
        """Tell some of those who rest that they have missed nothing; True when the round is not over."""
        if not self._marking:
            limits = self.machine.state.limits
            count, size = self._unmarked
            many = 4 * count >= limits.changes or 4 * size >= limits.changes_bytes
            if places.upto <= self._marked_upto or not (many or now_ms >= self._mark_due_ms):
                return False
            self._marking = list(self._list.watches.values())
            self._marked_upto = places.upto
            self._mark_due_ms = now_ms + MARK_MS
            self._unmarked = (0, 0)
        told: list[int] = []
        delivery = deliveries.mark(places.upto)
        marking = self._marking
        for _ in range(min(looks_max, len(marking))):
            watch = marking.pop()
            group, line = watch.group, watch.line
            rests = watch in group.rest and group.again is None
            if not rests or line is None or watch.told >= self._marked_upto:
                continue
            if line.full:
                del group.rest[watch]
                watch.hold(places.upto)
            else:
                watch.note(delivery)
                watch.cursor = watch.told = places.upto
                told.append(watch.request)
        if told:
            self._answers.append(Push(tuple(told), delivery.body))
        return bool(marking)
