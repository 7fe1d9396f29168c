"""Bugs of applying, which the digests are there to find, and of the digests themselves."""

from __future__ import annotations

import itertools
from typing import Any

from coordd.engine.digests import Digests
from coordd.machine import history, machine, snapshot
from coordd.machine.state import State
from tests.simulation.planted import Bug


def _own_clock(right: Any) -> Any:
    clock = itertools.count()

    def decode(payload: bytes) -> Any:
        wall_ms, commands = right(payload)
        return wall_ms + next(clock), commands

    return decode


def _nothing(right: Any) -> Any:
    return lambda *_: 0


def _nobody_stops(right: Any) -> Any:
    return lambda self, *_: None


def _stops_for_one(right: Any) -> Any:
    def verdict(self: Any, slot: int, mine: bytes, said: Any) -> str | None:
        return "one differs" if any(digest != mine for digest in said.values()) else None

    return verdict


def _forgets(right: Any) -> Any:
    def build(*arguments: Any) -> State:
        state: State = right(*arguments)
        state.history = bytes(16)
        return state

    return build


def _sorts(right: Any) -> Any:
    def build(*arguments: Any) -> State:
        state: State = right(*arguments)
        for path in sorted(state.nodes):
            state.nodes.move_to_end(path)
        return state

    return build


BUGS = (
    Bug("dates by its own clock", "digests", "cell", [(machine, "decode_batch_fields", _own_clock)]),
    Bug("histories not judged", "digests", "diverging cell", [(Digests, "_verdict", _nobody_stops)]),
    Bug("differs from one and stops", "digests", "diverging cell", [(Digests, "_verdict", _stops_for_one)]),
    Bug("state never inspected", "digests", "diverging cell", [(history, "_inspect", _nothing)]),
    Bug("history not in the snapshot", "digests", "cell", [(snapshot, "_build", _forgets)]),
    Bug("turns lost in the snapshot", "digests", "cell", [(snapshot, "_build", _sorts)]),
)
