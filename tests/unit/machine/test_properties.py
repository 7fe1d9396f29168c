"""Random commands against the machine, with a naive model of locks beside it.

The harness checks all invariants after every step and throws its twin away for one restored from a snapshot.
"""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from coordclient.protocol.errors import Refusal
from coordd.machine.commands import Command
from coordd.machine.grants import each_hold
from coordd.machine.machine import Limits
from tests.unit.machine.harness import Cell, plain
from tests.unit.machine.model import Model, Part, Who

PATHS = ("/a", "/b", "/d", "/d/x", "/d/x/y", "/d/z")
LIMITS = Limits(
    sessions=4,
    holds_per_session=6,
    waiters_per_session=3,
    ephemerals_per_session=2,
    remembered_bytes_per_session=6_000,
    holders_per_node=3,
    waiters_per_node=3,
    nodes=7,
    children_per_directory=4,
    total_bytes=200,
    notices_per_session=3,
    losses_per_path=2,
    losses_paths=3,
)
ACQUIRES = ("acquire", "acquire_all")
REFUSALS = {"limit", "not_acquired", "deadlock", "not_a_directory", "cancelled", "permits_differ", "session_killed"}

wanted = st.builds(
    lambda path, how: Part(path, "semaphore", how) if isinstance(how, int) else Part(path, how),
    st.sampled_from(PATHS),
    st.sampled_from(("exclusive", "exclusive", "shared", "shared", 1, 2, 3)),
)


class RandomCommands(RuleBasedStateMachine):
    """Rules draw small numbers and mean them modulo what is there."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = Cell(LIMITS)
        self.model = Model(LIMITS.holders_per_node)
        self.delays: dict[Who, int] = {}
        self.actors: dict[Who, str] = {}
        self.limited: set[Who] = set()
        self.sent: list[tuple[Command, Any]] = []
        self.secrets = 0

    # ---- helpers ----

    def never_ends(self, who: Who, parts: tuple[Part, ...], actor: str) -> bool:
        """Whether this request waits for ever, if everyone who can go on does, and whoever may give up does."""
        model = copy.deepcopy(self.model)
        actors = self.actors | {who: actor}
        model.request(who, parts)
        for _ in range(20):
            places: dict[tuple[int, str], int] = {}
            for waiter, _ in model.waiting:
                name = (waiter[0], actors[waiter])
                places[name] = places.get(name, 0) + 1
            for path, holder in [(path, one) for path, holders in model.holders.items() for one in holders]:
                goes_on = places.get((holder.who[0], actors[holder.who])) != 1
                if holder.delayed or (path, holder.who) in model.revoked or not actors[holder.who] or goes_on:
                    model.leave(holder.who, path)
            for waiter, _ in list(model.waiting):
                if not actors[waiter] or waiter in self.limited:
                    model.leave(waiter)
        return who in [entry[0] for entry in model.waiting]

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
        if expired:
            self.cell.expire(session)
        else:
            assert self.send("close_session", session) == {} or session in self.cell.machine.sessions
            if session in self.cell.machine.sessions:
                return  # refused for room of the reply memory
        self.model.end(session, self.delays if expired else {})

    @rule(number=st.integers(0, 9))
    def end_lock_delay(self, number: int) -> None:
        delayed = list(self.cell.machine.delayed_holds())
        if delayed:
            path, session, call, lock_delay_ms = delayed[number % len(delayed)]
            assert lock_delay_ms == self.delays[session, call] > 0
            assert self.cell.end_lock_delay(path, session, call) == {"ended": True}
            self.model.leave((session, call), path)

    @rule()
    def fail_over(self) -> None:
        self.cell.begin_epoch(self.cell.machine.epoch + 1)

    @precondition(lambda self: len(self.cell.machine.sessions) > 1)
    @rule(number=st.integers(0, 3), acknowledged=st.booleans())
    def kill(self, number: int, acknowledged: bool) -> None:
        session = self.session(number)
        self.cell.admin("kill_session", session=session, reason="wild")
        self.model.withdraw(session)
        if acknowledged and self.send("acknowledge_kill", session) == {}:
            self.model.end(session, self.delays)

    @rule(number=st.integers(0, 3))
    def leave(self, number: int) -> None:
        session = self.session(number)
        if self.send("leave_session", session) == {} and not self.cell.machine.sessions[session].killed:
            self.model.withdraw(session)

    @rule(number=st.integers(0, 3))
    def resume(self, number: int) -> None:
        session = self.session(number)
        self.secrets += 1
        reply = self.cell.resume(session, f"{self.secrets:064x}", pid=str(self.secrets))
        if isinstance(reply, Refusal):
            assert reply.code == "session_killed"
            return
        self.model.withdraw(session)
        self.cell.calls[session] = reply["next_call"] - 1
        held = [(hold["path"], (session, hold["hold"])) for hold in reply["holds"]]
        assert sorted(held) == sorted(self.held(session))

    def held(self, session: int) -> list[tuple[str, Who]]:
        """What the model says that this session has."""
        holders = [(path, one) for path in PATHS for one in self.model.at(path)]
        return [(path, one.who) for path, one in holders if one.who[0] == session and not one.delayed]

    # ---- locks ----

    @rule(
        number=st.integers(0, 3),
        parts=st.lists(wanted, min_size=1, max_size=3, unique_by=lambda part: part.path),
        wait=st.booleans(),
        delay=st.sampled_from((0, 1_000)),
        actor=st.sampled_from(("", "x", "y")),
        limited=st.booleans(),
        lag=st.integers(0, 30),
    )
    def acquire(
        self, number: int, parts: list[Part], wait: bool, delay: int, actor: str, limited: bool, lag: int
    ) -> None:
        session = self.session(number)
        given: dict[str, Any] = {"wait": wait, "lock_delay_ms": delay, "actor": actor, "limited": limited}
        if len(parts) == 1:
            reply = self.send("acquire", session, lag, **vars(parts[0]), **given)
        else:
            reply = self.send("acquire_all", session, lag, locks=[vars(part) for part in parts], **given)
        who = (session, self.cell.calls[session])
        self.actors[who], self.delays[who] = actor, delay
        if limited:
            self.limited.add(who)
        if isinstance(reply, Refusal):
            self.was_refused(reply, who, tuple(parts), wait)
            return
        self.model.request(who, tuple(parts))
        assert (reply is not None) == (who not in [entry[0] for entry in self.model.waiting])
        if reply is not None:
            for grant in reply.get("locks", [reply]):
                assert self.cell.query("check_sequencer", sequencer=grant["sequencer"])["valid"]

    def was_refused(self, reply: Refusal, who: Who, parts: tuple[Part, ...], wait: bool) -> None:
        assert reply.code in REFUSALS
        if reply.code == "deadlock":
            cycle, actor = reply.details["cycle"], self.actors[who]
            assert wait and actor and who not in self.limited and isinstance(cycle, list)
            assert len(cycle) == 1 or self.never_ends(who, parts, actor), "a cycle was invented"
        elif reply.code == "permits_differ":
            assert any(self.model.differs(part) for part in parts)
        elif reply.code == "not_acquired":
            assert not wait
            assert any(self.model.queue(part.path) or not self.model.fits(part) for part in parts)

    @rule(number=st.integers(0, 3), index=st.integers(0, 9), lag=st.integers(0, 30), whole=st.booleans())
    def release(self, number: int, index: int, lag: int, whole: bool) -> None:
        session = self.session(number)
        holds = list(each_hold(self.cell.machine.sessions[session]))
        if holds:
            hold = holds[index % len(holds)]
            path = "" if whole else hold.lock.node.path
            who = (session, hold.call)
            if not isinstance(self.send("release", session, lag, path=path, hold=hold.call), Refusal):
                for at, held in self.held(session):
                    if held == who and path in ("", at):
                        self.model.leave(who, at)

    @rule(number=st.integers(0, 3), back=st.integers(-2, 20), lag=st.integers(0, 30))
    def cancel(self, number: int, back: int, lag: int) -> None:
        session = self.session(number)
        target = self.cell.calls[session] + 1 - back
        reply = self.send("cancel", session, lag, target=max(1, target))
        if reply in ({"did": "withdrew"}, {"did": "released"}):
            who = (session, max(1, target))
            self.model.waiting = [entry for entry in self.model.waiting if entry[0] != who]
            for path, held in self.held(session):
                if held == who:
                    self.model.leave(who, path)
            self.model.settle()

    @rule(index=st.integers(0, 20), now=st.booleans(), everybody=st.booleans())
    def unlock(self, index: int, now: bool, everybody: bool) -> None:
        holders = [(path, one) for path in PATHS for one in self.model.at(path)]
        if not holders:
            return
        path, chosen = holders[index % len(holders)]
        session, hold = (0, 0) if everybody else chosen.who
        reply = self.cell.unlock(path, session=session, hold=hold, now=now)
        if isinstance(reply, Refusal):
            assert reply.code in ("limit", "not_held")
            return
        for one in [(taken["session"], taken["hold"]) for taken in reply["holds"]]:
            if now:
                self.model.leave(one, path)
            else:
                self.model.revoked.add((path, one))

    @rule(index=st.integers(0, 9), told=st.booleans())
    def end_revoked(self, index: int, told: bool) -> None:
        revoked = list(self.cell.machine.revoked_holds())
        assert {(path, (session, hold)) for path, session, hold, _ in revoked} == self.model.revoked
        if not revoked:
            return
        path, session, hold, _ = revoked[index % len(revoked)]
        delay_ms = self.delays[session, hold]
        if told:
            reply = self.send("give_up", session, path=path, hold=hold)
            if isinstance(reply, Refusal):
                return  # for room of the reply memory
            assert reply == {"did": "delayed" if delay_ms else "freed"}
        else:
            assert self.cell.end_revoked(path, session, hold) == {"ended": True}
        self.model.lose((session, hold), path, delay_ms)

    @rule(number=st.integers(0, 3), to=st.integers(0, 3), index=st.integers(0, 9))
    def transfer(self, number: int, to: int, index: int) -> None:
        session, heir = self.session(number), self.session(to)
        held = self.held(session)
        if not held:
            return
        path, who = held[index % len(held)]
        reply = self.send("transfer", session, path=path, hold=who[1], to=heir)
        if not isinstance(reply, Refusal):
            self.model.hand_on(who, path, (heir, reply["hold"]))

    # ---- files ----

    @rule(
        number=st.integers(0, 3),
        operation=st.sampled_from(("put", "create", "ephemeral", "mkdir", "directory", "delete", "open", "close")),
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
        if operation not in {"delete", "open", "close"}:
            given["parents"] = parents
        if operation in {"ephemeral", "directory"}:
            operation, given["ephemeral"] = "create" if operation == "ephemeral" else "mkdir", True
        if operation == "close":
            node = self.cell.machine.state.nodes.get(path)
            given["instance"] = 0 if node is None else node.instance
        held = bool(self.model.at(path) or self.model.queue(path))
        reply = self.send(operation, session, lag, **given)
        if operation == "delete" and held:
            assert isinstance(reply, Refusal)

    @rule(
        number=st.integers(0, 3),
        steps=st.lists(
            st.tuples(st.sampled_from(("put", "create", "mkdir", "delete", "stat")), st.sampled_from(PATHS)),
            min_size=1,
            max_size=3,
        ),
        exists=st.booleans(),
    )
    def transaction(self, number: int, steps: list[tuple[str, str]], exists: bool) -> None:
        guards = [{"path": steps[0][1], "exists": exists}]
        then = [{"do": do, "path": path} for do, path in steps]
        given: dict[str, Any] = {"guards": guards, "then": then, "else": then[:1]}
        self.send("txn", self.session(number), **given)

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
        if session is not None and command.call in session.replies and command.operation not in ACQUIRES:
            assert plain(again) == plain(reply)

    # ---- always ----

    @invariant()
    def the_machine_agrees_with_the_model(self) -> None:
        for path in PATHS:
            row = self.cell.lock_at(path) or {"holders": [], "waiters": []}
            holders = [((one["session"], one["hold"]), one["mode"], one["delayed"]) for one in row["holders"]]
            waiters = [((one["session"], one["call"]), one["mode"]) for one in row["waiters"]]
            assert holders == [(one.who, one.part.mode, one.delayed) for one in self.model.at(path)], path
            assert waiters == self.model.queue(path), path

    @invariant()
    def whoever_was_woken_was_told_the_truth(self) -> None:
        for woken in self.cell.woken:
            who, reply = (woken.session, woken.call), woken.reply
            if isinstance(reply, Refusal):
                assert reply.code != "permits_differ" or who in self.model.refused
                continue
            grants: Any = reply.get("locks", [reply])
            for grant in grants:
                rows = self.cell.lock_at(grant["path"])["holders"]
                [token] = [row["token"] for row in rows if (row["session"], row["hold"]) == who]
                assert grant["token"] == token
        self.cell.woken.clear()


TestRandomCommands = RandomCommands.TestCase
TestRandomCommands.settings = settings(stateful_step_count=40, suppress_health_check=[HealthCheck.too_slow])
