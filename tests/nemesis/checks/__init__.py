"""What must be true of what the clients saw: each check reads a history and says what contradicts a promise.

A check never judges by speed. Where a promise holds only for a process that runs, the histories say when it did not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.nemesis.checks.beliefs import beliefs_overlap, fence_refusals, late_bodies, too_many_permits
from tests.nemesis.checks.files import broken_ephemerals, broken_files
from tests.nemesis.checks.numbers import revisions_out_of_order
from tests.nemesis.checks.orders import (
    broken_counters,
    broken_directories,
    broken_locks,
    broken_registers,
    broken_tables,
)
from tests.nemesis.checks.questions import left_behind, wrong_answers
from tests.nemesis.checks.service import left_out_too_long
from tests.nemesis.checks.sessions import unjust_expiries
from tests.nemesis.checks.surprises import surprises
from tests.nemesis.checks.watches import broken_watches
from tests.nemesis.history import History

Check = Callable[[History], list[str]]

CHECKS: Mapping[str, Check] = {
    "registers are linearizable": broken_registers,
    "transactions are linearizable, whole or not at all": broken_tables,
    "directories are linearizable": broken_directories,
    "counters are linearizable": broken_counters,
    "locks are linearizable": broken_locks,
    "no two holders by their own belief": beliefs_overlap,
    "no more holders than permits": too_many_permits,
    "a running holder is told in time": late_bodies,
    "the fence refuses no rightful holder": fence_refusals,
    "revisions rise in the order of changes": revisions_out_of_order,
    "watches tell of every change, once and in order": broken_watches,
    "what was acknowledged is there, and once": broken_files,
    "ephemeral files live as long as their session": broken_ephemerals,
    "no session of a connected client expired": unjust_expiries,
    "nobody who reaches the cell is left out": left_out_too_long,
    "the cell says rightly who holds what": wrong_answers,
    "nothing is left of a session that is over": left_behind,
    "nobody was told what cannot be": surprises,
}
