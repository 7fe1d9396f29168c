"""A session that outlives its process: the next one takes it over, and never believes while the first one may."""

from __future__ import annotations

import asyncio

import pytest

from coordclient import Client, ClientClosed, LockLost, LockTimeout, NotFound, SessionExpired
from coordclient.aio import Lock, link
from coordclient.aio.channel import ChannelError
from coordclient.clock import now
from tests.clients.conftest import until
from tests.clients.test_lost import PAUSE_MS, forever

LEASE, DELAY = 1.0, 0.5
DOUBT = LEASE + DELAY  # how long a process that said nothing may believe


async def test_after_a_goodbye_the_next_process_believes_at_once(make_client, path):
    first = make_client()
    await first.create(path + "/here", b"first", ephemeral=True, parents=True)
    lock, both = first.lock(path), first.locks([path + "/a", path + "/b"])
    await lock.acquire()
    await both.acquire()
    session = first.session_id
    ticket = await first.leave()
    assert not lock.held
    with pytest.raises(LockLost, match="left it to another"):
        lock.check()
    with pytest.raises(ClientClosed):
        await first.ls("/")

    second = make_client(resume=ticket)
    async with asyncio.timeout(10), await second.adopt(path) as mine:  # less than lease and lock-delay
        assert second.session_id == session
        assert mine.token == lock.token
        await mine.verify()
        pair = await second.adopt([path + "/b", path + "/a"])
        assert pair.tokens == both.tokens
        assert pair.safe
        await pair.release()
        assert (await second.get(path + "/here")).contents == b"first"
    assert await second.list_locks(path) == []
    assert second.ticket != ticket


async def test_without_a_goodbye_the_next_process_waits_until_the_first_cannot_believe_any_more(make_client, path):
    first, other = make_client(session_lease=LEASE), make_client()
    told: list[LockLost] = []
    lock = first.lock(path, lock_delay=DELAY, stop_margin=0.1, on_lost=told.append)
    await lock.acquire()
    begun = now()
    second = make_client(resume=first.ticket)
    mine = await second.adopt(path, stop_margin=0.1)
    assert (mine.held, mine.safe, mine.remaining) == (True, False, 0.0)
    with pytest.raises(LockLost, match="before may believe in it"):
        mine.check()
    assert not await mine.acquire(blocking=False)
    assert not await mine.acquire(timeout=0.05)
    with pytest.raises(LockTimeout, match="before may believe in it"):
        async with await _later(mine):
            raise AssertionError("entered in doubt")
    assert await mine.acquire()
    assert now() - begun >= DOUBT
    assert mine.safe
    assert not lock.safe
    await until(lambda: told, "the first process to hear of it")
    assert not await other.lock(path).acquire(blocking=False)
    await mine.release()
    async with other.lock(path, timeout=10):
        pass


async def _later(lock):
    """The same object as a context manager with little time."""
    object.__setattr__(lock._state.terms, "timeout", 0.05)
    return lock


@pytest.mark.parametrize("end", ["release", "close"])
async def test_nothing_is_free_before_the_first_process_cannot_believe_any_more(make_client, path, end):
    """A release, and a close, free at once; so they wait where somebody else may work under the lock."""
    first, other = make_client(session_lease=LEASE), make_client()
    lock = first.lock(path, lock_delay=DELAY, stop_margin=0.1)
    await lock.acquire()
    begun = now()
    second = make_client(resume=first.ticket)
    mine = await second.adopt(path, stop_margin=0.1)
    if end == "release":
        await mine.release()
        assert not mine.held
    else:
        await second.close()
    async with other.lock(path, timeout=10):
        assert now() - begun >= DOUBT
        assert not lock.safe


async def test_a_resume_whose_answer_was_lost_is_tried_again_as_the_same_one(make_client, monkeypatch, path):
    first = make_client()
    await (lock := first.lock(path)).acquire()
    ticket = await first.leave()
    make = link._resumed
    lost: list[object] = []

    def lose_the_first(*arguments):
        if not lost:
            lost.append(arguments)
            raise ChannelError("the answer is lost")
        return make(*arguments)

    monkeypatch.setattr(link, "_resumed", lose_the_first)
    second = make_client(resume=ticket)
    async with await second.adopt(path, timeout=10) as mine:  # less than lease and lock-delay
        assert mine.token == lock.token
        assert (await second.session_info()).info.incarnation == 2, "one resume, whatever was sent"
    assert lost


async def test_a_ticket_is_good_for_one_resume_and_the_first_process_hears_that_its_session_is_gone(make_client, path):
    states: list[str] = []
    first = make_client(session_lease=LEASE, on_state=states.append)
    await first.ls("/")
    ticket, session = first.ticket, first.session_id
    second, third = make_client(resume=ticket), make_client(resume=ticket)
    await second.ls("/")
    assert second.session_id == session
    with pytest.raises(SessionExpired):
        await third.ls("/")
    await third.ls("/")
    assert third.session_id not in (None, session), "the next call opens a session of its own"
    await until(lambda: "expired" in states, "the first process to hear of it")


async def test_a_ticket_of_a_session_that_has_ended_says_so(make_client, path):
    first = make_client()
    await first.ls("/")
    ticket = first.ticket
    await first.close()
    second = make_client(resume=ticket)
    with pytest.raises(SessionExpired):
        await second.adopt(path)
    async with second.lock(path, timeout=5):
        pass


async def test_what_did_not_come_with_the_session_cannot_be_adopted(make_client, path):
    first = make_client()
    await (one := first.lock(path + "/one")).acquire()
    await (both := first.locks([path + "/a", path + "/b"])).acquire()
    second = make_client(resume=await first.leave())
    for paths in (path + "/a", [path + "/a"], [path + "/one", path + "/a"], path + "/none"):
        with pytest.raises(NotFound):
            await second.adopt(paths)
    async with await second.adopt(path + "/one"):
        with pytest.raises(NotFound):
            await second.adopt(path + "/one")
    assert not one.held
    assert not both.held
    assert [hold.path for hold in (await second.session_info()).holds] == [path + "/a", path + "/b"], "it stays"


async def test_of_two_that_adopt_the_same_lock_one_has_it_and_is_told_of_its_loss(make_client, clocks, path):
    first, other = make_client(), make_client()
    await (gone := first.lock(path)).acquire()
    second = make_client(resume=await first.leave(), clocks=clocks)
    assert not gone.held
    await second.ls("/")
    clocks.pass_ms(PAUSE_MS)  # both have to wait until the session can be believed in
    told: list[str] = []
    adopted = await asyncio.gather(
        *(second.adopt(path, on_lost=lambda _, who=who: told.append(who)) for who in ("one", "two")),
        return_exceptions=True,
    )
    assert [type(found) for found in adopted] == [Lock, LockLost]
    await other.unlock(path, reason="for the test", now=True)
    await until(lambda: told, "the loss to be told")
    assert told == ["one"]


async def test_leaving_ends_the_bodies_of_other_tasks_before_it_says_goodbye(make_client, path):
    client = make_client()
    ended: list[float] = []

    async def work():
        async with client.lock(path):
            inside.set()
            try:
                await forever()
            finally:
                await asyncio.sleep(0.1)
                ended.append(now())

    inside = asyncio.Event()
    task = asyncio.create_task(work())
    await inside.wait()
    ticket = await client.leave()
    assert ended
    with pytest.raises(LockLost, match="left it to another"):
        await task
    async with make_client(resume=ticket):
        pass


async def test_without_a_session_there_is_nothing_to_leave_and_no_ticket(make_client):
    client = make_client()
    assert client.ticket is None
    with pytest.raises(SessionExpired):
        await client.leave()
    with pytest.raises(ValueError, match="resume must be a ticket"):
        make_client(resume="nonsense")


def test_threads_hand_a_session_on_too(cell, path):
    first = Client(cell.endpoints)
    lock, both = first.lock(path + "/one"), first.locks([path + "/a", path + "/b"])
    lock.acquire()
    both.acquire()
    ticket = first.leave()
    assert not lock.held
    with Client(cell.endpoints, resume=ticket) as second:
        with second.adopt(path + "/one") as mine:
            mine.check()
            assert mine.token == lock.token
        with second.adopt((path + "/a", path + "/b")) as pair:
            assert pair.tokens == both.tokens
