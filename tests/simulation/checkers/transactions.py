"""Transactions and handles, looked at in the log: what one command did, against the tree as it was before it.

Each guard is looked at again, each step is done again in the order of its branch, by the plain story of the tree: the
branch, what reads inside are told, the step that is refused and all that is there afterwards have to be the same.
What goes by an instance is done to that very node, and refused only where it is another one.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from coordclient.protocol.errors import Refusal
from coordclient.protocol.paths import parent_of
from coordd.machine.machine import Machine
from coordd.machine.state import checksum_of
from tests.simulation.checkers.story import LockStory
from tests.simulation.checkers.tree import TreeStory, Version
from tests.simulation.checkers.witness import Done, StateChecker
from tests.simulation.world import World

Tree = dict[str, bytes | None]  # path -> contents; None: a directory
COMPARISONS: Mapping[str, Callable[[int, int], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Refused(Exception):
    """This step cannot be done."""


class Transactions(StateChecker):
    """See the module docstring. `story` and `tree` come before it."""

    name = "transactions"

    def __init__(self, world: World, story: LockStory, tree: TreeStory) -> None:
        super().__init__(world)
        self._story, self._tree = story, tree
        self._known: set[tuple[int, int]] = set()
        self.applied = self.refused = 0

    def done(self, command: Done, machine: Machine) -> None:
        if command.operation != "txn" or not self._was_done(command):
            return
        before = machine.revision - command.changed
        arguments, reply = command.arguments, command.reply
        succeeded = all(self._holds(guard, before) for guard in arguments["guards"])
        tree: Tree = {path: version.contents for path, version in self._tree.tree_at(before)}
        steps = arguments["then" if succeeded else "else"]
        results, refused = _run(tree, steps)
        if isinstance(reply, Refusal):
            self.refused += 1
            if command.changed:
                raise self.broken(f"{command.arguments} is refused ({reply!r}), and has changed something")
            if reply.code in ("not_found", "exists") and reply.details.get("step") != refused:
                raise self.broken(f"{command.arguments} is refused ({reply!r}) and not at step {refused}")
            return
        self.applied += 1
        assert reply is not None
        if refused is not None or reply["succeeded"] != succeeded:
            raise self.broken(f"{arguments} is answered {reply}; succeeded is {succeeded}, refused {refused}")
        for step, result, right in zip(steps, reply["results"], results, strict=True):
            if step["do"] == "get" and result["contents"] != right:
                raise self.broken(f"{arguments}: {step} is told {result['contents']!r}; there was {right!r}")
        after = {path: version.contents for path, version in self._tree.present.items()}
        if after != tree:
            wrong = sorted(path for path in after.keys() | tree.keys() if after.get(path) != tree.get(path))
            raise self.broken(f"{arguments} leaves {wrong} as nobody asked for")

    def _was_done(self, command: Done) -> bool:
        """False: the session was over, or the call had been answered before."""
        if command.call and (command.session, command.call) in self._known:
            return False
        self._known.add((command.session, command.call))
        return not isinstance(command.reply, Refusal) or "step" in command.reply.details

    def _holds(self, guard: Mapping[str, Any], before: int) -> bool:
        path = guard["path"]
        node = self._tree.at(path, before)
        if (exists := guard.get("exists")) is not None:
            return bool(exists) == (node is not None)
        if (checksum := guard.get("checksum")) is not None:
            return node is not None and node.contents is not None and checksum_of(node.contents) == checksum
        for name in ("instance", "content_generation"):
            if (number := guard.get(name)) is not None:
                return node is not None and COMPARISONS[guard.get("is") or "=="](getattr(node, name), number)
        if (held := guard.get("held")) is not None:
            return bool(held) == bool(self._story.held.get(path))
        raise AssertionError(f"the simulation asks for no such guard: {guard}")


def _run(tree: Tree, steps: Sequence[Mapping[str, Any]]) -> tuple[list[bytes | None], int | None]:
    """Does them; what each is told, and which cannot be done: then nothing was done."""
    before, results = dict(tree), []
    for place, step in enumerate(steps):
        try:
            results.append(_step(tree, step))
        except Refused:
            tree.clear()
            tree.update(before)
            return [], place
    return results, None


def _step(tree: Tree, step: Mapping[str, Any]) -> bytes | None:
    path, there = step["path"], step["path"] in tree
    match step["do"]:
        case "get" if there and tree[path] is not None:
            return tree[path]
        case "put" if not there or tree[path] is not None:
            _parents(tree, path, parents=bool(step.get("parents")) and not there)
            tree[path] = step["contents"]
        case "create" | "mkdir" if not there:
            _parents(tree, path, parents=bool(step.get("parents")))
            tree[path] = step["contents"] if step["do"] == "create" else None
        case "delete" if there and not any(parent_of(one) == path for one in tree if one != "/"):
            del tree[path]
        case _:
            raise Refused
    return None


def _parents(tree: Tree, path: str, *, parents: bool) -> None:
    above = parent_of(path)
    while above not in tree:
        if not parents:
            raise Refused
        tree[above] = None
        above = parent_of(above)
    if tree[above] is not None:
        raise Refused


class Handles(StateChecker):
    """What goes by an instance is done to that very node, and refused only where it is another one, or none."""

    name = "handles"

    def __init__(self, world: World, tree: TreeStory) -> None:
        super().__init__(world)
        self._tree = tree
        self.done_to = self.refused = 0

    def done(self, command: Done, machine: Machine) -> None:
        instance = command.arguments.get("if_instance")
        if instance is None:
            return
        node: Version | None = self._tree.at(command.arguments["path"], machine.revision - command.changed)
        there = None if node is None else node.instance
        words = f"{command.operation} {command.arguments['path']} of instance {instance}, where {there} is"
        if command.changed and not isinstance(command.reply, Refusal):
            self.done_to += 1
            if there != instance and command.operation != "acquire":
                raise self.broken(f"{words}: it is done")
        elif isinstance(command.reply, Refusal) and command.reply.code == "stale_handle":
            self.refused += 1
            if there == instance:
                raise self.broken(f"{words}: {command.reply!r}")
