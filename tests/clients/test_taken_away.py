"""What operators do to a holder: he hears the reason, stops, and only then can another have the lock."""

from __future__ import annotations

import asyncio
import threading

import pytest

from coordclient import Client, LockLost, NotFound, SessionExpired, SessionKilled
from coordclient.clock import now
from tests.clients.conftest import until
from tests.clients.test_lost import forever
from tests.clients.test_threads import until as wait_until

LEASE = 3.0  # a KeepAlive every second: the holder hears soon, and the first one comes when the test has done its part


async def holders(client, path):
    return [holder for lock in await client.list_locks(path) for holder in lock.holders]


async def test_a_revoked_holder_is_cancelled_with_the_reason_and_the_next_one_comes_after_the_lock_delay(
    make_client, path
):
    client, operator = make_client(session_lease=LEASE), make_client()
    told: list[LockLost] = []
    stopped = 0.0
    with pytest.raises(LockLost, match="host-7 hangs") as caught:
        async with client.lock(path, lock_delay=0.3, stop_margin=0.2, on_lost=told.append) as lock:
            done = await operator.unlock(path, reason="host-7 hangs")
            try:
                await forever()
            finally:
                stopped = now()
                assert not lock.safe
    assert (done.now, len(done.holds)) == (False, 1)
    assert [str(error) for error in told] == [str(caught.value)]
    async with operator.lock(path, timeout=5):
        waited = now() - stopped
    assert 0.25 < waited < LEASE, "the lock-delay, from give_up on: not the whole lease"
    (_, loss, *_) = (await operator.why(path)).losses
    assert (loss.cause, loss.reason) == ("revoked", "host-7 hangs")
    assert client.state == "active", "the session goes on"


async def test_the_cell_hears_give_up_when_the_body_has_ended_at_the_latest_after_the_stop_margin(make_client, path):
    client, operator = make_client(session_lease=LEASE), make_client()
    ended = 0.0
    with pytest.raises(LockLost):
        async with client.lock(path, lock_delay=0, stop_margin=1.5):
            await operator.unlock(path, reason="why")
            try:
                await forever()
            finally:
                assert await holders(operator, path), "the body has not ended yet"
                ended = now()
    async with operator.lock(path, timeout=5):
        assert now() - ended < 1.2, "told at once, not after the margin"

    lost: list[float] = []  # one without a body, whose holder does not look
    lock = client.lock(path, lock_delay=0, stop_margin=0.5, on_lost=lambda _: lost.append(now()))
    await lock.acquire()
    await operator.unlock(path, reason="why")
    await until(lambda: lost)
    assert not lock.held
    async with operator.lock(path, timeout=5):
        assert 0.45 < now() - lost[0] < 0.5 + LEASE
    with pytest.raises(LockLost):
        await lock.release()


async def test_what_was_broken_at_once_is_told_too_and_found_by_verify_before(make_client, path):
    client, operator = make_client(session_lease=LEASE), make_client()
    with pytest.raises(LockLost, match="wrong host"):
        async with client.lock(path) as lock:
            await operator.unlock(path, reason="wrong host", now=True)
            async with operator.lock(path, timeout=0) as other:
                assert other.token > lock.token
                assert lock.safe, "two believe: what only the token protects from"
                await forever()
    assert (await operator.why(path)).losses[1].cause == "broken"


async def test_unlock_takes_the_hold_that_was_named_and_no_other(make_client, path):
    one, two, operator = make_client(session_lease=LEASE), make_client(session_lease=LEASE), make_client()
    async with two.lock(path, "shared") as kept:
        with pytest.raises(LockLost):
            async with one.lock(path, "shared"):
                await operator.unlock(path, reason="why", session=one.session_id)
                await forever()
        kept.check()
        await kept.verify()
    with pytest.raises(NotFound):
        await operator.unlock(path, reason="why")


async def test_one_of_several_locks_taken_away_is_all_of_them_lost_and_the_others_free(make_client, path):
    client, operator = make_client(session_lease=LEASE), make_client()
    with pytest.raises(LockLost, match="why"):
        async with client.locks([path + "/a", path + "/b"], lock_delay=0.2, stop_margin=0.2):
            await operator.unlock(path + "/b", reason="why")
            await forever()
    async with operator.locks([path + "/a", path + "/b"], timeout=5):
        pass


async def test_what_is_revoked_while_its_grant_is_under_way_is_not_entered_but_asked_for_again(make_client, path):
    """The KeepAlive's answer comes before that of the acquire: as on a new channel after a broken one."""
    client = make_client()
    await client.ls("/")
    keeper, life = client._keeper, client._keeper.alive()
    begin, numbers = keeper.begin, []

    async def begin_and_revoke(life, operation, arguments, deadline_ms):
        call = await begin(life, operation, arguments, deadline_ms)
        if operation == "acquire":
            numbers.append(call.number)
            if len(numbers) == 1:
                life.holds.revoked(path, call.number, "why", client._keeper.clocks(), pending=True)
        return call

    keeper.begin = begin_and_revoke
    async with client.lock(path, timeout=5) as lock:
        await lock.verify()
        assert lock._state.granted().number == numbers[1]
    assert len(numbers) == 2
    assert not life.holds.all


async def test_a_killed_session_loses_its_locks_with_the_reason_and_the_next_call_opens_another(make_client, path):
    states: list[str] = []
    client, operator = make_client(session_lease=LEASE, on_state=states.append), make_client()
    async with operator.lock(path + "/other"):
        waiting = asyncio.create_task(client.lock(path + "/other").acquire())
        with pytest.raises(LockLost, match="deployed by mistake"):
            async with client.lock(path, lock_delay=0.3, stop_margin=0.2):
                killed = client.session_id
                answer = await operator.kill_session(killed, reason="deployed by mistake")
                assert (answer.session, answer.holds, answer.lease_ms) == (killed, 1, 3_000)
                try:
                    await forever()
                finally:
                    stopped = now()
        with pytest.raises(SessionExpired):
            await waiting
    async with operator.lock(path, timeout=5):
        assert 0.25 < now() - stopped < LEASE, "acknowledged, and then the lock-delay"
    assert (await operator.why(path)).losses[1].cause == "killed"
    await client.ls("/")
    assert client.session_id != killed
    assert states == ["active", "expired", "active"]


async def test_a_call_of_a_killed_session_says_why(make_client):
    client, operator = make_client(session_lease=LEASE), make_client()
    await client.ls("/")
    await operator.kill_session(client.session_id, reason="deployed by mistake")
    with pytest.raises(SessionKilled, match="deployed by mistake") as caught:
        await client.mkdir("/never")
    assert isinstance(caught.value, SessionExpired)
    with pytest.raises(NotFound):
        await operator.kill_session(2**52, reason="why")


def test_threads_hear_of_revocations_and_kills_in_their_own_way(cell, path):
    told: list[LockLost] = []
    called = threading.Event()

    def on_lost(error):
        told.append(error)
        called.set()

    with Client(cell.endpoints, session_lease=LEASE) as client, Client(cell.endpoints) as operator:
        with pytest.raises(LockLost, match="first"), client.lock(path, on_lost=on_lost) as lock:
            operator.unlock(path, reason="first")
            assert called.wait(10)
            with pytest.raises(LockLost, match="first"):
                lock.check()
        called.clear()
        with pytest.raises(LockLost, match="second"), client.locks([path + "1", path + "2"], on_lost=on_lost) as both:
            operator.kill_session(client.session_id or 0, reason="second")
            assert called.wait(10)
            assert not both.safe
        wait_until(lambda: client.state == "expired")
        client.ls("/")
    assert len(told) == 2
