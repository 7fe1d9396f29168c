"""Who takes part and where each is dialled: the present membership, with the configuration as fall-back.

The membership has the addresses of members that were added at run time; the configuration names the first ones, and may
name others, who are dialled too unless they were removed: so a replica that slept through many changes finds the cell
again if its file was kept up to date.
"""

from __future__ import annotations

from collections.abc import Mapping

from coordd.paxos.membership import Membership


class Directory:
    """`follow` is called with every new membership; before the first one only the configuration is known."""

    def __init__(self, configured: Mapping[int, str]) -> None:
        self._configured = dict(configured)
        self.membership: Membership | None = None

    def follow(self, membership: Membership) -> None:
        """From now on this membership counts."""
        self.membership = membership

    def address_of(self, replica: int | None) -> str | None:
        """Where a replica is dialled, as far as is known here."""
        if replica is None:
            return None
        added = {} if self.membership is None else dict(self.membership.addresses)
        return added.get(replica) or self._configured.get(replica)

    def members(self) -> list[tuple[int, bool, str | None]]:
        """`(replica, is a voter, address)` of every member, by replica."""
        membership = self.membership
        if membership is None:
            return [(replica, True, address) for replica, address in sorted(self._configured.items())]
        members = sorted((*membership.voters, *membership.learners))
        return [(member, member in membership.voters, self.address_of(member)) for member in members]

    def has_other_voters(self, own: int) -> bool:
        """True when somebody else could be master."""
        return any(voter and member != own for member, voter, _ in self.members())

    def to_dial(self) -> dict[int, str]:
        """Replica -> address of everybody who is, or may be, a member, this replica included."""
        membership = self.membership
        found = self._configured | {member: address for member, _, address in self.members() if address is not None}
        if membership is None:
            return found
        return {replica: address for replica, address in found.items() if not membership.has_removed(replica)}
