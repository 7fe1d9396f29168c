"""What went wrong in other systems, tried here. A test is named by what happened there (docs/proof.md has the list)."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from coordclient import Client, Deadlock, Exists, LockLost, LockTimeout, StaleToken, aio
from coordclient.fence_sql import SqlFence
from coordclient.protocol.errors import Refusal
from coordd.node.hub import Hub
from coordd.testing import TestCell
from tests.clients.conftest import until
from tests.clients.test_processes import program
from tests.clients.test_threads import until as wait_until

SOON = 4.0  # seconds; below the lease and lock-delay that would have to pass otherwise (12 s and 5 s)


def waiting(client: Client, path: str) -> int:
    return sum(len(lock.waiters) for lock in client.list_locks(path))


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


async def test_the_old_leader_went_on_working_after_another_had_been_elected(coord_cell, coord_aio_client):
    """kyverno/kyverno#5984: the log said that leadership was lost, and the old leader's controllers ran on."""
    began, rounds = asyncio.Event(), 0
    async with aio.Client(coord_cell.endpoints) as client:

        async def lead() -> None:
            nonlocal rounds
            async with client.lock("/leader", lock_delay=0):
                began.set()
                while True:
                    rounds += 1
                    await asyncio.sleep(0)

        leading = asyncio.create_task(lead())
        await began.wait()
        coord_cell.expire_session(client)
        async with coord_aio_client.lock("/leader", timeout=SOON):
            await asyncio.wait([leading], timeout=SOON)
            assert leading.done()
    assert isinstance(leading.exception(), LockLost)
    assert rounds > 0


def test_the_loss_was_told_to_a_listener_of_the_connection_and_not_to_whoever_held_the_lock(coord_cell, threads):
    """python-zk/kazoo#565: how a listener of the connection is wired to a lock was asked for years."""
    began, told = threading.Event(), threading.Event()
    with Client(coord_cell.endpoints) as client:

        def work() -> None:
            with client.lock("/job", lock_delay=0, on_lost=lambda lost: told.set()) as lock:
                began.set()
                until_s = time.monotonic() + 20
                while time.monotonic() < until_s:
                    lock.check()

        working = threads.submit(work)
        assert began.wait(20)
        coord_cell.expire_session(client)
        with pytest.raises(LockLost):
            working.result(SOON)
        assert told.wait(SOON)


def test_a_holder_whose_lock_had_been_given_on_could_still_write(coord_cell, coord_client, tmp_path):
    """etcd-io/etcd#10811: cut off, A lost its lock to B and wrote on, into a storage that knew nothing of locks."""
    fence = SqlFence()
    with (
        contextlib.closing(sqlite3.connect(tmp_path / "accounts.db")) as database,
        Client(coord_cell.endpoints) as stalled,
    ):

        def write(token: int, balance: int) -> None:
            with database:
                fence.admit(database, "/accounts", token)
                database.execute("UPDATE accounts SET balance = ?", (balance,))

        with database:
            fence.create_table(database)
            database.execute("CREATE TABLE accounts (balance INTEGER)")
            database.execute("INSERT INTO accounts VALUES (0)")
        old = stalled.lock("/accounts", lock_delay=0)
        old.acquire()
        token = old.token  # it looks at nothing from here on, as a process that is stopped
        write(token, 1)
        coord_cell.expire_session(stalled)
        with coord_client.lock("/accounts", timeout=5) as lock:
            write(lock.token, 2)
            with pytest.raises(StaleToken):
                write(token, 3)
            write(lock.token, 4)
        with pytest.raises(StaleToken):
            write(token, 5)
        assert database.execute("SELECT balance FROM accounts").fetchall() == [(4,)]


class Answers:
    """Counts what a cell answers, by kind; a cell that is made afterwards is counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.counts: Counter[str] = Counter()
        deliver = Hub.deliver

        def counting(hub: Hub, request: int, result: dict[str, object] | Refusal) -> None:
            self.counts[self._kind(result)] += 1
            deliver(hub, request, result)

        monkeypatch.setattr(Hub, "deliver", counting)

    @staticmethod
    def _kind(result: dict[str, object] | Refusal) -> str:
        if isinstance(result, Refusal):
            return "refusals"
        return "grants" if "token" in result else "keep alive" if "lease_ms" in result else "others"


async def test_a_thousand_waiters_woke_together_at_each_release_and_the_first_timed_out(monkeypatch):
    """apache/curator#1231: each release woke all of 1,000 waiters, and the one whose turn it was came late or never."""
    answers = Answers(monkeypatch)
    order: list[int | None] = []
    enough = asyncio.Event()

    async def wait_for_it(client: aio.Client) -> None:
        async with client.lock("/busy"):
            order.append(client.session_id)
            if len(order) > 100:
                enough.set()
                await asyncio.sleep(60)

    async def queue(client: aio.Client) -> list[int]:
        return [waiter.session for lock in await client.list_locks("/busy") for waiter in lock.waiters]

    async def all_there(client: aio.Client) -> bool:
        return len(await queue(client)) == 1_000

    with TestCell() as cell:
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(aio.Client(cell.endpoints)) for _ in range(4)]
            holder = clients[0].lock("/busy")
            await holder.acquire()
            tasks = [asyncio.create_task(wait_for_it(clients[number % 4])) for number in range(1_000)]
            await until(lambda: all_there(clients[0]), "1,000 waiters")
            expected = await queue(clients[0])
            answers.counts.clear()
            await holder.release()
            async with asyncio.timeout(20):
                await enough.wait()
            counts = answers.counts.copy()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    assert order == expected[:101], "first come, first served"
    assert counts["grants"] == 101, "each release wakes one"
    assert counts["others"] + counts["refusals"] <= 101, "and nothing is said besides but that it was released"


async def test_readers_shut_each_other_out_for_want_of_a_read_lock(coord_aio_client):
    """etcd-cpp-apiv3/etcd-cpp-apiv3#316: there was an exclusive lock only. Here writers do not starve either."""
    client, entered = coord_aio_client, []

    async def enter(name: str, mode: str) -> None:
        async with client.lock("/table", mode):
            entered.append(name)

    async def queued(count: int) -> bool:
        return sum(len(lock.waiters) for lock in await client.list_locks("/table")) == count

    async with asyncio.timeout(20):
        async with client.lock("/table", "shared") as first, client.lock("/table", "shared", timeout=SOON) as second:
            assert first.token == second.token
            writer = asyncio.create_task(enter("writer", "exclusive"))
            await until(lambda: queued(1))
            late = asyncio.create_task(enter("late reader", "shared"))
            await until(lambda: queued(2))
            assert entered == [], "the writer waits for the readers, who comes after him waits for him"
            with pytest.raises(LockTimeout):
                async with client.lock("/table", "shared", timeout=0):
                    raise AssertionError("past the writer")
        await writer
        await late
    assert entered == ["writer", "late reader"]


async def test_whoever_needed_a_semaphore_had_to_copy_the_private_parts_of_a_mutex(coord_cell, coord_aio_client):
    """etcd-io/etcd#12490: there was no semaphore, and what a mutex is built of was private."""
    inside = most = 0
    three = asyncio.Barrier(3)

    async def use() -> None:
        nonlocal inside, most
        async with coord_aio_client.semaphore("/pool", 3):
            inside += 1
            most = max(most, inside)
            await three.wait()  # nobody leaves before all permits are taken
            await asyncio.sleep(0.002)  # nor before one too many would be seen
            inside -= 1

    async with asyncio.timeout(20), aio.Client(coord_cell.endpoints) as dying:
        await asyncio.gather(*(use() for _ in range(12)))
        assert most == 3
        permits = [dying.semaphore("/pool", 3, lock_delay=0) for _ in range(3)]
        for permit in permits:
            await permit.acquire()
        with pytest.raises(LockTimeout):
            async with coord_aio_client.semaphore("/pool", 3, timeout=0):
                raise AssertionError("a fourth")
        coord_cell.expire_session(dying)
        most = 0
        await asyncio.gather(*(use() for _ in range(6)))
        assert most == 3, "all three came back"


def test_the_inner_release_dropped_the_outer_lock(coord_client, threads):
    """python-zk/kazoo#291: a second acquire of the same object said True, and one release of the two freed the lock."""
    outer = coord_client.lock("/nested")
    with outer:
        with pytest.raises(RuntimeError, match="in use"):
            outer.acquire()
        with pytest.raises(RuntimeError, match="in use"), outer:
            raise AssertionError("entered twice")
        inner = coord_client.lock("/nested")
        assert not inner.acquire(blocking=False)
        with pytest.raises(RuntimeError, match="not held"):
            inner.release()
        with pytest.raises(Deadlock), coord_client.lock("/nested"):
            raise AssertionError("this thread would wait for itself")
        outer.verify()
        outer.check()
        another = coord_client.lock("/nested")
        assert not threads.submit(another.acquire, blocking=False).result()
    assert threads.submit(another.acquire, blocking=False).result()
    another.release()


def test_everybody_waited_for_ever_behind_a_process_that_had_died(coord_cell, coord_client, threads):
    """python-zk/kazoo#412: a worker crashed, its place in the queue stayed, and all others waited endlessly."""
    lock = coord_client.lock("/queue")
    lock.acquire()
    with Client(coord_cell.endpoints) as patient, program(coord_cell, "/queue", "stopped") as process:
        wait_until(lambda: waiting(coord_client, "/queue") == 1)
        behind = patient.lock("/queue")
        entering = threads.submit(behind.acquire, timeout=20)
        wait_until(lambda: waiting(coord_client, "/queue") == 2)
        process.kill()
        process.wait()
        lock.release()  # so it is the dead one's turn: nobody knows yet
        begun = time.monotonic()
        assert entering.result(20)
        assert time.monotonic() - begun < 1.0 * 1.1 + 0.5 + SOON, "its lease and 10 %, and its lock-delay"
        assert waiting(coord_client, "/queue") == 0


def test_a_restarted_broker_was_refused_its_own_name_until_its_old_session_had_expired(coord_cell):
    """apache/kafka#5575: 'node exists', said ZooKeeper to a broker about the ephemeral node of that very broker."""
    with Client(coord_cell.endpoints) as crashed, Client(coord_cell.endpoints) as stranger:
        for name in ("/brokers/1", "/brokers/2"):
            crashed.create(name, b"old", ephemeral=True, parents=True)
        ticket, session = crashed.ticket, crashed.session_id
        coord_cell.cut_link(crashed)  # kill -9: not a word of goodbye
        begun = time.monotonic()

        with Client(coord_cell.endpoints, resume=ticket) as restarted:
            restarted.put("/brokers/1", b"new")
            assert restarted.session_id == session
            assert stranger.get("/brokers/1").contents == b"new"
            assert restarted.session_info().ephemeral_paths == ("/brokers/1", "/brokers/2")

            # Without its ticket: a name is no lock, so it may be taken over, and the old session takes it from nobody.
            with pytest.raises(Exists):
                stranger.create("/brokers/2", b"mine", ephemeral=True)
            stranger.delete("/brokers/2")
            stranger.create("/brokers/2", b"mine", ephemeral=True)
            assert time.monotonic() - begun < SOON
        assert [entry.name for entry in stranger.ls("/brokers")] == ["2"]
        assert stranger.get("/brokers/2").contents == b"mine"


def test_on_each_deploy_nobody_led_until_the_old_leaders_lease_was_over(coord_cell, threads):
    """kubernetes/kubernetes#71490: the old process just ended, and its successor waited for minutes."""
    with (
        Client(coord_cell.endpoints) as old,
        Client(coord_cell.endpoints) as new,
        Client(coord_cell.endpoints) as rival,
    ):
        leading, queued, mine = old.lock("/leader"), rival.lock("/leader"), new.lock("/leader")
        leading.acquire()
        token = leading.token
        rivals = threads.submit(queued.acquire, timeout=60)
        wait_until(lambda: waiting(old, "/leader") == 1)
        taking = threads.submit(mine.acquire, timeout=60)
        wait_until(lambda: waiting(old, "/leader") == 2)
        assert new.session_id is not None
        begun = time.monotonic()
        leading.transfer(new.session_id)
        assert not leading.held, "no moment with two"
        assert taking.result(SOON)
        assert time.monotonic() - begun < SOON
        why = rival.why("/leader")
        assert why.lock is not None
        assert [holder.session for holder in why.lock.holders] == [new.session_id]
        assert [loss.cause for loss in why.losses] == ["transferred"]
        assert mine.token > token
        assert not rivals.done(), "no gap in which another got in"
        mine.release()
        assert rivals.result(SOON)


def test_locks_were_held_for_weeks_and_nobody_could_see_by_whom(coord_cell, coord_client, threads):
    """minio/minio#9133: locks had been held for 1,149 hours, and what waited for them waited in silence."""
    with Client(coord_cell.endpoints, name="billing") as holder, Client(coord_cell.endpoints, name="late") as waiter:
        begun_ms = time.time_ns() // 1_000_000
        with holder.lock("/weeks", lock_delay=2):
            late = waiter.lock("/weeks")
            asking = threads.submit(late.acquire, timeout=60)
            wait_until(lambda: waiting(coord_client, "/weeks") == 1)
            why = coord_client.why("/weeks")
            assert why.lock is not None
            (held,), (queued,) = why.lock.holders, why.lock.waiters
            now_ms = time.time_ns() // 1_000_000
            assert (held.client["name"], queued.client["name"], queued.place) == ("billing", "late", 1)
            assert {"host", "pid"} <= set(held.client)
            assert begun_ms - 1 <= held.since_ms <= queued.since_ms <= now_ms + 1
            assert held.heard_ms_ago is not None
            assert held.left_ms is not None
            assert 0 < held.left_ms <= 12_000
            assert held.crash_wait_ms == 12_000 + 1_200 + 2_000
        assert asking.result(20)
        late.release()
        *_, loss = coord_client.why("/weeks").losses
        assert (loss.client["name"], loss.cause) == ("billing", "released")
