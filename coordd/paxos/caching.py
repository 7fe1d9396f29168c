"""Cache leases, as far as the masters have to agree on them: what lets clients answer reads by themselves.

A client may answer from its cache inside a *cache lease* that the master gave it. The engine gives them; here is what
makes them safe across masterships:

1. A cache lease never outlives the master lease that it was given under. So as long as it runs, a majority's grants do.
2. Before the first one is given, a majority has answered a heartbeat that says so (`wanted`); every grant remembers it.
3. Every Promise says how long such a grant of its sender may still matter (`cached_ms`). Any two majorities meet, so a
   new master, the same replica once more included, knows of a moment when every earlier cache lease is over
   (`earlier_until_ms`). Before it nobody may see what the caches do not know of: the replica proposes nothing, and
   `Replica.may_show` tells the engine to answer neither reads nor writes.
4. After a crash of the master nobody promises before the grants have ended, and the cache leases with them: nothing is
   left to wait for. There is where a grant ended early: after a hand-over, which says itself whether caches are in use,
   and where the same start of a replica becomes master again.

Why the clocks of three replicas are no worse than those of two: the promiser counts from its grant up to its Promise,
the new master from the receipt on. Each runs at most by the bound too fast against the old master's clock, which
counted its lease less the whole bound; 3 ms more pay for the third clock read in whole milliseconds.
"""

from __future__ import annotations

from coordd.paxos.lease import MasterLease


class CacheLeases:
    """The master's side, of one mastership."""

    def __init__(self, lease: MasterLease) -> None:
        self._lease = lease
        self.wanted = False  # what the heartbeats say
        self._first = 0  # the first heartbeat that says so
        self.earlier_until_ms = 0  # until then cache leases of earlier masterships may run

    def want(self, wanted: bool) -> None:
        """From the next heartbeat on say that cache leases may be given, or that there are none any more."""
        if wanted and not self.wanted:
            self._first = self._lease.number + 1
        self.wanted = wanted

    @property
    def until_ms(self) -> int:
        """Until when a cache lease that is given now may run; 0 where none may be given."""
        may_be_given = self.wanted and self._lease.confirmed >= self._first
        return self._lease.until_ms if may_be_given else 0

    def wait_for(self, until_ms: int) -> None:
        """What promises said that were counted: cache leases of earlier masterships may run until then."""
        self.earlier_until_ms = max(self.earlier_until_ms, until_ms)

    def earlier_over(self, now_ms: int) -> bool:
        """True when no cache lease of an earlier mastership can run any more."""
        return now_ms >= self.earlier_until_ms

    def may_be_out(self, now_ms: int) -> bool:
        """What a hand-over says: somebody may hold a cache lease, of this mastership or an earlier one."""
        return self.wanted or not self.earlier_over(now_ms)
