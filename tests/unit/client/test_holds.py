"""A lock has a deadline of its own: end of the local lease + lock-delay, both less drift; given up a margin before."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordclient.holds import REVOKED_MAX, Hold, Holds, HoldState, inherited_of
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


# --- several locks of one acquire


def several(session: Session, *paths: str, number: int = 4, delay_ms: int = 5_000) -> Hold:
    rows = [{"path": path, "mode": "shared", "token": 9, "sequencer": f"s{path}"} for path in paths]
    return Hold(session, number, {"hold": number, "locks": rows}, delay_ms, MARGIN)


def test_locks_of_one_acquire_are_one_hold_with_one_end_and_one_release():
    session = Session(7, "secret", 12_000, 3, (0,))
    hold = several(session, "/a", "/b")
    assert [(part.path, part.sequencer) for part in hold.parts] == [("/a", "s/a"), ("/b", "s/b")]
    assert hold.release() == {"hold": 4}, "without a path: all of it"
    assert held()[2].release() == {"path": "/a", "hold": 4}
    assert hold.left_ms((0,)) == END


@pytest.mark.parametrize(
    "grant", [{}, {"path": "/a"}, {**GRANT, "token": "x"}, {**GRANT, "token": None}, {"locks": ["/a"]}, {"locks": 7}]
)
def test_a_grant_that_says_something_else_is_no_grant(grant):
    with pytest.raises((KeyError, TypeError, ValueError)):
        Hold(Session(7, "secret", 12_000, 3, (0,)), 4, grant, 5_000)


# --- taken away by an operator


def test_a_revoked_hold_is_lost_at_once_and_the_cell_told_after_the_stop_margin():
    _, holds, hold = held()
    assert holds.revoked("/a", 4, "host-7 hangs", (100,), pending=False) is hold
    assert not hold.safe((100,))
    assert (hold.state, hold.cause) == (HoldState.LOST, "host-7 hangs")
    assert holds.to_give_up((100 + MARGIN - 1,)) == []
    assert holds.next_ms((100,)) == MARGIN
    assert holds.to_give_up((100 + MARGIN,)) == [("give_up", {"path": "/a", "hold": 4})]
    assert holds.to_give_up((10**9,)) == [], "once"


def test_the_cell_is_told_of_a_revoked_hold_as_soon_as_its_holder_has_stopped():
    _, holds, hold = held()
    holds.revoked("/a", 4, "why", (100,), pending=False)
    hold.stopped = True
    assert holds.next_ms((100,)) == 1
    assert holds.to_give_up((100,)) == [("give_up", {"path": "/a", "hold": 4})]


def test_the_cell_goes_on_telling_and_is_answered_once():
    _, holds, hold = held()
    hold.stopped = True
    holds.revoked("/a", 4, "why", (100,), pending=False)
    assert len(holds.to_give_up((100,))) == 1
    for _ in range(3):
        assert holds.revoked("/a", 4, "why", (4_000,), pending=False) is None
    assert holds.to_give_up((10**9,)) == []


def test_what_is_told_of_a_hold_that_is_unknown_here_is_given_up_at_once():
    """Released long since, and the answer that it was is lost: nobody believes in it."""
    _, holds, _ = held()
    assert holds.revoked("/b", 9, "why", (100,), pending=False) is None
    assert holds.to_give_up((100,)) == [("give_up", {"path": "/b", "hold": 9})]


def test_a_grant_that_was_revoked_before_it_came_is_not_believed():
    session = Session(7, "secret", 12_000, 3, (0,))
    holds, hold = Holds(), Hold(session, 4, GRANT, 5_000, MARGIN)
    holds.revoked("/a", 4, "why", (100,), pending=True)
    assert holds.to_give_up((10**9,)) == [], "the driver withdraws the acquire instead"
    assert not holds.add(hold, (100,))
    assert holds.why_revoked(hold) == "why"
    assert not holds.why_revoked(Hold(session, 5, GRANT, 5_000, MARGIN)), "the next acquire is another"
    assert holds.add(Hold(session, 5, GRANT, 5_000, MARGIN), (100,))


def test_what_was_given_up_by_the_clock_is_released_not_given_up():
    _, holds, hold = held()
    holds.tick((END,))
    assert holds.revoked("/a", 4, "why", (END,), pending=False) is None
    assert holds.to_give_up((10**9,)) == []
    assert holds.to_release((END,)) == [hold]


def test_one_of_several_locks_revoked_is_all_of_them_lost_and_the_others_let_go():
    session = Session(7, "secret", 12_000, 3, (0,))
    holds, hold = Holds(), several(session, "/a", "/b", "/c")
    assert holds.add(hold, (0,))
    assert holds.revoked("/b", 4, "why", (0,), pending=False) is hold
    assert holds.revoked("/c", 4, "why", (0,), pending=False) is None, "it is lost already"
    assert holds.to_give_up((MARGIN,)) == [
        ("give_up", {"path": "/b", "hold": 4}),
        ("give_up", {"path": "/c", "hold": 4}),
        ("release", {"hold": 4}),
    ]


def test_notices_are_remembered_within_a_bound():
    holds = Holds()
    for number in range(1, REVOKED_MAX + 2):
        holds.revoked("/a", number, "why", (0,), pending=True)
    session = Session(7, "secret", 12_000, 3, (0,))
    assert not holds.why_revoked(Hold(session, 1, GRANT, 5_000)), "the oldest is forgotten"
    assert holds.why_revoked(Hold(session, 2, GRANT, 5_000))


def test_nothing_is_owed_to_a_session_that_is_over():
    _, holds, _ = held()
    holds.revoked("/a", 4, "why", (0,), pending=False)
    holds.session_over("expired")
    assert holds.to_give_up((10**9,)) == []


# --- handed over


def test_what_is_being_handed_over_is_not_believed_and_still_ends_by_the_clock():
    _, holds, hold = held()
    hold.state = HoldState.HANDING
    assert not hold.safe((0,))
    assert holds.tick((0,)) == []
    assert holds.next_ms((0,)) == END - MARGIN
    assert holds.tick((END,)) == [hold]
    _, holds, hold = held()
    hold.state = HoldState.HANDING
    assert holds.session_over("expired") == [hold]
    assert hold.state is HoldState.LOST


# --- inherited with a resumed session

DOUBT = 12_120 + 5_050  # (lease + lock-delay) and the drift bound


def resumed(left: bool = False, now: int = 100) -> tuple[Session, Holds, Hold]:
    session = Session(7, "secret", 12_000, 3, (now,), resumed=True, inherited=None if left else (now,))
    holds = Holds()
    (hold,) = inherited_of(session, [{**GRANT, "lock_delay_ms": 5_000}])
    holds.inherited[hold.number] = hold
    session.answered(session.transmit((now,)), 3, 12_000, (now,))
    assert holds.adopt(hold, (now,))
    return session, holds, hold


def renew(session: Session, now: int) -> None:
    assert session.answered(session.transmit((now,)), 3, 12_000, (now,))


def test_an_adopted_hold_is_safe_at_once_when_the_process_before_said_goodbye():
    _, _, hold = resumed(left=True)
    assert hold.safe((100,))


def test_an_adopted_hold_is_safe_when_the_process_before_cannot_believe_in_it_any_more():
    session, _, hold = resumed()
    assert not hold.safe((100,))
    assert hold.state is HoldState.HELD, "not to be believed yet is not lost"
    renew(session, 10_000)
    assert not hold.safe((100 + DOUBT - 1,))
    renew(session, 15_000)
    assert hold.safe((100 + DOUBT,))


def test_no_clock_but_the_first_shortens_the_wait_for_the_process_before():
    session = Session(7, "secret", 12_000, 3, (0, 0), resumed=True, inherited=(0, 0))
    assert session.doubt_ms(5_000, (1_000, 10**9)) == DOUBT - 1_000


def test_what_another_may_believe_in_is_neither_released_nor_given_up_to_the_cell_before():
    """A release frees at once, and the process before may work under the lock still."""
    session, holds, hold = resumed()
    holds.released_in_doubt(hold)
    renew(session, 10_000)
    assert holds.to_release((100 + DOUBT - 1,)) == []
    assert holds.next_ms((100 + DOUBT - 1,)) == 1
    assert holds.to_release((100 + DOUBT,)) == [hold]
    _, holds, hold = resumed()
    holds.revoked("/a", 4, "why", (100,), pending=False)
    assert holds.to_give_up((100 + DOUBT - 1,)) == []
    assert len(holds.to_give_up((100 + DOUBT,))) == 1


def test_what_was_revoked_before_anybody_adopted_it_is_not_to_be_had_and_given_up_in_time():
    session = Session(7, "secret", 12_000, 3, (0,), resumed=True, inherited=(0,))
    holds = Holds()
    (hold,) = inherited_of(session, [{**GRANT, "lock_delay_ms": 5_000}])
    holds.inherited[4] = hold
    holds.revoked("/a", 4, "why", (0,), pending=False)
    renew(session, 0)
    assert not holds.adopt(hold, (0,))
    assert holds.to_give_up((DOUBT - 1,)) == []
    assert holds.to_give_up((DOUBT,)) == [("give_up", {"path": "/a", "hold": 4})]


def test_what_is_inherited_is_adopted_once_and_only_when_the_session_is_believed_in():
    session = Session(7, "secret", 12_000, 3, (0,), resumed=True, inherited=(0,))
    holds = Holds()
    (hold,) = inherited_of(session, [{**GRANT, "lock_delay_ms": 500}])
    holds.inherited[4] = hold
    assert not holds.adopt(hold, (0,)), "no KeepAlive was answered yet"
    renew(session, 10)
    assert holds.adopt(hold, (10,))
    assert not holds.adopt(hold, (10,))


def test_locks_of_one_acquire_come_back_as_one_hold():
    session = Session(7, "secret", 12_000, 3, (0,), resumed=True)
    rows = [
        {**GRANT, "path": path, "hold": hold, "lock_delay_ms": 700} for path, hold in (("/a", 4), ("/c", 5), ("/b", 4))
    ]
    holds = inherited_of(session, rows)
    assert [(hold.number, [part.path for part in hold.parts]) for hold in holds] == [(4, ["/a", "/b"]), (5, ["/c"])]
    assert holds[0].whole_delay_ms == 700


@given(
    lease_ms=st.integers(1_000, 60_000),
    delay_ms=st.integers(0, 60_000),
    rates=st.tuples(*[st.integers(-5_000, 5_000)] * 2),
    last=st.integers(0, 50_000),
    there=st.integers(0, 5_000),
    back=st.integers(0, 5_000),
    look=st.integers(0, 300_000),
)
def test_two_incarnations_never_believe_in_one_hold(lease_ms, delay_ms, rates, last, there, back, look):
    """The old process' last KeepAlive left at `last`; the resume was applied after it was answered."""

    def clock(true_ms: int, rate: int) -> tuple[int]:
        return (true_ms * (1_000_000 + rate) // 1_000_000,)

    old = Session(7, "old", lease_ms, 1, clock(last, rates[0]))
    old_hold = Hold(old, 4, GRANT, delay_ms, 0)
    received = last + there + back
    new = Session(7, "new", lease_ms, 1, clock(received, rates[1]), resumed=True, inherited=clock(received, rates[1]))
    new_hold = Hold(new, 4, GRANT, delay_ms, 0)
    at = received + look
    new.answered(new.transmit(clock(at, rates[1])), 1, lease_ms, clock(at, rates[1]))
    assert not (new_hold.safe(clock(at, rates[1])) and old_hold.safe(clock(at, rates[0])))
