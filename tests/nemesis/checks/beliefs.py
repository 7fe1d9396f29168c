"""Locks: what their holders believed, against each other and against their tokens.

A belief lasts from the first look at `safe` that said yes (dated after it) to the last one (dated before it): what is
once unsafe never becomes safe again, so the holder believed all the time between. A process that was stopped is no
excuse here: `safe` is asked of the clocks at every look.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from tests.nemesis.history import History, process_of
from tests.nemesis.work_locks import STOP_MARGIN_S
from tests.nemesis.work_permits import PERMITS

NS = 10**9


@dataclass(slots=True)
class Belief:
    """One hold. `left_ns`: when its body ended; None: the process was killed in it."""

    who: str
    number: int
    lock: str
    mode: str
    token: int
    from_ns: int
    until_ns: int
    left_ns: int | None = None

    def __str__(self) -> str:
        seconds = f"{self.from_ns / NS:.3f} to {self.until_ns / NS:.3f}"
        return f"{self.who} held {self.lock} ({self.mode}, token {self.token}) from {seconds}"


def beliefs(history: History) -> list[Belief]:
    """Every hold that was entered, in the order of entry."""
    found: dict[tuple[str, int], Belief] = {}
    for note in history.noted("enter", "look", "leave"):
        key = (note.who, note.more["n"])
        if note.name == "enter":
            more = note.more
            found[key] = Belief(*key, more["lock"], more["mode"], more["token"], note.at_ns, note.at_ns)
        elif note.name == "look":
            if note.more["safe"]:
                found[key].until_ns = max(found[key].until_ns, note.more["before_ns"])
        else:
            found[key].left_ns = note.at_ns
    return sorted(found.values(), key=lambda belief: belief.from_ns)


def _by_lock(history: History) -> Iterator[list[Belief]]:
    locks: defaultdict[str, list[Belief]] = defaultdict(list)
    for belief in beliefs(history):
        locks[belief.lock].append(belief)
    yield from locks.values()


def _excludes(one: Belief, other: Belief) -> bool:
    return "exclusive" in (one.mode, other.mode)


def too_many_permits(history: History) -> list[str]:
    """More than there are permits believed at one moment that they have one."""
    found = []
    for held in _by_lock(history):
        open_ones: list[Belief] = []
        for belief in held:
            open_ones = [other for other in open_ones if other.until_ns > belief.from_ns]
            open_ones.append(belief)
            if belief.mode == "semaphore" and len(open_ones) > PERMITS:
                found.append(", and ".join(map(str, open_ones)))
    return found


def beliefs_overlap(history: History) -> list[str]:
    """Two who exclude each other believed at one moment."""
    found = []
    for held in _by_lock(history):
        open_ones: list[Belief] = []
        for belief in held:
            open_ones = [other for other in open_ones if other.until_ns > belief.from_ns]
            found += [f"{other}, and {belief}" for other in open_ones if _excludes(other, belief)]
            open_ones.append(belief)
    return found


def late_bodies(history: History) -> list[str]:
    """The body of a lock ran on while another holder believed, though its process ran and awaited all the time.

    The library ends a body STOP_MARGIN_S before the cell may grant the lock to another; a process that noted a stall of
    half of that is not judged. Who closes a client under its own threads frees their locks at once, whatever they do
    from then on.
    """
    closed = {note.who: note.at_ns for note in history.noted("closing")}
    lags = [
        (note.who, note.at_ns - note.more["ms"] * 1_000_000, note.at_ns)
        for note in history.noted("lag")
        if note.more["ms"] >= STOP_MARGIN_S * 500
    ]
    found = []
    for held in _by_lock(history):
        for place, belief in enumerate(held):
            if belief.left_ns is None:
                continue
            end_ns = min(belief.left_ns, closed.get(belief.who.partition(".")[0], belief.left_ns))
            for later in held[place + 1 :]:
                if later.from_ns >= end_ns:
                    break
                process = process_of(belief.who)
                # What happens just after waking up is the stall's work too.
                stalled = any(
                    who == process and begin <= belief.left_ns and end >= belief.until_ns for who, begin, end in lags
                )
                if _excludes(belief, later) and not stalled:
                    found.append(f"{belief}, its body ended only at {belief.left_ns / NS:.3f}, while {later}")
    return found


def fence_refusals(history: History) -> list[str]:
    """A write to the record was refused though its writer had looked less than the stop margin before its answer."""
    tokens = {(note.who, note.more["n"]): note.more for note in history.noted("enter")}
    found = []
    for note in history.noted("appended"):
        if not note.more["admitted"] and note.more["took_ns"] < STOP_MARGIN_S * NS:
            hold = tokens[note.who, note.more["n"]]
            found.append(f"{note.who}, token {hold['token']} of {hold['lock']}, was refused at {note.at_ns / NS:.3f}")
    shared = {(hold["lock"], hold["token"]) for hold in tokens.values() if hold["mode"] == "shared"}
    writers: dict[tuple[str, int], str] = {}
    for note in history.noted("append"):
        if note.more["admitted"]:
            key = (note.more["lock"], note.more["token"])
            writer = note.more["by"]
            if writers.setdefault(key, writer) != writer and key not in shared:
                found.append(f"token {key[1]} of {key[0]} was used by {writers[key]} and by {writer}")
    return found
