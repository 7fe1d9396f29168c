"""Calls, once: numbers, `acked`, the window, what is retried, and what an end without an answer is called."""

from __future__ import annotations

import random

import pytest

from coordclient.calls import NEVER_MS, WINDOW, Call, Calls, Then
from coordclient.errors import Conflict, OutcomeUnknown, SessionExpired, Unavailable
from coordclient.protocol.errors import Refusal

ACQUIRE = {"path": "/a", "wait": True}


def send(calls: Calls, operation: str = "put", arguments: dict | None = None, deadline_ms: int = 1_000):
    call = calls.begin(operation, arguments if arguments is not None else {"path": "/a"}, deadline_ms)
    calls.sent(call)
    return call


def refuse(calls: Calls, call, code: str, **details):
    return calls.refused(call.number, Refusal(code, "words", **details), 0, 0)


def test_numbers_start_at_1_and_rise():
    calls = Calls()
    assert [calls.reserve(), send(calls).number, calls.reserve(), send(calls).number] == [1, 2, 3, 4]


def test_acked_is_the_lowest_unanswered_call():
    calls = Calls()
    first, second, third = send(calls), send(calls), send(calls)
    assert calls.acked == 1
    calls.succeeded(second.number)
    assert calls.acked == 1
    calls.succeeded(first.number)
    assert calls.acked == third.number
    calls.succeeded(third.number)
    assert calls.acked == calls.next_number


def test_a_waiting_acquire_holds_acked_back_until_a_later_logged_call_on_its_channel_is_answered():
    calls = Calls()
    acquire = send(calls, "acquire", ACQUIRE, NEVER_MS)
    calls.succeeded(send(calls, "get").number)
    assert calls.acked == acquire.number, "a read is answered from memory and proves nothing about the log"
    calls.succeeded(send(calls, "put").number)
    assert calls.acked == calls.next_number
    assert acquire.number in calls.pending


def test_an_acquire_that_tries_once_is_no_waiting_acquire():
    calls = Calls()
    acquire = send(calls, "acquire", {"path": "/a", "wait": False})
    calls.succeeded(send(calls, "put").number)
    assert calls.acked == acquire.number


def test_an_acquire_sent_again_on_a_new_channel_holds_acked_back_anew_unless_it_was_aside():
    calls = Calls()
    acquire = send(calls, "acquire", ACQUIRE, NEVER_MS)
    calls.disconnected()
    put = send(calls)
    calls.succeeded(put.number)
    assert calls.acked == acquire.number, "it went out on another channel, or never"


def test_the_window_bounds_what_is_unanswered_and_waiting_acquires_do_not_use_it_up():
    calls = Calls()
    stuck = send(calls, "acquire", ACQUIRE, NEVER_MS)
    for _ in range(WINDOW + 10):
        assert calls.free()
        calls.succeeded(send(calls, "get").number)
    oldest = send(calls, "get")
    while calls.free():
        send(calls, "get")
    assert calls.next_number == oldest.number + WINDOW
    assert stuck.number in calls.pending
    calls.succeeded(oldest.number)
    assert calls.free()


@pytest.mark.parametrize("code", ["unavailable", "overloaded"])
def test_what_was_certainly_not_done_is_retried_with_the_same_number_after_a_wait(code):
    calls = Calls()
    call = send(calls)
    verdict = refuse(calls, call, code)
    assert (verdict.then, verdict.call) == (Then.RETRY, call)
    assert calls.due(call.retry_ms - 1) == []
    assert calls.next_ms(0) == call.retry_ms
    assert calls.due(call.retry_ms) == [call]


def test_not_master_leads_to_the_address_it_names_and_the_call_goes_with_it():
    calls = Calls()
    call = send(calls)
    verdict = refuse(calls, call, "not_master", address="http://b:2", master=2)
    assert (verdict.then, verdict.address) == (Then.GO_TO_MASTER, "http://b:2")
    assert calls.due(0) == [call]
    assert refuse(calls, send(calls), "not_master", address=None).address is None


def test_a_lost_connection_makes_every_unanswered_call_due_with_its_own_number():
    calls = Calls()
    first, second, third = send(calls), send(calls), send(calls)
    calls.succeeded(second.number)
    calls.disconnected()
    assert [call.number for call in calls.due(0)] == [first.number, third.number]


def test_a_stale_channel_is_left_and_the_call_stays():
    calls = Calls()
    call = send(calls)
    assert refuse(calls, call, "stale_channel").then is Then.LEAVE
    assert calls.due(0) == [call]


def test_any_other_refusal_ends_the_call():
    calls = Calls()
    call = send(calls)
    verdict = refuse(calls, call, "conflict")
    assert verdict.then is Then.ENDED
    assert isinstance(verdict.error, Conflict)
    assert not calls.pending


def test_a_call_that_was_certainly_never_sent_ends_as_unavailable():
    calls = Calls()
    call = calls.begin("put", {}, 1_000)
    assert calls.expire(999, "why") == []
    ((over, error),) = calls.expire(1_000, "a:1 refused")
    assert over is call
    assert isinstance(error, Unavailable)
    assert "a:1 refused" in str(error)
    assert calls.acked == calls.next_number


def test_a_call_of_which_every_transmission_was_refused_undone_ends_as_unavailable():
    calls = Calls()
    refuse(calls, send(calls), "overloaded")
    assert isinstance(calls.expire(1_000, "")[0][1], Unavailable)


@pytest.mark.parametrize("then", ["in flight", "connection lost", "lost twice", "lost, then refused undone"])
def test_a_call_that_may_have_been_sent_ends_as_outcome_unknown(then):
    calls = Calls()
    call = send(calls)
    if then != "in flight":
        calls.disconnected()
    if then == "lost twice":
        calls.disconnected()  # on a channel that was lost before the call could be sent again
    if then == "lost, then refused undone":
        calls.sent(call)
        refuse(calls, call, "overloaded")
    assert isinstance(calls.expire(1_000, "")[0][1], OutcomeUnknown)


def test_a_read_without_an_answer_is_unavailable_for_it_did_nothing():
    calls = Calls()
    send(calls, "get")
    assert isinstance(calls.expire(1_000, "")[0][1], Unavailable)


def test_a_lasting_call_is_retried_beyond_its_deadline_until_it_is_answered():
    calls = Calls()
    call = calls.begin("release", {}, 1_000, lasting=True)
    assert [over for over, _ in calls.expire(1_000, "")] == [call]
    assert calls.expire(2_000, "") == [], "who waits for it is told once"
    assert calls.due(2_000) == [call]
    assert calls.acked == call.number
    assert calls.succeeded(call.number) is call


def test_session_expired_on_a_first_try_means_nothing_was_done():
    calls = Calls()
    verdict = refuse(calls, send(calls), "session_expired")
    assert verdict.then is Then.SESSION_OVER
    assert isinstance(verdict.error, SessionExpired)


def test_session_expired_on_a_retry_of_a_call_that_may_have_been_sent_means_outcome_unknown():
    calls = Calls()
    call = send(calls)
    calls.disconnected()
    calls.sent(call)
    assert isinstance(refuse(calls, call, "session_expired").error, OutcomeUnknown)


def test_when_the_session_ends_each_call_says_whether_it_may_have_run():
    calls = Calls()
    unsent, sent, read = calls.begin("put", {}), send(calls), send(calls, "get")
    ends = {call.number: type(error) for call, error in calls.session_over("killed")}
    assert ends == {unsent.number: SessionExpired, sent.number: OutcomeUnknown, read.number: SessionExpired}
    assert not calls.pending


def test_outcome_unknown_is_asked_again_once_per_channel_for_the_next_master_may_know():
    calls = Calls()
    call = send(calls)
    assert refuse(calls, call, "outcome_unknown").then is Then.RETRY
    calls.sent(call)
    calls.disconnected()
    calls.sent(call)
    assert refuse(calls, call, "outcome_unknown").then is Then.RETRY
    calls.sent(call)
    verdict = refuse(calls, call, "outcome_unknown")
    assert verdict.then is Then.ENDED
    assert isinstance(verdict.error, OutcomeUnknown)


def test_an_answer_to_a_call_that_is_not_known_any_more_is_ignored():
    calls = Calls()
    call = send(calls)
    assert calls.give_up(call) is True
    assert calls.give_up(call) is False
    assert calls.succeeded(call.number) is None
    assert refuse(calls, call, "internal") is None
    assert calls.succeeded(999) is None


def test_giving_up_says_whether_something_may_still_take_effect():
    calls = Calls()
    assert calls.give_up(calls.begin("acquire", ACQUIRE)) is False
    refused = send(calls, "acquire", ACQUIRE, NEVER_MS)
    refuse(calls, refused, "unavailable")
    assert calls.give_up(refused) is False
    lost = send(calls, "acquire", ACQUIRE, NEVER_MS)
    calls.disconnected()
    assert calls.give_up(lost) is True


def acquire_as(calls: Calls, actor: str) -> Call:
    return send(calls, "acquire", {"path": "/a", "wait": True, "actor": actor}, NEVER_MS)


def leave(calls: Calls, operation: str, **arguments: int) -> Call:
    call = calls.begin(operation, arguments, NEVER_MS, lasting=True)
    calls.sent(call)
    return call


def test_an_actor_has_what_it_acquired_until_its_release_or_cancel_is_answered():
    """Until then a new acquire of the same actor might be called a deadlock with something that is about to go."""
    calls = Calls()
    held, waiting = acquire_as(calls, "me"), acquire_as(calls, "me")
    calls.succeeded(held.number)
    assert calls.give_up(waiting)
    release, cancel = leave(calls, "release", hold=held.number), leave(calls, "cancel", target=waiting.number)
    calls.disconnected()
    assert list(calls.acquires_of("me")) == [held.number, waiting.number]
    calls.succeeded(cancel.number)
    assert list(calls.acquires_of("me")) == [held.number]
    refuse(calls, release, "not_held")
    assert not calls.acquires_of("me") and not calls.acquires_of("somebody else")


def test_a_transfer_that_was_refused_leaves_the_hold_to_its_actor():
    calls = Calls()
    held = acquire_as(calls, "me")
    calls.succeeded(held.number)
    refuse(calls, send(calls, "transfer", {"hold": held.number}), "not_waiting")
    assert list(calls.acquires_of("me")) == [held.number]


@pytest.mark.parametrize("code", ["", "not_held"])
def test_an_actor_has_nothing_any_more_of_what_was_handed_on_or_was_taken_before(code):
    """Or it would never again be told of a deadlock: it would seem to leave something behind for ever."""
    calls = Calls()
    held = acquire_as(calls, "me")
    calls.succeeded(held.number)
    transfer = send(calls, "transfer", {"hold": held.number})
    if code:
        refuse(calls, transfer, code)
    else:
        calls.succeeded(transfer.number)
    assert not calls.acquires_of("me")


@pytest.mark.parametrize("rest", ["release", "give_up"])
def test_of_several_locks_an_actor_has_the_rest_until_that_has_left_too(rest):
    """An operator took one of them; the rest is told of by another call, which may have to be sent again."""
    calls = Calls()
    both = send(calls, "acquire_all", {"locks": [{"path": "/a"}, {"path": "/b"}], "actor": "me"}, NEVER_MS)
    calls.succeeded(both.number)
    taken, other = leave(calls, "give_up", hold=both.number), leave(calls, rest, hold=both.number)
    calls.succeeded(taken.number)
    refuse(calls, other, "overloaded")
    assert list(calls.acquires_of("me")) == [both.number]
    calls.succeeded(other.number)
    assert not calls.acquires_of("me")


def test_an_acquire_that_was_refused_or_never_sent_is_not_in_the_cell():
    calls = Calls()
    refuse(calls, acquire_as(calls, "me"), "not_acquired")
    assert not calls.give_up(calls.begin("acquire", {"path": "/a", "actor": "me"}))
    calls.begin("acquire", {"path": "/a", "actor": "me"}, 1_000)
    calls.expire(1_000, "nobody answered")
    assert not calls.acquires_of("me")


def test_a_release_goes_on_until_its_outcome_is_known():
    calls = Calls()
    release = leave(calls, "release", hold=1)
    for _ in range(5):
        verdict = refuse(calls, release, "outcome_unknown")
        assert verdict is not None and verdict.then is Then.RETRY


def test_a_prompt_answer_is_awaited_for_everything_in_flight_but_waiting_acquires():
    calls = Calls()
    acquire = send(calls, "acquire", ACQUIRE, NEVER_MS)
    assert not calls.expects_answer()
    put = send(calls)
    assert calls.expects_answer()
    calls.succeeded(put.number)
    assert not calls.expects_answer()
    calls.disconnected()
    assert not calls.expects_answer()
    calls.sent(acquire)
    assert not calls.expects_answer()
    calls.begin("get", {})
    assert not calls.expects_answer(), "what was not sent is not awaited"


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_acked_and_window_stay_true_and_no_call_is_forgotten(seed):
    rng = random.Random(seed)
    calls, acked_before, now = Calls(), 1, 0
    open_calls: dict[int, Call] = {}
    for _ in range(1_500):
        now += rng.randrange(20)
        step = rng.choice(
            ("begin",) * 6 + ("answer",) * 4 + ("refuse", "send", "send", "disconnect", "give up", "expire")
        )
        some = rng.choice(list(open_calls.values())) if open_calls else None
        if step == "begin" and calls.free():
            kind = rng.choice(("put", "get", "acquire"))
            deadline = NEVER_MS if kind == "acquire" else now + rng.randrange(1, 4_000)
            call = calls.begin(kind, ACQUIRE if kind == "acquire" else {}, deadline)
            open_calls[call.number] = call
        elif step == "send":
            for call in calls.due(now):
                calls.sent(call)
        elif step == "disconnect" and rng.random() < 0.2:
            calls.disconnected()
        elif step == "answer" and some is not None and some.in_flight:
            assert calls.succeeded(some.number) is open_calls.pop(some.number)
        elif step == "refuse" and some is not None and some.in_flight:
            code = rng.choice(("unavailable", "not_master", "outcome_unknown", "not_found", "stale_channel"))
            verdict = calls.refused(some.number, Refusal(code, ""), now, rng.randrange(2**32))
            if verdict is not None and verdict.then is Then.ENDED:
                del open_calls[some.number]
        elif step == "give up" and some is not None:
            calls.give_up(open_calls.pop(some.number))
        elif step == "expire":
            for call, _ in calls.expire(now, ""):
                assert open_calls.pop(call.number).deadline_ms <= now
        assert dict(calls.pending) == open_calls
        holding = [number for number, call in open_calls.items() if not call.waits]
        assert acked_before <= calls.acked <= min(holding, default=calls.next_number)
        assert calls.next_number <= calls.acked + WINDOW
        idle = {call.number for call in open_calls.values() if not call.in_flight}
        assert {call.number for call in calls.due(2**60)} == idle
        assert calls.expects_answer() == any(call.in_flight and not call.waits for call in open_calls.values())
        acked_before = calls.acked


def test_the_numbers_of_a_resumed_session_go_on_beyond_every_call_of_the_process_before():
    calls = Calls()
    calls.reserve()  # the resume itself
    first = calls.begin("acquire", {"path": "/a", "actor": "me"}, 10_000, "tag")
    second = calls.begin("get", {"path": "/a"}, 20_000)
    calls.go_on_at(1_030)
    assert calls.acked == first.number, "the resume counts as answered"
    assert [call.number for call in calls.due(0)] == [first.number, second.number]
    assert first.number >= 1_030
    assert second.number == first.number + 1
    assert calls.next_number == second.number + 1
    assert list(calls.acquires_of("me")) == [first.number]
    assert calls.next_ms(0) == 10_000
    calls.sent(first)
    assert calls.succeeded(first.number) is first
    assert calls.free()


def test_an_acquire_of_several_locks_waits_as_one_of_a_single_lock_does():
    calls = Calls()
    assert calls.begin("acquire_all", {"locks": [], "wait": True}).waits
    assert not calls.begin("acquire_all", {"locks": [], "wait": False}).waits
