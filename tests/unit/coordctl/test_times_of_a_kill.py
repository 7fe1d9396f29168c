"""All gone by the lock's deadline: the arithmetic of TERM and KILL, and the times that are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordctl.errors import Exit, Failure
from coordctl.order import KILL_SECONDS, Connection, Order, seconds

times = st.floats(0, 60)


def make(lock_delay: float = 5.0, kill_after: float = 3.0, command: tuple[str, ...] = ("true",)) -> Order:
    return Order(
        paths=("/x",),
        mode="exclusive",
        wait=None,
        lock_delay=lock_delay,
        lease=12.0,
        kill_after=kill_after,
        not_acquired_exit=Exit.NOT_ACQUIRED,
        command=command,
        connection=Connection(None, None, 10.0),
    )


@given(times, st.floats(100, 200))
def test_term_leaves_room_for_kill_and_kill_leaves_room_for_the_end(kill_after: float, deadline: float) -> None:
    order = make(60.0, kill_after)
    term = order.term_at(deadline)
    assert order.kill_at(deadline, term) - term == pytest.approx(kill_after)
    assert order.kill_at(deadline, term) <= deadline - KILL_SECONDS + 1e-9


@given(times, st.floats(0, 300), st.floats(0, 300))
def test_kill_never_waits_beyond_the_deadline_however_late_term_was(
    kill_after: float, term: float, deadline: float
) -> None:
    assert make(60.0, kill_after).kill_at(deadline, term) <= deadline - KILL_SECONDS


def test_a_lock_delay_shorter_than_kill_after_is_refused_with_exit_2() -> None:
    with pytest.raises(Failure) as caught:
        make(lock_delay=2.9, kill_after=3.0).check()
    assert caught.value.exit_code == 2
    assert "--lock-delay (2.9s)" in caught.value.message
    assert "--kill-after (3s)" in caught.value.message


def test_equal_is_allowed_and_so_is_anything_without_a_command() -> None:
    make(lock_delay=3.0, kill_after=3.0).check()
    make(lock_delay=0.0, kill_after=0.0).check()
    make(lock_delay=0.0, kill_after=3.0, command=()).check()


@pytest.mark.parametrize(("value", "text"), [(1.5, "1.5s"), (3.0, "3s"), (0.25, "0.25s"), (0.0, "0s"), (10.0, "10s")])
def test_durations_are_read_as_people_write_them(value: float, text: str) -> None:
    assert seconds(value) == text
