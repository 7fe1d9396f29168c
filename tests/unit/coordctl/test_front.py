"""The front with a keeper that says what the test wants: no cell, no network."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from coordctl import family, order, pipes
from coordctl.errors import Exit
from coordctl.front import Front
from coordctl.order import Connection, Order

SECONDS = 20.0


class Keeper:
    """The test plays the keeper; the front runs in a process of its own."""

    def __init__(
        self,
        command: tuple[str, ...],
        paths: tuple[str, ...] = ("/x",),
        prepare: Callable[[], object] = lambda: None,
    ) -> None:
        from_keeper, self.writer = pipes.make_pipe()
        keeper_reads, to_keeper = pipes.make_pipe()
        self.inbox = pipes.Inbox(keeper_reads)
        asked = Order(paths, "exclusive", None, 5.0, 12.0, 0.2, 75, command, Connection(None, None, 1.0))
        self.front = os.fork()
        if self.front == 0:
            os.close(self.writer)
            os.close(keeper_reads)
            prepare()
            os._exit(Front(asked, from_keeper, to_keeper, os.getppid(), lambda grant: None).run())
        os.close(from_keeper)
        os.close(to_keeper)

    def grant(self, deadline: float = 60.0) -> None:
        pipes.send(self.writer, {"grant": 0, "token": 1, "sequencer": "s"})
        pipes.send(self.writer, {"granted": order.now() + deadline})

    def lose(self, reason: str, deadline: float = 60.0) -> None:
        pipes.send(self.writer, {"lost": reason, "deadline": order.now() + deadline})

    def until(self, wanted: str) -> list[pipes.Message]:
        """All messages up to the one of that kind, or the end."""
        found: list[pipes.Message] = []
        while not self.inbox.closed and not any(wanted in message for message in found):
            assert select.select([self.inbox.reader], [], [], SECONDS)[0], f"the front did not say {wanted!r}"
            found += self.inbox.take()
        return found

    def end(self) -> int:
        os.close(self.writer)
        return os.waitstatus_to_exitcode(os.waitpid(self.front, 0)[1])


def unkillable() -> None:
    """As processes of another user are."""
    family.send_signal = lambda process, number: PermissionError()
    family.signal_group = lambda group, number: None
    order.GIVE_UP_SECONDS = 0.1


def test_the_keeper_knows_the_command_before_it_runs_and_hears_when_it_is_done() -> None:
    keeper = Keeper(("true",))
    keeper.grant()
    told = [next(iter(message)) for message in keeper.until("done")]
    assert [word for word in told if word != "beat"] == ["command", "done"]
    assert keeper.end() == 0


def test_a_front_that_waits_shows_that_it_lives() -> None:
    keeper = Keeper(("true",))
    assert keeper.until("beat")[-1] == {"beat": True}
    os.kill(keeper.front, signal.SIGTERM)
    keeper.until("done")
    assert keeper.end() == 128 + signal.SIGTERM


def test_a_signal_that_comes_while_the_command_is_being_started_reaches_it() -> None:
    def with_a_slow_child() -> None:
        front, setpgid = os.getpid(), os.setpgid

        def late(pid: int, group: int) -> None:
            if os.getpid() != front:
                select.select([], [], [], 0.3)
            setpgid(pid, group)

        os.setpgid = late

    keeper = Keeper(("sleep", "60"), prepare=with_a_slow_child)
    keeper.grant()
    while not family.below(keeper.front):
        assert not keeper.inbox.closed
    os.kill(keeper.front, signal.SIGTERM)
    keeper.until("done")
    assert keeper.end() == 128 + signal.SIGTERM


def test_what_cannot_be_killed_is_reported_and_never_called_done() -> None:
    keeper = Keeper(("sleep", "60"), prepare=unkillable)
    keeper.grant()
    (pid,) = (message["command"] for message in keeper.until("command") if "command" in message)
    try:
        keeper.lose("the test says so", deadline=1.0)
        assert not any("done" in message for message in keeper.until("done"))
        assert keeper.inbox.closed, "the front is gone"
        assert keeper.end() == Exit.LOST
    finally:
        os.kill(pid, signal.SIGKILL)


def test_without_proc_the_group_of_the_command_is_its_family() -> None:
    def no_proc() -> None:
        family.process_table = dict

    keeper = Keeper(("sh", "-c", "trap '' TERM; sleep 61 & sleep 62"), prepare=no_proc)
    keeper.grant()
    (group,) = (message["command"] for message in keeper.until("command") if "command" in message)
    keeper.lose("the test says so", deadline=2.0)
    keeper.until("done")
    assert family.group_as_process(group) == []
    assert keeper.end() == Exit.LOST


def test_the_reason_of_a_loss_is_told_though_its_deadline_is_near(capfd: pytest.CaptureFixture[str]) -> None:
    """An operator's loss brings a nearer deadline with it: never is the deadline known, and its reason not yet."""
    keeper = Keeper(("sleep", "60"))
    keeper.grant()
    keeper.until("command")
    keeper.lose("an operator says so", deadline=0.6)
    keeper.until("done")
    assert keeper.end() == Exit.LOST
    assert capfd.readouterr().err == "coordctl: lock lost: /x: an operator says so\n"


@pytest.mark.parametrize("deadline", [0.1, -1.0])
def test_a_grant_that_is_nearly_over_starts_no_command(deadline: float) -> None:
    keeper = Keeper(("true",))
    keeper.grant(deadline)
    assert not any("command" in message for message in keeper.until("done"))
    assert keeper.end() == Exit.LOST


def test_a_front_that_wakes_to_a_grant_and_its_loss_starts_no_command() -> None:
    keeper = Keeper(("true",))
    keeper.until("beat")
    os.kill(keeper.front, signal.SIGSTOP)
    os.waitpid(keeper.front, os.WUNTRACED)
    keeper.grant()
    keeper.lose("the front was stopped")
    os.kill(keeper.front, signal.SIGCONT)
    told = keeper.until("done")
    assert keeper.end() == Exit.LOST
    assert not any("command" in message for message in (*told, *keeper.until("the end of all who could say it")))


def test_of_several_locks_the_command_has_one_line_each(tmp_path: Path) -> None:
    keeper = Keeper(("sh", "-c", f'printf "%s|" "$COORD_LOCK_PATH" "$COORD_LOCK_TOKEN" >{tmp_path}/seen'), ("/b", "/a"))
    for at, token in enumerate((7, 8)):
        pipes.send(keeper.writer, {"grant": at, "token": token, "sequencer": f"s{at}"})
    pipes.send(keeper.writer, {"granted": order.now() + 60})
    keeper.until("done")
    assert keeper.end() == 0
    assert (tmp_path / "seen").read_text() == "/b\n/a|7\n8|"
