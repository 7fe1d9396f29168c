"""Small histories, written by hand."""

from __future__ import annotations

from typing import Any

from tests.nemesis.history import UNKNOWN, History, Note, Op

MS = 1_000_000


class Story:
    """Operations and notes with times in ms."""

    def __init__(self) -> None:
        self.history = History()
        self.number = 0  # of the last operation

    def op(
        self, who: str, do: str, begun: int, ended: int, outcome: str = "ok", result: Any = None, **args: Any
    ) -> Story:
        self.number += 1
        end = None if outcome == UNKNOWN else ended * MS
        op = Op(who, self.number, do, args, begun * MS, end, outcome, result or {}, ended * MS)
        self.history.ops.append(op)
        self.history.ops.sort(key=lambda op: op.begun_ns)
        return self

    def note(self, who: str, name: str, at: int, **more: Any) -> Story:
        self.history.notes.append(Note(at * MS, who, name, more))
        self.history.notes.sort(key=lambda note: note.at_ns)
        return self

    def hold(
        self, who: str, token: int, begin: int, believed: int, left: int | None = None, mode: str = "exclusive"
    ) -> Story:
        """A hold of lock 0, believed in from `begin` to `believed`; its body ended at `left` (default: then)."""
        do = "part" if mode == "semaphore" else "hold"
        self.op(who, do, begin - 1, believed + 1, result={"token": token}, lock=0, mode=mode)
        number = self.number
        self.note(who, "enter", begin, n=number, lock="0", mode=mode, token=token)
        self.note(who, "look", believed, n=number, before_ns=believed * MS, safe=True)
        return self.note(who, "leave", believed if left is None else left, n=number)
