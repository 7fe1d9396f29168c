"""Who takes part: voters, learners, and the length of the master lease. Part of the state and of every snapshot."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Membership:
    """`version` rises with every change; `voters` and `learners` are sorted replica ids (from 1)."""

    version: int
    voters: tuple[int, ...]
    learners: tuple[int, ...] = ()
    lease_ms: int = 1500

    def __post_init__(self) -> None:
        assert 1 <= len(self.voters) <= 7, "a cell has 1 to 7 voters"
        assert self.voters == tuple(sorted(set(self.voters))) and self.voters[0] >= 1
        assert not set(self.voters) & set(self.learners)
        assert self.lease_ms >= 100

    @property
    def majority(self) -> int:
        """How many voters make a majority."""
        return len(self.voters) // 2 + 1

    def is_majority(self, replicas: Iterable[int]) -> bool:
        """True when the voters among `replicas` are a majority."""
        return len(set(self.voters).intersection(replicas)) >= self.majority

    def to_wire(self) -> list[object]:
        """`[version, [voters], [learners], lease_ms]`."""
        return [self.version, list(self.voters), list(self.learners), self.lease_ms]

    @classmethod
    def from_wire(cls, wire: object) -> Membership:
        """The inverse of `to_wire`."""
        assert isinstance(wire, list)
        version, voters, learners, lease_ms = wire
        return cls(version, tuple(voters), tuple(learners), lease_ms)
