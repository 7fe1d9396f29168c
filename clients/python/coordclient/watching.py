"""PURE. One watch: what was delivered and given to the application, what is acknowledged, where to go on.

* Deliveries come in order, each of whole revisions, and are given in that order, none twice: after a new channel or
  under a new master the watch is registered again with the revision of the last delivery that was *received* whole.
* `revision` is what was *given*: every change up to it was handed to the application. Who watches again from there, in
  another process perhaps, misses nothing.
* A resync comes in pieces of one revision and is given when the last piece is there; it may begin again. One that was
  broken off is forgotten, and the next registration gets another, or the changes.
* What is acknowledged was given (pieces of a resync: received). So what is not given is at most what the cell sends
  without acknowledgement, and once as much over a new registration, for none is made while that much waits here.
* Acknowledgements are lazy: by a quarter of the cell's window, and by each piece of a resync.

`received` runs where the channel is read, `take` where the application takes: whoever drives this lets one at a
time in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from coordclient.changes import Event, Node, Resync, event_of, node_of
from coordclient.errors import BadRequest, InternalError

SCOPES = ("node", "children", "subtree")
VALUES = ("none", "new", "both")
EVENT_BYTES = 160  # of one event besides its path and its contents
BACKLOG_BYTES = 256 * 1024  # above this, or so many events, that were not given, no registration is made
BACKLOG_EVENTS = 1_024
LAZY_BYTES, LAZY_EVENTS, LAZY_DELIVERIES = BACKLOG_BYTES // 4, BACKLOG_EVENTS // 4, 64
QUEUE_EVENTS_MAX = 8 * BACKLOG_EVENTS  # in more than one delivery: a cell that keeps to no window

Item = Event | Resync


class Delivery:
    """What came in one piece, up to and including `revision`: events, a whole resync, or nothing (a mark of progress).

    Many watches may share one.
    """

    __slots__ = ("begins", "cost", "items", "more", "resync", "revision")

    def __init__(self, body: Mapping[str, Any]) -> None:
        revision, more = body.get("revision"), body.get("more", False)
        if type(revision) is not int or type(more) is not bool:
            raise InternalError("a delivery of a watch does not say its revision")
        self.revision: int = revision
        self.resync: list[Node] | None = None  # a piece
        self.more = more
        self.begins = body.get("piece", 0) == 0  # a resync, perhaps anew
        self.items: tuple[Item, ...] = ()
        if body.get("resync"):
            self.resync = [node_of(entry) for entry in _list_in(body, "entries")]
            self.cost = sum(_cost(node.path, node.contents, None) for node in self.resync)
        else:
            events = [event_of(row) for row in _list_in(body, "events")]
            self.items = tuple(events)
            self.cost = sum(_cost(event.path, event.before, event.after) for event in events)
            self._check(events)

    def _check(self, events: list[Event]) -> None:
        last = 0
        for event in events:
            if not last <= event.revision <= self.revision:
                raise InternalError(f"events of a watch are not in order: {event.revision} behind {last}")
            last = event.revision


class _Queued:
    """One delivery of one watch that was not given whole. `number`: among those of its registration."""

    __slots__ = ("cost", "items", "number", "registration", "revision")

    def __init__(self, items: tuple[Item, ...], revision: int, cost: int, registration: int, number: int) -> None:
        self.items = items
        self.revision = revision
        self.cost = cost
        self.registration = registration
        self.number = number


class Watching:
    """See the module docstring. Raises BadRequest for a scope or values that there are not."""

    def __init__(self, path: str, scope: str, since: int | None, values: str) -> None:
        if scope not in SCOPES:
            raise BadRequest(f"scope must be one of {', '.join(SCOPES)}, not {scope!r}")
        if values not in VALUES:
            raise BadRequest(f"values must be one of {', '.join(VALUES)}, not {values!r}")
        if since is not None and (type(since) is not int or since < 0):
            raise BadRequest(f"since must be None (now) or a revision, not {since!r}")
        self.path = path
        self.revision = since  # everything up to it was given
        self.settled = False  # a registration was answered: from then on nothing is missed
        self._arguments: dict[str, object] = {"path": path, "scope": scope, "values": values}
        self._since = since  # everything up to it was received
        self._queue: deque[_Queued] = deque()
        self._at = 0  # that many items of the first delivery in the queue were given
        self._events = 0  # in the queue
        self._bytes = 0
        self._pieces: list[Node] | None = None  # of a resync that has not come whole
        self._pieces_revision = 0
        self._registration = 0  # the number of the present one, or of the last
        self._received = 0  # deliveries of the present registration
        self._done = 0  # of these, from the first on, so many are given, or pieces of a resync
        self._acknowledged = 0
        self._done_events = 0  # since the last acknowledgement
        self._done_bytes = 0
        self.due = False  # enough is done to acknowledge it

    # --- the registration

    @property
    def crowded(self) -> bool:
        """Whether too much is not given yet to register again."""
        return self._events >= BACKLOG_EVENTS or self._bytes >= BACKLOG_BYTES

    def register(self) -> dict[str, object]:
        """The arguments of a registration that is sent now; nothing of an earlier one is received any more."""
        self._registration += 1
        self._received = self._done = self._acknowledged = self._done_events = self._done_bytes = 0
        self._pieces, self.due = None, False
        return self._arguments if self._since is None else {**self._arguments, "since": self._since}

    def acknowledge(self) -> int:
        """How many deliveries of the present registration, from its first on, are acknowledged now."""
        self._acknowledged, self._done_events, self._done_bytes = self._done, 0, 0
        self.due = False
        return self._done

    def received(self, delivery: Delivery) -> None:
        """A delivery of the present registration came. Raises InternalError when it cannot follow on the last."""
        self._received += 1
        if delivery.resync is not None:
            self._piece(delivery, delivery.resync)
        elif self._pieces is not None:
            raise InternalError(f"{self.path}: a resync was broken off by a delivery of changes")
        elif self._since is not None and delivery.revision < self._since:
            raise InternalError(f"{self.path}: a delivery up to {delivery.revision} came after {self._since}")
        elif delivery.items and self._since is not None and delivery.items[0].revision <= self._since:
            raise InternalError(f"{self.path}: revision {delivery.items[0].revision} was delivered before")
        else:
            self._since, self.settled = delivery.revision, True
            self._put(delivery.items, delivery.revision, delivery.cost)

    def _piece(self, delivery: Delivery, nodes: list[Node]) -> None:
        if delivery.begins:
            self._pieces, self._pieces_revision = [], delivery.revision
        if self._pieces is None:
            raise InternalError(f"{self.path}: a resync came without its beginning")
        if delivery.revision != self._pieces_revision:
            raise InternalError(f"{self.path}: pieces of one resync have different revisions")
        self._pieces += nodes
        if delivery.more:
            # Whatever comes before it in the queue is acknowledged with it: the rest must come for any of it to count.
            # Each is, because the cell reckons its bytes otherwise: its window may be full before so many are done.
            self._done, self.due = self._received, True
            return
        resync, self._pieces = Resync(delivery.revision, tuple(self._pieces)), None
        self._since, self.settled = delivery.revision, True
        self._put((resync,), delivery.revision, delivery.cost)

    def _put(self, items: tuple[Item, ...], revision: int, cost: int) -> None:
        if not items:
            if self._queue:
                last = self._queue[-1]
                last.revision, last.registration, last.number = revision, self._registration, self._received
            else:
                self.revision = revision
                self._count(self._received, 0, 0)
            return
        self._queue.append(_Queued(items, revision, cost, self._registration, self._received))
        self._events += len(items)
        self._bytes += cost
        if self._events > QUEUE_EVENTS_MAX and len(self._queue) > 1:
            raise InternalError(f"{self.path}: {self._events} events came that nobody has acknowledged")

    # --- the application

    @property
    def filled(self) -> bool:
        """Whether there is something to take."""
        return bool(self._queue)

    def take(self) -> Item | None:
        """The next event or resync; None: nothing is here now."""
        if not self._queue:
            return None
        first = self._queue[0]
        item = first.items[self._at]
        self._at += 1
        if self._at == len(first.items):
            self._given(first)
        elif first.items[self._at].revision > item.revision:
            self.revision = item.revision
        return item

    def take_batch(self) -> tuple[Event, ...] | Resync | None:
        """All events of the next revision, or a resync; None: nothing is here now. Of a revision of which `take` has
        given some already, the rest."""
        item = self.take()
        if item is None or isinstance(item, Resync):
            return item
        batch = [item]
        while self._at and self._queue[0].items[self._at].revision == item.revision:
            event = self.take()
            if isinstance(event, Event):
                batch.append(event)
        return tuple(batch)

    def _given(self, first: _Queued) -> None:
        self._queue.popleft()
        self._at = 0
        self._events -= len(first.items)
        self._bytes -= first.cost
        self.revision = first.revision
        if first.registration == self._registration:
            self._count(first.number, len(first.items), first.cost)

    def _count(self, done: int, events: int, size: int) -> None:
        """The present registration's deliveries are done up to this one."""
        self._done = max(self._done, done)
        self._done_events += events
        self._done_bytes += size
        enough = self._done_events >= LAZY_EVENTS or self._done_bytes >= LAZY_BYTES
        self.due = self.due or enough or self._done - self._acknowledged >= LAZY_DELIVERIES


def _cost(path: str, before: bytes | None, after: bytes | None) -> int:
    return EVENT_BYTES + len(path) + len(before or b"") + len(after or b"")


def _list_in(body: Mapping[str, Any], name: str) -> list[Any]:
    rows = body.get(name)
    if not isinstance(rows, list):
        raise InternalError(f"a delivery of a watch has no {name}")
    return rows
