"""The demo fails loudly: each thing that it shows is judged, and what is not so is seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tools._demo_verdict import Findings, verdict


def increments(values: range) -> list[dict[str, Any]]:
    return [{"value": value, "token": 100 + value} for value in values]


@dataclass
class Seen:
    """A demo in which everything was as it should be."""

    found: Findings = field(default_factory=lambda: Findings(1, 10.0, 2, 11.5, 20, 30, "too old", "LockLost"))
    made: list[list[dict[str, Any]]] = field(
        default_factory=lambda: [increments(range(1, 11)), increments(range(11, 16))]
    )
    value: int = 15
    acquired: list[dict[str, Any]] = field(default_factory=lambda: [{"token": 7}])
    kept: list[dict[str, Any]] = field(default_factory=lambda: [{"token": 7}])

    def judged(self) -> list[bool]:
        return [good for good, _ in verdict(self.found, self.made, self.value, self.acquired, self.kept)]


def test_a_demo_that_went_well_is_good_in_every_line() -> None:
    assert Seen().judged() == [True] * 7


SPOILED: list[tuple[str, int, Callable[[Seen], object]]] = [
    ("an increment was lost", 0, lambda seen: setattr(seen, "value", 14)),
    ("two increments made the same value", 0, lambda seen: seen.made[1].__setitem__(4, {"value": 14, "token": 115})),
    ("no increment after the kill", 1, lambda seen: setattr(seen.found, "first_after", 0.0)),
    ("the dead replica is the master", 1, lambda seen: setattr(seen.found, "new_master", 1)),
    ("a token went back", 2, lambda seen: seen.made[0].__setitem__(3, {"value": 4, "token": 103})),
    ("the kept lock was lost", 3, lambda seen: seen.kept.clear()),
    ("the kept lock is another grant", 3, lambda seen: seen.kept.__setitem__(0, {"token": 8})),
    ("the next holder's token is not larger", 4, lambda seen: setattr(seen.found, "new_token", 20)),
    ("the stopped holder was told nothing", 5, lambda seen: setattr(seen.found, "told", "")),
    ("the old token was accepted", 6, lambda seen: setattr(seen.found, "refused", "")),
]


@pytest.mark.parametrize(("line", "spoil"), [row[1:] for row in SPOILED], ids=[row[0] for row in SPOILED])
def test_what_is_not_so_is_seen(line: int, spoil: Callable[[Seen], object]) -> None:
    seen = Seen()
    spoil(seen)
    assert [at for at, good in enumerate(seen.judged()) if not good] == [line]


def test_a_demo_in_which_nothing_happened_is_good_in_no_line() -> None:
    assert Seen(Findings(), [[], []], 1, [], []).judged() == [False] * 7
