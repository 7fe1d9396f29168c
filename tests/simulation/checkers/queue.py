"""The queue of a lock: first in, first out, over fail-over too; whoever can be granted is granted in the same step."""

from __future__ import annotations

from typing import Any

from coordclient.protocol.errors import Refusal
from coordd.machine.machine import Machine
from tests.simulation.checkers.story import ACQUIRES, Ask, Key, LockStory
from tests.simulation.checkers.witness import Done, StateChecker
from tests.simulation.world import World


class Queue(StateChecker):
    """Grants are made in the order of asking, and nobody overtakes who waits; but a transfer goes to whom it names.

    Who waits for several paths waits in the queue of each, and is granted when he is the first of all.
    """

    name = "queue"

    def __init__(self, world: World, story: LockStory) -> None:
        super().__init__(world)
        self._story = story

    def done(self, command: Done, machine: Machine) -> None:
        story, key = self._story, (command.session, command.call)
        if command.operation in ACQUIRES and not command.changed and key in story.waiting and command.reply is not None:
            raise self.broken(
                f"{key} waits for {story.waiting[key].parts}; its retry is answered {command.reply!r:.120}"
            )
        if command.operation in ACQUIRES and command.changed and isinstance(command.reply, dict):
            for path, _, _ in story.asked[key].parts:
                if story.queues.get(path):
                    raise self.broken(f"{path}: {key} was granted at once although {story.queues[path]} wait")
        touched = {held.path for held, _ in story.over}
        for one, ask, reply in story.left:
            self._leave(one, ask, reply)
            touched.update(path for path, _, _ in ask.parts)
        if command.operation == "end_lock_delay" and command.changed:
            touched.add(command.arguments["path"])
        if story.began_to_wait is not None:
            touched.update(path for path, _, _ in story.asked[story.began_to_wait].parts)
        self._nobody_could_go_on(touched)

    def _leave(self, key: Key, ask: Ask, reply: dict[str, Any] | Refusal) -> None:
        for path, _, _ in ask.parts:
            queue = self._story.queues[path]
            if isinstance(reply, dict) and queue[0] != key and self._story.to_session != key[0]:
                raise self.broken(f"{path}: {key} was granted before {queue[0]}, who has waited longer")
            queue.remove(key)
            if not queue:
                del self._story.queues[path]

    def _nobody_could_go_on(self, paths: set[str]) -> None:
        """Whoever can be granted after this command has been granted by it."""
        story = self._story
        for path in sorted(paths):
            if not (queue := story.queues.get(path)):
                continue
            ask = story.waiting[queue[0]]
            if all(story.queues[one][0] == queue[0] for one, _, _ in ask.parts) and not any(
                story.why_not(*part) for part in ask.parts
            ):
                raise self.broken(f"{path}: {queue[0]} could be granted {ask.parts} and goes on waiting")

    def left_behind(self) -> str | None:
        """No waiter is left behind."""
        return f"waiters left behind: {list(self._story.waiting)}" if self._story.waiting else None
