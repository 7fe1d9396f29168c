"""Ballots: the numbers that order proposals [PMS 2.2: "proposal number"]."""

from __future__ import annotations

from typing import NamedTuple


class Ballot(NamedTuple):
    """`(round, replica)`; compared in this order, so two replicas never share one. A round is used once per replica."""

    round: int
    replica: int

    @property
    def number(self) -> int:
        """The ballot as one number, in the same order. Two replicas may stand in one round: that is no name for it."""
        return self.round * 256 + self.replica

    def __str__(self) -> str:
        return f"{self.round}.{self.replica}"


ZERO = Ballot(0, 0)  # below every real ballot: nothing promised, nothing accepted

ROUND_MAX = 2**40  # thirty years of an election every millisecond; and ballots stay exact wherever they are told

# The ballot under which a value learnt as chosen is kept: above every real one, because a chosen value wins every
# comparison that Prepare makes [PMS 2.2, P2c], and nothing may ever overwrite it.
CHOSEN = Ballot(2**62, 0)
