"""Answers that are impossible here, whatever failed: they would mean a bug in the library or the cell."""

from __future__ import annotations

from tests.nemesis.history import NOT_DONE, OK, UNKNOWN, History

EXPECTED = {
    "get": set[str](),
    "put": set[str](),
    "swap": {"conflict", "not_found"},
    "add": {"exists"},
    "delete": {"not_found"},
    "increment": set[str](),
    "hold": {"not_acquired"},
    "name": {"exists"},
    "unname": {"not_found"},
    "list": set[str](),
    "has": set[str](),
    "ask": set[str](),
    "part": {"not_acquired"},
    "unlock": {"not_found"},
    "txn": {"not_found", "exists"},
    "look": set[str](),
}


def surprises(history: History) -> list[str]:
    """Refusals that nothing can explain, internal errors, and deadlocks where nobody can be in one."""
    found = [f"{note.who} was told of an internal error: {note.more['text']}" for note in history.noted("internal")]
    for name, expected in EXPECTED.items():
        usual = expected | {OK, UNKNOWN, NOT_DONE}
        found += [
            f"{op.who} was refused {name} {op.args}: {op.outcome}" for op in history.of(name) if op.outcome not in usual
        ]
    found += [
        f"{op.who} was told of a deadlock: it holds nothing when it waits"
        for op in history.of("increment", "hold")
        if "Deadlock" in str(op.result.get("said", ""))
    ]
    return found
