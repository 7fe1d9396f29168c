"""Expiry is just: never before a whole lease has passed since the last KeepAlive arrived, or since the reign began.

Safety allows a master to be strict; the promise does not: a new master gives every session a whole fresh lease, and no
stall of the master's own is charged to a client. So a KeepAlive that lies unread at a standing replica counts. One that
was held counts again from its answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from coordd.engine.effects import Effects
from coordd.engine.inputs import Input
from tests.simulation.checkers.held import renewed, replies_of
from tests.simulation.checkers.panel import Checker
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.doors import Doors
    from tests.simulation.process import Process

READ_MS_MAX = 400  # an arrival is read, or stood still over as a stall, within this time


class JustExpiry(Checker):
    """See the module docstring."""

    name = "unjust expiry"
    needs_clocks = True

    def __init__(self, world: World, doors: Mapping[int, Doors]) -> None:
        super().__init__(world)
        self._doors = doors
        self._ruling_since_us: dict[int, int] = {}
        self._decided: dict[int, set[int]] = {}
        self._answered: dict[int, dict[tuple[int, str], int]] = {}  # replica -> session and secret of a POST -> when
        self.decisions = 0

    def started(self, process: Process) -> None:
        self._ruling_since_us.pop(process.name, None)
        self._decided[process.name] = set()
        self._answered[process.name] = {}

    def stepped(self, process: Process, inputs: Sequence[Input], effects: Effects, now_ms: int) -> None:
        mastership = process.engine._mastership
        lessor = mastership.lessor
        for proof in renewed(replies_of(effects), self._doors[process.name]):
            self._answered[process.name][proof] = self.world.now_us
        if not lessor.ruling and not self._decided[process.name].issuperset(lessor._in_decision):
            raise self.broken(f"replica {process.name} decides expiries outside its lease")
        if not lessor.ruling:
            self._ruling_since_us.pop(process.name, None)
            return
        since_us = self._ruling_since_us.setdefault(process.name, self.world.now_us)
        if not lessor._in_decision:
            return
        known = self._decided[process.name]
        for session in lessor._in_decision:
            if session not in known:
                known.add(session)
                self._decide(process, session, since_us)

    def _decide(self, process: Process, session: int, since_us: int) -> None:
        info = process.engine.machine.sessions.get(session)
        if info is None or info.mute is not None:  # it was killed, or has left: its KeepAlives renew nothing
            return
        self.decisions += 1
        now_us = self.world.now_us
        whole_us = info.lease_ms * 980
        if now_us - since_us < whole_us:
            passed_ms = (now_us - since_us) // 1000
            raise self.broken(
                f"session {session} is ended {passed_ms} ms after the lease of replica {process.name} began"
            )
        heard_us = self._doors[process.name].heard_us(session)
        if heard_us is not None and READ_MS_MAX * 1000 < now_us - heard_us < whole_us:
            passed_ms = (now_us - heard_us) // 1000
            raise self.broken(
                f"session {session} is ended {passed_ms} ms after its KeepAlive arrived; {info.lease_ms} ms are due"
            )
        answered_us = self._answered[process.name].get((session, info.secret))
        if answered_us is not None and now_us - answered_us < whole_us:
            passed_ms = (now_us - answered_us) // 1000
            raise self.broken(
                f"session {session} is ended {passed_ms} ms after its KeepAlive was answered; due are {info.lease_ms}"
            )
