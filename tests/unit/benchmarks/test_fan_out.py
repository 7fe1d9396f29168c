"""W6 counts from just before the write until the callback of the last watcher."""

from __future__ import annotations

from itertools import count

import pytest

from benchmarks import fan_out
from benchmarks.measure import Meter


class NoMeter(Meter):
    """The real one freezes the heap."""

    def __init__(self):
        super().__init__([])

    def begin(self): ...

    def end(self):
        return 1.0, 6.0, 3.0


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Three short rounds, of which one does not count; every look at the clock is a second later than the last."""
    ticks = count(1)
    monkeypatch.setattr(fan_out, "_now", lambda: float(next(ticks)))
    monkeypatch.setattr(fan_out, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(fan_out, "ROUNDS", 2)
    monkeypatch.setattr(fan_out, "ROUNDS_NOT_COUNTED", 1)
    return ticks


async def test_it_is_the_last_watcher_that_counts(clock):
    round_ = fan_out.Round(3)
    written = []

    async def write(value):
        written.append(value)
        for _ in range(3):
            round_.told()

    result = await fan_out.rounds("sessions", round_, write, NoMeter(), remark="of a test")
    assert (result.p50_ms, result.p99_ms) == (3_000, 3_000)
    assert (
        result.remark
        == "of a test; 2 rounds (p99: the worst); half were told after 2000.00 ms, written after 4000.00 ms"
    )
    assert result.workers == 3 and result.ops_s is None
    assert (result.server_us_op, result.client_us_op) == (2_000_000, 1_000_000), "of each watcher"
    assert len(set(written)) == 3 and all(len(value) == 100 for value in written)


async def test_the_first_rounds_do_not_count(clock):
    round_ = fan_out.Round(1)
    slow = iter((100, 0, 0))

    async def write(value):
        for _ in range(next(slow)):
            next(clock)
        round_.told()

    assert (await fan_out.rounds("tasks", round_, write, NoMeter())).p99_ms == 1_000


async def test_watches_that_tell_once_are_armed_again_after_each_round(clock):
    round_ = fan_out.Round(1)
    armed = [True]

    async def write(value):
        assert armed.pop(), "not armed"
        round_.told()

    async def rearm():
        assert len(round_.times) == 1
        armed.append(True)
        next(clock)

    assert (await fan_out.rounds("sessions", round_, write, NoMeter(), rearm)).p99_ms == 1_000
    assert armed == [True]


async def test_a_watcher_that_is_not_told_is_no_result(monkeypatch):
    monkeypatch.setattr(fan_out, "ROUND_SECONDS_MAX", 0)

    async def write(value): ...

    with pytest.raises(TimeoutError):
        await fan_out.rounds("tasks", fan_out.Round(1), write, NoMeter())
