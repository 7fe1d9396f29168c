"""Changes of the cell itself: who is a member, and who is master. What the operations of `Way.CELL` do.

One change at a time. A change is checked at the moment when it can be proposed, by what the master sees then; what
waits longer than its patience is refused, and nothing was done. A voter is counted on when it was heard within two
leases and lacks no more than `caught_up_slots`: one that lacks more cannot vote for what is new before it has it all.
Asking for what is so already is answered, not refused: an operator may repeat what he is not sure of.

A change is answered when it has settled, not when it is applied here: until a majority of the new voters knows of it
the cell may bear no failure at all, because those that do not know count by the membership before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from coordclient.protocol.errors import Refusal
from coordd.engine.inputs import Call
from coordd.engine.settings import EngineSettings
from coordd.paxos.membership import LEARNERS_MAX, REPLICA_ID_MAX, VOTERS_MAX, Membership
from coordd.paxos.replica import Replica

MEMBERSHIP_CHANGES = ("add_member", "promote_member", "remove_member")


class WaitingChange:
    """One change that waits for its turn or is proposed."""

    __slots__ = ("call", "gone", "proposed", "replica", "since_ms")

    def __init__(self, call: Call, since_ms: int) -> None:
        self.call = call
        self.since_ms = since_ms
        self.replica = 0  # whom it is about, once that is decided
        self.proposed = False
        self.gone = False

    def leave(self, request: int) -> None:
        """Nobody waits for `request` any more; the change itself goes on."""
        assert request == self.call.request
        self.gone = True


class Changes:
    """See the module docstring. `finish` gives an answer to whoever waits for it."""

    def __init__(
        self,
        settings: EngineSettings,
        replica: Replica,
        finish: Callable[[WaitingChange, dict[str, object] | Refusal], None],
    ) -> None:
        self._settings = settings
        self._core = replica
        self._own = settings.paxos.replica
        self._finish = finish
        self._waiting: deque[WaitingChange] = deque()
        self._proposed: tuple[int, bytes, WaitingChange] | None = None  # slot, payload
        self._done: list[tuple[WaitingChange, bool]] = []  # not settled yet; whether anything was changed
        self._transfers: list[tuple[WaitingChange, int]] = []
        self._heard: dict[int, tuple[int, int]] = {}  # as of the last reign, once it is over
        self._now_ms = 0

    def __bool__(self) -> bool:
        """True when one wants to be proposed; none does before the last one has settled."""
        return bool(self._waiting) and not self._done

    def full(self) -> str | None:
        """Which limit forbids one more change, if any."""
        limit = self._settings.changes_max
        return f"{limit} changes of the cell wait for their turn already" if len(self._waiting) >= limit else None

    def enqueue(self, change: WaitingChange) -> None:
        """One more; room was checked."""
        self._waiting.append(change)

    # ---- what the master sees ----

    def members(self, now_ms: int) -> dict[str, object]:
        """The answer to `members`."""
        self._now_ms = now_ms
        membership = self._core.membership
        answering = self._counted_on(membership)
        rows = [self._row(member, membership) for member in sorted((*membership.voters, *membership.learners))]
        return {
            "version": membership.version,
            "highest": membership.highest,
            "master": self._core.master,
            "members": rows,
            "voters": len(membership.voters),
            "answering": len(answering),
            "majority": membership.majority,
            "can_lose": max(0, len(answering) - membership.majority) if self._settled else 0,
        }

    @property
    def _settled(self) -> bool:
        """True when a majority of the voters knows who votes, as far as can be said after a reign: nothing, then."""
        return self._core.proposer is None or self._core.proposer.settled

    def _row(self, member: int, membership: Membership) -> dict[str, object]:
        own = member == self._own
        at_ms, upto = self._look().get(member, (None, None))
        return {
            "replica": member,
            "voter": member in membership.voters,
            "address": self._address_of(member, membership),
            "chosen_upto": self._core.chosen_upto if own else upto,
            "heard_ms_ago": 0 if own else None if at_ms is None else self._now_ms - at_ms,
        }

    def _address_of(self, member: int, membership: Membership) -> str | None:
        return dict(membership.addresses).get(member) or self._settings.addresses.get(member)

    def _look(self) -> dict[int, tuple[int, int]]:
        if self._core.proposer is not None:
            self._heard = self._core.proposer.heard
        return self._heard

    def _answers(self, member: int) -> bool:
        if member == self._own:
            return True
        heard = self._look().get(member)
        return heard is not None and self._now_ms - heard[0] <= 2 * self._core.membership.lease_ms

    def _behind(self, member: int) -> int:
        """How many slots it lacked when it was heard last."""
        return 0 if member == self._own else self._core.chosen_upto - self._look()[member][1]

    def _is_counted_on(self, voter: int) -> bool:
        return self._answers(voter) and self._behind(voter) <= self._settings.caught_up_slots

    def _counted_on(self, membership: Membership) -> list[int]:
        """The voters that answer and keep up; this replica among them, if it is one."""
        return [voter for voter in membership.voters if self._is_counted_on(voter)]

    # ---- from the queue to the log ----

    def next(self, now_ms: int) -> tuple[WaitingChange, Membership] | None:
        """The first change that stands up to what is seen now; the others before it are answered here."""
        self._now_ms = now_ms
        while self._waiting:
            change = self._waiting.popleft()
            try:
                membership = self._changed(change)
            except Refusal as refusal:
                self._finish(change, refusal)
                continue
            if membership is not None:
                return change, membership
            self._done.append((change, False))
        return None

    def proposed(self, change: WaitingChange, slot: int, membership: Membership) -> None:
        """It is in the log now, and may take effect."""
        assert self._proposed is None, "one change at a time"
        change.proposed = True
        self._proposed = slot, membership.to_bytes(), change

    def chosen(self, slot: int, payload: bytes, now_ms: int) -> None:
        """A change was applied: if it is the one proposed here, it was made, whatever has become of this reign."""
        if self._proposed is None or self._proposed[:2] != (slot, payload):
            return
        change, self._proposed = self._proposed[2], None
        self._now_ms = now_ms
        self._done.append((change, True))

    def answer_settled(self, now_ms: int) -> None:
        """Answer those that are made, or were so already, once a majority of the voters knows it."""
        self._now_ms = now_ms
        if self._done and self._settled:
            self._answer_done()

    def _answer_done(self, settled: bool = True) -> None:
        done, self._done = self._done, []
        for change, changed in done:
            said = {**self.members(self._now_ms), "replica": change.replica, "changed": changed}
            if not settled and change.call.operation == "promote_member":
                said["can_lose"] = 0  # who was removed stays until he is not needed, but who votes now may not know it
            self._finish(change, said)

    def refuse_late(self, before_ms: int) -> None:
        """Those that could not even be proposed for too long."""
        why = "another change is under way, or too few voters answer; nothing was done"
        while self._waiting and self._waiting[0].since_ms <= before_ms:
            self._finish(self._waiting.popleft(), Refusal("unavailable", f"the change could not begin in time: {why}"))

    def end_reign(self) -> None:
        """What is made is made, settled or not, and those that gave the mastership up have had their way.

        Of the others the caller knows what to say.
        """
        self._answer_done(settled=False)
        transfers, self._transfers = self._transfers, []
        for change, to in transfers:
            self._finish(change, {"master": self._own, "to": to, "changed": True})
        self._waiting.clear()
        self._proposed = None

    # ---- what each change asks for ----

    def _changed(self, change: WaitingChange) -> Membership | None:
        """The membership after it; None where it is so already. Raises Refusal: nothing was done."""
        call, before = change.call, self._core.membership
        replica = call.arguments["replica"]
        assert isinstance(replica, int) and call.operation in MEMBERSHIP_CHANGES
        change.replica = replica or before.highest + 1
        if call.operation == "add_member":
            return self._added(change.replica, str(call.arguments["address"]), before)
        if before.has_removed(replica):
            if call.operation == "remove_member":
                return None
            raise Refusal("conflict", f"replica {replica} was removed; an id is given once: add a new one")
        if replica not in before:
            first = " (add it first)" if call.operation == "promote_member" else ""
            raise Refusal("not_found", f"replica {replica} is no member{first}; members are {_names(before)}")
        after = (
            self._promoted(replica, before) if call.operation == "promote_member" else self._removed(replica, before)
        )
        if after is not None:
            self._check_majority(before, after, call.operation, replica)
        return after

    def _added(self, replica: int, address: str, before: Membership) -> Membership | None:
        if replica in before:
            if self._address_of(replica, before) == address:
                return None
            where = self._address_of(replica, before)
            raise Refusal("exists", f"replica {replica} is a member already, at {where}; an id is given once")
        if before.has_removed(replica):
            next_free = before.highest + 1
            raise Refusal(
                "conflict", f"the id {replica} was given before; an id is given once, the next is {next_free}"
            )
        if replica > REPLICA_ID_MAX:
            raise Refusal("limit", f"ids end at {REPLICA_ID_MAX}; this cell has used them up: begin a new cell")
        if len(before.learners) >= LEARNERS_MAX:
            raise Refusal("limit", f"the cell has {len(before.learners)} learners; promote or remove one first")
        for member in (*before.voters, *before.learners):
            if self._address_of(member, before) == address:
                raise Refusal("conflict", f"{address} is the address of replica {member}; remove that one first")
        return before.with_learner(replica, address)

    def _promoted(self, replica: int, before: Membership) -> Membership | None:
        if replica in before.voters:
            return None
        if len(before.voters) >= VOTERS_MAX:
            raise Refusal("limit", f"the cell has {VOTERS_MAX} voters, which is the most; remove one first")
        if not self._answers(replica):
            hint = "is it running, with the secret and the addresses of present members in its file?"
            raise Refusal("conflict", f"replica {replica} does not answer: {hint}")
        behind = self._behind(replica)
        if behind > self._settings.caught_up_slots:
            raise Refusal("conflict", f"replica {replica} is {behind} slots behind; try again later", behind=behind)
        return before.with_voter(replica)

    def _removed(self, replica: int, before: Membership) -> Membership:
        if before.voters == (replica,):
            raise Refusal("conflict", f"replica {replica} is the last voter; a cell without one is none")
        if len(before.voters) == 2 and replica == self._own:
            raise Refusal(
                "conflict",
                "the master of two cannot remove itself: the other might not hear of it; transfer the mastership first",
            )
        return before.without(replica)

    def _check_majority(self, before: Membership, after: Membership, operation: str, replica: int) -> None:
        """Refuse what would leave no majority that answers."""
        counted_on = self._counted_on(after)
        if len(counted_on) >= after.majority:
            return
        silent = [voter for voter in after.voters if not self._answers(voter)]
        behind = [voter for voter in after.voters if voter not in (*counted_on, *silent)]
        why = "; ".join(f"{how}: {_list(who)}" for how, who in (("silent", silent), ("far behind", behind)) if who)
        raise Refusal(
            "conflict",
            f"{operation} {replica} would leave {_count(len(after.voters), 'voter')}, of which {len(counted_on)} can "
            f"vote and {after.majority} must ({why}); nothing was done",
        )

    # ---- the mastership ----

    def transfer(self, change: WaitingChange, now_ms: int) -> None:
        """Give the mastership up, answered when that has happened; or say why not."""
        self._now_ms = now_ms
        to = change.call.arguments["to"]
        assert isinstance(to, int)
        if to == self._own:
            self._finish(change, {"master": self._own, "to": to, "changed": False})
            return
        try:
            self._check_successor(to)
        except Refusal as refusal:
            self._finish(change, refusal)
            return
        change.proposed = True  # from here on it may happen
        self._transfers.append((change, to))
        self._core.hand_over(now_ms, to or None)

    def _check_successor(self, to: int) -> None:
        membership = self._core.membership
        others = [voter for voter in membership.voters if voter != self._own]
        if to and to not in membership.voters:
            raise Refusal("not_found", f"replica {to} is no voter; members are {_names(membership)}")
        if not others:
            raise Refusal("conflict", "there is no other voter; the mastership stays here")
        able = [voter for voter in others if self._is_counted_on(voter)]
        if (to and to not in able) or not able:
            who = f"replica {to}" if to else "no other voter"
            answers = "does not answer or is far behind" if to else "answers and has caught up"
            raise Refusal("conflict", f"{who} {answers}; the mastership stays here")


def _names(membership: Membership) -> str:
    learners = f", and {_list(membership.learners)} that only learn" if membership.learners else ""
    return f"{_list(membership.voters)}{learners}"


def _list(replicas: Sequence[int]) -> str:
    return ", ".join(map(str, replicas))


def _count(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
