"""Small limits for one run, so that what happens at their edges happens often: Promises in parts, short logs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from coordclient import watching
from coordd.engine import deliveries, places, resyncs, watchers
from coordd.paxos import acceptor, learner, log, state
from tests.simulation.swarm import Swarm

WINDOW = 1_024  # of the code as it is


def _of_watches(window: int) -> list[tuple[Any, str, int]]:
    """What is derived from the window at the master and in the library, in the same proportions, and never nothing."""
    constants: Sequence[tuple[Any, str]] = (
        (watchers, "WINDOW_EVENTS"),
        (watchers, "WINDOW_BYTES"),
        (watchers, "_STEP_EVENTS"),
        (watchers, "_STEP_BYTES"),
        (deliveries, "DELIVERY_EVENTS"),
        (deliveries, "DELIVERY_BYTES"),
        (resyncs, "DELIVERY_BYTES"),
        (resyncs, "NODES_PER_TURN"),
        (places, "SEGMENT_CHANGES"),
        (watching, "BACKLOG_EVENTS"),
        (watching, "BACKLOG_BYTES"),
        (watching, "LAZY_EVENTS"),
        (watching, "LAZY_BYTES"),
        (watching, "LAZY_DELIVERIES"),
    )
    return [(module, name, max(1, getattr(module, name) * window // WINDOW)) for module, name in constants]


@contextmanager
def tuned(swarm: Swarm) -> Iterator[None]:
    """The constants of the core are what this seed drew."""
    wanted = [
        (log, "KEPT_SLOTS", swarm.kept_slots),
        (learner, "LEARN_SLOTS_MAX", swarm.learn_slots),
        *((module, "MESSAGE_BYTES", swarm.message_bytes) for module in (acceptor, learner, state)),
        *_of_watches(swarm.watch_window),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in wanted]
    try:
        for module, name, value in wanted:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
