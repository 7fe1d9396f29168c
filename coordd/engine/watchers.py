"""Who watches: one watch and its window, the channel that it came by, and all those that watch the same.

A *group* is everybody with the same path, scope and values. Its watches stand in one of these: `rest` (was told
everything), `todo` (is to be looked at; with a revision up to which it was told everything), or outside of both while
it waits for room or for a resync. Nothing is kept for a watch that it could be told later: that is in the state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordd.engine.deliveries import Delivery

if TYPE_CHECKING:
    from coordd.engine.resyncs import Resync

WINDOW_BYTES = 256 * 1024  # told and not acknowledged
WINDOW_EVENTS = 1024
_STEP_BYTES, _STEP_EVENTS = WINDOW_BYTES // 8, WINDOW_EVENTS // 8


class Line:
    """A channel with watches. `full`: its client does not read what it was sent."""

    __slots__ = ("calls", "full", "held", "number")

    def __init__(self, number: int, full: bool = False) -> None:
        self.number = number
        self.calls: dict[int, Watch] = {}  # call number -> watch
        self.full = full
        self.held: dict[Watch, None] = {}  # that wait for the client to read


class Group:
    """See the module docstring. `again`: somebody in `rest` has more to be told since that revision."""

    __slots__ = ("again", "bodies", "count", "path", "queued", "rest", "resync", "scope", "todo", "values", "wanting")

    def __init__(self, path: str, scope: str, values: str) -> None:
        self.path, self.scope, self.values = path, scope, values
        self.count = 0
        self.rest: dict[Watch, None] = {}
        self.todo: dict[Watch, int] = {}
        self.again: int | None = None
        self.queued = False
        self.bodies: dict[int, Delivery | None] = {}  # revision of its first event -> what was made of it
        self.wanting: dict[Watch, None] = {}  # wait for a resync to begin
        self.resync: Resync | None = None  # that is being gathered

    def wake(self, known_upto: int) -> None:
        """There is something new; whoever rests was told everything up to `known_upto`.

        What was made for others of this round is not all any more: who had it would need one more delivery than they,
        and those after him two more, and the round would not end before the writes do.
        """
        self.bodies.clear()
        if self.todo:
            if self.again is None:
                self.again = known_upto
        elif self.rest:
            self.todo, self.rest = dict.fromkeys(self.rest, known_upto), {}

    def end_round(self) -> None:
        """All of `todo` were looked at: those that rest come again, where there was more meanwhile."""
        self.bodies.clear()
        if self.again is not None:
            self.todo, self.rest, self.again = dict.fromkeys(self.rest, self.again), {}, None


class Watch:
    """One watch. `cursor`: no event up to there is owed; `told`: the revision that it was told last."""

    __slots__ = (
        "_acked",
        "_steps",
        "_total",
        "call",
        "cursor",
        "due",
        "fresh",
        "group",
        "held",
        "line",
        "lost",
        "piece",
        "request",
        "resync",
        "sent",
        "told",
    )

    def __init__(self, request: int, call: int, line: Line | None, group: Group, cursor: int) -> None:
        self.request, self.call, self.line, self.group = request, call, line, group
        self.cursor = self.told = cursor
        self.fresh = True  # was told nothing yet
        self.due = False  # is to be told something now, be it nothing new
        self.held = False  # waits for room
        self.lost = False  # cannot be told every event: what there is instead
        self.resync: Resync | None = None
        self.piece = 0  # of the resync, the next one
        self.sent = 0  # deliveries
        self._total = self._acked = (0, 0)  # bytes and events, of all deliveries
        self._steps: list[tuple[int, tuple[int, int]]] = []  # deliveries, and what they had, now and then

    @property
    def once(self) -> bool:
        """It takes one answer, and no more."""
        return self.line is None

    @property
    def has_room(self) -> bool:
        """While less than a window is not acknowledged there is room for one more delivery, whatever its size: so a
        client that acknowledges a quarter of a window late is never waited for."""
        return self._total[0] - self._acked[0] < WINDOW_BYTES and self._total[1] - self._acked[1] < WINDOW_EVENTS

    def hold(self, known_upto: int) -> None:
        """It waits for room in its window, or for its client to read; no event up to there is owed."""
        assert self.line is not None, "who takes one answer needs no room"
        self.cursor, self.held = known_upto, True
        if self.line.full:
            self.line.held[self] = None

    def note(self, delivery: Delivery) -> None:
        """It was sent. What is to be known for the window is a few numbers, however many deliveries there are."""
        self.sent += 1
        self.fresh = False
        if not delivery.events:
            return
        size, events = self._total
        size, events = size + delivery.size, events + delivery.events
        self._total = (size, events)
        before = self._steps[-1][1] if self._steps else self._acked
        if size - before[0] >= _STEP_BYTES or events - before[1] >= _STEP_EVENTS:
            self._steps.append((self.sent, self._total))

    def acknowledge(self, deliveries: int) -> None:
        """The first so many were taken in; of a part of what was sent, about as much is reckoned, and never more."""
        if deliveries >= self.sent:
            self._acked = self._total
            self._steps.clear()
            return
        while self._steps and self._steps[0][0] <= deliveries:
            self._acked = self._steps.pop(0)[1]
