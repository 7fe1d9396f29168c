"""Random commands against the machine, with a naive model of locks beside it.

The harness checks all invariants after every step and throws its twin away for one restored from a snapshot. The model
here is written from the promises alone, with lists and loops: it says who must hold and who must wait, in which order.
"""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from coordclient.protocol.errors import Refusal
from coordd.machine.commands import Command
from coordd.machine.machine import Limits
from tests.unit.machine.harness import Cell, plain

PATHS = ("/a", "/b", "/d", "/d/x", "/d/x/y", "/d/z")
LIMITS = Limits(
    sessions=4,
    holds_per_session=5,
    waiters_per_session=3,
    ephemerals_per_session=2,
    remembered_bytes_per_session=6_000,
    holders_per_node=3,
    waiters_per_node=3,
    nodes=7,
    children_per_directory=4,
    total_bytes=200,
)

Who = tuple[int, int]


class Model:
    """Per path: who holds in which mode (and whether delayed), who waits, oldest first."""

    def __init__(self) -> None:
        self.holders: dict[str, list[tuple[Who, str, bool]]] = {}
        self.queues: dict[str, list[tuple[Who, str]]] = {}

    def request(self, path: str, who: Who, mode: str) -> None:
        self.queues.setdefault(path, []).append((who, mode))
        self.settle()

    def settle(self) -> None:
        for path, queue in self.queues.items():
            holders = self.holders.setdefault(path, [])
            while queue:
                who, mode = queue[0]
                alone = not holders
                together = mode == "shared" and all(other == "shared" for _, other, _ in holders)
                if not alone and not (together and len(holders) < LIMITS.holders_per_node):
                    break
                holders.append((who, mode, False))
                queue.pop(0)

    def leave(self, who: Who) -> None:
        for path, holders in self.holders.items():
            self.holders[path] = [entry for entry in holders if entry[0] != who]
        for path, queue in self.queues.items():
            self.queues[path] = [entry for entry in queue if entry[0] != who]
        self.settle()

    def end(self, session: int, delayed: set[Who]) -> None:
        for path, queue in self.queues.items():
            self.queues[path] = [entry for entry in queue if entry[0][0] != session]
        for path, holders in self.holders.items():
            kept = [entry for entry in holders if entry[0][0] != session or entry[0] in delayed]
            self.holders[path] = [(who, mode, late or who in delayed) for who, mode, late in kept]
        self.settle()


class RandomCommands(RuleBasedStateMachine):
    """Rules draw small numbers and mean them modulo what is there."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = Cell(LIMITS)
        self.model = Model()
        self.delays: dict[Who, int] = {}
        self.actors: dict[Who, str] = {}
        self.sent: list[tuple[Command, Any]] = []

    # ---- helpers ----

    def never_ends(self, path: str, who: Who, mode: str, actor: str) -> bool:
        """Whether this request waits for ever, if everyone who can go on does, and whoever may give up does."""
        model = copy.deepcopy(self.model)
        actors = self.actors | {who: actor}
        model.request(path, who, mode)
        for _ in range(20):
            places: dict[tuple[int, str], int] = {}
            for waiter, _ in (entry for queue in model.queues.values() for entry in queue):
                name = (waiter[0], actors[waiter])
                places[name] = places.get(name, 0) + 1
            for holder, _, delayed in [entry for holders in model.holders.values() for entry in holders]:
                if delayed or not actors[holder] or places.get((holder[0], actors[holder])) != 1:
                    model.leave(holder)
            for waiter, _ in [entry for queue in model.queues.values() for entry in queue]:
                if not actors[waiter]:
                    model.leave(waiter)
        return who in [entry[0] for entry in model.queues[path]]

    def session(self, number: int) -> int:
        sessions = sorted(self.cell.machine.sessions)
        return sessions[number % len(sessions)]

    def send(self, operation: str, session: int, lag: int = 0, **given: Any) -> Any:
        call = self.cell.call(session)
        acked = max(0, call - lag) if lag else 0
        command = self.cell.command(operation, session, call, acked, **given)
        [applied] = self.cell.batch(command)
        self.sent.append((command, applied.reply))
        return applied.reply

    @initialize()
    def two_sessions(self) -> None:
        self.cell.open()
        self.cell.open()

    # ---- sessions ----

    @precondition(lambda self: len(self.cell.machine.sessions) < LIMITS.sessions)
    @rule()
    def open_session(self) -> None:
        self.cell.open(host="h")

    @precondition(lambda self: len(self.cell.machine.sessions) > 1)
    @rule(number=st.integers(0, 3), expired=st.booleans())
    def end_session(self, number: int, expired: bool) -> None:
        session = self.session(number)
        holds = [(session, call) for call in self.cell.machine.sessions[session].holds]
        if expired:
            self.cell.expire(session)
        else:
            assert self.send("close_session", session) == {} or session in self.cell.machine.sessions
            if session in self.cell.machine.sessions:
                return  # refused for room of the reply memory
        self.model.end(session, {who for who in holds if expired and self.delays[who]})

    @rule(number=st.integers(0, 9))
    def end_lock_delay(self, number: int) -> None:
        delayed = list(self.cell.machine.delayed_holds())
        if delayed:
            path, session, call, lock_delay_ms = delayed[number % len(delayed)]
            assert lock_delay_ms == self.delays[session, call] > 0
            assert self.cell.end_lock_delay(path, session, call) == {"ended": True}
            self.model.leave((session, call))

    @rule()
    def fail_over(self) -> None:
        self.cell.begin_epoch(self.cell.machine.epoch + 1)

    # ---- locks ----

    @rule(
        number=st.integers(0, 3),
        path=st.sampled_from(PATHS),
        mode=st.sampled_from(("exclusive", "shared")),
        wait=st.booleans(),
        delay=st.sampled_from((0, 1_000)),
        actor=st.sampled_from(("", "x", "y")),
        lag=st.integers(0, 30),
    )
    def acquire(self, number: int, path: str, mode: str, wait: bool, delay: int, actor: str, lag: int) -> None:
        session = self.session(number)
        reply = self.send("acquire", session, lag, path=path, mode=mode, wait=wait, lock_delay_ms=delay, actor=actor)
        who = (session, self.cell.calls[session])
        self.actors[who] = actor
        if isinstance(reply, Refusal):
            if reply.code == "deadlock":
                cycle = reply.details["cycle"]
                assert wait and actor and isinstance(cycle, list)
                assert len(cycle) == 1 or self.never_ends(path, who, mode, actor), "a cycle was invented"
            assert reply.code in {"limit", "not_acquired", "deadlock", "not_a_directory", "cancelled"}
            if reply.code == "not_acquired":
                assert not wait and self.model.holders.get(path)
            return
        self.delays[who] = delay
        self.model.request(path, who, mode)
        holding = who in [entry[0] for entry in self.model.holders[path]]
        assert (reply is not None) == holding
        if reply is not None:
            assert self.cell.query("check_sequencer", sequencer=reply["sequencer"])["valid"]

    @rule(number=st.integers(0, 3), index=st.integers(0, 9), lag=st.integers(0, 30))
    def release(self, number: int, index: int, lag: int) -> None:
        session = self.session(number)
        holds = sorted(self.cell.machine.sessions[session].holds.items())
        if holds:
            call, hold = holds[index % len(holds)]
            reply = self.send("release", session, lag, path=hold.lock.node.path, hold=call)
            if not isinstance(reply, Refusal):
                self.model.leave((session, call))

    @rule(number=st.integers(0, 3), back=st.integers(-2, 20), lag=st.integers(0, 30))
    def cancel(self, number: int, back: int, lag: int) -> None:
        session = self.session(number)
        target = self.cell.calls[session] + 1 - back
        reply = self.send("cancel", session, lag, target=max(1, target))
        if reply in ({"did": "withdrew"}, {"did": "released"}):
            self.model.leave((session, max(1, target)))

    # ---- files ----

    @rule(
        number=st.integers(0, 3),
        operation=st.sampled_from(("put", "create", "ephemeral", "mkdir", "delete", "open")),
        path=st.sampled_from(PATHS),
        parents=st.booleans(),
        size=st.integers(0, 90),
        lag=st.integers(0, 30),
    )
    def change_files(self, number: int, operation: str, path: str, parents: bool, size: int, lag: int) -> None:
        session = self.session(number)
        given: dict[str, Any] = {"path": path}
        if operation in {"put", "create", "ephemeral"}:
            given["contents"] = b"x" * size
        if operation not in {"delete", "open"}:
            given["parents"] = parents
        if operation == "ephemeral":
            operation, given["ephemeral"] = "create", True
        held = bool(self.model.holders.get(path))
        reply = self.send(operation, session, lag, **given)
        if operation == "delete" and held:
            assert isinstance(reply, Refusal)

    # ---- calls ----

    @precondition(lambda self: self.sent)
    @rule(index=st.integers(0, 30))
    def retry(self, index: int) -> None:
        command, reply = self.sent[-1 - index % len(self.sent)]
        session = self.cell.machine.sessions.get(command.session)
        refused_for_room = isinstance(reply, Refusal) and reply.code == "limit"
        if refused_for_room and session is not None and command.call not in session.replies:
            return  # it never ran: it may run now
        before = self.cell.machine.revision
        recalled = self.cell.machine.recall(command.session, command.call, command.acked)
        again = self.cell.batch(command)[0].reply
        assert self.cell.machine.revision == before, "a retry changes nothing"
        assert recalled is None or plain(recalled) == plain(again), "the short cut answers as apply does"
        if session is not None and command.call in session.replies and command.operation != "acquire":
            assert plain(again) == plain(reply)

    # ---- always ----

    @invariant()
    def the_machine_agrees_with_the_model(self) -> None:
        for path in PATHS:
            row = self.cell.lock_at(path)
            holders = (
                [((one["session"], one["hold"]), one["mode"], one["delayed"]) for one in row["holders"]] if row else []
            )
            waiters = [((one["session"], one["call"]), one["mode"]) for one in row["waiters"]] if row else []
            assert holders == self.model.holders.get(path, []), path
            assert waiters == self.model.queues.get(path, []), path

    @invariant()
    def whoever_was_woken_was_told_the_truth(self) -> None:
        for woken in self.cell.woken:
            if not isinstance(woken.reply, Refusal):
                path, token = woken.reply["path"], woken.reply["token"]
                assert isinstance(path, str)
                assert token == self.cell.lock_at(path)["token"]
                assert ((woken.session, woken.call)) in self.cell.holders(path)
        self.cell.woken.clear()


TestRandomCommands = RandomCommands.TestCase
TestRandomCommands.settings = settings(stateful_step_count=40, suppress_health_check=[HealthCheck.too_slow])
