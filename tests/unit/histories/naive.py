"""The definition itself, tried out: every order of every choice of operations, without memory and without wit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.histories.models.base import Model
from tests.histories.operation import Operation


def naively_linearizable(model: Model[Any], ops: Sequence[Operation], until: int = 2**62) -> bool:
    """True when some order respects time and explains every answer up to that moment. For very small histories."""
    return _goes_on(model, tuple(ops), model.initial, until)


def _goes_on(model: Model[Any], left: tuple[Operation, ...], state: Any, until: int) -> bool:
    if not any(op.ended is not None and op.ended <= until for op in left):
        return True
    first_answer = min(op.ended for op in left if op.ended is not None)
    for op in left:
        if op.begun > first_answer:
            continue  # another one was answered before this one began
        after = model.step(state, op)
        if after is not None and _goes_on(model, tuple(other for other in left if other is not op), after, until):
            return True
    return False
