"""What watches were told: in order, each change on top of the one before, all of it, and to each of them the same.

Every change has a revision, so no order has to be searched for: what one watch was told of a revision, every other one
that was told of everything around it must have been told, too. Where a resync took the place of changes, another watch
often was told of these, and the state that it shows must be what they make of the one before.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from tests.nemesis.history import NOT_DONE, NOTHING, OK, UNKNOWN, History, Note, Op

WATCHED = "/reg/"
FOUND_MAX = 20
READS = ("get", "look")
NEVER, EVER = 0, 1 << 62
Place = tuple[int, str]  # the revision that brought it, and what it is


@dataclass(frozen=True, slots=True)
class _Step:
    """What was told of one revision, when all was told up to `upto`; `entries`: by a resync."""

    upto: int
    revision: int
    entries: str | None = None


@dataclass(slots=True)
class _Watch:
    """One registration in one process. `spans`: it was told of all changes after the one and up to the other."""

    op: Op
    registered_ns: int
    begins: int
    spans: list[tuple[int, int]]
    told: dict[int, str] = field(default_factory=dict)  # revision -> what was told of it
    steps: list[_Step] = field(default_factory=list)

    def __str__(self) -> str:
        return f"the watch of {self.op.who} from {self.begins} on"


def broken_watches(history: History) -> list[str]:
    """See the module docstring."""
    found = [f"{note.who} was not told of what was written last" for note in history.noted("behind")]
    asked = history.of("watch")
    found += [f"{op.who} was refused it: {op.outcome}" for op in asked if op.outcome not in (OK, UNKNOWN, NOT_DONE)]
    watches = list(_watches(history, found))
    story = _Story(watches, found)
    writes = list(_writes(history))
    _acknowledged(story, writes, found)
    _registered(watches, writes, found)
    last = {path: place for note in history.noted("final state") for path, place in note.more["files"].items()}
    gone = _gone(history)
    for watch in watches:
        _Chain(watch, story, found).ends(last, gone)
    return found[:FOUND_MAX]


def changes_in(words: str) -> Iterator[tuple[str, str, str]]:
    """Path, before and after of each change of a revision; of a resync path, generation and contents."""
    parts = words.split()
    return zip(parts[::3], parts[1::3], parts[2::3], strict=True)


def _watches(history: History, found: list[str]) -> Iterator[_Watch]:
    """Each with what it was told, in order."""
    notes: dict[tuple[str, int], list[Note]] = {}
    for note in history.noted("watching", "events", "resync"):
        notes.setdefault((note.who, note.more["n"]), []).append(note)
    for op in history.of("watch"):
        own = notes.get((op.who, op.number))
        if own is not None:
            begins = own[0].more["revision"]
            watch = _Watch(op, own[0].at_ns, begins, [(begins, begins)])
            for note in own[1:]:
                _take(watch, note, found)
            yield watch


def _take(watch: _Watch, note: Note, found: list[str]) -> None:
    after, upto = watch.spans[-1]
    if note.name == "resync":
        revision = note.more["revision"]
        if revision < upto:
            found.append(f"{watch} is set back from {upto} to {revision}")
        watch.spans.append((revision, revision))
        watch.steps.append(_Step(upto, revision, note.more["entries"]))
        return
    for line in note.more["batches"]:
        number, _, words = line.partition(" ")
        revision = int(number)
        if revision <= upto:
            found.append(f"{watch} is told of revision {revision} when it was told of all up to {upto}")
        watch.told[revision] = words
        watch.steps.append(_Step(upto, revision))
        upto = revision
    if note.more["upto"] < upto:
        found.append(f"{watch} has seen {upto} and says that it is at {note.more['upto']}")
    watch.spans[-1] = (after, max(upto, note.more["upto"]))


class _Story:
    """What all watches together were told."""

    def __init__(self, watches: Sequence[_Watch], found: list[str]) -> None:
        self.of: dict[int, str] = {}
        for watch in watches:
            for revision, words in watch.told.items():
                if self.of.setdefault(revision, words) != words:
                    found.append(f"{watch} is told of {revision}: {words}; another is told: {self.of[revision]}")
        self._revisions = sorted(self.of)
        self._spans = sorted(span for watch in watches for span in watch.spans)
        self._reach = list(accumulate((upto for _, upto in self._spans), max))
        for watch in watches:
            for after, upto in watch.spans:
                found += [
                    f"{watch} is at {upto} and was never told of {revision}: {self.of[revision]}"
                    for revision in self.between(after, upto)
                    if revision not in watch.told
                ]

    def between(self, after: int, upto: int) -> Sequence[int]:
        """The revisions of which somebody was told."""
        return self._revisions[bisect_right(self._revisions, after) : bisect_right(self._revisions, upto)]

    def covers(self, after: int, upto: int) -> bool:
        """Whether one watch was told of everything after the one revision and up to the other."""
        place = bisect_right(self._spans, (after, EVER))
        return place > 0 and self._reach[place - 1] >= upto


def _writes(history: History) -> Iterator[tuple[Op, int, Mapping[str, str]]]:
    """What was acknowledged: its revision, and by path what it left there."""
    for op in history.of("put", "swap", "add", "delete", "txn"):
        if op.ok and "revision" in op.result and _path(op).startswith(WATCHED):
            yield op, op.result["revision"], dict(_left(op, op.args.get("then" if _branch(op) else "otherwise", ())))


def _path(op: Op) -> str:
    return str(op.args["table" if op.name == "txn" else "key"])


def _branch(op: Op) -> bool:
    return bool(op.result.get("succeeded", True))


def _left(op: Op, steps: Iterable[Sequence[str | None]]) -> Iterator[tuple[str, str]]:
    """By path what is there afterwards, without the dots behind it."""
    if op.name != "txn":
        yield _path(op), NOTHING if op.name == "delete" else op.args["value"]
    for what, key, value in steps:
        if what not in READS:
            yield f"{_path(op)}/{key}", NOTHING if value is None else value


def _acknowledged(story: _Story, writes: Sequence[tuple[Op, int, Mapping[str, str]]], found: list[str]) -> None:
    """Every acknowledged change of which a watch must have been told, was told, as it was acknowledged."""
    for op, revision, left in writes:
        if story.covers(revision - 1, revision):
            words = story.of.get(revision, "")
            told = {path: after.partition("*")[0] for path, _, after in changes_in(words)}
            found += [
                f"{op.name} of {op.who} was acknowledged with {revision}: {path} {value}; told was {told.get(path)}"
                for path, value in left.items()
                if told.get(path) != value
            ]


def _registered(
    watches: Sequence[_Watch], writes: Sequence[tuple[Op, int, Mapping[str, str]]], found: list[str]
) -> None:
    """A watch begins neither before what was acknowledged when it was asked for, nor after what is begun later."""
    ended = sorted((op.ended_ns or 0, revision) for op, revision, _ in writes)
    begun = sorted((-op.begun_ns, revision) for op, revision, _ in writes)
    highest = list(accumulate((revision for _, revision in ended), max, initial=NEVER))
    lowest = list(accumulate((revision for _, revision in begun), min, initial=EVER))
    for watch in watches:
        before = highest[bisect_left(ended, (watch.op.begun_ns, NEVER))]
        later = lowest[bisect_left(begun, (-watch.registered_ns, NEVER))]
        if before > watch.begins and not watch.op.args.get("since"):
            found.append(f"{watch} was asked for when {before} was acknowledged")
        if later <= watch.begins:
            found.append(f"{watch} was registered before the change {later} was begun")


def _gone(history: History) -> Mapping[str, int]:
    """By path the revision of its last deletion; EVER: one of unknown outcome."""
    gone: dict[str, int] = {}
    for op in history.of("delete", "txn"):
        if op.ok or op.outcome == UNKNOWN:
            steps = [*op.args.get("then", ()), *op.args.get("otherwise", ())]
            revision = op.result.get("revision", NEVER) if op.ok else EVER
            for path, left in _left(op, steps):
                if left == NOTHING:
                    gone[path] = max(revision, gone.get(path, NEVER))
    return gone


class _Chain:
    """The files as one watch knows them."""

    def __init__(self, watch: _Watch, story: _Story, found: list[str]) -> None:
        self._watch, self._story, self._found = watch, story, found
        self._files: dict[str, Place] = {}
        self._base = watch.begins  # what was there then and has not changed since is not known
        for step in watch.steps:
            if step.entries is None:
                self._told(step.revision, watch.told[step.revision])
            else:
                self._resync(step.upto, step.revision, step.entries)

    def _told(self, revision: int, words: str, check: bool = True) -> None:
        for path, before, after in changes_in(words):
            known = self._known(path)
            if check and known is not None and known[1] != before:
                self._found.append(f"{self._watch}: {revision} {path} was {before} before; at {known[0]}: {known[1]}")
            self._files[path] = (revision, after)

    def _known(self, path: str) -> Place | None:
        """What is there by what was told; None: nothing was told."""
        return self._files.get(path, None if self._base else (NEVER, NOTHING))

    def _resync(self, upto: int, revision: int, entries: str) -> None:
        """It is what was told up to `upto` and, where another watch was told of it, what has changed after that."""
        shown = {path: (int(number), what) for path, number, what in changes_in(entries)}
        whole = self._story.covers(upto, revision)
        if whole:
            for between in self._story.between(upto, revision):
                self._told(between, self._story.of[between], check=False)
            upto = revision
        for path in shown.keys() | (self._files.keys() if whole else ()):
            number, what = shown.get(path, (NEVER, NOTHING))
            known = self._files.get(path, (NEVER, NOTHING) if number > self._base else None)
            if number <= upto and known is not None and known[1] != what:
                self._found.append(f"{self._watch} is shown {path} {what} as of {revision}; it was {known[1]}")
        self._files, self._base = dict(shown), NEVER

    def ends(self, last: Mapping[str, Sequence[object] | None], gone: Mapping[str, int]) -> None:
        """What was read when all was over is what was told, where it has not changed since."""
        upto = self._watch.spans[-1][1]
        for path, place in last.items():
            known = self._known(path)
            if place is None:
                wrong = known is not None and known[1] != NOTHING and gone.get(path, NEVER) <= upto
            else:
                generation = int(str(place[1]))
                if known is None and generation > self._base:
                    known = (NEVER, NOTHING)
                wrong = known is not None and generation <= upto and known[1] != place[0]
            if wrong:
                self._found.append(f"{self._watch}: {path} was {known and known[1]} at {upto}, and {place} at the end")
