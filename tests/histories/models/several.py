"""Locks of several paths that are acquired at once: all or none, at one moment.

| operation | arguments | outcome: result |
|---|---|---|
| acquire | hold, parts: (path, mode, permits) of each | ok: tokens by path (may be left out) |
| release | hold | ok: all that this acquire holds |
| expire | hold, path | never told: the cell ends this part of the hold if it is still there |

Parts may end at different moments, as lock-delays do. What is said of a single lock in `lock` is true of each path.
That somebody was refused is not written down here: who waits for several stands in the way where nobody holds, too.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from tests.histories.models.base import Model
from tests.histories.models.lock import Period
from tests.histories.operation import UNKNOWN, Operation

FREE = Period()
GHOST = "(somebody who never heard of {parts})"


class Periods(NamedTuple):
    """Of every path that was ever held, by path."""

    of: tuple[tuple[str, Period], ...] = ()

    def at(self, path: str) -> Period:
        """The period of one path."""
        return next((period for name, period in self.of if name == path), FREE)

    def put(self, changed: Iterable[tuple[str, Period]]) -> Periods:
        """With some of them changed."""
        return Periods(tuple(sorted({**dict(self.of), **dict(changed)}.items())))


class Several(Model[Periods]):
    """See the module docstring."""

    name = "several"
    initial = Periods()

    def step(self, state: Periods, op: Operation) -> Periods | None:
        hold = op.arguments["hold"]
        if op.name == "acquire":
            return self._acquire(state, op, hold)
        if op.name == "expire":
            period = state.at(op.arguments["path"])
            return state.put([(op.arguments["path"], period.left(hold))]) if hold in period.holders else state
        assert op.name == "release", op.name
        held = [(path, period.left(hold)) for path, period in state.of if hold in period.holders]
        return state.put(held) if held or op.outcome == UNKNOWN else None

    def _acquire(self, state: Periods, op: Operation, hold: str) -> Periods | None:
        tokens = op.result.get("tokens", {})
        after = [
            (path, state.at(path).granted(hold, mode, permits, tokens.get(path, 0)))
            for path, mode, permits in op.arguments["parts"]
        ]
        granted = [(path, period) for path, period in after if period is not None]
        if len(granted) == len(after):
            return state.put(granted)
        return state if op.outcome == UNKNOWN else None

    def number(self, op: Operation) -> int:
        """The revision of the grant is the token of every part but the shared ones, which may have joined a period."""
        tokens, parts = op.result.get("tokens", {}), op.arguments.get("parts", ())
        return max((tokens.get(path, 0) for path, mode, _ in parts if mode != "shared"), default=0)

    def helps(self, state: Periods, op: Operation, due: Operation) -> bool:
        """An end makes room: for who asks for that path, or for a grant that may be of use itself (`level` knows).

        A grant that nobody heard of keeps a shared period going; of several parts it may have to be early, for one of
        them may be over by the time that somebody sees the others.
        """
        if op.name == "expire":
            paths = (path for path, _, _ in due.arguments.get("parts", ()))
            return bool(op.arguments.get("chained")) or op.arguments["path"] in paths
        if op.name != "acquire" or due.arguments["hold"] == op.arguments["hold"]:
            return True
        return len(op.arguments["parts"]) > 1 or op.arguments["parts"][0][1] == "shared"

    def level(self, ops: Sequence[Operation], starts: Iterable[Periods]) -> list[Operation]:
        """Who was not answered and may have ended at once only stands in the way, but for parts that keep a shared
        period going between two who know its token: else such an acquire need not have happened. With such parts, those
        that asked for the same are one.
        """
        starts = list(starts)
        asked = {op.arguments["hold"]: op for op in ops if op.name == "acquire" and not op.known}
        ends: dict[str, set[str]] = {}
        for op in ops:
            if op.name == "expire" and (ask := asked.get(op.arguments["hold"])) is not None and op.begun <= ask.begun:
                ends.setdefault(op.arguments["hold"], set()).add(op.arguments["path"])
        seen = {op.arguments["hold"] for op in ops if op.known}
        seen.update(hold for start in starts for _, period in start.of for hold in period.holders)
        ghosts: dict[str, str] = {}
        for hold, op in asked.items():
            paths = [path for path, _, _ in op.arguments["parts"]]
            if hold not in seen and ends.get(hold) == set(paths):
                ghosts[hold] = GHOST.format(parts=" and ".join(paths))
        until = _shared_until(ops, starts)
        idle = {
            hold
            for hold in ghosts
            if all(
                mode != "shared" or asked[hold].begun > until.get(path, -1)
                for path, mode, _ in asked[hold].arguments["parts"]
            )
        }
        chained = {path for hold, op in asked.items() if hold not in idle for path, _, _ in op.arguments["parts"]}
        return [_leveled(op, ghosts, idle, chained) for op in ops]

    def words(self, op: Operation) -> str:
        parts = [f"{mode} {path}" for path, mode, _ in op.arguments.get("parts", ())] or [op.arguments.get("path", "")]
        return f"{op.name} {', '.join(parts)} ({op.arguments['hold']})".replace("  ", " ")

    def answer(self, op: Operation) -> str:
        if op.name == "acquire" and "tokens" in op.result:
            return ", ".join(f"{path}: token {token}" for path, token in sorted(op.result["tokens"].items()))
        return super().answer(op)

    def describe(self, state: Periods) -> str:
        return "; ".join(f"{path} {period.words()}" for path, period in state.of) or "free"


def _shared_until(ops: Iterable[Operation], starts: Iterable[Periods]) -> Mapping[str, int]:
    """Of each path: until when somebody is told a token that another one has too, or is not told which."""
    seen = {(path, period.token) for start in starts for path, period in start.of if period.mode == "shared"}
    until: dict[str, int] = {}
    for op in sorted(ops, key=lambda op: op.begun):
        if op.name != "acquire" or op.ended is None:
            continue
        for path, mode, _ in op.arguments["parts"]:
            token = op.result.get("tokens", {}).get(path, 0)
            if mode == "shared" and (not token or (path, token) in seen or (path, 0) in seen):
                until[path] = max(op.ended, until.get(path, -1))
            seen.add((path, token))
    return until


def _leveled(op: Operation, ghosts: Mapping[str, str], idle: Container[str], chained: Container[str]) -> Operation:
    hold = op.arguments["hold"]
    if hold in idle:
        return replace(op, name="expire", arguments={"hold": GHOST, "path": ""})  # which changes nothing
    more = {"chained": True} if op.name == "expire" and op.arguments["path"] in chained else {}
    if hold in ghosts:
        return replace(op, arguments={**op.arguments, "hold": ghosts[hold], **more})
    return replace(op, arguments={**op.arguments, **more}) if more else op
