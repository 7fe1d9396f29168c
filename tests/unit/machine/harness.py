"""A machine under test: every step runs through encoded batches, on two replicas, with all invariants checked after it.

The twin is thrown away and restored from its own snapshot after every step, so each test also shows that a replica
that came from a snapshot does the same as one that lived through the log.
"""

from __future__ import annotations

from typing import Any

from coordclient.protocol.codec import decode
from coordclient.protocol.errors import Refusal
from coordclient.protocol.operations import OPERATIONS, check_arguments
from coordd.machine.commands import Command, encode_batch, encode_command
from coordd.machine.invariants import check, check_delta, summarize
from coordd.machine.machine import LIMITS, Applied, Limits, Machine, Woken
from coordd.machine.namespace import stat_of
from coordd.machine.touches import Key

KEY = bytes(range(32))


def plain(reply: object) -> object:
    """A reply as comparable data."""
    if isinstance(reply, Refusal):
        return reply.to_wire()
    if isinstance(reply, Applied):
        return (plain(reply.reply), [plain(woken) for woken in reply.woken])
    if isinstance(reply, Woken):
        return (reply.session, reply.call, plain(reply.reply))
    return reply


def state_of(machine: Machine) -> list[object]:
    """All that commands change: neither the slot nor the history, and what is inspected in whatever turn."""
    fields = decode(machine.snapshot()[:-16])
    return [*fields[4:6], fields[9], sorted(fields[10]), sorted(fields[11]), fields[12], fields[13][1], fields[14]]


def cacheable(machine: Machine) -> dict[Key, object]:
    """All that a client could hold in its cache, by key: as docs/state.md says."""
    held: dict[Key, object] = {}
    for path, node in machine.state.nodes.items():
        held["node", path] = (node.contents, stat_of(node) | {"lock_generation": 0, "children": 0})
        if node.children is not None:
            held["children", path] = sorted((name, one.children is None) for name, one in node.children.items())
    return held


def differences(before: dict[Key, object], after: dict[Key, object]) -> set[Key]:
    """The keys whose value is another one; of the children of a directory that is new or gone, its own key says it."""
    keys = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    return {key for key in keys if key[0] == "node" or (key in before and key in after)}


class Cell:
    """Commands in, answers out; `wall_ms` moves by one with every step."""

    def __init__(self, limits: Limits = LIMITS, ready: bool = True) -> None:
        self.limits = limits
        self.machine = Machine("test", limits)
        self.twin = Machine("test", limits)
        self.wall_ms = 1_700_000_000_000
        self.calls: dict[int, int] = {}
        self.woken: list[Woken] = []
        if ready:
            self.begin_epoch(1)
            self.master("set_sequencer_key", key=KEY, epoch=1)

    # ---- steps ----

    def batch(self, *commands: Command) -> list[Applied]:
        before = summarize(self.machine)
        self.wall_ms += 1
        payload = encode_batch(self.wall_ms, [encode_command(command) for command in commands])
        could, there = self.touched(commands[0]), cacheable(self.machine)
        slot = self.machine.applied_upto + 1
        applied = self.machine.apply_batch(slot, payload)
        assert list(map(plain, self.twin.apply_batch(slot, payload))) == list(map(plain, applied))
        self._after(before)
        if len(commands) == 1:
            assert differences(there, cacheable(self.machine)) <= could, "caches would hold what is no more"
        for one in applied:
            self.woken.extend(one.woken)
        return applied

    def touched(self, command: Command) -> frozenset[Key]:
        """What the machine says that this command may change; asking changes nothing."""
        before = self.machine.digest()
        keys = self.machine.touches(command.operation, command.session, command.arguments, command.principal)
        assert self.machine.digest() == before
        assert self.twin.touches(command.operation, command.session, command.arguments, command.principal) == keys
        return keys

    def begin_epoch(self, epoch: int) -> None:
        before = summarize(self.machine)
        for machine in (self.machine, self.twin):
            machine.begin_epoch(machine.applied_upto + 1, epoch)
        self._after(before)

    def _after(self, before: Any) -> None:
        check(self.machine)
        check_delta(before, self.machine)
        snapshot = self.machine.snapshot()
        assert self.twin.snapshot() == snapshot, "the replicas differ"
        self.twin = Machine.restore(snapshot, self.limits)
        check(self.twin)
        assert self.twin.digest() == self.machine.digest()

    # ---- words for tests ----

    def command(
        self,
        operation: str,
        session: int = 0,
        call: int = 0,
        acked: int = 0,
        principal: str = "anonymous",
        **given: Any,
    ) -> Command:
        arguments = check_arguments(OPERATIONS[operation], given)
        return Command(operation, session, call, acked, principal, arguments)

    def apply(self, operation: str, session: int = 0, call: int = 0, acked: int = 0, **given: Any) -> Applied:
        return self.batch(self.command(operation, session, call, acked, **given))[0]

    def do(self, operation: str, session: int = 0, call: int = 0, acked: int = 0, **given: Any) -> Any:
        """The reply of a command that must succeed (None: it waits)."""
        reply = self.apply(operation, session, call, acked, **given).reply
        if isinstance(reply, Refusal):
            raise AssertionError(f"{operation} {given}: {reply!r}")
        return reply

    def refused(self, operation: str, session: int = 0, call: int = 0, acked: int = 0, **given: Any) -> Refusal:
        """The refusal of a command that must be refused; nothing but what its session remembers may have changed."""
        before = state_of(self.machine)
        revision = self.machine.revision
        reply = self.apply(operation, session, call, acked, **given).reply
        assert isinstance(reply, Refusal), reply
        assert self.machine.revision == revision, "a refusal changes nothing"
        after = state_of(self.machine)
        assert before[:3] == after[:3] and before[4:] == after[4:], "a refusal leaves no trace"
        return reply

    def master(self, operation: str, **arguments: Any) -> Any:
        """A command of the master's own."""
        return self.batch(Command(operation, 0, 0, 0, "", arguments))[0].reply

    def admin(self, operation: str, **given: Any) -> Any:
        """The reply, a refusal too, to a command without a session; `session` in `given` is an argument."""
        before = state_of(self.machine)
        arguments = check_arguments(OPERATIONS[operation], given)
        reply = self.batch(Command(operation, 0, 0, 0, "operator", arguments))[0].reply
        assert not isinstance(reply, Refusal) or state_of(self.machine) == before, "a refusal leaves no trace"
        return reply

    def unlock(self, path: str, **given: Any) -> Any:
        return self.admin("unlock", path=path, **{"reason": "stuck"} | given)

    def resume(self, session: int, new_secret: str, **client: str) -> Any:
        """Another process takes the session over, with the secret that it has."""
        secret = self.machine.sessions[session].secret
        return self.admin("resume_session", session=session, secret=secret, new_secret=new_secret, client=client)

    def open(self, principal: str = "anonymous", **client: str) -> int:
        """A new session's id."""
        arguments = {"lease_ms": 12_000, "client": client, "secret": f"{self.machine.revision:032x}"}
        reply = self.batch(Command("open_session", 0, 0, 0, principal, arguments))[0].reply
        assert isinstance(reply, dict)
        session = reply["session"]
        assert isinstance(session, int)
        self.calls[session] = 0
        return session

    def call(self, session: int) -> int:
        """The next call number of the session."""
        self.calls[session] += 1
        return self.calls[session]

    def acquire(self, session: int, path: str, mode: str = "exclusive", **given: Any) -> Any:
        """The grant, or None while it waits; the call number is `self.calls[session]`."""
        return self.do("acquire", session, self.call(session), path=path, mode=mode, **given)

    def acquire_all(self, session: int, *locks: Any, **given: Any) -> Any:
        """The grant, or None while it waits; each of `locks` is a path, `(path, mode)` or `(path, permits)`."""
        return self.do("acquire_all", session, self.call(session), locks=[lock_map(lock) for lock in locks], **given)

    def release(self, session: int, path: str, hold: int | None = None) -> Any:
        """Releases that hold, or the first that the session has there."""
        if hold is None:
            hold = next(call for owner, call in self.holders(path) if owner == session)
        return self.do("release", session, self.call(session), path=path, hold=hold)

    def expire(self, session: int) -> Any:
        found = self.machine.sessions.get(session)
        incarnation = 1 if found is None else found.incarnation
        return self.master("expire_session", session=session, incarnation=incarnation, epoch=self.machine.epoch)

    def end_revoked(self, path: str, session: int, hold: int) -> Any:
        return self.master("end_revoked", path=path, session=session, hold=hold, epoch=self.machine.epoch)

    def end_lock_delay(self, path: str, session: int, hold: int) -> Any:
        return self.master("end_lock_delay", path=path, session=session, hold=hold, epoch=self.machine.epoch)

    def query(self, operation: str, own: int = 0, **given: Any) -> Any:
        """The result of a read, asked by the session `own`."""
        arguments = check_arguments(OPERATIONS[operation], given)
        result = self.machine.query(operation, arguments, own)
        assert self.twin.query(operation, arguments, own) == result
        return result

    def exists(self, path: str) -> bool:
        return path in self.machine.state.nodes

    def lock_at(self, path: str) -> Any:
        """The row of `locks` for exactly this path, or None."""
        rows = [row for row in self.query("locks", path=path)["locks"] if row["path"] == path]
        return rows[0] if rows else None

    def holders(self, path: str) -> list[tuple[int, int]]:
        row = self.lock_at(path)
        return [(holder["session"], holder["hold"]) for holder in row["holders"]] if row else []

    def queue(self, path: str) -> list[tuple[int, int]]:
        row = self.lock_at(path)
        return [(waiter["session"], waiter["call"]) for waiter in row["waiters"]] if row else []

    def woke(self) -> list[tuple[int, int, object]]:
        """`(session, call, token | tokens | error code)` of everyone woken since the last look."""
        seen = [(one.session, one.call, _told(one.reply)) for one in self.woken]
        self.woken.clear()
        return seen


def lock_map(lock: Any) -> dict[str, Any]:
    """One of the `locks` of an acquire_all, from a path, `(path, mode)` or `(path, permits)`."""
    if isinstance(lock, str):
        return {"path": lock}
    path, how = lock
    return {"path": path, "mode": "semaphore", "permits": how} if isinstance(how, int) else {"path": path, "mode": how}


def _told(reply: object) -> object:
    if isinstance(reply, Refusal):
        return reply.code
    assert isinstance(reply, dict)
    return reply["token"] if "token" in reply else [part["token"] for part in reply["locks"]]
