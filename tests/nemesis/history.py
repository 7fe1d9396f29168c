"""What clients did and believed, written down while it happens: JSON lines that outlive a kill -9 of the writer.

Every time is CLOCK_MONOTONIC of the machine in ns, one clock for all processes. Lines of a file, in the order of time:

| line | says |
|---|---|
| {"at", "who", "n", "do", "args"} | `who` (one thread of control) begins its operation number n |
| {"at", "who", "n", "ended", "result"} | it is over; `ended` is ok, unknown, not_done, or the code of a refusal |
| {"at", "who", "note", ...} | something else worth knowing: a session's state, a stall, a look at a lock |

`unknown`: it may have taken effect, may still do so, or never. `not_done`: the library promised that nothing was done.
An operation without its second line is unknown.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OK, UNKNOWN, NOT_DONE = "ok", "unknown", "not_done"
NOTHING, DIRECTORY, UNTOLD = "-", "/", "?"  # in place of contents
THREADS = "~threads"  # the thread flavour's client of a process has a session of its own


def now_ns() -> int:
    """The clock of all histories."""
    return time.monotonic_ns()


def process_of(who: str) -> str:
    """The process of a thread of control: "c2+1" of "c2+1.3-hold" and of "c2+1~threads.0-count"."""
    return who.partition(".")[0].removesuffix(THREADS)


def client_of(who: str) -> str:
    """Its place, whichever process has it: "c2" of "c2+1.3-hold"."""
    return process_of(who).partition("+")[0]


class Writer:
    """The history of one process. Each line is in the kernel's hands when the call returns."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._numbers: dict[str, int] = {}

    def begin(self, who: str, do: str, **args: Any) -> int:
        """An operation begins; its number."""
        number = self._numbers[who] = self._numbers.get(who, 0) + 1
        self._write({"at": now_ns(), "who": who, "n": number, "do": do, "args": args})
        return number

    def end(self, who: str, number: int, ended: str, **result: Any) -> None:
        self._write({"at": now_ns(), "who": who, "n": number, "ended": ended, "result": result})

    def note(self, who: str, note: str, **more: Any) -> None:
        self._write({"at": now_ns(), "who": who, "note": note} | more)

    def _write(self, line: Mapping[str, Any]) -> None:
        os.write(self._file, json.dumps(line, separators=(",", ":")).encode() + b"\n")


@dataclass(slots=True)
class Op:
    """One operation. `ended_ns` is None exactly when the outcome is unknown."""

    who: str
    number: int
    name: str
    args: dict[str, Any]
    begun_ns: int
    ended_ns: int | None = None
    outcome: str = UNKNOWN
    result: dict[str, Any] = field(default_factory=dict)
    told_ns: int | None = None  # when its caller was told anything, "unknown" included

    @property
    def ok(self) -> bool:
        return self.outcome == OK


@dataclass(frozen=True, slots=True)
class Note:
    """Something besides operations."""

    at_ns: int
    who: str
    name: str
    more: Mapping[str, Any]


@dataclass(slots=True)
class History:
    """All of it, each list in the order of time. `torn`: last lines that a kill cut off."""

    ops: list[Op] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    torn: int = 0

    def of(self, *names: str) -> list[Op]:
        """The operations of these names, by their beginning."""
        return [op for op in self.ops if op.name in names]

    def noted(self, *names: str) -> list[Note]:
        return [note for note in self.notes if note.name in names]


def read(paths: Iterable[Path]) -> History:
    """The histories of several processes as one."""
    history = History()
    for path in sorted(paths):
        open_ops: dict[tuple[str, int], Op] = {}
        for text in path.read_bytes().splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                history.torn += 1
                continue
            _take(history, open_ops, line)
    history.ops.sort(key=lambda op: op.begun_ns)
    history.notes.sort(key=lambda note: note.at_ns)
    return history


def _take(history: History, open_ops: dict[tuple[str, int], Op], line: dict[str, Any]) -> None:
    if "note" in line:
        more = {name: value for name, value in line.items() if name not in ("at", "who", "note")}
        history.notes.append(Note(line["at"], line["who"], line["note"], more))
    elif "do" in line:
        op = Op(line["who"], line["n"], line["do"], line["args"], line["at"])
        open_ops[op.who, op.number] = op
        history.ops.append(op)
    else:
        op = open_ops.pop((line["who"], line["n"]))
        op.outcome, op.result, op.told_ns = line["ended"], line["result"], line["at"]
        op.ended_ns = None if op.outcome == UNKNOWN else line["at"]
