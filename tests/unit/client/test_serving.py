"""When a replica is left: it is silent though something is waited for, or it answers that no master is known to it."""

from __future__ import annotations

import pytest

from coordclient.endpoints import linger_ms
from coordclient.serving import SILENCE_MS_MAX, TICK_GAP_MS_MAX, Serving

LEASES_MS = [1_000, 2_000, 4_000, 12_000, 60_000]


def attached(lease_ms: int, now_ms: int = 0) -> Serving:
    serving = Serving(lease_ms)
    serving.tick(now_ms, None, waiting=False)
    serving.attached(5)
    return serving


def left_after_ms(serving: Serving, step_ms: int = 50, **heard: bool) -> int | None:
    """When it is left, if nothing more is heard; None: not within a minute."""
    for now_ms in range(step_ms, 60_000, step_ms):
        serving.tick(now_ms, 5, heard["waiting"])
        if serving.why_leave(now_ms) is not None:
            return now_ms
    return None


@pytest.mark.parametrize("lease_ms", LEASES_MS)
def test_silence_counts_only_while_an_answer_is_waited_for(lease_ms):
    assert left_after_ms(attached(lease_ms), waiting=False) is None
    left_ms = left_after_ms(attached(lease_ms), waiting=True)
    assert left_ms is not None and left_ms <= SILENCE_MS_MAX + 50


def test_a_silence_is_asked_about_before_it_ends_anything():
    serving = attached(3_000)
    for now_ms in range(0, 600, 100):
        serving.tick(now_ms, 5, waiting=True)
    assert not serving.doubtful or serving.why_leave(500) is None
    serving.tick(700, 5, waiting=True)
    assert serving.doubtful and serving.why_leave(700) is None
    serving.tick(800, 6, waiting=True)
    assert not serving.doubtful, "an answer came"


def test_a_stall_of_this_process_is_no_silence_of_the_replica():
    serving = attached(12_000)
    serving.tick(100_000, 5, waiting=True)
    assert serving.why_leave(100_000) is None
    serving.tick(100_000 + TICK_GAP_MS_MAX, 5, waiting=True)
    assert serving.why_leave(100_000 + TICK_GAP_MS_MAX) is None


@pytest.mark.parametrize("lease_ms", LEASES_MS)
def test_one_that_knows_no_master_is_left_though_it_answers_and_in_a_part_of_the_lease(lease_ms):
    serving = attached(lease_ms)
    received = 5
    for now_ms in range(0, 60_000, 50):
        received += 1
        serving.refused("unavailable", now_ms)
        serving.tick(now_ms, received, waiting=True)
        if serving.why_leave(now_ms) is not None:
            break
    assert linger_ms(lease_ms) <= now_ms <= max(300, lease_ms // 4)
    assert "no master" in (serving.why_leave(now_ms) or "")


def test_one_that_serves_again_in_time_is_not_left():
    serving = attached(12_000)
    serving.refused("unavailable", 0)
    serving.served()
    assert serving.why_leave(59_000) is None
    serving.refused("unavailable", 59_000)
    assert serving.why_leave(59_000 + linger_ms(12_000) - 1) is None
    serving.attached(0)
    assert serving.why_leave(99_000) is None, "another channel begins afresh"


def test_a_full_queue_is_no_reason_to_leave_the_master():
    serving = attached(12_000)
    serving.refused("overloaded", 0)
    assert serving.why_leave(50_000) is None
