"""What the cell says of locks and sessions when it is asked, and what is left when all are over."""

from __future__ import annotations

from tests.nemesis.history import OK, History


def wrong_answers(history: History) -> list[str]:
    """A holder that may believe in its lock is told that it holds it; nobody is told so whose release was answered."""
    found = []
    for note in history.noted("asked"):
        what, held, safe = note.more["what"], note.more["held"], note.more["safe"]
        if what == "released" and held:
            word = "still holds what it released"
        elif what != "released" and safe and not held:
            word = "holds nothing, though it may believe so"
        else:
            continue
        found.append(f"{note.who}, token {note.more['token']}, was told that it {word} ({what}: {note.more['said']})")
    found += [
        f"{op.who} was shown all sessions, and its own was not among them"
        for op in history.of("ask")
        if op.outcome == OK and op.result.get("missing")
    ]
    return found


def left_behind(history: History) -> list[str]:
    """When every session is over, there is none, and nobody holds a lock or waits for one."""
    held = [path for note in history.noted("final locks") for path in note.more["paths"]]
    open_ones = [session for note in history.noted("final sessions") for session in note.more["sessions"]]
    return [f"{path} is still held or waited for" for path in held] + [
        f"session {session} is still open" for session in open_ones
    ]
