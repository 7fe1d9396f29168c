"""Small limits for one run, so that what happens at their edges happens often: Promises in parts, short logs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from coordd.paxos import acceptor, learner, log, state
from tests.simulation.swarm import Swarm


@contextmanager
def tuned(swarm: Swarm) -> Iterator[None]:
    """The constants of the core are what this seed drew."""
    wanted = [
        (log, "KEPT_SLOTS", swarm.kept_slots),
        (learner, "LEARN_SLOTS_MAX", swarm.learn_slots),
        *((module, "MESSAGE_BYTES", swarm.message_bytes) for module in (acceptor, learner, state)),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in wanted]
    try:
        for module, name, value in wanted:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
