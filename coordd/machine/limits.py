"""The bounds of the replicated state. They decide what commands do, so they are constants of the machine version.

Two replicas with other numbers would apply the same log differently: a change of a number here is a new
`MACHINE_VERSION`, never a setting. Only tests make a `Limits` of their own, to stand at an edge cheaply.
"""

from __future__ import annotations

from dataclasses import dataclass

CALL_WINDOW = 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Each is the largest number allowed; one more is refused with `limit`, and the message names the field.

    `holds_per_session` counts what is waited for too, so that a grant out of a queue can never exceed it, and each part
    of an `acquire_all`. The bytes remembered for a session may exceed their bound by one reply: the bound is looked at
    before a call runs. Of losses and changes the oldest go instead.
    """

    sessions: int = 10_000
    holds_per_session: int = 2_048
    waiters_per_session: int = 1_024
    ephemerals_per_session: int = 1_024
    remembered_bytes_per_session: int = 512 * 1024
    holders_per_node: int = 4_096
    waiters_per_node: int = 4_096
    nodes: int = 200_000
    children_per_directory: int = 20_000
    total_bytes: int = 256 * 1024 * 1024
    answer_bytes: int = 448 * 1024
    deadlock_steps: int = 10_000
    notices_per_session: int = 256
    losses_per_path: int = 8
    losses_paths: int = 4_096
    places_steps: int = 100_000
    changes: int = 10_000
    changes_bytes: int = 8 * 1024 * 1024


LIMITS = Limits()
