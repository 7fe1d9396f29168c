"""The lessor by itself: whose time is over, under a clock that is only a number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordd.engine.lessor import Lessor, Wait


@dataclass
class Info:
    lease_ms: int = 1_000
    incarnation: int = 1


def ruling(sessions: dict[int, Info], now_ms: int = 0) -> Lessor:
    lessor = Lessor(300, 100, now_ms)
    lessor.regain(sessions, [])
    return lessor


def there(wait: Wait) -> bool:
    return True


def pass_time(lessor: Lessor, start_ms: int, ms: int) -> int:
    for now_ms in range(start_ms + 100, start_ms + ms + 1, 100):
        assert not lessor.tick(now_ms)
    return start_ms + ms


def test_a_session_is_overdue_when_its_lease_is_over_and_not_before():
    sessions = {1: Info()}
    lessor = ruling(sessions)
    now = pass_time(lessor, 0, 900)
    assert lessor.overdue(sessions, 10) == []
    pass_time(lessor, now, 100)
    assert lessor.overdue(sessions, 10) == [(1, 1)]


def test_a_keep_alive_gives_a_whole_lease_from_now_and_only_to_its_own_session():
    sessions = {1: Info(), 2: Info()}
    lessor = ruling(sessions)
    now = pass_time(lessor, 0, 900)
    lessor.renew(1, 1_000)
    now = pass_time(lessor, now, 900)
    assert lessor.overdue(sessions, 10) == [(2, 1)]
    pass_time(lessor, now, 100)
    assert lessor.overdue(sessions, 10) == [(1, 1)]


def test_the_gap_of_a_stall_is_added_to_every_lease_and_every_lock_delay():
    sessions = {1: Info()}
    lessor = ruling(sessions)
    lessor.watch([(Wait("end_lock_delay", "/l", 7, 3), 1_000)])
    pass_time(lessor, 0, 900)
    assert lessor.tick(900 + 50_000)
    assert lessor.left_ms(1) == 100
    assert lessor.overdue(sessions, 10) == []
    assert lessor.ended(there, 10) == []
    for later_ms in (100, 150, 199):
        assert not lessor.tick(900 + 50_000 + later_ms)
        assert lessor.overdue(sessions, 10) == [], "what came in during the stall is taken in first"
    lessor.tick(900 + 50_000 + 200)
    assert lessor.overdue(sessions, 10) == [(1, 1)]
    assert lessor.ended(there, 10) == [Wait("end_lock_delay", "/l", 7, 3)]


def test_a_tick_that_is_only_late_is_charged():
    lessor = ruling({1: Info()})
    assert not lessor.tick(300)
    assert lessor.left_ms(1) == 700


def test_the_clock_never_goes_back():
    lessor = Lessor(300, 100, 1_000)
    with pytest.raises(AssertionError, match="never goes back"):
        lessor.tick(999)


def test_when_the_lease_is_regained_everything_begins_whole():
    sessions = {1: Info()}
    lessor = ruling(sessions)
    lessor.watch([(Wait("end_lock_delay", "/l", 7, 3), 1_000)])
    now = pass_time(lessor, 0, 900)
    lessor.pause()
    now = pass_time(lessor, now, 900)
    lessor.regain(sessions, [(Wait("end_lock_delay", "/l", 7, 3), 1_000)])
    now = pass_time(lessor, now, 900)
    assert lessor.overdue(sessions, 10) == []
    assert lessor.ended(there, 10) == []
    pass_time(lessor, now, 100)
    assert lessor.overdue(sessions, 10) == [(1, 1)]
    assert lessor.ended(there, 10) == [Wait("end_lock_delay", "/l", 7, 3)]


def test_outside_the_lease_nothing_can_be_asked():
    lessor = ruling({1: Info()})
    lessor.pause()
    with pytest.raises(AssertionError):
        lessor.overdue({1: Info()}, 10)
    with pytest.raises(AssertionError):
        lessor.ended(there, 10)
    with pytest.raises(AssertionError):
        lessor.renew(1, 1_000)
    assert lessor.left_ms(1) is None


def test_a_session_in_decision_is_not_renewed_and_not_found_twice():
    sessions = {1: Info()}
    lessor = ruling(sessions)
    now = pass_time(lessor, 0, 1_000)
    assert lessor.overdue(sessions, 10) == [(1, 1)]
    with pytest.raises(AssertionError, match="no KeepAlive"):
        lessor.renew(1, 1_000)
    lessor.pause()
    lessor.regain(sessions, [])
    pass_time(lessor, now, 2_000)
    assert lessor.overdue(sessions, 10) == [], "a lease regained meanwhile does not withdraw the decision"
    assert lessor.in_decision(1)


def test_a_session_whose_expiry_did_nothing_gets_a_whole_lease():
    sessions = {1: Info()}
    lessor = ruling(sessions)
    pass_time(lessor, 0, 1_000)
    lessor.overdue(sessions, 10)
    sessions[1].incarnation = 2
    lessor.decided(1, sessions[1])
    assert lessor.left_ms(1) == 1_000
    pass_time(lessor, 1_000, 1_000)
    assert lessor.overdue(sessions, 10) == [(1, 2)]


def test_expiries_come_in_bounded_pieces_and_all_of_them():
    sessions = {session: Info() for session in range(1, 1_001)}
    lessor = ruling(sessions)
    pass_time(lessor, 0, 1_000)
    pieces = [lessor.overdue(sessions, 128) for _ in range(8)]
    assert [len(piece) for piece in pieces] == [128] * 7 + [104]
    assert sorted(session for piece in pieces for session, _ in piece) == list(range(1, 1_001))


def test_the_heap_stays_as_small_as_the_sessions_however_many_keep_alives_come():
    sessions = {session: Info() for session in range(1, 11)}
    lessor = ruling(sessions)
    for now_ms in range(100, 100_000, 100):
        lessor.tick(now_ms)
        for session in sessions:
            lessor.renew(session, 1_000)
        assert lessor.overdue(sessions, 10) == []
    assert len(lessor._heap) == len(lessor._deadlines) == 10


def test_a_closed_session_is_forgotten_when_its_turn_comes():
    sessions = {1: Info()}
    lessor = ruling(sessions)
    del sessions[1]
    pass_time(lessor, 0, 1_000)
    assert lessor.overdue(sessions, 10) == []
    assert not lessor._heap and not lessor._deadlines


def test_forgetting_leaves_nothing():
    sessions = {1: Info(), 2: Info(5_000)}
    lessor = ruling(sessions)
    lessor.watch([(Wait("end_lock_delay", "/l", 7, 3), 500), (Wait("end_lock_delay", "/m", 7, 4), 5_000)])
    pass_time(lessor, 0, 1_000)
    lessor.overdue(sessions, 10)
    lessor.ended(there, 10)
    lessor.forget()
    assert not lessor.ruling and not lessor.in_decision(1)
    assert not lessor._deadlines and not lessor._waits and not lessor._waits_in_decision


def test_a_session_not_yet_known_is_known_from_its_first_keep_alive():
    lessor = ruling({})
    lessor.renew(1, 1_000)
    assert lessor.left_ms(1) == 1_000


def test_a_lock_delay_seen_again_does_not_begin_again():
    lessor = ruling({})
    lessor.watch([(Wait("end_lock_delay", "/l", 7, 3), 1_000)])
    now = pass_time(lessor, 0, 900)
    lessor.watch([(Wait("end_lock_delay", "/m", 7, 4), 1_000), (Wait("end_lock_delay", "/l", 7, 3), 1_000)])
    now = pass_time(lessor, now, 100)
    assert lessor.ended(there, 10) == [Wait("end_lock_delay", "/l", 7, 3)]
    lessor.watch([(Wait("end_lock_delay", "/m", 7, 4), 1_000), (Wait("end_lock_delay", "/l", 7, 3), 1_000)])
    lessor.wait_decided(Wait("end_lock_delay", "/l", 7, 3))
    pass_time(lessor, now, 900)
    assert lessor.ended(there, 10) == [Wait("end_lock_delay", "/m", 7, 4)]


def test_of_what_is_no_longer_there_nothing_is_said_and_it_leaves_nothing():
    lessor = ruling({})
    gone, stays = Wait("end_revoked", "/l", 7, 3), Wait("end_lock_delay", "/l", 7, 3)
    lessor.watch([(gone, 500)])
    lessor.watch([(stays, 1_000)])
    now = pass_time(lessor, 0, 400)
    assert (lessor.wait_left_ms(gone), lessor.wait_left_ms(stays)) == (100, 600)
    pass_time(lessor, now, 600)
    assert lessor.ended(lambda wait: wait == stays, 1) == [stays], "what is gone does not count against the limit"
    assert not lessor._wait_heap and not lessor._waits and list(lessor._waits_in_decision) == [stays]


def test_a_look_goes_no_further_than_to_the_newest_that_is_known_so_many_lock_delays_make_no_step_slow():
    lessor = ruling({})
    lessor.watch([(Wait("end_lock_delay", "/l", 7, hold), 200) for hold in range(1_000, 0, -1)])
    looked: list[int] = []

    def state(newest: int) -> Iterator[tuple[Wait, int]]:
        for hold in range(newest, 0, -1):
            looked.append(hold)
            yield Wait("end_lock_delay", "/l", 7, hold), 200

    lessor.watch(state(1_002))
    assert looked == [1_002, 1_001, 1_000]
    pass_time(lessor, 0, 200)
    assert len(lessor.ended(there, 2_000)) == 1_002
    lessor.watch(state(1_003))
    assert looked[3:] == [1_003, 1_002], "what is in decision is known"
    lessor.pause()
    lessor.wait_decided(Wait("end_lock_delay", "/l", 7, 5))
    lessor.regain({}, state(1_003))
    assert sorted(wait.hold for wait in lessor._waits) == [5, 1_003], "a lease that is regained begins all anew"


def test_the_end_of_a_revoked_lease_and_of_a_lock_delay_come_in_the_order_of_their_times():
    lessor = ruling({})
    waits = [(Wait("end_revoked", "/a", 1, 1), 900), (Wait("end_lock_delay", "/b", 2, 1), 300)]
    waits.append((Wait("end_revoked", "/c", 3, 1), 600))
    lessor.watch(waits)
    pass_time(lessor, 0, 1_000)
    assert [wait.path for wait in lessor.ended(there, 2)] == ["/b", "/c"]
    assert [wait.path for wait in lessor.ended(there, 2)] == ["/a"]


# ---- beside a model that looks at everybody every time ----

ACTS = st.one_of(
    st.tuples(st.just("tick"), st.integers(0, 500)),
    st.tuples(st.sampled_from(["open", "keep", "close", "decide", "look"]), st.integers(1, 12)),
    st.tuples(st.sampled_from(["pause", "regain"]), st.just(0)),
)


@given(st.lists(ACTS, max_size=60))
def test_it_finds_whom_a_look_at_everybody_would_find(acts: list[tuple[str, int]]):
    sessions: dict[int, Info] = {}
    ends: dict[int, int] = {}
    decided: set[int] = set()
    used: set[int] = set()
    lessor = ruling(sessions)
    now = time = drained = 0
    for act, number in acts:
        if act == "tick":
            now += number
            if lessor.tick(now):
                assert number > 300
                drained = now + 100
            else:
                time += max(0, min(number, now - drained))
        elif act == "open" and number not in used:
            used.add(number)  # an id is never given twice
            sessions[number] = Info(lease_ms=200 * number)
            lessor.begin(number, 200 * number)
            if lessor.ruling:
                ends[number] = time + 200 * number
        elif act == "keep" and number in sessions and lessor.ruling and number not in decided:
            lessor.renew(number, sessions[number].lease_ms)
            ends[number] = time + sessions[number].lease_ms
        elif act == "close" and number not in decided:
            sessions.pop(number, None)
            ends.pop(number, None)
        elif act == "look" and lessor.ruling:
            due = sorted(session for session, end in ends.items() if end <= time)
            found = lessor.overdue(sessions, 10)
            assert sorted(session for session, _ in found) == due
            decided |= set(due)
            for session in due:
                del ends[session]
        elif act == "decide" and number in decided:
            decided.discard(number)
            lessor.decided(number, sessions.get(number))
            if lessor.ruling and number in sessions:
                ends[number] = time + sessions[number].lease_ms
        elif act == "pause":
            lessor.pause()
            ends = {}
        elif act == "regain" and not lessor.ruling:
            lessor.regain(sessions, [])
            ends = {session: time + info.lease_ms for session, info in sessions.items() if session not in decided}


def test_a_session_opened_outside_the_lease_has_its_own_begin_when_the_lease_is_regained():
    sessions = {1: Info()}
    lessor = Lessor(300, 100, 0)
    lessor.begin(1, 1_000)
    assert lessor.left_ms(1) is None
    now = pass_time(lessor, 0, 5_000)
    lessor.regain(sessions, [])
    lessor.begin(1, 60_000)
    assert lessor.left_ms(1) == 1_000, "what is known already is not begun again"
    pass_time(lessor, now, 1_000)
    assert lessor.overdue(sessions, 10) == [(1, 1)]
