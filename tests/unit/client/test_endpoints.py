"""Rotation, back-off, the master's address, the cell's own list of members."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordclient.endpoints import (
    BACKOFF_MS_MAX,
    CHANCE_MAX,
    DEFAULT_ENDPOINTS,
    DISTRUST_MS,
    POLL_MS_MAX,
    Attempt,
    Endpoints,
    backoff_ms,
    linger_ms,
    parse_endpoint,
    poll_ms,
)

A, B, C = "http://a:1", "http://b:2", "http://c:3"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("http://127.0.0.1:7420", "http://127.0.0.1:7420"),
        (" HTTPS://Host:1/ ", "https://host:1"),
        ("localhost:7420", "http://localhost:7420"),
        ("[::1]:7420", "http://[::1]:7420"),
    ],
)
def test_an_endpoint_is_a_url_or_host_and_port(text, address):
    assert parse_endpoint(text) == address


@pytest.mark.parametrize("text", ["", "http://", "ftp://a:1", "http://a:1/path", "a b", "http://u@h:1", "a", "[::1]"])
def test_what_is_no_endpoint_is_refused_by_name(text):
    with pytest.raises(ValueError, match="not an endpoint"):
        parse_endpoint(text)


def test_at_least_one_endpoint_is_needed_and_doubles_count_once():
    with pytest.raises(ValueError, match="at least one"):
        Endpoints([])
    assert Endpoints([A, A + "/", B]).known == (A, B)


def test_the_first_round_goes_without_a_wait_and_later_attempts_wait():
    endpoints = Endpoints([A, B, C])
    attempts = [endpoints.next(0, 0) for _ in range(5)]
    assert [attempt.address for attempt in attempts] == [A, B, C, A, B]
    assert [attempt.wait_ms > 0 for attempt in attempts] == [False, False, False, True, True]


def test_the_master_that_somebody_names_is_tried_next():
    endpoints = Endpoints([A, B, C])
    assert endpoints.next(0, 0).address == A
    endpoints.redirected(A, C)
    assert endpoints.next(0, 0).address == C
    assert endpoints.next(0, 0).address == B, "and then the round goes on"


def test_a_master_that_has_just_failed_is_not_gone_back_to_on_a_follower_s_word():
    endpoints = Endpoints([A, B, C])
    endpoints.failed(A, "silent", 1_000)
    endpoints.redirected(B, A)
    assert not endpoints.trusts(A, 1_000 + DISTRUST_MS - 1)
    assert endpoints.next(1_000 + DISTRUST_MS - 1, 0).address == B
    endpoints.redirected(B, A)
    assert endpoints.next(1_000 + DISTRUST_MS, 0).address == A


def test_distrust_grows_with_each_failure_in_a_row_and_ends_when_it_answers():
    endpoints = Endpoints([A, B], 60_000)
    endpoints.failed(A, "silent", 0)
    endpoints.failed(A, "silent", 0)
    assert not endpoints.trusts(A, 2 * DISTRUST_MS - 1)
    assert endpoints.trusts(A, 2 * DISTRUST_MS)
    for _ in range(100):
        endpoints.failed(A, "silent", 0)
    assert endpoints.trusts(A, 8 * DISTRUST_MS)
    endpoints.redirected(A, None)
    assert endpoints.trusts(A, 0)


@pytest.mark.parametrize("lease_ms", [1_000, 2_000, 3_000, 4_000, 6_000, 12_000, 60_000])
def test_after_an_outage_of_all_a_session_finds_the_new_master_well_within_its_lease(lease_ms):
    """Many attempts were refused; now A lives and says that B is the master."""
    endpoints = Endpoints([A, B, C], lease_ms)
    for moment in range(0, 20_000, 500):
        for address in (A, B, C):
            endpoints.failed(address, "refused", moment)
    waits_ms = 0
    endpoints.redirected(A, B)
    while endpoints.next(19_500 + waits_ms, 0).address != B:
        endpoints.redirected(A, B)
        waits_ms += 50
    assert waits_ms + endpoints.patience_ms(B) <= lease_ms // 2


def test_who_has_just_failed_is_passed_over_while_there_is_another():
    endpoints = Endpoints([A, B, C])
    endpoints.failed(A, "refused", 0)
    endpoints.failed(C, "refused", 0)
    assert [endpoints.next(0, 0).address for _ in range(3)] == [B, B, B]
    endpoints.failed(B, "refused", 0)
    assert [endpoints.next(0, 0).address for _ in range(3)] == [C, A, B], "then all, in turn"


def test_a_connection_that_broke_off_is_tried_once_more_at_once():
    endpoints = Endpoints([A, B, C])
    endpoints.next(0, 0)
    endpoints.connected(A)
    endpoints.broke_off(A, "reset")
    assert endpoints.next(0, 0) == Attempt(A, 0)
    endpoints.failed(A, "refused", 0)
    assert endpoints.next(0, 0) == Attempt(B, 0)


def test_time_spent_with_a_living_replica_is_wait_enough():
    endpoints = Endpoints([A, B])
    for _ in range(9):
        endpoints.next(0, 0)
    endpoints.lingered()
    assert [endpoints.next(0, 0).wait_ms for _ in range(2)] == [0, 0]


def test_two_replicas_that_name_each_other_are_not_asked_without_a_wait_for_ever():
    endpoints = Endpoints([A, B])
    waits = []
    for _ in range(6):
        attempt = endpoints.next(0, 0)
        waits.append(attempt.wait_ms)
        endpoints.redirected(attempt.address, B if attempt.address == A else A)
    assert waits[:2] == [0, 0]
    assert all(wait > 0 for wait in waits[2:])


def test_after_a_success_the_next_loss_begins_a_fresh_round_after_the_lost_one():
    endpoints = Endpoints([A, B, C])
    for _ in range(5):
        endpoints.next(0, 0)
    endpoints.connected(B)
    attempts = [endpoints.next(0, 0) for _ in range(3)]
    assert [attempt.address for attempt in attempts] == [C, A, B]
    assert [attempt.wait_ms for attempt in attempts] == [0, 0, 0]


def test_members_are_learned_and_what_was_configured_is_never_forgotten():
    endpoints = Endpoints([A])
    endpoints.learn([B, "nonsense address", C])
    assert list(endpoints.known) == [A, B, C]
    endpoints.learn([B])
    assert list(endpoints.known) == [A, B]


def test_the_report_names_each_address_tried_and_why():
    endpoints = Endpoints([A, B])
    assert "no address has been tried" in endpoints.report()
    endpoints.failed(A, "connection refused", 0)
    endpoints.redirected(B, None)
    assert endpoints.report() == f"{A}: connection refused; {B}: not the master, and knows none"
    endpoints.redirected(B, "::garbage // here")
    assert "no address" in endpoints.report()


def test_hints_do_not_pile_up():
    endpoints = Endpoints([A])
    for number in range(500):
        endpoints.failed(f"http://stranger{number}:1", "refused", 0)
        endpoints.redirected(f"http://other{number}:1", None)
    assert len(endpoints.report()) < 20_000


def test_who_named_no_address_is_told_whose_were_tried() -> None:
    for configured, told in ((DEFAULT_ENDPOINTS, True), ([A], False)):
        endpoints = Endpoints(configured)
        endpoints.failed(endpoints.next(0, 0).address, "connection refused", 0)
        assert ("development cell: is one running? Others are named by COORD_ENDPOINTS" in endpoints.report()) == told


@given(st.integers(1, 10**6), st.integers(0, CHANCE_MAX - 1))
def test_back_off_is_between_half_and_the_whole_of_a_doubling_bound(tries, chance):
    bound = min(BACKOFF_MS_MAX, 50 * 2 ** min(tries - 1, 20))
    assert bound // 2 <= backoff_ms(tries, chance) <= bound


@given(st.integers(1, 10**6), st.integers(0, CHANCE_MAX - 1))
def test_a_replica_is_asked_for_the_master_at_least_four_times_a_second(polls, chance):
    assert 25 <= poll_ms(polls, chance) <= POLL_MS_MAX


@pytest.mark.parametrize("lease_ms", [3_000, 4_000, 6_000, 12_000, 60_000])
def test_a_session_survives_that_one_replica_hangs_while_another_is_the_new_master(lease_ms):
    silence_ms = min(3_000, lease_ms // 3)  # until the old master is left
    stays = linger_ms(lease_ms) + Endpoints([A], lease_ms).patience_ms(A)  # one knows nothing, another hangs
    assert silence_ms + stays <= lease_ms * 3 // 4


def test_a_slow_network_gets_its_time_and_one_that_refuses_at_once_needs_none():
    endpoints = Endpoints([A, B], 1_000)
    assert endpoints.patience_ms(A) == 250
    for expected in (500, 1_000, 2_000, 2_000):
        endpoints.failed(A, "no answer", 0, silent=True)
        endpoints.failed(B, "refused", 0)
        assert endpoints.patience_ms(A) == expected
    assert endpoints.patience_ms(B) == 250
    endpoints.connected(A)
    assert endpoints.patience_ms(A) == 250
