"""The session's side of 1-promises "Sessions" and of the time rules: the client stops believing first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordclient.session import TRANSITIONS, Event, Session, State, elapsed_ms, waiting_ms

LEASE, DRIFT_PPM, GRACE = 12_000, 10_000, 45_000
LOCAL = 11_880


def session_at(*sent: int) -> Session:
    return Session(7, "secret", LEASE, 3, sent or (0,), drift_ppm=DRIFT_PPM, grace_ms=GRACE)


def renew(session: Session, sent: int, answered: int, epoch: int = 3) -> bool:
    return session.answered(session.transmit((sent,)), epoch, LEASE, (answered,))


def test_the_lease_counts_from_the_sending_less_the_drift_bound():
    session = session_at(1_000)
    assert session.left_ms((1_000,)) == LOCAL
    assert renew(session, 5_000, 9_000)
    assert session.left_ms((9_000,)) == 5_000 + LOCAL - 9_000


def test_active_jeopardy_expired_by_the_clock_alone():
    session = session_at(0)
    assert session.tick((LOCAL - 1,)) == []
    assert session.tick((LOCAL,)) == [State.JEOPARDY]
    assert session.tick((LOCAL + GRACE - 1,)) == []
    assert session.tick((LOCAL + GRACE,)) == [State.EXPIRED]
    assert "grace" in session.reason


def test_a_long_sleep_passes_through_jeopardy_into_expired_at_one_look():
    assert session_at(0).tick((10 * GRACE,)) == [State.JEOPARDY, State.EXPIRED]


def test_jeopardy_ends_when_a_keep_alive_is_answered_within_grace():
    session = session_at(0)
    session.tick((LOCAL,))
    assert renew(session, 20_000, 20_050)
    assert session.state is State.ACTIVE
    assert session.left_ms((20_050,)) == LOCAL - 50


def test_an_answer_that_was_waiting_in_a_buffer_while_the_process_slept_renews_nothing():
    session = session_at(0)
    number = session.transmit((4_000,))
    assert not session.answered(number, 3, LEASE, (4_000 + LOCAL,))
    assert session.state is State.JEOPARDY


def test_an_answer_after_grace_comes_too_late_even_if_nobody_looked_before():
    session = session_at(0)
    number = session.transmit((LOCAL + GRACE - 10,))
    assert not session.answered(number, 3, LEASE, (LOCAL + GRACE,))
    assert session.state is State.EXPIRED


def test_what_was_over_when_an_answer_was_looked_at_is_told_by_the_next_look():
    session = session_at(0)
    number = session.transmit((4_000,))
    assert not session.answered(number, 3, LEASE, (4_000 + LOCAL,))
    assert session.tick((4_000 + LOCAL,)) == [State.JEOPARDY]
    number = session.transmit((4_000 + LOCAL,))
    assert not session.answered(number, 3, LEASE, (4_000 + LOCAL + GRACE,))
    assert session.tick((4_000 + LOCAL + GRACE,)) == [State.EXPIRED]
    assert session.tick((4_000 + LOCAL + GRACE,)) == [], "once"


def test_jeopardy_that_ends_in_the_moment_it_is_noticed_is_not_told_afterwards():
    session = session_at(0)
    number = session.transmit((4_000,))
    assert session.answered(number, 3, LEASE, (LOCAL,))
    assert session.tick((LOCAL,)) == []


def test_an_answer_to_copy_1_does_not_date_copy_2():
    session = session_at(0)
    first = session.transmit((1_000,))
    session.transmit((6_000,))
    assert session.answered(first, 3, LEASE, (6_010,))
    assert session.left_ms((6_010,)) == 1_000 + LOCAL - 6_010


def test_an_older_answer_after_a_newer_one_changes_nothing():
    session = session_at(0)
    first, second = session.transmit((1_000,)), session.transmit((6_000,))
    assert session.answered(second, 3, LEASE, (6_010,))
    assert not session.answered(first, 3, LEASE, (6_020,))
    assert not session.answered(second, 3, LEASE, (6_020,))
    assert session.left_ms((6_020,)) == 6_000 + LOCAL - 6_020


def test_never_back_to_a_smaller_epoch():
    session = session_at(0)
    assert renew(session, 1_000, 1_001, epoch=5)
    assert not renew(session, 2_000, 2_001, epoch=4)
    assert session.left_ms((2_001,)) == 1_000 + LOCAL - 2_001
    assert not session.believes(4)
    assert session.believes(5)
    assert session.believes(6)
    assert not session.believes(5)


def test_the_clock_that_says_more_time_passed_is_believed_for_giving_up_never_for_going_on():
    session = session_at(0, 500_000)
    assert session.left_ms((1_000, 501_000)) == LOCAL - 1_000
    assert session.left_ms((1_000, 400_000)) == LOCAL - 1_000, "a wall clock set back gives no time"
    assert session.tick((1_000, 500_000 + LOCAL)) == [State.JEOPARDY], "one set forward takes it"
    assert session.left_ms((LOCAL, 500_001)) == 0, "and so does a machine that slept"


def test_a_step_of_the_wall_clock_alone_ends_no_session():
    session = session_at(0, 0)
    assert session.tick((10, 10**9)) == [State.JEOPARDY]
    number = session.transmit((20, 10**9 + 10))
    assert session.answered(number, 3, LEASE, (30, 10**9 + 20))
    assert session.state is State.ACTIVE


def test_a_keep_alive_is_due_every_third_of_the_lease_and_at_once_on_a_new_channel():
    session = session_at(0)
    assert session.keep_alive_due_ms((0,)) == LEASE // 3
    session.transmit((4_000,))
    assert session.keep_alive_due_ms((4_100,)) == LEASE // 3 - 100
    session.disconnected()
    assert session.keep_alive_due_ms((4_200,)) == 0


def test_what_was_transmitted_on_a_lost_channel_is_not_answered_by_another():
    session = session_at(0)
    number = session.transmit((1_000,))
    session.disconnected()
    assert not session.answered(number, 3, LEASE, (1_100,))


def test_in_jeopardy_keep_alives_are_due_every_second():
    session = session_at(0)
    session.transmit((LOCAL + 10,))
    assert session.keep_alive_due_ms((LOCAL + 20,)) == 990


def test_expired_is_final():
    session = session_at(0)
    number = session.transmit((10,))
    session.ended("killed")
    session.ended("again")
    assert session.reason == "killed"
    assert not session.answered(number, 9, LEASE, (20,))
    assert session.tick((20,)) == []
    assert TRANSITIONS[State.EXPIRED] == {}
    assert all(Event.ENDED in TRANSITIONS[state] for state in State if state is not State.EXPIRED)


def test_attachments_rise():
    session = session_at(0)
    assert [session.next_attachment() for _ in range(3)] == [1, 2, 3]


def test_a_look_is_due_before_anything_happens():
    session = session_at(0)
    assert session.next_ms((0,)) == LEASE // 3
    session.transmit((LOCAL - 5,))
    assert session.next_ms((LOCAL - 5,)) == 5
    assert session.next_ms((LOCAL,)) == 1


def test_a_session_without_a_channel_asks_for_no_look_before_something_ends():
    """Nothing can be sent then; a look every millisecond would burn a core for as long as no master is found."""
    session = session_at(0)
    session.disconnected()
    assert session.keep_alive_due_ms((0,)) == 0
    assert session.next_ms((0,)) == session.left_ms((0,))
    session.tick((LOCAL,))
    assert session.next_ms((LOCAL,)) == session.grace_ms


_READING = st.tuples(*[st.integers(-(10**6), 10**6)] * 3)


@given(_READING, _READING)
def test_no_clock_can_say_that_less_time_passed_than_another_says(before, after):
    passed = elapsed_ms(before, after)
    assert all(passed >= later - earlier for earlier, later in zip(before, after, strict=True))


_RATES = st.integers(-DRIFT_PPM // 2, DRIFT_PPM // 2)  # two clocks, each off by at most half the bound


@given(
    client_rate=_RATES,
    master_rate=_RATES,
    steps=st.lists(st.tuples(st.integers(0, 9_000), st.integers(0, 4_000), st.integers(0, 4_000)), max_size=12),
    look=st.integers(0, 60_000),
)
def test_the_client_stops_believing_before_the_master_can_end_the_session(client_rate, master_rate, steps, look):
    """True time drives two clocks that run at their own rates; every message takes the time it takes."""

    def client(true_ms: int) -> tuple[int]:
        return (true_ms * (1_000_000 + client_rate) // 1_000_000,)

    def master(true_ms: int) -> int:
        return int(true_ms * (1_000_000 + master_rate) // 1_000_000)

    session = Session(1, "s", LEASE, 1, client(0), drift_ppm=DRIFT_PPM)
    master_end, now = master(0) + LEASE, 0
    for wait, there, back in steps:
        now += wait
        number = session.transmit(client(now))
        if master(now + there) >= master_end:
            break  # the master may have ended it: it answers no more
        master_end = master(now + there) + LEASE
        now += there + back
        session.answered(number, 1, LEASE, client(now))
    now += look
    if session.left_ms(client(now)) > 0:
        assert master(now) < master_end


@pytest.mark.parametrize("lease_ms", [1_000, 12_000, 60_000])
def test_the_local_lease_is_shorter_than_the_lease(lease_ms):
    session = Session(1, "s", lease_ms, 1, (0,))
    assert 0 < session.left_ms((0,)) < lease_ms


def test_a_resumed_session_is_renewed_by_its_first_keep_alive_and_by_nothing_else():
    session = Session(7, "new", LEASE, 3, (1_000,), resumed=True)
    assert session.state is State.JEOPARDY
    assert session.left_ms((1_000,)) <= 0
    assert session.tick((1_000,)) == [], "no jeopardy is told of: it never was active here"
    session.disconnected()
    assert session.keep_alive_due_ms((1_000,)) == 0
    assert renew(session, 1_010, 1_020)
    assert session.state is State.ACTIVE


def test_a_resumed_session_that_is_not_renewed_ends_with_the_grace_period():
    session = Session(7, "new", LEASE, 3, (1_000,), resumed=True, grace_ms=GRACE)
    assert session.tick((1_000 + GRACE - 1,)) == []
    assert session.tick((1_000 + GRACE,)) == [State.EXPIRED]


def test_the_wait_for_another_process_is_longer_than_its_belief_by_the_drift_bound_and_rounded_up():
    assert waiting_ms(10_000, 10_000) == 10_100
    assert waiting_ms(1, 10_000) == 2
    assert waiting_ms(0, 10_000) == 0
    session = Session(7, "new", LEASE, 3, (0,), resumed=True, inherited=(0,))
    assert session.doubt_ms(0, (0,)) == waiting_ms(LEASE, DRIFT_PPM)
    renewed = session.transmit((0,))
    session.answered(renewed, 3, 1_000, (0,))
    assert session.doubt_ms(0, (0,)) == waiting_ms(LEASE, DRIFT_PPM), "the lease that the other had"
    assert Session(7, "s", LEASE, 3, (0,)).doubt_ms(5_000, (0,)) <= 0
