"""`coordd.testing.TestCell`: a real cell inside the process, and its faults."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import threading
import time
from functools import partial

import pytest

from coordclient import Client, LockLost, OutcomeUnknown, Unavailable, aio
from coordd.testing import CellFailed, TestCell
from coordd.testing.life import Life
from coordd.testing.line import Line

SECONDS_MAX = 20.0


@pytest.fixture
def cell(coord_cell) -> TestCell:
    return coord_cell


class Told:
    """What a client says of its state, for a thread that waits for it."""

    def __init__(self) -> None:
        self._states: list[str] = []
        self._more = threading.Condition()

    def __call__(self, state: str) -> None:
        with self._more:
            self._states.append(state)
            self._more.notify_all()

    def wait(self, state: str) -> None:
        """What was before may be more than the test did: a busy machine puts a short lease in jeopardy."""
        with self._more:
            assert self._more.wait_for(lambda: self._states[-1:] == [state], SECONDS_MAX), self._states

    def never(self, state: str) -> None:
        with self._more:
            assert state not in self._states, self._states


def test_it_starts_in_well_under_a_second_and_leaves_no_thread_and_no_descriptor():
    TestCell().__enter__().stop()  # what is imported once
    gc.collect()  # what earlier tests left is not closed in between
    threads, descriptors, took = threading.enumerate(), len(os.listdir("/dev/fd")), []
    for _ in range(3):
        begun = time.monotonic()
        with TestCell() as cell, Client(cell.endpoints) as client:
            client.put("/a", b"1")
            took.append(time.monotonic() - begun)
        assert set(threading.enumerate()) <= set(threads)
        assert len(os.listdir("/dev/fd")) <= descriptors
    assert min(took) < 1.0, "on a machine that was busy with other things all the while"


def test_it_never_forks_and_opens_no_file(monkeypatch):
    """Not even where a daemon would write a snapshot."""
    opened = []
    monkeypatch.setattr(os, "fork", partial(pytest.fail, "forked"))
    monkeypatch.setattr("coordd.testing.life.SNAPSHOT_BYTES", 100_000)
    with TestCell() as cell, Client(cell.endpoints) as client:
        monkeypatch.setattr(os, "open", lambda *arguments, **_: opened.append(arguments))
        for _ in range(8):
            client.put("/a", bytes(50_000))
        assert client.status()["snapshot_slot"] > 0, "a snapshot was taken"
        monkeypatch.undo()
        cell.fail_over()
        assert client.get("/a").contents == bytes(50_000)
    assert opened == []


def test_several_at_once_know_nothing_of_each_other():
    with (
        TestCell("one") as one,
        TestCell("two") as two,
        Client(one.endpoints, cell="one") as first,
        Client(two.endpoints, cell="two") as second,
    ):
        first.put("/a", b"1")
        assert second.ls("/") == []


async def test_it_serves_the_loop_of_the_caller(cell):
    async with aio.Client(cell.endpoints) as client, client.lock("/a") as lock:
        before = cell.epoch
        assert cell.fail_over() > before
        await lock.verify()


def test_an_expired_session_is_told_at_once_and_its_lock_delay_counts(cell):
    lost = threading.Event()
    with Client(cell.endpoints) as client, Client(cell.endpoints) as other:
        free, delayed = client.lock("/a", lock_delay=0, on_lost=lambda _: lost.set()), client.lock("/b", lock_delay=60)
        with pytest.raises(LockLost, match="ended"), free, delayed:
            cell.expire_session(client)
            assert lost.wait(5.0), "far less than a lease"
        with other.lock("/a", timeout=0):
            pass
        assert not other.lock("/b").acquire(blocking=False)


def test_a_session_is_expired_by_its_number_and_no_other_is(cell):
    with Client(cell.endpoints) as client, Client(cell.endpoints) as other:
        client.ls()
        kept = other.session_id, other.ls(), other.session_id
        cell.expire_session(client.session_id)
        assert [session.session for session in other.sessions()] == [kept[2]]
        with pytest.raises(ValueError, match="no session 99"):
            cell.expire_session(99)
    with pytest.raises(ValueError, match="no session"):
        cell.expire_session(Client(cell.endpoints))


def test_a_pause_answers_nothing_and_costs_nobody_the_session(cell):
    told = Told()
    with Client(cell.endpoints, session_lease=1.0, request_timeout=1.0, on_state=told) as client:
        client.put("/a", b"1")
        with cell.paused():
            with pytest.raises(OutcomeUnknown):
                client.put("/a", b"2")
            told.wait("jeopardy")  # a whole lease has passed
            with pytest.raises(RuntimeError, match="paused"):
                cell.fail_over()
            late = Client(cell.endpoints)
        told.wait("active")
        told.never("expired")
        assert late.get("/a").contents in (b"1", b"2")
        late.close()


def test_a_cut_link_is_cut_for_its_client_alone(cell):
    told = Told()
    with Client(cell.endpoints, session_lease=1.0, on_state=told) as client, Client(cell.endpoints) as other:
        client.ls()
        cell.cut_link(client)
        told.wait("jeopardy")
        other.put("/a", b"1")
        cell.mend_link(client)
        told.wait("expired")
        assert client.get("/a").contents == b"1"


def test_the_link_of_another_process_is_cut_by_its_endpoints(cell):
    endpoints = cell.endpoints
    cell.cut_link(endpoints)
    with Client(endpoints, request_timeout=0.1) as client, pytest.raises(Unavailable):
        client.ls()
    with pytest.raises(ValueError, match="not made with the endpoints of this cell"):
        cell.cut_link(["http://127.0.0.1:1"])


def test_a_fail_over_keeps_what_was_acknowledged_and_every_lock(cell):
    with Client(cell.endpoints) as client, Client(cell.endpoints) as other, client.lock("/a") as lock:
        client.put("/b", b"1")
        before = client.status()["epoch"]
        assert cell.fail_over() > before
        assert client.get("/b").contents == b"1"
        lock.verify()
        assert not other.lock("/a").acquire(blocking=False)


async def answer_over_an_end(life: Life, line: Line, turns: int) -> bytes:
    """What a connection hears that was made `turns` turns of the loop before the end of its line; empty: it is cut."""
    with socket.create_connection(("127.0.0.1", int(line.address.rpartition(":")[2])), SECONDS_MAX) as dialled:
        dialled.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        dialled.setblocking(False)
        for _ in range(turns):
            await asyncio.sleep(0)
        async with line.mutex:
            await line.close()
            await line.open(life.hub, life.driver)
        try:
            async with asyncio.timeout(SECONDS_MAX):
                return await asyncio.get_running_loop().sock_recv(dialled, 1_000)
        except ConnectionResetError:
            return b""


def test_who_connects_while_a_life_ends_is_served_or_cut_and_never_left_hanging(cell):
    (address,) = cell.endpoints
    (line,) = (line for line in cell._lines if line.address == address)
    gc.disable()  # it would close what was forgotten
    try:
        heard = [cell._do(answer_over_an_end, cell._present(), line, turns) for turns in range(8)]
    finally:
        gc.enable()
    assert b"200 OK" in heard[0], "not accepted before the end: the next life serves it"
    assert {answer[:15] for answer in heard} <= {b"", b"HTTP/1.1 200 OK"}


def test_what_is_asked_of_a_cell_that_does_not_run_is_refused_by_name():
    cell = TestCell()
    with pytest.raises(RuntimeError, match="not started"):
        _ = cell.endpoints
    cell.start()
    with pytest.raises(RuntimeError, match="started before"):
        cell.start()
    cell.pause()
    with pytest.raises(RuntimeError, match="paused already"):
        cell.pause()
    cell.stop()
    cell.stop()
    for method in (cell.fail_over, cell.pause, lambda: cell.endpoints):
        with pytest.raises(RuntimeError, match="was stopped"):
            method()
    with pytest.raises(ValueError, match="name of a cell"):
        TestCell("Not a name")


def test_a_bug_in_the_replica_is_never_overlooked(monkeypatch):
    async def broken(self: Life) -> None:
        raise AssertionError("a bug")

    monkeypatch.setattr(Life, "serving", broken)
    with pytest.raises(AssertionError, match="a bug"):
        TestCell().start()
    monkeypatch.undo()
    cell = TestCell()
    cell.start()
    cell._begin(_fail_in_a_callback)
    assert cell._thread is not None
    cell._thread.join(SECONDS_MAX)
    for method in (cell.fail_over, cell.stop):
        with pytest.raises(CellFailed) as caught:
            method()
        assert "another bug" in str(caught.value.__cause__)


async def _fail_in_a_callback() -> None:
    def fail() -> None:
        raise AssertionError("another bug")

    asyncio.get_running_loop().call_soon(fail)


def test_lines_have_a_limit_that_is_told(cell, monkeypatch):
    monkeypatch.setattr("coordd.testing.memory_cell.LINES_MAX", 2)
    kept = cell.endpoints, cell.endpoints
    with pytest.raises(RuntimeError, match="2 lines"):
        _ = cell.endpoints
    assert kept[0] != kept[1]


def test_a_child_after_a_fork_is_told_and_harms_nothing(cell):
    """As in a test suite that uses multiprocessing: the child has the object, not the thread."""
    cell._pid -= 1
    for method in (cell.fail_over, cell.stop, lambda: cell.endpoints):
        with pytest.raises(RuntimeError, match="lives in process"):
            method()
    cell._pid += 1
    with Client(cell.endpoints) as client:
        assert client.ls() == []
