"""What must be true of one replica after every step. Run by the tests and by the simulator, not in production."""

from __future__ import annotations

from dataclasses import dataclass

from coordd.paxos.ballot import CHOSEN, Ballot
from coordd.paxos.replica import Replica, Role


@dataclass(frozen=True, slots=True)
class Summary:
    """What `check_delta` compares with the next step."""

    start: int
    promised: Ballot
    chosen_upto: int
    snapshot_slot: int


def check(replica: Replica) -> Summary:
    """Assert what holds in every single state; the summary is for `check_delta`."""
    state, log = replica.state, replica.state.log
    assert log.first_slot <= log.chosen_upto + 1, "the log begins inside or right behind the chosen prefix"
    assert log.snapshot_slot <= log.chosen_upto, "a snapshot holds only chosen slots"
    assert log.first_slot <= log.snapshot_slot + 1, "what is cut away is in the snapshot"
    assert log.chosen_upto <= log.upto
    for slot in (log.first_slot, log.chosen_upto):
        assert slot < log.first_slot or slot > log.chosen_upto or slot in log.entries, "the chosen prefix has no holes"
    for slot in range(log.chosen_upto + 1, log.upto + 1):
        ballot = log.entries.get(slot, (state.promised,))[0]
        assert ballot == CHOSEN or ballot <= state.promised, "nothing is accepted above the promise [PMS 2.2]"
    assert state.persist_done <= state.persist_issued
    proposer = replica.proposer
    if proposer is not None:
        assert replica.role is Role.MASTER
        assert state.promised == replica.election.ballot, "a master has promised nothing above its own ballot"
        assert proposer.boosting or proposer.ballot == state.promised
        assert all(slot > log.chosen_upto for slot in proposer.in_flight)
        assert all(flying.ballot <= state.promised for flying in proposer.in_flight.values())
        assert proposer.lease.confirmed <= proposer.lease.number
    return Summary(state.start, state.promised, log.chosen_upto, log.snapshot_slot)


def check_delta(before: Summary, after: Summary) -> None:
    """Assert what holds between two states of one replica, restarts included."""
    assert after.start >= before.start, "start numbers rise"
    assert after.promised >= before.promised, "promises never go back [PMS 2.2]"
    if after.start == before.start:
        assert after.chosen_upto >= before.chosen_upto, "the chosen prefix only grows"
        assert after.snapshot_slot >= before.snapshot_slot
