"""Losing a lock is never silent, and the body is told in time. A pause of the process is a clock that is set on."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from coordclient import LockLost, SessionExpired
from tests.clients.conftest import until

PAUSE_MS = 16_500  # beyond the deadline (16.83 s) less the margin, and within the grace period


@pytest.fixture
def cell(coord_cell):
    """A fresh one in this process for each test: what is tried here is the client's doing."""
    return coord_cell


async def forever():
    await asyncio.get_running_loop().create_future()


def this_task() -> asyncio.Task:
    task = asyncio.current_task()
    assert task is not None
    return task


async def test_the_body_is_cancelled_and_lock_lost_raised_at_its_end(make_client, clocks, path):
    told: list[LockLost] = []
    client = make_client(clocks=clocks)
    lock = client.lock(path, on_lost=told.append)
    cleaned = False
    with pytest.raises(LockLost, match="KeepAlive"):
        async with lock:
            clocks.pass_ms(PAUSE_MS)
            try:
                await forever()
            finally:
                cleaned = True
    assert cleaned
    assert this_task().cancelling() == 0, "the cancellation was ours, and is taken back"
    assert [error.details for error in told] == [{"path": path, "token": lock.token}]


async def test_after_a_pause_the_first_look_says_no_before_anything_else_has_run(make_client, clocks, path):
    client = make_client(clocks=clocks)
    with pytest.raises(LockLost):
        async with client.lock(path) as lock:
            lock.check()
            clocks.pass_ms(PAUSE_MS)
            assert not lock.safe
            lock.check()
            raise AssertionError("check passed")


async def test_what_was_given_up_is_released_when_the_session_comes_back(make_client, clocks, path):
    states: list[str] = []
    client, other = make_client(clocks=clocks, on_state=states.append), make_client()
    with pytest.raises(LockLost):
        async with client.lock(path):
            clocks.pass_ms(PAUSE_MS)
            await forever()
    async with other.lock(path, timeout=5):
        pass
    await until(lambda: client.state == "active")
    assert states == ["active", "jeopardy", "active"], "the session itself was kept"


async def test_jeopardy_shorter_than_the_lock_delay_costs_no_lock(make_client, clocks, path):
    states: list[str] = []
    client = make_client(clocks=clocks, on_state=states.append)
    async with client.lock(path) as lock:
        clocks.pass_ms(12_500)
        await until(lambda: states == ["active", "jeopardy", "active"])
        lock.check()


async def test_a_wall_clock_set_back_gives_no_time(make_client, clocks, path):
    client = make_client(clocks=clocks)
    async with client.lock(path) as lock:
        clocks.added[1] -= 3_600_000
        before = lock.remaining
        clocks.added[0] += 1_000
        assert lock.remaining < before - 0.99
        lock.check()


async def test_a_wall_clock_set_forward_is_believed_for_giving_up(make_client, clocks, path):
    states: list[str] = []
    client = make_client(clocks=clocks, on_state=states.append)
    with pytest.raises(LockLost):
        async with client.lock(path):
            clocks.added[1] += 3_600_000
            await forever()
    await until(lambda: states == ["active", "jeopardy", "active"], "the session, which was never lost")


async def test_what_was_given_up_stays_given_up(make_client, clocks, path):
    client = make_client(clocks=clocks)
    lock = client.lock(path)
    await lock.acquire()
    clocks.pass_ms(PAUSE_MS)
    assert not lock.safe
    clocks.pass_ms(-PAUSE_MS)
    assert not lock.safe
    with pytest.raises(LockLost):
        await lock.release()


async def test_the_users_own_cancellation_is_not_mistaken_for_a_loss(make_client, path):
    client, entered = make_client(), asyncio.Event()

    async def work():
        async with client.lock(path):
            entered.set()
            await forever()

    task = asyncio.create_task(work())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with client.lock(path, timeout=5):  # the lock was released
        pass


async def test_a_cancellation_by_the_user_on_top_of_a_loss_wins(make_client, clocks, path):
    client = make_client(clocks=clocks)

    async def work():
        async with client.lock(path):
            clocks.pass_ms(PAUSE_MS)
            try:
                await forever()
            finally:
                this_task().cancel()

    task = asyncio.create_task(work())
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert any("LockLost" in note for note in getattr(caught.value, "__notes__", [])) or task.cancelled()


async def test_a_time_out_around_the_body_is_a_time_out(make_client, path):
    client = make_client()
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.05):
            async with client.lock(path):
                await forever()
    assert not isinstance(caught.value, LockLost)


async def test_a_body_that_swallows_its_cancellation_is_told_at_its_end(make_client, clocks, path):
    client = make_client(clocks=clocks)
    with pytest.raises(LockLost):
        async with client.lock(path):
            clocks.pass_ms(PAUSE_MS)
            with contextlib.suppress(asyncio.CancelledError):
                await forever()


async def test_the_body_s_own_error_is_kept_and_the_loss_noted(make_client, clocks, path):
    client = make_client(clocks=clocks)
    with pytest.raises(ZeroDivisionError) as caught:
        async with client.lock(path):
            clocks.pass_ms(PAUSE_MS)
            try:
                await forever()
            except asyncio.CancelledError:
                _ = 1 / 0
    assert caught.value.__notes__[0].startswith("LockLost: ")


async def test_nested_locks_and_a_task_group_inside_end_in_lock_lost(make_client, clocks, path):
    client, ended = make_client(clocks=clocks), []

    async def child(number):
        try:
            await forever()
        finally:
            ended.append(number)

    with pytest.raises(LockLost):
        async with client.lock(path + "/outer"), client.lock(path + "/inner"), asyncio.TaskGroup() as group:
            group.create_task(child(1))
            group.create_task(child(2))
            clocks.pass_ms(PAUSE_MS)
            await forever()
    assert sorted(ended) == [1, 2]
    assert this_task().cancelling() == 0
    await asyncio.sleep(0)  # no second cancellation is under way


async def test_a_lost_lock_does_not_cancel_what_its_task_does_afterwards(make_client, clocks, path):
    client = make_client(clocks=clocks)
    lock = client.lock(path)
    with pytest.raises(LockLost):
        async with lock:
            clocks.pass_ms(PAUSE_MS)
            lock.check()
    await asyncio.sleep(0)
    async with client.lock(path, timeout=10):
        await client.ls("/")


async def test_on_lost_that_raises_breaks_nothing(make_client, clocks, path, caplog):
    client = make_client(clocks=clocks)

    def fail(error):
        raise RuntimeError("a bug of the application")

    with pytest.raises(LockLost):
        async with client.lock(path, on_lost=fail):
            clocks.pass_ms(PAUSE_MS)
            await forever()
    assert "on_lost" in caplog.text
    await client.ls("/")


async def test_grace_over_means_session_expired_and_the_next_call_opens_a_new_session(make_client, clocks, path):
    states: list[str] = []
    client = make_client(clocks=clocks, on_state=states.append)
    with pytest.raises(LockLost, match="session"):
        async with client.lock(path):
            before = client.session_id
            tasks = [asyncio.create_task(client.lock(path).acquire())]
            await asyncio.sleep(0)
            clocks.pass_ms(12_000 + 45_000)
            await forever()
    with pytest.raises(SessionExpired):
        await tasks[0]
    assert states == ["active", "jeopardy", "expired"]
    await client.ls("/")
    assert client.session_id not in (None, before)
    assert states[-1] == "active"


async def test_the_end_of_grace_is_noticed_whatever_notices_it_first(make_client, clocks, path):
    """A machine was suspended while an answer was under way: the answer is what the process sees first."""
    states: list[str] = []
    client = make_client(clocks=clocks, session_lease=1.0, on_state=states.append)
    await client.ls("/")
    first = client.session_id
    answer_after(client, clocks, 60_000)
    await until(lambda: "expired" in states)
    assert states == ["active", "jeopardy", "expired"]
    async with asyncio.timeout(10), client.lock(path):
        assert client.session_id != first
    assert client.state == "active"


async def test_jeopardy_is_told_whatever_notices_it_first(make_client, clocks):
    states: list[str] = []
    client = make_client(clocks=clocks, session_lease=1.0, on_state=states.append)
    await client.ls("/")
    answer_after(client, clocks, 2_000)
    await until(lambda: len(states) == 3)
    assert states == ["active", "jeopardy", "active"]


def answer_after(client, clocks, pause_ms):
    """The next answer to a KeepAlive is what this process sees first after a pause."""
    pulse, take = client._keeper._pulse, client._keeper._pulse.renewed

    def late(*arguments):
        pulse.renewed = take
        clocks.pass_ms(pause_ms)
        take(*arguments)

    pulse.renewed = late


async def test_a_lock_taken_away_at_the_cell_is_found_by_verify_and_at_the_end(make_client, path):
    """Another channel of the same session releases it: what an operator's `unlock --now` looks like from here."""
    client = make_client()
    with pytest.raises(LockLost):
        async with client.lock(path) as lock:
            hold = lock._state.hold
            await client._keeper.call("release", {"path": path, "hold": hold.number})
            assert lock.safe, "no network, so it cannot know"
            with pytest.raises(LockLost, match="the cell says"):
                await lock.verify()
            assert not lock.safe
    with pytest.raises(LockLost, match="has no hold"):
        async with client.lock(path) as lock:
            await client._keeper.call("release", {"path": path, "hold": lock._state.hold.number})


async def test_an_answer_that_comes_after_the_deadline_keeps_the_session_but_not_the_lock(make_client, clocks, path):
    """Nobody has looked at the clock between the deadline and that answer."""
    client = make_client(clocks=clocks)
    lock = client.lock(path)
    await lock.acquire()
    keeper, life = client._keeper, client._keeper.alive()
    clocks.pass_ms(PAUSE_MS)
    number = life.session.transmit(clocks())
    keeper._pulse.renewed(life, keeper._link.channel, number, {"epoch": life.session.epoch, "lease_ms": 12_000})
    assert client.state == "active"
    assert not lock.held
    with pytest.raises(LockLost):
        await lock.release()
