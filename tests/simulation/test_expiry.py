"""Predictable expiry: how long after its last KeepAlive the session of a dead client is ended, by a healthy master."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from coordd.engine.effects import Effects
from coordd.engine.inputs import Call, Input
from tests.simulation.cell import Cell
from tests.simulation.checkers.panel import Checker
from tests.simulation.process import Process
from tests.simulation.swarm import Swarm

CLOCK_PPM = 5_000  # the rates of any two clocks differ by as much as they may
LEAST, MOST = 1 - CLOCK_PPM / 1_000_000, 1.1


class Ends(Checker):
    """True time from the last KeepAlive that was taken in to the end of the session, as shares of its lease."""

    def __init__(self, cell: Cell) -> None:
        super().__init__(cell.world)
        self._heard_us: dict[int, int] = {}
        self._overdue: dict[int, int] = {}  # session -> its lease
        self.shares: list[float] = []
        self.leases: set[int] = set()
        self.healthy = True

    def stepped(self, process: Process, inputs: Sequence[Input], effects: Effects, now_ms: int) -> None:
        sessions, lessor = process.engine.machine.sessions, process.engine._mastership.lessor
        if not lessor.ruling or not self.healthy:
            return
        for one in inputs:
            if isinstance(one, Call) and one.operation == "keep_alive" and one.session not in self._overdue:
                self._heard_us[one.session] = self.world.now_us
        for session in lessor._in_decision:
            self._overdue.setdefault(session, sessions[session].lease_ms)
        for session in [session for session in self._overdue if session not in sessions]:
            lease_ms, heard_us = self._overdue.pop(session), self._heard_us.pop(session, None)
            if heard_us is not None:  # otherwise its client died before it could send one
                self.shares.append((self.world.now_us - heard_us) / 1000 / lease_ms)
                self.leases.add(lease_ms)


class DyingClients(Cell):
    """Replicas without any fault, and clients that are killed again and again."""

    ends: Ends

    def more_checkers(self) -> list[Checker]:
        self.ends = Ends(self)
        return [self.ends]

    def end_faults(self) -> None:
        """What comes then may strike replicas, a minority of them."""
        super().end_faults()
        self.ends.healthy = False


@pytest.mark.slow
def test_sessions_ended_after_twice_their_time() -> None:
    """hashicorp/consul#1172: a TTL of 10 s ended after 20 s; it was a lower bound, whatever it was set to."""
    swarm = Swarm(
        clients=6,
        safety_ms=40_000,
        think_ms=2_000,
        clock_ppm=CLOCK_PPM,
        session_lease_ms=(1_000, 3_000, 12_000),
        faults={"client_gone": 1_000},
    )
    shares, leases = [], set()
    for seed in range(2):
        cell = DyingClients(seed, swarm=swarm)
        cell.run()
        shares += cell.ends.shares
        leases |= cell.ends.leases
    assert len(shares) > 30
    assert leases == {1_000, 3_000, 12_000}
    assert min(shares) >= LEAST
    assert max(shares) <= MOST
