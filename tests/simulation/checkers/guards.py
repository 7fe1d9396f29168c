"""Writes that only the holder of a lock may make: done only while that very hold is there, and then done."""

from __future__ import annotations

from urllib.parse import unquote

from coordclient.protocol.errors import Refusal
from coordd.machine.machine import Machine
from tests.simulation.checkers.story import Held, LockStory
from tests.simulation.checkers.witness import Done, StateChecker
from tests.simulation.world import World

GUARDED = ("put", "create", "mkdir", "delete")


class Guards(StateChecker):
    """A guarded write is never applied after its sequencer has ended, and never refused for it before."""

    name = "guard"

    def __init__(self, world: World, story: LockStory) -> None:
        super().__init__(world)
        self._story = story
        self.applied = self.refused = 0

    def done(self, command: Done, machine: Machine) -> None:
        sequencer = command.arguments.get("if_sequencer") if command.operation in GUARDED else None
        if not sequencer:
            return
        held = self._held(sequencer)
        if command.changed and not isinstance(command.reply, Refusal):
            self.applied += 1
            if held is None:
                raise self.broken(f"{command.operation} {command.arguments['path']} is applied after {sequencer} ended")
        elif isinstance(command.reply, Refusal) and command.reply.code == "guard_failed":
            self.refused += 1
            if held is not None:
                raise self.broken(f"{sequencer} is held, and {command.reply!r}")

    def _held(self, sequencer: str) -> Held | None:
        _, _, path, mode, token, session, call, _ = sequencer.split(":")
        held = self._story.held.get(unquote(path), {}).get((int(session), int(call)))
        return held if held is not None and (held.mode, held.token) == (mode, int(token)) else None
