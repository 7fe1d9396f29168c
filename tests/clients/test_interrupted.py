"""Ctrl-C in the thread flavour, wherever it comes: nothing is left behind in the cell, and nothing hangs."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading

import pytest

from coordclient import Client
from coordclient.worker import Running
from tests.clients.conftest import WAIT_SECONDS
from tests.clients.test_threads import until, waiters


@pytest.fixture
def client(cell):
    with Client(cell.endpoints) as made:
        yield made


@pytest.fixture
def other(cell):
    with Client(cell.endpoints) as made:
        yield made


def test_ctrl_c_in_an_acquire_leaves_nothing_behind(client, other, path):
    main = threading.get_ident()
    with other.lock(path):

        def interrupt():
            until(lambda: waiters(other, path), "the waiter")
            signal.pthread_kill(main, signal.SIGINT)

        interrupter = threading.Thread(target=interrupt)
        interrupter.start()
        lock = client.lock(path)
        with pytest.raises(KeyboardInterrupt):
            lock.acquire()
        interrupter.join()
        until(lambda: not waiters(other, path), "the waiter to be withdrawn")
    assert not lock.held
    assert lock.acquire(timeout=5), "the object can be used again"
    lock.release()


def test_ctrl_c_that_interrupts_no_wait_is_seen_soon(client, other, path):
    """As when it comes just before the wait begins: here another thread has the signal."""

    def interrupt():
        until(lambda: waiters(other, path), "the waiter")
        os.kill(os.getpid(), signal.SIGINT)

    interrupter = threading.Thread(target=interrupt)
    with other.lock(path):
        interrupter.start()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with pytest.raises(KeyboardInterrupt):
                client.lock(path, timeout=WAIT_SECONDS).acquire()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            interrupter.join()
        until(lambda: not waiters(other, path), "the waiter to be withdrawn")


def interrupt_results(monkeypatch, before):
    """From now on each wait for what runs in the loop ends in Ctrl-C, after `before(the real wait)`."""
    result = Running.result

    def interrupted(running, seconds_max=None):
        before(lambda: result(running, seconds_max))
        raise KeyboardInterrupt

    monkeypatch.setattr(Running, "result", interrupted)


def test_ctrl_c_at_the_moment_of_the_grant_gives_the_lock_back(client, other, path, monkeypatch):
    """The wait for the result is interrupted when the result is there already."""
    lock = client.lock(path)
    with monkeypatch.context() as patch:
        interrupt_results(patch, lambda result: result())
        with pytest.raises(KeyboardInterrupt):
            lock.acquire()
    with other.lock(path, timeout=5):
        pass
    assert not lock.held


def test_ctrl_c_when_the_loop_has_the_lock_and_the_waiting_thread_not_yet_gives_it_back(
    client, other, path, monkeypatch
):
    lock = client.lock(path)
    with monkeypatch.context() as patch:
        interrupt_results(patch, lambda result: until(lambda: lock.held))
        with pytest.raises(KeyboardInterrupt):
            lock.acquire()
    with other.lock(path, timeout=5):
        pass
    assert not lock.held


def test_ctrl_c_at_any_step_of_an_acquire_leaves_nothing_behind_and_hangs_nothing(client, other, path):
    """Ctrl-C comes between any two steps of Python, also inside of what the standard library does for us."""
    client.ls("/")
    step, came = 0, True
    while came:
        step, left, came = step + 1, step + 1, False
        inside = False

        def trace(frame, event, argument):
            nonlocal left, came, inside
            if frame.f_code.co_name == "_acquire" and event in ("call", "return"):
                inside = event == "call"
            left -= inside and event == "line" and not came
            if inside and left == 0 and not came:
                came = True
                raise KeyboardInterrupt
            return trace

        lock = client.lock(path)
        before = sys.gettrace()
        with contextlib.suppress(KeyboardInterrupt):
            sys.settrace(trace)
            try:
                lock.acquire()
            finally:
                sys.settrace(before)
        if came:
            with other.lock(path, timeout=5):
                assert not lock.held, step
        else:
            lock.release()
    assert step > 10


@pytest.mark.parametrize("how", ["release", "end of the body"])
@pytest.mark.parametrize("when", ["not begun", "begun"])
def test_ctrl_c_in_a_release_still_frees_the_lock(client, other, path, monkeypatch, how, when):
    """Before the release is given to the loop, or before it has made its first step there."""
    begin, go_on = client._worker.begin, threading.Event()

    def begin_and_interrupt(running):
        if when == "begun":
            client._worker.post(lambda: go_on.wait(WAIT_SECONDS))
            begin(running)
        monkeypatch.undo()
        raise KeyboardInterrupt

    lock = client.lock(path)
    with pytest.raises(KeyboardInterrupt):
        if how == "release":
            lock.acquire()
            monkeypatch.setattr(client._worker, "begin", begin_and_interrupt)
            lock.release()
        else:
            with lock:
                monkeypatch.setattr(client._worker, "begin", begin_and_interrupt)
    go_on.set()
    with other.lock(path, timeout=5):
        assert not lock.held


def test_ctrl_c_in_the_wait_of_a_watch_leaves_no_waiter_and_misses_nothing(client, other, path):
    main = threading.get_ident()
    with client.watch(path) as watch:

        def interrupt():
            until(lambda: watch._watcher._waiters, "the wait")
            signal.pthread_kill(main, signal.SIGINT)

        interrupter = threading.Thread(target=interrupt)
        interrupter.start()
        with pytest.raises(KeyboardInterrupt):
            next(watch)
        interrupter.join()
        until(lambda: not watch._watcher._waiters, "the wait to end")
        revision = other.put(path, b"", parents=True).revision
        assert next(watch).revision == revision


def test_ctrl_c_in_the_moment_in_which_an_event_comes_takes_nothing(client, other, path, monkeypatch):
    with client.watch(path) as watch:
        with monkeypatch.context() as patch:
            interrupt_results(patch, lambda wait: wait())

            def write():
                until(lambda: watch._watcher._waiters, "the wait")
                with contextlib.suppress(KeyboardInterrupt):
                    other.put(path, b"1", parents=True)

            writer = threading.Thread(target=write)
            writer.start()
            with pytest.raises(KeyboardInterrupt):
                next(watch)
            writer.join()
        event = watch.next(timeout=WAIT_SECONDS)
        assert event is not None and event.revision == other.stat(path).revision
