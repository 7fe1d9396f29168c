"""The master lease [PML 5.2; Gray & Cheriton]: the acceptor's side (`Grants`) and the master's side (`MasterLease`).

An acceptor that answers a heartbeat will not promise to any other start of any replica for `lease_ms`, counted from its
receipt. The master counts from the sending of a heartbeat that a majority answered, less drift and 3 ms.
Receipt comes after sending, so with clock rates inside the drift bound the master's lease ends before any of the
majority's grants does. The 3 ms pay for clocks read in whole milliseconds on both sides.

Clients may have *cache leases* under a master lease, never beyond it (`coordd.paxos.caching`). A grant remembers
whether the master said so, apart from whose grant it is: a hand-over makes a grant void, but ends no cache lease.
"""

from __future__ import annotations

from coordd.paxos.ballot import ZERO, Ballot
from coordd.paxos.membership import Membership

ROUNDING_MS = 3


class Grants:
    """What this acceptor has granted. Volatile: a restarted acceptor waits one lease before it promises to anybody."""

    def __init__(self, boot_until_ms: int) -> None:
        self.boot_until_ms = boot_until_ms
        self.holder: tuple[int, int] | None = None  # (replica, start)
        self.until_ms = 0
        self.cached_until_ms = 0  # until then cache leases may run under what was granted here, to whomsoever
        self.ballot = ZERO
        self.number = 0
        self.voided = ZERO  # the ballot that was handed over last: it holds no lease again

    def may_promise(self, replica: int, start: int, now_ms: int) -> bool:
        """True when a promise to that start of that replica breaks no grant, nor one forgotten by a restart."""
        if now_ms < self.boot_until_ms:
            return False
        return now_ms >= self.until_ms or self.holder == (replica, start)

    def grant(
        self, holder: tuple[int, int], ballot: Ballot, number: int, lease_ms: int, now_ms: int, *, caches: bool
    ) -> bool:
        """Grant from now on; False where the ballot was handed over. Late duplicates only lengthen a grant."""
        if ballot <= self.voided:
            return False
        # Not `may_promise`: a grant asks for the same freedom from other holders, but not for the boot wait, which
        # keeps this acceptor from promising against grants that it forgot, not from giving new ones.
        assert now_ms >= self.until_ms or self.holder == holder, "two holders of one grant"
        self.holder = holder
        self.until_ms = max(self.until_ms, now_ms + lease_ms)
        if caches:
            self.cached_until_ms = self.until_ms
        if (ballot, number) > (self.ballot, self.number):
            self.ballot, self.number = ballot, number
        return True

    def is_free_for(self, holder: tuple[int, int], now_ms: int) -> bool:
        """True when granting to `holder` takes nothing from another."""
        return now_ms >= self.until_ms or self.holder == holder

    def void(self, holder: tuple[int, int], ballot: Ballot, number: int, now_ms: int, *, caches: bool) -> bool:
        """The holder gave up its lease of `ballot`; an old message never drops a newer grant.

        `caches`: the cache leases run on; else there are none, neither of the holder nor of anybody before.
        """
        if self.holder != holder or self.ballot != ballot or self.number > number:
            return False
        self.voided = ballot
        self.until_ms = now_ms
        if not caches:
            self.cached_until_ms = now_ms
        return True

    def cached_ms(self, now_ms: int) -> int:
        """How long from now on a cache lease may run under what was granted here, as far as that is remembered.

        Within one lease of a restart nobody is promised anything anew, but a promise from before it may be repeated:
        then it says the whole lease that may have been forgotten.
        """
        return max(self.cached_until_ms, self.boot_until_ms, now_ms) - now_ms


class MasterLease:
    """Numbers the heartbeats of one mastership and counts their answers."""

    def __init__(self, drift_ppm: int) -> None:
        self._drift_ppm = drift_ppm
        self.number = 0
        self.confirmed = 0
        self.until_ms = 0
        self._sent_ms: dict[int, int] = {}
        self._answered: dict[int, int] = {}
        self._first = 1  # answers to earlier heartbeats count no more

    def begin_round(self, now_ms: int) -> int:
        """The number of the heartbeat that is about to be sent."""
        self.number += 1
        self._sent_ms[self.number] = now_ms
        return self.number

    def answer(self, replica: int, number: int, membership: Membership) -> None:
        """`replica` granted from the receipt of heartbeat `number` on."""
        assert number <= self.number, "an answer to a heartbeat that was never sent"
        if number < self._first or number <= self._answered.get(replica, 0):
            return
        self._answered[replica] = number
        answered = sorted((self._answered.get(voter, 0) for voter in membership.voters), reverse=True)
        confirmed = answered[membership.majority - 1]
        if confirmed <= self.confirmed:
            return
        lease_ms = membership.lease_ms * (1_000_000 - self._drift_ppm) // 1_000_000 - ROUNDING_MS
        self.until_ms = max(self.until_ms, self._sent_ms[confirmed] + lease_ms)
        for passed in range(self.confirmed, confirmed):
            self._sent_ms.pop(passed, None)
        self.confirmed = confirmed

    def answered_by(self, replica: int) -> int:
        """The highest heartbeat that `replica` answered; 0 for none."""
        return self._answered.get(replica, 0)

    def begin_anew(self) -> None:
        """The voters are others now: only heartbeats that are sent from now on make a lease."""
        self.until_ms = 0
        self._answered.clear()
        self._first = self.number + 1

    def give_up(self) -> None:
        """From now on there is no lease in this mastership."""
        self.until_ms = 0
