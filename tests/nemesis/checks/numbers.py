"""Counters, and the revisions of all changes."""

from __future__ import annotations

from collections import defaultdict

from tests.nemesis.history import OK, UNKNOWN, History, Op

FOUND_MAX = 5


def lost_increments(history: History) -> list[str]:
    """Each acknowledged increment stands alone on what it read; the sum is theirs, and that of unknown ones at most."""
    found = []
    by_counter: defaultdict[int, list[Op]] = defaultdict(list)
    for op in history.of("increment"):
        by_counter[op.args["counter"]].append(op)
    finals = {note.more["counter"]: note.more["value"] for note in history.noted("final counter")}
    for counter, ops in sorted(by_counter.items()):
        acknowledged = [op for op in ops if op.ok]
        unknown = [op for op in ops if op.outcome == UNKNOWN]
        readers: dict[int, Op] = {}
        for op in acknowledged:
            other = readers.setdefault(op.result["read"], op)
            if other is not op:
                found.append(f"counter {counter}: {other.who} and {op.who} both went on from {op.result['read']}")
        value = finals.get(counter)
        if value is None:
            found.append(f"counter {counter}: its last value was not read")
        elif not len(acknowledged) <= value <= len(acknowledged) + len(unknown):
            found.append(
                f"counter {counter} is {value} after {len(acknowledged)} acknowledged increments"
                f" and {len(unknown)} of unknown outcome"
            )
    return found


def revisions_out_of_order(history: History) -> list[str]:
    """A change that began after another was acknowledged has the larger revision; no two have the same.

    The token of an exclusive grant is a revision too: of the change that granted it, which may grant several locks.
    """
    changes = [  # begun, ended, revision, who
        (op.begun_ns, op.ended_ns, int(op.result["revision"]), f"{op.name} of {op.who}")
        for op in history.of("put", "swap", "add", "delete", "create", "name", "unname")
        if op.outcome == OK and op.ended_ns is not None
    ]
    found = []
    owners: dict[int, str] = {}
    for _, _, revision, who in changes:
        if owners.setdefault(revision, who) is not who:
            found.append(f"revision {revision} was given to {owners[revision]} and to {who}")
    begun = {(op.who, op.number): op.begun_ns for op in history.of("hold")}
    for note in history.noted("enter"):
        if note.more["mode"] == "exclusive":
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
