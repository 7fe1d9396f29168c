"""The revisions of all changes."""

from __future__ import annotations

from tests.nemesis.history import OK, History

FOUND_MAX = 5


def revisions_out_of_order(history: History) -> list[str]:
    """A change that began after another was acknowledged has the larger revision; no two have the same.

    The token of a grant that is not shared is a revision too: of the change that made it, perhaps with others.
    """
    changes = [  # begun, ended, revision, who
        (op.begun_ns, op.ended_ns, int(op.result["revision"]), f"{op.name} of {op.who}")
        for op in history.of("put", "swap", "add", "delete", "create", "name", "unname", "txn")
        if op.outcome == OK and op.ended_ns is not None and "revision" in op.result
    ]
    found = []
    owners: dict[int, str] = {}
    for _, _, revision, who in changes:
        if owners.setdefault(revision, who) is not who:
            found.append(f"revision {revision} was given to {owners[revision]} and to {who}")
    begun = {(op.who, op.number): op.begun_ns for op in history.of("hold", "part")}
    for note in history.noted("enter"):
        if note.more["mode"] != "shared":
            grant = f"grant to {note.who}"
            changes.append((begun[note.who, note.more["n"]], note.at_ns, note.more["token"], grant))
    by_end = sorted(changes, key=lambda change: change[1])
    place, highest, owner = 0, 0, ""
    for begun_ns, _, revision, who in sorted(changes):
        while by_end[place][1] < begun_ns:
            if by_end[place][2] > highest:
                highest, owner = by_end[place][2:]
            place += 1
        if revision <= highest:
            found.append(f"{who} has revision {revision}, and began after {owner} was told {highest}")
    return found[:FOUND_MAX]
