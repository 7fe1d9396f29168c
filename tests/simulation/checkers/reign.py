"""Checkers of masterships: a lease is backed, nobody reigns in silence, a deposed one knows it, who stands has asked.

They look at what *could* follow and not only at what did: two masters at one instant are rare, a master whose lease
rests on nothing is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from coordd.engine.effects import Effects
from coordd.engine.inputs import Input
from coordd.paxos.ballot import ZERO, Ballot
from coordd.paxos.effects import ValueKind
from coordd.paxos.messages import Accept, Heartbeat, Prepare, Willing
from coordd.paxos.replica import Role
from tests.simulation.checkers.agreement import ChosenValues
from tests.simulation.checkers.panel import Checker
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.process import Process


class LeaseIsBacked(Checker):
    """While a master's lease holds, nobody else could find a majority of the present voters to promise to him.

    Who is still recovering begins anew with each change: several, one right behind the other, may leave no voter who
    has granted.
    """

    name = "master lease"
    needs_clocks = True

    def __init__(self, world: World, processes: Callable[[], Mapping[int, Process]]) -> None:
        super().__init__(world)
        self._processes = processes
        self._before: dict[int, int] = {}  # replica -> its version of the membership, a turn ago

    def stepped(self, process: Process, inputs: Sequence[Input], effects: Effects, now_ms: int) -> None:
        core = process.engine.replica
        membership, processes = core.membership, self._processes()
        before = self._before.get(process.name)
        self._before[process.name] = membership.version
        if core.proposer is None or not process.clock.now_ms() < core.proposer.lease.until_ms:
            return
        if (
            not core.serving and membership.version != before and membership.majority > 1
        ):  # one grants to itself at once
            raise self.broken(f"replica {process.name} recovers, and keeps its lease over the change {membership}")
        voters = [processes[voter] for voter in membership.voters if voter in processes]
        others = [voter for voter in voters if voter is not process and voter.up]
        if len(others) < membership.majority:
            return
        for rival in others:
            who = rival.name, rival.engine.replica.state.start
            free = [voter.name for voter in others if _may_promise(voter, *who)]
            if membership.is_majority(free):
                raise self.broken(f"replica {process.name} holds it, and {free} may promise to replica {rival.name}")


def _may_promise(voter: Process, replica: int, start: int) -> bool:
    may: bool = voter.engine.replica.state.grants.may_promise(replica, start, voter.clock.now_ms())
    return may


class SilentReign(Checker):
    """A master without a lease for one lease speaks no more: a deaf one must not keep the others from electing."""

    name = "silent reign"
    needs_clocks = True

    def __init__(self, world: World, drift_ppm: int) -> None:
        super().__init__(world)
        self._drift_ppm = drift_ppm
        self._backed: dict[
            int, tuple[tuple[int, int], int]
        ] = {}  # replica -> reign, until when it had a lease, in true time

    def stepped(self, process: Process, inputs: Sequence[Input], effects: Effects, now_ms: int) -> None:
        proposer = process.engine.replica.proposer
        if proposer is None:
            self._backed.pop(process.name, None)
            return
        reign, now_us = (process.life, proposer.epoch), self.world.now_us
        before, until_us = self._backed.get(process.name, (reign, now_us))
        if before != reign:
            until_us = now_us
        left_us = (proposer.lease.until_ms - process.clock.now_ms()) * 1_000
        self._backed[process.name] = reign, max(until_us, now_us + left_us)

    def spoke(self, process: Process, messages: Sequence[tuple[int, Any]]) -> None:
        _, until_us = self._backed.get(process.name, (None, self.world.now_us))
        silent_us = self.world.now_us - until_us
        if silent_us <= process.engine.replica.membership.lease_ms * (1_000_000 + 2 * self._drift_ppm) // 1_000:
            return
        if any(type(message) in (Accept, Heartbeat) for _, message in messages):
            raise self.broken(f"replica {process.name} reigns, and has had no lease for {silent_us // 1000} ms")


class LaterEpoch(Checker):
    """A serving master that has applied the beginning of a later epoch has stepped down."""

    name = "later epoch"

    def __init__(self, world: World, chosen: ChosenValues) -> None:
        super().__init__(world)
        self._chosen = chosen
        self._upto = 0
        self._epochs: list[tuple[int, int]] = []  # slot, epoch; rising in both

    def stepped(self, process: Process, inputs: Sequence[Input], effects: Effects, now_ms: int) -> None:
        values = self._chosen.values
        while (value := values.get(self._upto + 1)) is not None:
            self._upto += 1
            kind, payload = value
            epoch = int.from_bytes(payload, "big") if kind is ValueKind.EPOCH else 0
            if epoch and (not self._epochs or epoch > self._epochs[-1][1]):
                self._epochs.append((self._upto, epoch))
        core = process.engine.replica
        if not core.serving:
            return
        for slot, epoch in reversed(self._epochs):
            if epoch <= core.epoch:
                return
            if slot <= core.chosen_upto:
                raise self.broken(
                    f"replica {process.name} serves in epoch {core.epoch} and has applied slot {slot}, where epoch "
                    f"{epoch} begins"
                )


class AskedFirst(Checker):
    """Who sends Prepare was told by a majority that it would promise; so one who was cut off deposes nobody."""

    name = "asked first"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._willing: dict[int, set[int]] = {}  # asker -> who said yes since its last candidacy
        self._stood: dict[int, Ballot] = {}
        self._before: dict[int, tuple[bool, int]] = {}  # was it master, and under which membership, a turn ago

    def started(self, process: Process) -> None:
        core = process.engine.replica
        self._willing.pop(process.name, None)
        self._before[process.name] = False, core.membership.version

    def spoke(self, process: Process, messages: Sequence[tuple[int, Any]]) -> None:
        for target, message in messages:
            if type(message) is Willing and message.yes:
                self._willing.setdefault(target, set()).add(process.name)

    def stepped(self, process: Process, inputs: Sequence[Input], effects: Effects, now_ms: int) -> None:
        name, core = process.name, process.engine.replica
        before = self._before[name]
        self._before[name] = now = core.role is Role.MASTER, core.membership.version
        if not effects.send_after_persist:
            return
        for _, message in effects.send_after_persist:
            if type(message) is Prepare and message.ballot > self._stood.get(name, ZERO):
                self._stood[name] = message.ballot
                willing = {name, *self._willing.pop(name, ())}
                if before == (False, now[1]) and not core.membership.is_majority(willing):
                    raise self.broken(f"replica {name} stands for election, and only {sorted(willing)} would promise")
