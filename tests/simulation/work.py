"""What client processes do: small workers on the library's public names, each feeding the checkers.

A worker goes on until its process ends or `Work.stop` is set. Errors that the library documents are part of life; any
other exception is a violation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from random import Random

from coordclient.aio.lock import Lock, Mode
from coordclient.errors import (
    ClientClosed,
    Conflict,
    CoordError,
    Exists,
    InternalError,
    Locked,
    LockLost,
    LockTimeout,
    NotFound,
    OutcomeUnknown,
    SessionExpired,
    Unavailable,
)
from tests.simulation.checkers.history import Acknowledged, Registers
from tests.simulation.checkers.linear import Op
from tests.simulation.client import ClientProcess
from tests.simulation.swarm import Swarm
from tests.simulation.world import Violation, World

REGISTERS, LOCKS = 3, 2


class Fences:
    """The protected things outside: each remembers the highest token that it has seen."""

    def __init__(self) -> None:
        self.highest: dict[str, int] = {}
        self.passed = self.refused = 0

    def use(self, path: str, token: int) -> None:
        """Somebody comes with a token."""
        if token >= self.highest.get(path, 0):
            self.highest[path] = token
            self.passed += 1
        else:
            self.refused += 1


class Work:
    """The workers of all client processes of a run, and what they found."""

    def __init__(self, world: World, swarm: Swarm) -> None:
        self.world, self.swarm = world, swarm
        self.registers = Registers(world)
        self.acknowledged = Acknowledged(world)
        self.fences = Fences()
        self.stop = False
        self.failure: Violation | None = None
        self.done: dict[str, int] = {}  # seat -> when its last acknowledged write of the final kind was begun
        self.entered = self.lost = self.timeouts = 0
        self.left_behind: dict[str, str] = {}
        self.busy: dict[str, int] = {}  # client process -> workers that are not done
        self._names = 0
        self._bodies: Mapping[str, Callable[[ClientProcess, Random], Awaitable[None]]] = {
            "registers": self._register,
            "locks": self._exclusive,
            "shared locks": self._shared,
            "tokens": self._token,
            "ephemerals": self._ephemeral,
            "impatient": self._impatient,
        }

    def begin(self, process: ClientProcess) -> None:
        """All workers of one client process."""
        for kind in self.swarm.workers:
            self.busy[process.name] = self.busy.get(process.name, 0) + 1
            process.loop.run_soon(self._worker(process, kind))

    async def _worker(self, process: ClientProcess, kind: str) -> None:
        chance = self.world.chance(f"work {process.name} {kind}")
        try:
            while not self.stop:
                await process.loop.rest(chance.expovariate(1) * self.swarm.think_ms / 1_000)
                try:
                    await self._bodies[kind](process, chance)
                except InternalError as error:
                    raise self.world.violation("internal error", f"{process.name} ({kind}): {error}") from error
                except (Unavailable, OutcomeUnknown, SessionExpired, LockTimeout):
                    await process.loop.rest(chance.random() * 0.5)
                except LockLost:
                    self.lost += 1
        except asyncio.CancelledError:
            raise
        except ClientClosed:
            if not process.closing:
                self.failure = self.failure or self.world.violation("unexpected error", f"{process.name} is closed")
        except Violation as violation:
            self.failure = self.failure or violation
        except Exception as error:
            words = f"{process.name} ({kind}): {error!r}"
            self.failure = self.failure or self.world.violation("unexpected error", words)
            self.failure.__cause__ = error
        finally:
            self.busy[process.name] -= 1

    def _name(self) -> str:
        self._names += 1
        return f"v{self._names}"

    # ---- registers ----

    async def _register(self, process: ClientProcess, chance: Random) -> None:
        key = f"/r/{chance.randrange(REGISTERS)}"
        kind = chance.choices(("put", "get", "swap", "add", "delete"), (25, 40, 20, 10, 5))[0]
        if kind == "swap":
            seen = await self._get(process, key)
            if seen is not None:
                await self._swap(process, key, *seen)
            return
        if kind == "get":
            await self._get(process, key)
            return
        op = self.registers.begin(key, process.name, kind, None if kind == "delete" else self._name())
        try:
            if kind == "delete":
                await process.client.delete(key)
            else:
                assert op.value is not None
                await process.client.put(key, op.value.encode(), if_absent=kind == "add", parents=True)
            self.registers.answered(op)
        except Exists:
            self.registers.answered(op, "exists")
        except NotFound:
            self.registers.answered(op, "missing")
        except CoordError as error:
            self._without_answer(key, op, error)

    async def _get(self, process: ClientProcess, key: str) -> tuple[str, int] | None:
        op = self.registers.begin(key, process.name, "get")
        try:
            file = await process.client.get(key)
        except NotFound:
            self.registers.answered(op, "ok", None)
            return None
        except CoordError as error:
            self._without_answer(key, op, error)
            return None
        value = file.contents.decode()
        self.registers.answered(op, "ok", value)
        return value, file.stat.content_generation

    async def _swap(self, process: ClientProcess, key: str, expected: str, generation: int) -> None:
        op = self.registers.begin(key, process.name, "swap", self._name(), expected)
        assert op.value is not None
        try:
            await process.client.put(key, op.value.encode(), if_generation=generation)
            self.registers.answered(op)
        except Conflict:
            self.registers.answered(op, "conflict")
        except NotFound:
            self.registers.answered(op, "missing")
        except CoordError as error:
            self._without_answer(key, op, error)

    def _without_answer(self, key: str, op: Op, error: CoordError) -> None:
        if not isinstance(error, OutcomeUnknown | ClientClosed):  # closing, one does not wait for answers
            self.registers.failed(key, op)
        raise error

    # ---- names made once ----

    async def _token(self, process: ClientProcess, chance: Random) -> None:
        path, contents = f"/t/{self._name()}", process.name.encode()
        try:
            await process.client.create(path, contents, parents=True)
        except Exists:
            self.acknowledged.existed(path)
        self.acknowledged.made(path, contents)

    async def _ephemeral(self, process: ClientProcess, chance: Random) -> None:
        path = f"/e/{self._name()}"
        await process.client.create(path, ephemeral=True, parents=True)
        await process.loop.rest(chance.random())
        if chance.random() < 0.5:
            try:
                await process.client.delete(path)
            except NotFound:
                return  # its session had ended

    # ---- locks ----

    async def _exclusive(self, process: ClientProcess, chance: Random) -> None:
        await self._under(process, chance, "exclusive", timeout=None)

    async def _shared(self, process: ClientProcess, chance: Random) -> None:
        await self._under(process, chance, "shared" if chance.random() < 0.7 else "exclusive", timeout=None)

    async def _impatient(self, process: ClientProcess, chance: Random) -> None:
        """Asks for locks with little time, or is cancelled while it waits."""
        if chance.random() < 0.15:
            await self._delete_locked(process, chance)
            return
        if chance.random() < 0.5:
            await self._under(process, chance, "exclusive", timeout=chance.choice((0, 0.05, 0.5)))
            return
        try:
            async with asyncio.timeout(chance.random() ** 2 * 0.5):
                await self._under(process, chance, "exclusive", timeout=None)
        except TimeoutError:
            self.timeouts += 1

    async def _under(self, process: ClientProcess, chance: Random, mode: Mode, timeout: float | None) -> None:
        lock = process.client.lock(
            f"/l/{chance.randrange(LOCKS)}",
            mode,
            timeout=timeout,
            lock_delay=chance.choice((0.0, 0.5, 2.0)),
            stop_margin=chance.choice((0.05, 0.3)),
        )
        async with lock:
            self.entered += 1
            if chance.random() < 0.1:
                await self._verify(process, lock)
            long = not self.stop and chance.random() < self.swarm.long_holds
            for _ in range(chance.randint(5, 50) if long else chance.randint(1, 3)):
                if not lock.safe or (long and self.stop):
                    break
                self._guarded(lock)
                await process.loop.rest(0.2 if long else chance.expovariate(1) * self.swarm.think_ms / 2_000)

        if chance.random() < 0.1:
            await self._check_released(process, lock)

    async def _verify(self, process: ClientProcess, lock: Lock) -> None:
        """Safe before and after: then the sequencer was valid in between."""
        answer = await process.client.check_sequencer(lock.sequencer)
        if lock.safe and not answer.valid:
            raise self.world.violation("sequencer", f"{lock.path}: held and safe, but not valid: {answer.reason}")

    async def _check_released(self, process: ClientProcess, lock: Lock) -> None:
        """A release was answered: its sequencer is never valid again. (One that goes on may not be through yet.)"""
        life = process.client._keeper.life
        going_on = life is None or any(call.lasting for call in life.calls.pending.values()) or life.backlog
        if not going_on and (await process.client.check_sequencer(lock.sequencer)).valid:
            raise self.world.violation("sequencer", f"{lock.path}: {lock.sequencer} is valid after its release")

    async def _delete_locked(self, process: ClientProcess, chance: Random) -> None:
        """Somebody deletes a lock's file: refused while it is held or waited for."""
        try:
            await process.client.delete(f"/l/{chance.randrange(LOCKS)}")
        except (Locked, NotFound):
            return

    def _guarded(self, lock: Lock) -> None:
        """Whoever is safe is the one whose token is the highest, of the exclusive ones."""
        if lock.safe:
            before = self.fences.refused
            self.fences.use(lock.path, lock.token)
            if self.fences.refused > before:
                highest = self.fences.highest[lock.path]
                raise self.world.violation(
                    "fence", f"{lock.path}: a safe holder comes with token {lock.token} after token {highest}"
                )

    # ---- the end ----

    async def _nothing_behind(self, process: ClientProcess) -> None:
        """When all its workers are done, the cell sees no hold and no waiter of this client; releases may take time."""
        session = process.session()
        while process.alive and session is process.session():
            own = process.client.session_id
            left = [
                lock.path
                for lock in await process.client.locks("/l")
                if any(one.session == own for one in lock.holders) or any(one.session == own for one in lock.waiters)
            ]
            if not left and not self.busy[process.name]:
                return
            self.left_behind[process.name] = f"workers {self.busy[process.name]}, locks {left}"
            await process.loop.rest(0.1)

    async def last_things(self, process: ClientProcess, since_us: int) -> None:
        """After the faults: a new write and a lock cycle must succeed, then the process says goodbye."""
        seat = process.seat.name
        while process.alive and not process.closing:
            try:
                await process.client.put(f"/last/{seat}", b"done", parents=True)
                async with process.client.lock("/l/last", timeout=5, stop_margin=0.05):
                    pass
                await self._nothing_behind(process)
                self.done[seat] = since_us
                process.closing = True
                await process.client.close()
                return
            except (Unavailable, OutcomeUnknown, SessionExpired, LockTimeout, LockLost):
                await process.loop.rest(0.2)
            except Locked as error:
                self.failure = self.failure or self.world.violation("unexpected error", repr(error))
                return
