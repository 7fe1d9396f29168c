"""Bugs of the master lease, and of reading the clock."""

from __future__ import annotations

from typing import Any

from coordd.paxos.lease import Grants, MasterLease
from coordd.paxos.proposer import Proposer
from coordd.paxos.replica import Replica
from coordd.paxos.state import State
from tests.simulation.planted import Bug, never_waits
from tests.simulation.process import Process


def _no_boot_wait(right: Any) -> Any:
    def init(self: Any, boot_until_ms: int) -> None:
        right(self, 0)

    return init


def _promises_itself(right: Any) -> Any:
    def init(self: Any, settings: Any, durable: Any, now_ms: int) -> None:
        right(self, settings, durable, now_ms)
        grants = self.state.grants
        waited, own = grants.may_promise, settings.replica

        def may_promise(replica: int, start: int, now_ms: int) -> bool:
            if replica == own and now_ms < grants.boot_until_ms:
                return now_ms >= grants.until_ms or grants.holder == (replica, start)
            return bool(waited(replica, start, now_ms))

        grants.may_promise = may_promise
        self.state.ask_at_ms = now_ms

    return init


def _from_receipt(right: Any) -> Any:
    def answer(self: Any, message: Any) -> None:
        if message.number in self.lease._sent_ms:
            self.lease._sent_ms[message.number] = self._state.now_ms
        right(self, message)

    return answer


def _no_drift(right: Any) -> Any:
    def init(self: Any, drift_ppm: int) -> None:
        right(self, 0)

    return init


def _any_hand_over(right: Any) -> Any:
    def void(self: Any, holder: Any, ballot: Any, number: int, now_ms: int) -> bool:
        if self.holder is None or self.holder[0] != holder[0]:
            return False
        self.until_ms = now_ms
        return True

    return void


def _promise_despite_grant(right: Any) -> Any:
    return lambda self, replica, start, now_ms: bool(now_ms >= self.boot_until_ms)


def _never_ends(right: Any) -> Any:
    def lease_valid(self: Any, now_ms: int) -> bool:
        return self.proposer is not None and self.proposer.serving

    return lease_valid


def _clock_before_inputs(right: Any) -> Any:
    def turn(self: Any, life: int) -> None:
        self.__dict__["early_ms"] = self.clock.now_ms()
        right(self, life)

    return turn


def _early_clock(right: Any) -> Any:
    def step(self: Any, inputs: Any) -> None:
        clock = self.clock

        class Early:
            def now_ms(self) -> int:
                return early_ms

            def wall_ms(self) -> int:
                return clock.wall_ms()

        early_ms: int = max(self.__dict__.get("early_ms", 0), self.engine.replica.state.now_ms)
        self.clock = Early()
        try:
            right(self, inputs)
        finally:
            if isinstance(self.clock, Early):
                self.clock = clock

    return step


BUGS = (
    Bug(
        "boot wait skipped",
        "lease",
        "agreement",
        [(Grants, "__init__", _no_boot_wait), (State, "is_no_first_start", never_waits)],
    ),
    Bug("acceptor promises itself after boot", "lease", "agreement", [(Replica, "__init__", _promises_itself)]),
    Bug("lease counted from receipt at the master", "lease", "agreement", [(Proposer, "_answer", _from_receipt)]),
    Bug("drift ignored", "lease", "agreement", [(MasterLease, "__init__", _no_drift)]),
    Bug("old hand-over message drops a newer grant", "lease", "agreement", [(Grants, "void", _any_hand_over)]),
    Bug("promise despite a grant", "lease", "agreement", [(Grants, "may_promise", _promise_despite_grant)]),
    Bug("lease never ends", "lease", "agreement", [(Replica, "lease_valid", _never_ends)]),
    Bug(
        "clock read before the inputs",
        "lease",
        "agreement",
        [(Process, "_turn", _clock_before_inputs), (Process, "_step", _early_clock)],
    ),
)
