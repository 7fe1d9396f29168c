"""Do the others come to the same? Compares the histories of the replicas at equal slots, and says who has to stop.

Each replica remembers its history (`machine.history`) at the last few thousand slots and, about once a second, says the
latest one to all. Whoever finds there another history than his own at that slot says his own at that very slot to all,
so that within moments everybody can count heads:

- more voters say something else, all the same, than say what this replica says, and two at least: it stops;
- as many, and no voter is left to be heard: it stops, and so do they. Of two, both: nobody can know who is right
  (a learner beside a single voter knows: it stops, the voter does not);
- otherwise nobody stops, but the difference is told, loudly, until somebody who is away can judge.

A verdict has to stand in two periods, each time by new messages: one wrong message stops nobody. Learners listen and
stop like everybody; their own voice counts for nothing, as elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping

from coordd.paxos.messages import Digest
from coordd.paxos.replica import Replica

PERIOD_MS = 1_000
IDLE_PERIODS = 10  # after so many the same is said again: whoever started anew meanwhile has not heard it
RECENT_SLOTS = 4_096  # how far apart two replicas may be and still compare
HEARD_MAX = 8  # of one peer, about slots that are not reached here yet
SLOTS_MAX = 64  # compared in one period
VERDICTS = 2


class Digests:
    """See the module docstring. `differing`: who differed from this replica in the last period."""

    def __init__(self, core: Replica, own: int, slot: int, history: bytes, now_ms: int) -> None:
        self._core = core
        self._own = own
        self._upto = slot
        self._histories = {slot: history}
        self._early: dict[int, dict[int, bytes]] = {}  # peer -> slot -> what it says of it; not compared yet
        self._voices: dict[int, dict[int, bytes]] = {}  # slot -> peer -> what it says of it; since the last judgement
        self._told: set[int] = set()  # slots that were told to all since then
        self._due_ms = now_ms
        self._said, self._silent_periods = 0, 0
        self._verdicts = 0
        self.differing: tuple[int, ...] = ()
        self.doubt: str | None = None  # something to tell an operator; whoever passes it on sets it to None

    # ---- what happens ----

    def applied(self, slot: int, history: bytes) -> None:
        """The next slot was applied."""
        self._upto = slot
        self._histories[slot] = history
        self._histories.pop(slot - RECENT_SLOTS, None)

    def restored(self, slot: int, history: bytes) -> None:
        """A peer's snapshot has taken the place of all that was known here."""
        self._upto = slot
        self._histories = {slot: history}
        self._voices = {}

    def heard(self, message: Digest) -> None:
        """A member says what its history is."""
        said = self._early.setdefault(message.sender, {})
        if len(said) >= HEARD_MAX:
            del said[next(iter(said))]
        said[message.slot] = message.digest

    def look(self, now_ms: int) -> str | None:
        """Once per step: compares, speaks when it is time to; why this replica has to stop, if it has to."""
        if self._early:
            self._compare()
        if now_ms < self._due_ms:
            return None
        self._due_ms = now_ms + PERIOD_MS
        verdict = self._judge()
        self._speak()
        return verdict

    # ---- comparing ----

    def _compare(self) -> None:
        for peer, said in list(self._early.items()):
            for slot in [slot for slot in said if slot <= self._upto]:
                digest, mine = said.pop(slot), self._histories.get(slot)
                if mine is None or (slot not in self._voices and len(self._voices) >= SLOTS_MAX):
                    continue
                self._voices.setdefault(slot, {})[peer] = digest
                if digest != mine and slot not in self._told:
                    self._tell(slot)
            if not said:
                del self._early[peer]

    def _speak(self) -> None:
        """Tell the others; not about nothing, and not the same again and again."""
        membership = self._core.membership
        self._silent_periods += 1
        new = self._upto != self._said or bool(self.differing) or self._silent_periods >= IDLE_PERIODS
        if new and self._upto and membership.version and self._own in membership:
            self._said, self._silent_periods = self._upto, 0
            self._tell(self._upto)

    def _tell(self, slot: int) -> None:
        self._told.add(slot)
        self._core.tell(slot, self._histories[slot])

    # ---- judging ----

    def _judge(self) -> str | None:
        voices, self._voices, self._told = self._voices, {}, set()
        reason: str | None = None
        differing: dict[int, int] = {}  # peer -> slot
        for slot, said in voices.items():
            mine = self._histories.get(slot)
            if mine is not None:
                differing |= {peer: slot for peer, digest in said.items() if digest != mine}
                reason = self._verdict(slot, mine, said) or reason
        self._verdicts = 0 if reason is None else self._verdicts + 1
        before, self.differing = self.differing, tuple(sorted(differing))
        if self.differing and self.differing != before:
            where = ", ".join(f"replica {peer} at slot {slot}" for peer, slot in sorted(differing.items()))
            self.doubt = f"the state of another replica is not that of this one ({where}): one of them is wrong"
        return reason if self._verdicts >= VERDICTS else None

    def _verdict(self, slot: int, mine: bytes, said: Mapping[int, bytes]) -> str | None:
        """Why this replica has to stop, by what was said of this slot alone."""
        others = self._core.state.other_voters()
        rivals: dict[bytes, list[int]] = {}
        for voter in others:
            if said.get(voter, mine) != mine:
                rivals.setdefault(said[voter], []).append(voter)
        if not rivals:
            return None
        theirs, peers = max(rivals.items(), key=lambda item: (len(item[1]), item[0]))
        with_me = sum(said.get(voter) == mine for voter in others) + self._core.state.is_voter
        all_spoke = all(voter in said for voter in others)
        outvoted = len(peers) > with_me and (len(peers) >= 2 or all_spoke)
        if not outvoted and not (all_spoke and len(peers) == with_me):
            return None
        names = ", ".join(map(str, peers))
        who = f"{'replica' if len(peers) == 1 else 'replicas'} {names}"
        return (
            f"the state of this replica after slot {slot} is not that of {who}: here the history is {mine.hex()}, "
            f"there {theirs.hex()}. {_WRONG if outvoted else _NOBODY_KNOWS}"
        )


_WRONG = (
    "It applied the same log and came to something else: a bug, another build, or bad memory. It must not serve. Way "
    "out: keep its data directory and its log for analysis; remove it from the cell and add it again with an empty "
    "directory under a new replica id"
)
_NOBODY_KNOWS = (
    "Nobody can say which of them is right, so none of them serves. Way out: keep copies of the data directories and "
    "the logs for analysis, and start them again: each applies its log anew, and what bad memory did may be gone; if "
    "they differ again, give all of them the build that they ran before, or restore a backup"
)
