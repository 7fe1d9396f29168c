"""The thread flavour against a real cell: the same promises, told by callbacks, `check()` and the end of the body."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from coordclient import Client, ClientClosed, Deadlock, Exists, LockLost, LockTimeout, NotFound
from coordclient.options import Options
from coordclient.syncbase import EXIT_SECONDS_MAX
from tests.clients.conftest import WAIT_SECONDS
from tests.clients.test_lost import PAUSE_MS


@pytest.fixture
def client(cell):
    with Client(cell.endpoints) as made:
        yield made


@pytest.fixture
def other(cell):
    with Client(cell.endpoints) as made:
        yield made


def with_clocks(client, cell, clocks, on_state=None):
    """Let the client read clocks that the test sets on."""
    tell = None if on_state is None else lambda state: client._worker.call_back(lambda: on_state(state))
    client._client._setup(Options.of(cell.endpoints, None, 12.0, 10.0, None), tell, clocks)
    return client


def until(condition, what="the condition"):
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        if value := condition():
            return value
        threading.Event().wait(0.005)
    raise AssertionError(f"waited {WAIT_SECONDS} s for {what}")


def waiters(client, path):
    return [waiter for lock in client.list_locks(path) for waiter in lock.waiters]


def test_one_thread_at_a_time_and_tokens_rise(client, other, path):
    inside, tokens = [], []

    def work(number):
        with (client, other)[number % 2].lock(path) as lock:
            inside.append(number)
            assert inside == [number]
            assert lock.safe
            lock.check()
            tokens.append(lock.token)
            inside.remove(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(40)))
    assert tokens == sorted(set(tokens))


def test_files_and_errors_are_those_of_the_other_flavour(client, path):
    stat = client.put(path, b"1", parents=True)
    assert client.get(path) == (b"1", stat)
    with pytest.raises(Exists):
        client.create(path)
    assert client.stat(path) == stat
    client.mkdir(path + "-d")
    assert [entry.stat.kind for entry in client.ls("/") if entry.name == (path + "-d")[1:].split("/")[0]] in (
        [],
        ["directory"],
    )
    client.delete(path)
    with pytest.raises(NotFound):
        client.get(path)
    assert client.status()["role"] == "master"
    assert len(client.cell_status()) == 1
    assert client.session_id in {session.session for session in client.sessions()}
    assert client.state == "active"


def test_time_out_and_try_once(client, other, path):
    with client.lock(path) as lock:
        assert client.check_sequencer(lock.sequencer).valid
        lock.verify()
        info = lock.info()
        assert info is not None
        assert info.token == lock.token
        with pytest.raises(LockTimeout), other.lock(path, timeout=0):
            raise AssertionError("entered unheld")
        with pytest.raises(LockTimeout), other.lock(path, timeout=0.05):
            raise AssertionError("entered unheld")
        assert other.lock(path).acquire(blocking=False) is False
        until(lambda: not waiters(client, path), "the waiter to be withdrawn")
    lock = other.lock(path)
    assert lock.acquire(timeout=5) is True
    lock.release()
    with pytest.raises(RuntimeError, match="not held"):
        lock.release()


def test_a_thread_is_never_taken_for_one_that_has_ended(client, path):
    """The system gives the name of an ended thread to a new one; what the first has left is no lock of the second."""
    names: list[int] = []
    deadlocks: list[Exception] = []

    def in_a_thread(work):
        def run():
            names.append(threading.get_ident())
            try:
                work()
            except Deadlock as error:
                deadlocks.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    client.ls("/")
    while len(names) < 2 or names[-1] != names[-2]:
        first, second = client.lock(path), client.lock(path)
        in_a_thread(first.acquire).join()
        thread = in_a_thread(lambda second=second: (second.acquire(), second.release()))
        until(lambda: waiters(client, path) or deadlocks, "the waiter")
        first.release()
        thread.join()
    assert deadlocks == []


def test_who_took_it_with_a_limit_and_waits_for_it_without_one_is_told(client, path):
    with client.lock(path, timeout=5):
        with pytest.raises(Deadlock, match="who asks for it holds it"):
            client.lock(path).acquire()
        assert not client.lock(path).acquire(timeout=0.1), "that ends by itself"


def test_threads_that_took_theirs_with_a_limit_and_wait_crosswise_without_one_are_told(client, path):
    both = threading.Barrier(2)
    told: list[Deadlock] = []

    def run(mine, other):
        try:
            with client.lock(mine, timeout=5):
                both.wait(WAIT_SECONDS)
                with client.lock(other):
                    pass
        except Deadlock as error:
            told.append(error)

    threads = [
        threading.Thread(target=run, args=ends) for ends in ((path + "/a", path + "/b"), (path + "/b", path + "/a"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS)
    (error,) = told
    cycle = error.details["cycle"]
    assert isinstance(cycle, list)
    assert {entry["path"] for entry in cycle} == {path + "/a", path + "/b"}


def test_a_call_that_begins_while_the_client_is_closed_ends(client, path, monkeypatch):
    """Between the look whether the client is closed and the start of the call: the close waits for it."""
    client.ls("/")
    closer = threading.Thread(target=client.close)
    loop = client._worker._loop
    start = loop.call_soon_threadsafe

    def close_and_start(*arguments, **named):
        if closer.ident is None and threading.current_thread() is threading.main_thread():
            closer.start()
            closer.join(0.3)  # it ends only if it does not wait
        return start(*arguments, **named)

    monkeypatch.setattr(loop, "call_soon_threadsafe", close_and_start)
    with contextlib.suppress(ClientClosed):
        client.ls("/")
    closer.join()


def test_several_threads_may_close_it_at_once(cell, other):
    client = Client(cell.endpoints)
    client.ls("/")
    session = client.session_id
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: client.close(), range(16))) == [None] * 16
    assert session not in {found.session for found in other.sessions()}


def test_a_finalizer_in_the_clients_own_thread_can_close_it(cell, other):
    """Garbage is collected in whatever thread, that of the loop too; to wait there would be for ever."""
    client = Client(cell.endpoints)
    client.ls("/")
    session = client.session_id
    client._worker.post(client.close)
    until(lambda: session not in {found.session for found in other.sessions()}, "the end of the session")
    with pytest.raises(ClientClosed):
        client.ls("/")


def test_a_loss_is_told_by_callback_by_check_and_at_the_end(client, other, cell, clocks, path):
    told: list[LockLost] = []
    threads: list[str] = []
    called = threading.Event()

    def on_lost(error):
        told.append(error)
        threads.append(threading.current_thread().name)
        client.state  # noqa: B018  (the application may use its client here)
        client.ls("/")
        called.set()

    with_clocks(client, cell, clocks)
    with pytest.raises(LockLost, match="KeepAlive"), client.lock(path, on_lost=on_lost) as lock:
        clocks.pass_ms(PAUSE_MS)
        assert not lock.safe
        with pytest.raises(LockLost):
            lock.check()
        assert called.wait(WAIT_SECONDS)
    assert len(told) == 1
    assert threads == ["coordclient on_lost"]
    with other.lock(path, timeout=10):
        pass


def test_the_body_s_own_error_is_kept_and_the_loss_noted(client, cell, clocks, path):
    with_clocks(client, cell, clocks)
    with pytest.raises(ZeroDivisionError) as caught, client.lock(path):
        clocks.pass_ms(PAUSE_MS)
        _ = 1 / 0
    assert caught.value.__notes__[0].startswith("LockLost: ")


def test_check_in_the_body_raises_once_and_is_not_noted_on_itself(client, cell, clocks, path):
    with_clocks(client, cell, clocks)
    with pytest.raises(LockLost) as caught, client.lock(path) as lock:
        clocks.pass_ms(PAUSE_MS)
        lock.check()
    assert not hasattr(caught.value, "__notes__")


def test_a_busy_thread_of_the_application_does_not_starve_the_keep_alives(cell, path):
    """The application holds the interpreter for two leases, in pure Python; the session and the lock live on."""
    with Client(cell.endpoints, session_lease=2) as client, client.lock(path) as lock:
        session = client.session_id
        deadline, count = time.monotonic() + 4, 0
        while time.monotonic() < deadline:
            count += 1
        lock.check()
        until(lambda: client.state == "active")
        assert client.session_id == session


def test_states_are_told_in_order_and_a_slow_callback_stops_nothing(client, cell, clocks):
    states: list[str] = []
    go_on = threading.Event()

    def on_state(state):
        states.append(state)
        go_on.wait(WAIT_SECONDS)

    with_clocks(client, cell, clocks, on_state)
    client.ls("/")
    clocks.pass_ms(13_000)
    client.ls("/")
    until(lambda: client.state == "active")
    go_on.set()
    until(lambda: states == ["active", "jeopardy", "active"])


def test_closing_waits_for_the_callbacks_but_not_for_one_that_waits_for_it(cell):
    """A test of the application that counts threads after `close` failed once in hundreds of runs."""
    before, held = threading.enumerate(), threading.Lock()
    states: list[str] = []

    def close(state):
        states.append(state)
        own.close()
        states.append("closed")

    def wait(state):
        with held:
            states.append(state)

    for _ in range(20):
        with Client(cell.endpoints, on_state=states.append) as client:
            client.ls("/")
        assert states == ["active", "expired"]
        assert set(threading.enumerate()) <= set(before)
        states.clear()

    own = Client(cell.endpoints, on_state=close)
    with contextlib.suppress(ClientClosed):  # it closes under our hands
        own.ls("/")
    until(lambda: states == ["active", "closed", "expired", "closed"])

    states.clear()
    with held, Client(cell.endpoints, on_state=wait) as client:
        client.ls("/")
    until(lambda: states == ["active", "expired"])


def test_a_callback_that_is_stuck_holds_up_no_other_client_at_the_exit(cell, monkeypatch):
    """They are closed one after another, and the locks of the last one are waited for."""
    stuck, states = threading.Event(), []

    def wait(state):
        states.append(state)
        stuck.wait(WAIT_SECONDS)

    monkeypatch.setattr(threading.Thread, "join", _without_a_callback(threading.Thread.join))
    client = Client(cell.endpoints, on_state=wait)
    client.ls("/")
    client._close(EXIT_SECONDS_MAX)
    assert states == ["active"]
    stuck.set()
    until(lambda: states == ["active", "expired"])


def _without_a_callback(join):
    def checked(thread, timeout=None):
        assert "callbacks" not in thread.name
        join(thread, timeout)

    return checked


def test_closing_ends_whoever_waits_and_is_harmless_twice(client, other, path):
    errors: list[BaseException] = []

    def wait():
        try:
            client.lock(path).acquire()
        except ClientClosed as error:
            errors.append(error)

    with other.lock(path):
        threads = [threading.Thread(target=wait) for _ in range(3)]
        for thread in threads:
            thread.start()
        until(lambda: len(waiters(other, path)) == 3)
        client.close()
        for thread in threads:
            thread.join(WAIT_SECONDS)
        assert len(errors) == 3
        client.close()
        with pytest.raises(ClientClosed):
            client.ls("/")
        until(lambda: not waiters(other, path))


def test_a_client_that_was_never_used_starts_nothing(cell):
    before = threading.enumerate()
    client = Client(cell.endpoints)
    assert client.state == "expired"
    assert client.session_id is None
    client.close()
    assert set(threading.enumerate()) <= set(before)
    del client
    gc.collect()


def test_wrong_options_are_refused_by_name():
    wrong: tuple[dict[str, Any], ...] = (
        {"session_lease": 0.5},
        {"session_lease": 61},
        {"request_timeout": 0},
        {"endpoints": "http://a/path"},
        {"endpoints": []},
    )
    for options in wrong:
        with pytest.raises(ValueError, match=r"must be|endpoint"):
            Client(**options)
    for options in ({"session_lease": "12"}, {"request_timeout": "1"}, {"name": 5}):
        with pytest.raises(TypeError, match=f"{next(iter(options))} must be"):
            Client(**options)


def test_endpoints_come_from_the_argument_then_the_environment_then_the_development_cell(monkeypatch):
    monkeypatch.setenv("COORD_ENDPOINTS", "a:1, http://b:2")
    assert Options.of(None, None, 12, 10, None).endpoints == ("http://a:1", "http://b:2")
    assert Options.of("c:3", None, 12, 10, None).endpoints == ("http://c:3",)
    monkeypatch.delenv("COORD_ENDPOINTS")
    assert Options.of(None, None, 12, 10, None).endpoints == tuple(
        f"http://127.0.0.1:{port}" for port in (7420, 7421, 7422)
    )
