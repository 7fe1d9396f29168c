"""A lock has a deadline of its own: end of the local lease + lock-delay, both less drift; given up a margin before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coordclient.holds import Hold, Holds, HoldState
from coordclient.session import Session

GRANT = {"path": "/a", "mode": "exclusive", "token": 9, "hold": 4, "sequencer": "text"}
END = 11_880 + 4_950  # (lease + lock-delay) x 99 %
MARGIN = 1_000


def held(session: Session | None = None, delay_ms: int = 5_000) -> tuple[Session, Holds, Hold]:
    session = session or Session(7, "secret", 12_000, 3, (0,))
    holds = Holds()
    hold = Hold(session, 4, GRANT, delay_ms, MARGIN)
    assert holds.add(hold, (0,))
    return session, holds, hold


def test_safe_until_the_margin_before_the_end_of_lease_and_lock_delay():
    _, _, hold = held()
    assert hold.left_ms((0,)) == END
    assert hold.safe((END - MARGIN - 1,))
    assert not hold.safe((END - MARGIN,))
    assert hold.state is HoldState.GIVEN_UP


def test_a_renewed_lease_moves_the_deadline():
    session, _, hold = held()
    session.answered(session.transmit((10_000,)), 3, 12_000, (10_010,))
    assert hold.left_ms((10_010,)) == END - 10


def test_a_look_that_said_no_is_never_followed_by_one_that_says_yes():
    session, holds, hold = held()
    number = session.transmit((END - MARGIN,))
    assert not hold.safe((END - MARGIN,))
    assert session.answered(number, 3, 12_000, (END - MARGIN + 10,))
    assert not hold.safe((END - MARGIN + 10,))
    assert holds.tick((END - MARGIN + 10,)) == [hold]


def test_the_lock_is_given_up_at_its_own_deadline_whatever_the_state_of_the_session():
    _, holds, hold = held(delay_ms=0)
    assert holds.tick((11_880 - MARGIN - 1,)) == []
    assert holds.tick((11_880 - MARGIN,)) == [hold], "the session is still active here"


def test_what_was_given_up_is_released_when_the_session_comes_back_and_only_once():
    _, holds, hold = held()
    holds.tick((END,))
    assert holds.to_release((END,)) == [hold]
    assert holds.to_release((END,)) == []
    assert not holds.all


def test_nothing_is_released_when_the_session_has_ended():
    _, holds, hold = held()
    assert holds.session_over("expired") == [hold]
    assert hold.state is HoldState.LOST
    assert "expired" in hold.cause
    assert holds.to_release((END,)) == []
    assert not hold.safe((0,))


def test_a_grant_that_cannot_be_believed_now_is_not_entered():
    session = Session(7, "secret", 12_000, 3, (0,))
    holds, hold = Holds(), Hold(session, 4, GRANT, 5_000, MARGIN)
    assert not holds.add(hold, (END - MARGIN,))
    assert not holds.all
    assert hold.state is HoldState.HELD, "a renewal of the session makes it believable: the cell still has it"


def test_released_and_lost_are_not_safe():
    _, holds, hold = held()
    holds.released(hold)
    assert (hold.state, hold.safe((0,)), dict(holds.all)) == (HoldState.RELEASED, False, {})
    _, holds, hold = held()
    holds.lost(hold, "an operator took it")
    assert (hold.state, hold.safe((0,)), hold.cause) == (HoldState.LOST, False, "an operator took it")


def test_the_next_look_is_when_the_first_hold_is_to_be_given_up():
    session, holds, _ = held()
    holds.add(Hold(session, 5, GRANT, 0, MARGIN), (0,))
    assert holds.next_ms((0,)) == 11_880 - MARGIN
    assert holds.next_ms((50_000,)) == 1


def test_a_hold_that_is_given_up_asks_for_no_further_look():
    """It waits for the session to come back; a look every millisecond would burn a core meanwhile."""
    _, holds, hold = held()
    assert holds.tick((50_000,)) == [hold]
    assert holds.next_ms((50_000,)) > 10**6


@given(
    lease_ms=st.integers(1_000, 60_000),
    delay_ms=st.integers(0, 60_000),
    rates=st.tuples(st.integers(-5_000, 5_000), st.integers(-5_000, 5_000)),
    there=st.integers(0, 5_000),
    look=st.integers(0, 200_000),
)
def test_nobody_believes_in_a_hold_when_the_cell_may_grant_it_to_another(lease_ms, delay_ms, rates, there, look):
    """The cell: whole lease from receipt, then the whole lock-delay. The client: `safe`. On clocks that drift."""

    def clock(true_ms: int, rate: int) -> int:
        return true_ms * (1_000_000 + rate) // 1_000_000

    session = Session(7, "secret", lease_ms, 1, (0,))
    hold = Hold(session, 4, GRANT, delay_ms, 0)
    granted_to_another_at = clock(there, rates[0]) + lease_ms + delay_ms
    if hold.safe((clock(there + look, rates[1]),)):
        assert clock(there + look, rates[0]) < granted_to_another_at
