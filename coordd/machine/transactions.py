"""Transactions: guards, and the steps of one of two branches, all or nothing, in one revision.

The steps are the operations on the tree, by their own handlers. They are tried on a shadow first: only when none is
refused they are done. So a transaction that is refused has changed nothing, and `plan_txn` tells without doing.
Each step sees what those before it did. A node changes at most once in a transaction, as in any revision.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from coordclient.protocol.arguments import STEPS_MAX
from coordclient.protocol.errors import Refusal
from coordd.machine import namespace, reading
from coordd.machine.calls import reply_bytes
from coordd.machine.sequencer import check
from coordd.machine.shadow import shadow_of
from coordd.machine.state import Arguments, Node, Session, State, Woken, check_answer

Step = Mapping[str, Any]

_READS = {"get": reading.get, "stat": reading.stat, "ls": reading.ls}
WRITES = {
    "put": namespace.put,
    "create": namespace.create,
    "mkdir": namespace.mkdir,
    "delete": namespace.delete,
}
_COMPARE: Mapping[str, Callable[[int, int], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_NUMBERS: Mapping[str, Callable[[Node], int]] = {
    "instance": operator.attrgetter("instance"),
    "content_generation": operator.attrgetter("content_generation"),
    "lock_generation": operator.attrgetter("lock_generation"),
    "acl_generation": operator.attrgetter("acl_generation"),
    "revision": operator.attrgetter("revision"),
}


def txn(
    state: State, session: Session | None, call: int, principal: str, arguments: Arguments, woken: list[Woken]
) -> dict[str, object]:
    """Does all steps of the branch that the guards choose, or refuses."""
    held, branch, steps = choose(state, arguments)
    if len(steps) > 1:  # a single step checks everything before it changes anything
        attempt(state, session, principal, branch, steps)
    try:
        results = _run(state, session, principal, branch, steps)
    except Refusal as refusal:
        assert len(steps) == 1, f"a transaction that was tried could not be done: {refusal!r}"
        raise
    return {"succeeded": all(held), "revision": state.revision, "guards": held, "results": results}


def plan_txn(state: State, arguments: Arguments, session: int) -> dict[str, object]:
    """What `txn` would do now."""
    held, branch, steps = choose(state, arguments)
    changes: list[str] = []
    refused: dict[str, object] | None = None
    try:
        changes = [change.path for change in attempt(state, state.sessions.get(session), "", branch, steps).changes]
    except Refusal as refusal:
        refused = refusal.to_wire()
    return {
        "revision": state.revision,
        "succeeded": all(held),
        "guards": held,
        "changes": changes,
        "refused": refused,
    }


def choose(state: State, arguments: Arguments) -> tuple[list[bool], str, Sequence[Step]]:
    """Which guards hold, and the name and steps of the branch that is to be done."""
    then, otherwise = arguments["then"], arguments["else"]
    if len(then) + len(otherwise) > STEPS_MAX:
        count = len(then) + len(otherwise)
        raise Refusal("bad_request", f"txn: then and else have {count} steps; {STEPS_MAX} are allowed in both")
    held = [_holds(state, guard) for guard in arguments["guards"]]
    return (held, "then", then) if all(held) else (held, "else", otherwise)


def attempt(state: State, session: Session | None, principal: str, branch: str, steps: Sequence[Step]) -> State:
    """A shadow on which the steps were done; raises what they are refused with."""
    shadow = shadow_of(state)
    own = None if session is None else shadow.sessions[session.id]
    _run(shadow, own, principal, branch, steps)
    return shadow


# ---- guards ----


def _holds(state: State, guard: Step) -> bool:
    sequencer = guard.get("sequencer")
    if sequencer is not None:
        return not check(state, sequencer)
    path = guard["path"]
    node = state.nodes.get(path)
    if "exists" in guard:
        return (node is not None) is guard["exists"]
    if "held" in guard:
        lock = state.locks.get(path)
        return (lock is not None and bool(lock.holders)) is guard["held"]
    if node is None:
        return False  # whatever is asked of it: there is none
    if "checksum" in guard:
        return node.children is None and node.checksum == guard["checksum"]
    [name] = _NUMBERS.keys() & guard.keys()
    return _COMPARE[guard["is"]](_NUMBERS[name](node), guard[name])


# ---- steps ----


def _run(
    state: State, session: Session | None, principal: str, branch: str, steps: Sequence[Step]
) -> list[dict[str, object]]:
    """Does the steps one after the other, all in one new revision, and stops at the first that is refused."""
    before, changed, size = state.revision, set[str](), 0
    results: list[dict[str, object]] = []
    for index, step in enumerate(steps):
        known = len(state.changes)
        try:
            if step["do"] in _READS:
                result = _READS[step["do"]](state, step, 0)
            else:
                state.revision = before  # which the step raises, each to the same
                result = WRITES[step["do"]](state, session, 0, principal, step, [])
                _check_once(state, len(state.changes) - known, changed)
            size += reply_bytes(result)
            check_answer(state, size, "the answer")
        except Refusal as refusal:
            text = f"step {index} ({step['do']} {step['path']}): {refusal.message}"
            raise Refusal(refusal.code, text, **{**refusal.details, "branch": branch, "step": index}) from None
        results.append(result)
    return results


def _check_once(state: State, fresh: int, changed: set[str]) -> None:
    """Refuses the step that made the last `fresh` changes, if one of these nodes was changed by an earlier step."""
    for back in range(1, fresh + 1):
        path = state.changes[-back].path
        if path in changed:
            raise Refusal("bad_request", f"{path} would be changed twice in one transaction")
        changed.add(path)
