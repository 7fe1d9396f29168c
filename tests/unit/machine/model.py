"""A naive model of locks, from the promises alone, with lists and loops: who must hold, who must wait, in which order.

A request is one acquire: its parts are the locks that it wants. Those that wait stand in one list in the order of
asking; the queue of a path is that list without those who do not want it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Who = tuple[int, int]  # session, call


@dataclass(frozen=True)
class Part:
    """What is wanted of one lock."""

    path: str
    mode: str
    permits: int = 0


@dataclass(frozen=True)
class Holder:
    """A grant of one lock."""

    who: Who
    part: Part
    delayed: bool = False


@dataclass
class Model:
    """See the module docstring. `refused`: whose turn came, and whose number of permits did not fit."""

    holders_max: int
    holders: dict[str, list[Holder]] = field(default_factory=dict)
    waiting: list[tuple[Who, tuple[Part, ...]]] = field(default_factory=list)
    revoked: set[tuple[str, Who]] = field(default_factory=set)
    refused: set[Who] = field(default_factory=set)

    # ---- what there is ----

    def at(self, path: str) -> list[Holder]:
        return self.holders.get(path, [])

    def queue(self, path: str) -> list[tuple[Who, str]]:
        return [(who, part.mode) for who, parts in self.waiting for part in parts if part.path == path]

    def fits(self, part: Part) -> bool:
        """Whether all holders go with it."""
        holders = self.at(part.path)
        if not holders:
            return True
        first = holders[0].part
        alike = (part.mode, part.permits) == (first.mode, first.permits) and part.mode != "exclusive"
        return alike and len(holders) < min(self.holders_max, part.permits or self.holders_max)

    def differs(self, part: Part) -> bool:
        """Whether it can never join those who hold now."""
        holders = self.at(part.path)
        return bool(holders) and part.mode == "semaphore" == holders[0].part.mode and not self.same_number(part)

    def same_number(self, part: Part) -> bool:
        return self.at(part.path)[0].part.permits == part.permits

    # ---- what happens ----

    def request(self, who: Who, parts: tuple[Part, ...]) -> None:
        self.waiting.append((who, parts))
        self.settle()

    def settle(self) -> None:
        while self._one_goes():
            pass

    def _one_goes(self) -> bool:
        busy: set[str] = set()  # paths that somebody earlier waits for
        for entry in self.waiting:
            who, parts = entry
            free = not any(part.path in busy for part in parts)
            if free and all(self.fits(part) or self.differs(part) for part in parts):
                self.waiting.remove(entry)
                if any(self.differs(part) for part in parts):
                    self.refused.add(who)
                else:
                    for part in parts:
                        self.holders.setdefault(part.path, []).append(Holder(who, part))
                return True
            busy |= {part.path for part in parts}
        return False

    def leave(self, who: Who, path: str = "") -> None:
        """Gives back everything, or what it holds at `path`."""
        for at, holders in self.holders.items():
            if path in ("", at):
                self.holders[at] = [holder for holder in holders if holder.who != who]
        if not path:
            self.waiting = [entry for entry in self.waiting if entry[0] != who]
        self._forget_revoked()
        self.settle()

    def lose(self, who: Who, path: str, delay_ms: int) -> None:
        """Its session has lost it: its lock-delay runs, if it has one."""
        if not delay_ms:
            self.leave(who, path)
            return
        self.holders[path] = [
            Holder(holder.who, holder.part, True) if holder.who == who else holder for holder in self.at(path)
        ]
        self._forget_revoked()

    def withdraw(self, session: int) -> None:
        self.waiting = [entry for entry in self.waiting if entry[0][0] != session]
        self.settle()

    def end(self, session: int, delays: dict[Who, int]) -> None:
        """The session is over: `delays` has the lock-delays where it expired, and nothing where it closed."""
        self.waiting = [entry for entry in self.waiting if entry[0][0] != session]
        for path, holders in self.holders.items():
            self.holders[path] = [
                Holder(one.who, one.part, one.who[0] == session or one.delayed)
                for one in holders
                if one.who[0] != session or one.delayed or delays.get(one.who)
            ]
        self._forget_revoked()
        self.settle()

    def hand_on(self, who: Who, path: str, heir: Who) -> None:
        """The heir holds it, and waits no more."""
        self.waiting = [entry for entry in self.waiting if entry[0] != heir]
        [part] = [one.part for one in self.at(path) if one.who == who]
        self.holders[path] = [one for one in self.at(path) if one.who != who] + [Holder(heir, part)]
        self.settle()

    def _forget_revoked(self) -> None:
        there = {(path, one.who) for path, holders in self.holders.items() for one in holders if not one.delayed}
        self.revoked &= there
