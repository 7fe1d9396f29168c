"""Large histories: an object that is really used by many processes at once, some of whose answers are lost."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from heapq import heappop, heappush
from random import Random
from typing import Any

from tests.histories.operation import UNKNOWN, Operation

Answer = tuple[str, dict[str, Any]]
Asked = tuple[str, dict[str, Any]]


class Object:
    """What is used. `ask` says what a process wants next, `effect` what it is told; `told` are the numbers it saw."""

    def __init__(self, chance: Random, numbers: bool) -> None:
        self.chance, self._numbers = chance, numbers
        self.revision = self._named = 0

    def ask(self, process: str) -> Asked:
        raise NotImplementedError

    def effect(self, process: str, name: str, arguments: dict[str, Any]) -> Answer:
        raise NotImplementedError

    def new(self) -> str:
        """A name that nobody else has."""
        self._named += 1
        return f"n{self._named}"

    def number(self, name: str, value: int) -> dict[str, Any]:
        """Told, or not."""
        return {name: value} if self._numbers else {}

    def next_revision(self) -> int:
        self.revision += 1
        return self.revision


class RegisterInUse(Object):
    def __init__(self, chance: Random, numbers: bool) -> None:
        super().__init__(chance, numbers)
        self.value: str | None = None
        self.generation = 0
        self.seen: dict[str, int] = {}

    def ask(self, process: str) -> Asked:
        name = self.chance.choices(("get", "put", "swap", "add", "delete"), (45, 30, 15, 7, 3))[0]
        if name in ("get", "delete"):
            return name, {}
        condition: dict[str, Any] = {"if_absent": True} if name == "add" else {}
        if name == "swap" and self.seen.get(process):
            condition = {"if_generation": self.seen[process]}
        return "put", {"value": self.new(), **condition}

    def effect(self, process: str, name: str, arguments: dict[str, Any]) -> Answer:
        generation = self.number("generation", self.generation)
        if name == "get":
            self.seen[process] = generation.get("generation", 0)
            return ("missing", {}) if self.value is None else ("ok", {"value": self.value, **generation})
        if self.value is None and (name == "delete" or "if_generation" in arguments):
            return "missing", {}
        if arguments.get("if_generation", self.generation) != self.generation:
            return "conflict", generation
        if self.value is not None and arguments.get("if_absent"):
            return "exists", {}
        self.generation, self.value = self.next_revision(), arguments.get("value")
        return "ok", self.number("generation" if name == "put" else "revision", self.generation)


class CounterInUse(Object):
    def __init__(self, chance: Random, numbers: bool) -> None:
        super().__init__(chance, numbers)
        self.value = 0

    def ask(self, process: str) -> Asked:
        return ("get", {}) if self.chance.random() < 0.5 else ("add", {"by": 1})

    def effect(self, process: str, name: str, arguments: dict[str, Any]) -> Answer:
        if name == "get":
            return "ok", {"value": self.value}
        self.value += 1
        return "ok", self.number("value", self.value)


class DirectoryInUse(Object):
    def __init__(self, chance: Random, numbers: bool) -> None:
        super().__init__(chance, numbers)
        self.names: set[str] = set()

    def ask(self, process: str) -> Asked:
        name = self.chance.choices(("list", "has", "create", "delete"), (15, 15, 35, 35))[0]
        return name, {} if name == "list" else {"name": f"n{self.chance.randrange(20)}"}

    def effect(self, process: str, name: str, arguments: dict[str, Any]) -> Answer:
        if name == "list":
            return "ok", {"names": sorted(self.names)}
        one = arguments["name"]
        if name == "has":
            return "ok", {"there": one in self.names}
        if (one in self.names) == (name == "create"):
            return "exists" if name == "create" else "missing", {}
        self.names ^= {one}
        return "ok", self.number("revision", self.next_revision())


class TableInUse(Object):
    """Three files: read together, written together, or one on condition of another."""

    def __init__(self, chance: Random, numbers: bool) -> None:
        super().__init__(chance, numbers)
        self.values: dict[str, str] = {}
        self.seen: dict[str, dict[str, str | None]] = {}

    def ask(self, process: str) -> Asked:
        some = self.chance.sample("xyz", self.chance.randint(1, 3))
        if self.chance.random() < 0.5:
            return "txn", {"guards": (), "then": tuple(("look", key, None) for key in some), "else": ()}
        guards = tuple((key, value) for key, value in self.seen.get(process, {}).items() if key in some)
        what = self.chance.choices(("put", "make", "delete"), (80, 10, 10), k=len(some))
        steps = [(one, key, None if one == "delete" else self.new()) for one, key in zip(what, some, strict=True)]
        return "txn", {"guards": guards, "then": tuple(steps), "else": (("look", "x", None),)}

    def effect(self, process: str, name: str, arguments: dict[str, Any]) -> Answer:
        values = dict(self.values)
        succeeded = all(values.get(key) == value for key, value in arguments["guards"])
        seen: dict[str, str | None] = {}
        for place, (what, key, value) in enumerate(arguments["then" if succeeded else "else"]):
            if (what == "make" and key in values) or (what == "delete" and key not in values):
                return "refused", {"step": place}
            if what == "look":
                seen[key] = values.get(key)
            elif what == "delete":
                del values[key]
            else:
                values[key] = value
        self.seen[process] = seen
        told = {"succeeded": succeeded, "seen": list(seen.values())}
        if values == self.values:
            return "ok", told
        self.values = values
        return "ok", {**told, **self.number("revision", self.next_revision())}


IN_USE: Mapping[str, Callable[[Random, bool], Object]] = {
    "register": RegisterInUse,
    "counter": CounterInUse,
    "directory": DirectoryInUse,
    "table": TableInUse,
}


class Use:
    """`processes` ask one object again and again. Each operation takes effect at a moment between question and answer.

    `lost` is the share of answers that never come; half of those operations never take effect.
    """

    def __init__(self, model: str, processes: int, lost: float, *, numbers: bool = True, seed: int = 0) -> None:
        self.chance = Random(f"{model} {processes} {lost} {numbers} {seed}")
        self.model, self.processes, self.lost, self.numbers = model, processes, lost, numbers
        self.ops: list[Operation] = []
        self._turns: list[tuple[int, int, str, int, Asked]] = []  # when it takes effect, order, who, when asked, what

    def history(self, count: int) -> list[Operation]:
        """So many operations, in the order of their effects."""
        thing = IN_USE[self.model](self.chance, self.numbers)
        for place in range(self.processes):
            self._ask(thing, f"p{place}", self.chance.randrange(1_000))
        while len(self.ops) < count:
            moment, _, process, begun, (name, arguments) = heappop(self._turns)
            lost = self.chance.random() < self.lost
            ended = moment + self.chance.randrange(1, 500)
            if not lost:
                outcome, result = thing.effect(process, name, arguments)
                self.ops.append(Operation(process, self.model, "k", name, begun, ended, outcome, arguments, result))
            else:
                if self.chance.random() < 0.5:
                    thing.effect(process, name, arguments)
                self.ops.append(Operation(process, self.model, "k", name, begun, None, UNKNOWN, arguments))
            self._ask(thing, process, ended + self.chance.randrange(1, 300))
        return self.ops

    def _ask(self, thing: Object, process: str, begun: int) -> None:
        moment = begun + self.chance.randrange(1, 500)
        heappush(self._turns, (moment, len(self.ops), process, begun, thing.ask(process)))


PERMITS = 3


class LockUse:
    """`processes` wait in a queue for one lock, hold it, and release it; some hear nothing of it, or vanish with it.

    `lost` is the share of grants that nobody hears of, of releases without an answer, and of holders that vanish.
    """

    def __init__(self, processes: int, lost: float, *, numbers: bool = True, seed: int = 0) -> None:
        self.chance = Random(f"lock {processes} {lost} {numbers} {seed}")
        self.processes, self.lost, self.numbers = processes, lost, numbers
        self.ops: list[Operation] = []
        self._turns: list[tuple[int, int, str, str, int]] = []  # when, order, what, whose hold, when asked
        self._waiting: deque[tuple[str, int]] = deque()
        self._modes: dict[str, str] = {}
        self._held: set[str] = set()
        self._token = self._revision = self._order = 0

    def history(self, count: int) -> list[Operation]:
        """So many operations."""
        for _ in range(self.processes):
            self._then("ask", self._new(), self.chance.randrange(1_000))
        while len(self.ops) < count:
            now, _, what, hold, begun = heappop(self._turns)
            if what == "ask":
                if self._held and self.chance.random() < 0.1:
                    self._note("acquire", hold, begun, now, "held")
                    self._then("ask", self._new(), now)
                else:
                    self._waiting.append((hold, begun))
            elif what == "end":
                self._end(hold, begun, now)
            self._grant(now)
        return self.ops

    def _new(self) -> str:
        self._order += 1
        hold = f"h{self._order}"
        self._modes[hold] = self.chance.choice(("exclusive", "shared", "semaphore"))
        return hold

    def _then(self, what: str, hold: str, now: int) -> None:
        self._order += 1
        begun = now + self.chance.randrange(1, 500)
        heappush(self._turns, (begun + self.chance.randrange(1, 500), self._order, what, hold, begun))

    def _note(self, name: str, hold: str, begun: int, now: int | None, outcome: str = "ok", token: int = 0) -> None:
        arguments: dict[str, Any] = {"hold": hold}
        if name == "acquire":
            arguments["mode"] = self._modes[hold]
            if self._modes[hold] == "semaphore":
                arguments["permits"] = PERMITS
        ended = None if now is None else now + self.chance.randrange(1, 400)
        outcome = UNKNOWN if now is None else outcome
        result = {"token": token} if token and self.numbers else {}
        self.ops.append(Operation(f"p{hold}", "lock", "k", name, begun, ended, outcome, arguments, result))

    def _end(self, hold: str, begun: int, now: int) -> None:
        self._held.discard(hold)
        heard = self.chance.random() >= self.lost
        self._note("release" if heard or self.chance.random() < 0.5 else "expire", hold, begun, now if heard else None)
        self._then("ask", self._new(), now)

    def _grant(self, now: int) -> None:
        while self._waiting:
            hold, begun = self._waiting[0]
            mode = self._modes[hold]
            joins = mode != "exclusive" and all(self._modes[one] == mode for one in self._held)
            if self._held and (not joins or (mode == "semaphore" and len(self._held) >= PERMITS)):
                return
            self._waiting.popleft()
            self._revision += 1
            if not self._held or mode == "semaphore":
                self._token = self._revision
            if self.chance.random() < self.lost:  # whoever asked has gone meanwhile, perhaps before the grant
                self._note("acquire", hold, begun, None)
                self._note("expire", hold, begun, None)
                self._then("ask", self._new(), now)
            else:
                self._held.add(hold)
                self._note("acquire", hold, begun, now, token=self._token)
                self._then("end", hold, now + 400)


class SeveralUse:
    """`processes` wait for one, two or three of a few locks, hold them, and release them, in a queue for each path.

    `lost` is as with `LockUse`; parts of who vanishes end at moments of their own.
    """

    PATHS = "abcd"

    def __init__(self, processes: int, lost: float, *, numbers: bool = True, seed: int = 0) -> None:
        self.chance = Random(f"several {processes} {lost} {numbers} {seed}")
        self.processes, self.lost, self.numbers = processes, lost, numbers
        self.ops: list[Operation] = []
        self._turns: list[tuple[int, int, str, str, int]] = []
        self._waiting: dict[str, int] = {}
        self._parts: dict[str, tuple[str, ...]] = {}
        self._held: dict[str, str] = {}  # path -> hold
        self._order = self._revision = 0

    def history(self, count: int) -> list[Operation]:
        """So many operations."""
        for _ in range(self.processes):
            self._then("ask", self._new(), self.chance.randrange(1_000))
        while len(self.ops) < count:
            now, _, what, hold, begun = heappop(self._turns)
            if what == "ask":
                self._waiting[hold] = begun
            else:
                self._end(hold, begun, now)
            self._grant(now)
        return self.ops

    def _new(self) -> str:
        self._order += 1
        self._parts[f"h{self._order}"] = tuple(sorted(self.chance.sample(self.PATHS, self.chance.choice((1, 2, 3)))))
        return f"h{self._order}"

    def _then(self, what: str, hold: str, now: int) -> None:
        self._order += 1
        begun = now + self.chance.randrange(1, 500)
        heappush(self._turns, (begun + self.chance.randrange(1, 500), self._order, what, hold, begun))

    def _note(self, name: str, hold: str, begun: int, now: int | None, **more: Any) -> None:
        ended = None if now is None else now + self.chance.randrange(1, 400)
        tokens = dict.fromkeys(self._parts[hold], self._revision) if name == "acquire" and self.numbers else {}
        result = {"tokens": tokens} if tokens and now is not None else {}
        outcome = UNKNOWN if now is None else "ok"
        self.ops.append(
            Operation(f"p{hold}", "several", "k", name, begun, ended, outcome, {"hold": hold, **more}, result)
        )

    def _end(self, hold: str, begun: int, now: int) -> None:
        self._held = {path: one for path, one in self._held.items() if one != hold}
        if self.chance.random() >= self.lost:
            self._note("release", hold, begun, now)
        else:
            for path in self._parts[hold]:
                self._note("expire", hold, begun, None, path=path)
        self._then("ask", self._new(), now)

    def _grant(self, now: int) -> None:
        wanted = set(self._held)
        for hold, begun in list(self._waiting.items()):
            parts = self._parts[hold]
            if wanted.isdisjoint(parts):
                del self._waiting[hold]
                self._revision += 1
                asked = tuple((path, "exclusive", 0) for path in parts)
                lost = self.chance.random() < self.lost
                self._note("acquire", hold, begun, None if lost else now, parts=asked)
                if lost:
                    for path in parts:
                        self._note("expire", hold, begun, None, path=path)
                    self._then("ask", self._new(), now)
                    continue
                self._held.update(dict.fromkeys(parts, hold))
                self._then("end", hold, now + 400)
            wanted.update(parts)


def large(
    model: str, count: int, processes: int, lost: float, *, numbers: bool = True, seed: int = 0
) -> list[Operation]:
    """A history of `count` operations that has an order."""
    if model == "lock":
        return LockUse(processes, lost, numbers=numbers, seed=seed).history(count)
    if model == "several":
        return SeveralUse(processes, lost, numbers=numbers, seed=seed).history(count)
    return Use(model, processes, lost, numbers=numbers, seed=seed).history(count)
