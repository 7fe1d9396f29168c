"""The resyncs under way: who waits for one to begin, what is gathered, and who has had which piece.

So many at a time, because each holds what it has gathered until all who wait for it have had it; others wait for their
turn. Where nobody takes a piece for a while, its watches are left alone until they have room again: then they want
another one. So are those without room, where it has gone out for long and others wait: a piece now and then is not
enough to keep a place.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from coordd.engine.effects import Push, Reply
from coordd.engine.places import Places
from coordd.engine.resyncs import Resync
from coordd.engine.watchers import Group, Watch
from coordd.machine.machine import Machine

RESYNCS_MAX = 8
STUCK_MS = 10_000
STUCK_WHILE_OTHERS_WAIT_MS = 1_000
LONG_MS = 20_000


class Resyncing:
    """See the module docstring. `drop` ends a watch that takes one answer; `caught_up` is told of who has had all."""

    def __init__(
        self,
        answers: list[Reply | Push],
        drop: Callable[[Watch], None],
        caught_up: Callable[[Watch, int], None],
    ) -> None:
        self._answers = answers
        self._drop = drop
        self._caught_up = caught_up
        self._wanting: dict[Group, None] = {}  # those where somebody waits for one, the longest waiting first
        self._running: deque[Resync] = deque()

    def want(self, watch: Watch) -> None:
        """It is to have what there is. One without room waits until it has some, and wants it then."""
        group, line = watch.group, watch.line
        if line is not None and (line.full or not watch.has_room):
            watch.held = True
            if line.full:
                line.held[watch] = None
        elif group.resync is not None:
            self._join(group.resync, watch)
        else:
            group.wanting[watch] = self._wanting[group] = None

    def _join(self, resync: Resync, watch: Watch) -> None:
        watch.resync, watch.piece = resync, 0
        resync.todo[watch] = None

    def leave(self, watch: Watch) -> None:
        """The watch is over, or is left alone."""
        group, resync, watch.resync = watch.group, watch.resync, None
        if resync is not None:
            for waits in (resync.todo, resync.later, resync.held):
                waits.pop(watch, None)
        elif watch in group.wanting:
            del group.wanting[watch]
            if not group.wanting:
                del self._wanting[group]

    def go_on(self, watch: Watch) -> bool:
        """There may be room for its next piece; False where it waits for none."""
        resync = watch.resync
        if resync is None:
            return False
        del resync.held[watch]
        resync.todo[watch] = None
        return True

    # ---- the turn ----

    def work(self, machine: Machine, places: Places, now_ms: int, ruling: bool, looks: int, room: int) -> bool:
        """One turn of one of them, if there is any; True when more is left to do at once."""
        running = self._running
        while self._wanting and len(running) < RESYNCS_MAX:
            group = next(iter(self._wanting))
            del self._wanting[group]
            self._begin(group, places, now_ms)
        if not running:
            return False
        resync = running.popleft()
        if not resync.revision:
            if resync.gather(machine, places, ruling):
                resync.group.resync = None
                resync.told_from_ms = now_ms
        else:
            self._hand_out(resync, now_ms, looks, room)
            self._leave_stuck(resync, now_ms)
        if resync.todo or resync.later or resync.held:
            running.append(resync)
        elif resync.group.resync is resync:
            resync.group.resync = None
        return any((one.todo or one.later) and (one.revision or ruling) for one in running) or (
            bool(self._wanting) and len(running) < RESYNCS_MAX
        )

    def _begin(self, group: Group, places: Places, now_ms: int) -> None:
        wanting, group.wanting = group.wanting, {}
        group.resync = resync = Resync(group, places, now_ms)
        for watch in wanting:
            self._join(resync, watch)
        self._running.append(resync)

    def _hand_out(self, resync: Resync, now_ms: int, looks: int, room: int) -> None:
        """The next piece to some of those who wait for it."""
        out: dict[int, list[int]] = {}
        if not resync.todo:
            resync.todo, resync.later = resync.later, {}
        while resync.todo and looks > 0 and room > 0:
            watch, _ = resync.todo.popitem()
            looks -= 1
            line = watch.line
            if line is not None and (line.full or not watch.has_room):
                watch.held = True
                resync.held[watch] = None
                if line.full:
                    line.held[watch] = None
                continue
            piece = resync.piece(watch.piece)
            if piece is None:  # too far behind the others
                self.leave(watch)
                self.want(watch)
                continue
            room -= piece.size
            resync.moved_ms = now_ms
            if line is None:
                self._drop(watch)
                self._answers.append(Reply(watch.request, piece.body))
                continue
            watch.note(piece)
            out.setdefault(watch.piece, []).append(watch.request)
            watch.piece += 1
            if piece.body["more"]:
                resync.later[watch] = None
            else:
                watch.resync = None
                self._caught_up(watch, resync.revision)
        for number, requests in out.items():
            piece = resync.piece(number)
            assert piece is not None
            self._answers.append(Push(tuple(requests), piece.body))

    def _leave_stuck(self, resync: Resync, now_ms: int) -> None:
        patience_ms = STUCK_WHILE_OTHERS_WAIT_MS if self._wanting else STUCK_MS
        stuck = not (resync.todo or resync.later) and now_ms - resync.moved_ms >= patience_ms
        if stuck or (self._wanting and now_ms - resync.told_from_ms >= LONG_MS):
            for watch in list(resync.held):
                self.leave(watch)
