"""The keeper without its front: the lock is not free while something of the command runs, or might still be started."""

from __future__ import annotations

import asyncio
import os
import select
import signal
from collections.abc import Callable, Iterator

import pytest

from coordctl import family, pipes
from coordctl.keeper import Keeper
from coordctl.order import Connection, Order


@pytest.fixture
def keeper() -> Iterator[Callable[[Callable[[int], object]], Keeper]]:
    """Makes a keeper that has told its grant to a front (a process that does what the test wants) and heard nothing."""
    fronts: list[int] = []

    def make(front_does: Callable[[int], object]) -> Keeper:
        reader, to_keeper = pipes.make_pipe()
        _, writer = pipes.make_pipe()
        front = os.fork()
        if front == 0:
            front_does(to_keeper)
            os._exit(0)
        os.close(to_keeper)
        fronts.append(front)
        assert select.select([reader], [], [], 20)[0], "the front does not do what the test wants"
        asked = Order(("/x",), "exclusive", None, 5.0, 12.0, 0.1, 75, ("true",), Connection(None, None, 1.0))
        made = Keeper(asked, reader, writer, front)
        made._granted = True
        made._deadline = 1e12
        return made

    yield make
    for front in fronts:
        os.kill(front, signal.SIGKILL)
        os.waitpid(front, 0)


def ends_family(keeper: Keeper) -> bool:
    async def run() -> bool:
        asyncio.get_running_loop().add_reader(keeper._inbox.reader, keeper._on_front)
        return await keeper._end_family()

    return asyncio.run(run())


def test_a_front_that_stopped_before_it_started_anything_is_killed_and_nothing_runs(keeper) -> None:
    def stops(to_keeper: int) -> None:
        pipes.send(to_keeper, {"beat": True})
        os.kill(os.getpid(), signal.SIGSTOP)

    made = keeper(stops)
    assert ends_family(made)
    assert made._command is None
    assert made._front is not None
    found = os.waitid(os.P_PID, made._front.pid, os.WEXITED | os.WNOWAIT)
    assert found is not None and found.si_status == signal.SIGKILL


def test_a_child_that_was_not_yet_the_command_when_the_front_died_is_found_and_killed(keeper) -> None:
    def forks_and_stops(to_keeper: int) -> None:
        front = os.getpid()
        if os.fork() == 0:
            while (row := family.look_up(front)) is not None and not row.gone:
                select.select([], [], [], 0.001)
            os.setpgid(0, 0)
            pipes.send(to_keeper, {"command": os.getpid()})
            os.execvp("sleep", ["sleep", "66"])
        pipes.send(to_keeper, {"beat": True})
        os.kill(front, signal.SIGSTOP)

    made = keeper(forks_and_stops)
    assert ends_family(made)
    assert made._command is not None
    row = family.look_up(made._command.pid)
    assert row is None or row.gone


def test_an_orphan_with_a_group_and_an_environment_of_its_own_is_no_stranger_when_the_front_is_killed(keeper) -> None:
    def starts_a_command_and_adopts_an_orphan(to_keeper: int) -> None:
        for environment in (dict(os.environ), {}):
            if os.fork() == 0:
                os.setsid()
                if environment:
                    pipes.send(to_keeper, {"command": os.getpid()})
                os.execvpe("sleep", ["sleep", "66"], environment)
        signal.pause()

    made = keeper(starts_a_command_and_adopts_an_orphan)
    made._on_front()
    assert made._front is not None
    while len(made._seen) < 2:
        made._look_at_family()
    os.kill(made._front.pid, signal.SIGKILL)
    os.waitid(os.P_PID, made._front.pid, os.WEXITED | os.WNOWAIT)
    assert ends_family(made)
    assert [row for row in made._seen if (now := family.look_up(row.pid)) is not None and not now.gone] == []


def test_a_command_that_has_no_group_of_its_own_yet_costs_its_callers_group_nothing(keeper) -> None:
    def starts_a_slow_child(to_keeper: int) -> None:
        if os.fork() == 0:
            pipes.send(to_keeper, {"command": os.getpid()})
            signal.pause()
        signal.pause()

    made = keeper(starts_a_slow_child)
    made._on_front()
    assert made._command is not None and made._front is not None
    assert [row.pid for row in made._relatives()] == [made._command.pid]
    assert ends_family(made)


def test_where_there_is_no_proof_that_nothing_runs_the_lock_is_not_made_free(keeper, monkeypatch) -> None:
    monkeypatch.setattr("coordctl.order.GIVE_UP_SECONDS", 0.1)
    released = os.pipe()

    def leaves_a_child_behind(to_keeper: int) -> None:
        if os.fork() == 0:
            os.close(released[1])
            os.read(released[0], 1)
        else:
            pipes.send(to_keeper, {"beat": True})

    made = keeper(leaves_a_child_behind)
    assert not ends_family(made)
    os.close(released[1])
