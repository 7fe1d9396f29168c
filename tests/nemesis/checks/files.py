"""Files that were made once, and files that end with a session."""

from __future__ import annotations

from tests.nemesis.history import NOT_DONE, OK, UNKNOWN, History


def broken_files(history: History) -> list[str]:
    """Acknowledged ones are there; those of which nothing was done are not; none was found made when it was made."""
    there = {path for note in history.noted("final files") for path in note.more["paths"]}
    found = []
    for op in history.of("create"):
        path = op.args["path"]
        if op.outcome == OK and path not in there:
            found.append(f"{path} was acknowledged to {op.who} and is not there")
        elif op.outcome == NOT_DONE and path in there:
            found.append(f"{path} is there, though {op.who} was told that nothing was done")
        elif op.outcome not in (OK, NOT_DONE, UNKNOWN):
            found.append(f"{path} was refused to {op.who}, its only maker: {op.outcome}")
    return found


def broken_ephemerals(history: History) -> list[str]:
    """An ephemeral file is there as long as its session, and gone when all sessions are."""
    found = []
    tried: set[str] = set()
    for op in history.of("appear", "see"):
        path = op.args["path"]
        if op.name == "see" and op.outcome == "not_found":
            found.append(f"{path} was gone while its session lived ({op.who})")
        elif op.name == "appear" and op.outcome == "exists" and path not in tried:
            found.append(f"{path} was there before its session made it ({op.who})")
        elif op.outcome not in (OK, NOT_DONE, UNKNOWN, "exists", "not_found"):
            found.append(f"{path}: {op.name} was refused to {op.who}: {op.outcome}")
        if op.name == "appear":
            tried.add(path)
    left = [path for note in history.noted("final ephemerals") for path in note.more["paths"]]
    return found + [f"{path} is still there after the end of its session" for path in left]
