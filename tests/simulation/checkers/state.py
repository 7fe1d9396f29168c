"""Checkers of the cell's one history: each call once, tokens, lock-delays, ephemeral files."""

from __future__ import annotations

from coordclient.protocol.errors import Refusal
from coordd.machine.machine import Machine
from tests.simulation.checkers.story import ACQUIRES, Held, Key, LockStory
from tests.simulation.checkers.witness import Done, StateChecker
from tests.simulation.world import World


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
    """For one lock name a later period always has a larger token, also after delete and re-creation.

    Each holder of a semaphore has a token of his own, larger than all before it.
    """

    name = "tokens"

    def __init__(self, world: World, story: LockStory) -> None:
        super().__init__(world)
        self._story = story
        self._tokens: dict[str, tuple[int, str]] = {}
        self._first: dict[Key, dict[str, int]] = {}
        self.grants = 0

    def done(self, command: Done, machine: Machine) -> None:
        for held in self._story.granted:
            last, last_mode = self._tokens.get(held.path, (0, ""))
            if held.token < last or (held.token == last and not held.mode == last_mode == "shared"):
                raise self.broken(f"{held.path}: token {held.token} ({held.mode}) after token {last} ({last_mode})")
            self._tokens[held.path] = (held.token, held.mode)
            self._first.setdefault(held.key, {})[held.path] = held.token
            self.grants += 1
        key = (command.session, command.call)
        if command.operation in ACQUIRES and isinstance(command.reply, dict) and key in self._first:
            for row in command.reply.get("locks", [command.reply]):
                if self._first[key][row["path"]] != row["token"]:
                    raise self.broken(f"call {key} was granted with {self._first[key]} and is answered {row}")


class LockDelays(StateChecker):
    """After a loss nobody is granted the lock against it before its lock-delay is over, whoever is master."""

    name = "lock-delay"
    needs_clocks = True

    def __init__(self, world: World, story: LockStory) -> None:
        super().__init__(world)
        self._story = story
        self._closed: dict[str, list[Held]] = {}
        self.delays = 0

    def done(self, command: Done, machine: Machine) -> None:
        for held, _ in self._story.over:
            if held.over_us:
                self._closed.setdefault(held.path, []).append(held)
                self.delays += 1
        for granted in self._story.granted:
            if closed := self._closed.get(granted.path):
                self._closed[granted.path] = closed = [one for one in closed if self._counts(one, command.now_us)]
                self._check(granted, closed, command.now_us)

    def _counts(self, held: Held, now_us: int) -> bool:
        return now_us < held.over_us and (held.path, *held.key) not in self._story.smashed

    def _check(self, granted: Held, closed: list[Held], now_us: int) -> None:
        for held in closed:
            if not held.goes_with(granted.mode, granted.permits):
                early_ms = (held.over_us - now_us) // 1000
                raise self.broken(
                    f"{held.path}: granted to {granted.key} {early_ms} ms before the lock-delay of {held.key} is over"
                )
        holders = len(self._story.held[granted.path])  # with the new one
        if granted.permits and holders + len(closed) > granted.permits:
            raise self.broken(
                f"{granted.path}: granted to {granted.key} as holder {holders} of {granted.permits}, while the"
                f" lock-delays of {[held.key for held in closed]} run"
            )


class Ephemerals(StateChecker):
    """An ephemeral node is there while a session that opened it lives, and gone with the last of them.

    A directory with children, or a lock on it, stays for these.
    """

    name = "ephemerals"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._openers: dict[str, set[int]] = {}
        self._instances: dict[str, int] = {}
        self._closed: set[Key] = set()
        self.gone = 0

    def done(self, command: Done, machine: Machine) -> None:
        if isinstance(command.reply, Refusal) or not (command.changed or self._closes(command)):
            return
        arguments = command.arguments
        match command.operation:
            case "create" | "mkdir" if arguments["ephemeral"]:
                self._made(arguments["path"], command.session, machine)
            case "open" if arguments["path"] in self._openers:
                self._openers[arguments["path"]].add(command.session)
            case "close" if self._instances.get(arguments["path"]) == arguments["instance"]:
                self._openers[arguments["path"]].discard(command.session)
            case "delete":
                self._removed(arguments["path"])
            case "txn":
                assert command.reply is not None
                self._transacted(command, machine)
            case "expire_session" | "close_session" | "acknowledge_kill":
                for openers in self._openers.values():
                    openers.discard(arguments.get("session", command.session))
        self._compare(command, machine)

    def _closes(self, command: Done) -> bool:
        """Whether it has to close something, whatever it did."""
        key = command.session, command.call
        if command.operation != "close" or key in self._closed:
            return False
        self._closed.add(key)
        return True

    def _transacted(self, command: Done, machine: Machine) -> None:
        assert isinstance(command.reply, dict)
        for step in command.arguments["then" if command.reply["succeeded"] else "else"]:
            if step["do"] == "delete":
                self._removed(step["path"])
            elif step.get("ephemeral"):
                self._made(step["path"], command.session, machine)

    def _made(self, path: str, session: int, machine: Machine) -> None:
        self._openers[path] = {session}
        if (node := machine.state.nodes.get(path)) is None:
            raise self.broken(f"{path} was made, and is not there")
        self._instances[path] = node.instance

    def _removed(self, path: str) -> None:
        self._openers.pop(path, None)
        self._instances.pop(path, None)

    def _compare(self, command: Done, machine: Machine) -> None:
        for path in sorted(self._openers):
            openers, node = self._openers[path], machine.state.nodes.get(path)
            there = node is not None and node.instance == self._instances[path]
            if openers and not there:
                raise self.broken(f"{path} is gone although session {min(openers)} keeps it ({command.operation})")
            if openers:
                continue
            if there and not (node and node.children) and path not in machine.state.locks:
                raise self.broken(f"{path} is still there although nobody keeps it ({command.operation})")
            if not there:
                self._removed(path)
                self.gone += 1
