"""Checkers of the cell's one history: each call once, tokens, the queue, lock-delays."""

from __future__ import annotations

from typing import Any

from coordclient.protocol.errors import Refusal
from coordd.machine.machine import Machine
from tests.simulation.checkers.witness import Done, StateChecker
from tests.simulation.world import World

Key = tuple[int, int]  # session, call


class EachCallOnce(StateChecker):
    """A numbered call takes effect at most once, however often it was sent."""

    name = "each call once"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._slots: dict[Key, int] = {}

    def done(self, command: Done, machine: Machine) -> None:
        if not (command.session and command.call and command.changed):
            return
        key = (command.session, command.call)
        slot = self._slots.setdefault(key, command.slot)
        if slot != command.slot:
            raise self.broken(f"call {key} ({command.operation}) took effect in slot {slot} and in slot {command.slot}")


class Tokens(StateChecker):
    """For one lock name a later period always has a larger token, also after delete and re-creation."""

    name = "tokens"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._tokens: dict[str, tuple[int, str]] = {}
        self._newest: dict[str, Key] = {}
        self._first: dict[Key, int] = {}
        self.grants = 0

    def done(self, command: Done, machine: Machine) -> None:
        if command.operation == "acquire" and isinstance(command.reply, dict) and command.changed:
            self._granted((command.session, command.call), command.reply)
        for woken in command.woken:
            if isinstance(woken.reply, dict):
                self._granted((woken.session, woken.call), woken.reply)

    def _granted(self, key: Key, reply: dict[str, Any]) -> None:
        path, token, mode = reply["path"], reply["token"], reply["mode"]
        if self._first.setdefault(key, token) != token:
            raise self.broken(f"call {key} was granted {path} with token {self._first[key]} and with {token}")
        last, last_mode = self._tokens.get(path, (0, ""))
        if token < last or (token == last and not mode == last_mode == "shared" and self._newest.get(path) != key):
            raise self.broken(f"{path}: token {token} ({mode}) after token {last} ({last_mode})")
        self._tokens[path] = (token, mode)
        self._newest[path] = key
        self.grants += 1


class Queue(StateChecker):
    """Grants are made in the order of asking, over fail-over too; nobody overtakes who waits."""

    name = "queue"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._queues: dict[str, list[Key]] = {}
        self._paths: dict[Key, str] = {}

    def done(self, command: Done, machine: Machine) -> None:
        key = (command.session, command.call)
        if command.operation == "acquire" and key in self._paths and command.reply is not None:
            raise self.broken(f"{self._paths[key]}: {key} waits, and its retry is answered {command.reply!r:.120}")
        if command.operation == "acquire" and key not in self._paths:
            path = command.arguments["path"]
            if command.reply is None:
                self._queues.setdefault(path, []).append(key)
                self._paths[key] = path
            elif isinstance(command.reply, dict) and command.changed and self._queues.get(path):
                raise self.broken(f"{path}: {key} was granted at once although {self._queues[path]} wait")
        for woken in command.woken:
            self._leave((woken.session, woken.call), woken.reply)

    def _leave(self, key: Key, reply: dict[str, Any] | Refusal) -> None:
        path = self._paths.pop(key, None)
        if path is None:
            raise self.broken(f"{key} was woken and had not been waiting")
        queue = self._queues[path]
        if isinstance(reply, dict) and queue[0] != key:
            raise self.broken(f"{path}: {key} was granted before {queue[0]}, who has waited longer")
        queue.remove(key)

    def left_behind(self) -> str | None:
        """No waiter is left behind."""
        return f"waiters left behind: {list(self._paths)}" if self._paths else None


class LockDelays(StateChecker):
    """After an expiry nobody is granted the lock against it before its lock-delay is over, whoever is master."""

    name = "lock-delay"
    needs_clocks = True

    def __init__(self, world: World, drift_ppm: int) -> None:
        super().__init__(world)
        self._drift_ppm = drift_ppm
        self._holds: dict[str, dict[Key, tuple[str, int]]] = {}  # path -> holder -> (mode, lock_delay_ms)
        self._asked: dict[Key, tuple[str, str, int]] = {}  # path, mode, lock_delay_ms
        self._closed_until: dict[str, list[tuple[int, str]]] = {}  # path -> [(true time, mode)]
        self.delays = 0

    def done(self, command: Done, machine: Machine) -> None:
        key = (command.session, command.call)
        arguments = command.arguments
        if command.operation == "acquire":
            self._asked.setdefault(key, (arguments["path"], arguments["mode"], arguments["lock_delay_ms"]))
        elif command.operation == "release" and command.changed:
            self._holds[arguments["path"]].pop((command.session, arguments["hold"]), None)
        elif command.operation == "cancel" and command.changed:
            self._drop((command.session, arguments["target"]))
        elif command.operation == "end_lock_delay" and command.changed:
            if arguments["epoch"] != machine.epoch:
                raise self.broken(f"{arguments['path']}: epoch {arguments['epoch']} ended a delay in {machine.epoch}")
        elif command.operation == "expire_session" and command.changed:
            self._expired(arguments["session"], command.now_us)
        elif command.operation == "close_session" and command.changed:
            for holders in self._holds.values():
                for other in [other for other in holders if other[0] == command.session]:
                    del holders[other]
        if command.operation == "acquire" and isinstance(command.reply, dict) and command.changed:
            self._granted(key, command)
        for woken in command.woken:
            if isinstance(woken.reply, dict):
                self._granted((woken.session, woken.call), command)

    def _drop(self, key: Key) -> None:
        if key in self._asked:
            self._holds.get(self._asked[key][0], {}).pop(key, None)

    def _expired(self, session: int, now_us: int) -> None:
        for path, holders in self._holds.items():
            for key in [key for key in holders if key[0] == session]:
                mode, delay_ms = holders.pop(key)
                us = delay_ms * (1_000_000 - self._drift_ppm) // 1_000 - 5_000
                self._closed_until.setdefault(path, []).append((now_us + us, mode))
                self.delays += 1

    def _granted(self, key: Key, command: Done) -> None:
        path, mode, delay_ms = self._asked[key]
        for until_us, other in self._closed_until.get(path, ()):
            if command.now_us < until_us and not mode == other == "shared":
                early_ms = (until_us - command.now_us) // 1000
                raise self.broken(
                    f"{path}: granted to {key} {early_ms} ms before the lock-delay of a lost holder is over"
                )
        self._closed_until[path] = [one for one in self._closed_until.get(path, ()) if one[0] > command.now_us]
        self._holds.setdefault(path, {})[key] = (mode, delay_ms)


class Ephemerals(StateChecker):
    """An ephemeral file is there while a session that opened it lives, and gone with the last of them."""

    name = "ephemerals"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._openers: dict[str, set[int]] = {}
        self.gone = 0

    def done(self, command: Done, machine: Machine) -> None:
        arguments = command.arguments
        if not command.changed:
            return
        if command.operation == "create" and arguments["ephemeral"]:
            self._openers[arguments["path"]] = {command.session}
        elif command.operation == "open" and arguments["path"] in self._openers:
            self._openers[arguments["path"]].add(command.session)
        elif command.operation == "delete":
            self._openers.pop(arguments["path"], None)
        elif command.operation in ("expire_session", "close_session"):
            self._ended(arguments.get("session", command.session), machine)

    def _ended(self, session: int, machine: Machine) -> None:
        for path in sorted(self._openers):
            openers = self._openers[path]
            openers.discard(session)
            there = path in machine.state.nodes
            if openers and not there:
                raise self.broken(f"{path} is gone although session {min(openers)} keeps it")
            if not openers:
                del self._openers[path]
                self.gone += 1
                if there and path not in machine.state.locks:
                    raise self.broken(f"{path} is still there although its last session, {session}, has ended")
