"""Ctrl-Z stops the whole job, at whatever moment it comes: the test plays the shell and the keeper."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import termios
from collections.abc import Callable, Iterator

import pytest

from coordctl import family, order, pipes
from coordctl.front import Front
from coordctl.order import Connection, Order

SECONDS = 20.0


class Job:
    """A front in a job of a shell on a terminal; `said` is what the shell sees of it: "stopped", "ended CODE"."""

    def __init__(self, command: tuple[str, ...], prepare: Callable[[], object] = lambda: None) -> None:
        from_keeper, self.writer = pipes.make_pipe()
        keeper_reads, to_keeper = pipes.make_pipe()
        self.inbox = pipes.Inbox(keeper_reads)
        self._said, says = os.pipe()
        listens, self._go = os.pipe()
        asked = Order(("/x",), "exclusive", None, 5.0, 12.0, 0.2, 75, command, Connection(None, None, 1.0))
        self.shell, self.screen = pty.fork()
        if self.shell == 0:
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            os.close(self.writer)
            front = os.fork()
            if front == 0:
                os.setpgid(0, 0)
                os.tcsetpgrp(0, os.getpid())
                signal.signal(signal.SIGTTOU, signal.SIG_DFL)
                prepare()
                os._exit(Front(asked, from_keeper, to_keeper, os.getppid(), lambda grants: None).run())
            _be_shell(front, says, listens)
        for descriptor in (from_keeper, to_keeper, says, listens):
            os.close(descriptor)
        self.front = int(self.said().split()[1])
        self.until("beat")

    def grant(self) -> None:
        pipes.send(self.writer, {"grant": 0, "token": 1, "sequencer": "s"})
        pipes.send(self.writer, {"granted": order.now() + 60.0})

    def until(self, wanted: str) -> pipes.Message:
        while True:
            for message in self.inbox.take():
                if wanted in message:
                    return message
            assert select.select([self.inbox.reader], [], [], SECONDS)[0], f"the front did not say {wanted!r}"

    def said(self) -> str:
        assert select.select([self._said], [], [], SECONDS)[0], "the shell sees nothing of its job"
        return os.read(self._said, 100).decode()

    def ended(self) -> int:
        self.until("done")
        os.close(self.writer)
        self.writer = -1
        words = self.said().split()
        assert words[0] == "ended"
        return int(words[1])

    def go_on(self) -> None:
        """fg"""
        os.write(self._go, b"g")

    def type(self, text: str) -> None:
        os.write(self.screen, text.encode())

    def close(self) -> None:
        for group in {os.getpgid(pid) for pid in (self.front, self.shell) if family.look_up(pid) is not None}:
            os.killpg(group, signal.SIGKILL)
        if self.writer >= 0:
            os.close(self.writer)
        os.close(self.screen)
        os.waitpid(self.shell, 0)


def _be_shell(front: int, says: int, listens: int) -> None:
    os.write(says, f"job {front}".encode())
    while True:
        _, status = os.waitpid(front, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            os.tcsetpgrp(0, os.getpgrp())
            os.write(says, f"ended {os.waitstatus_to_exitcode(status)}".encode())
            os._exit(0)
        os.tcsetpgrp(0, os.getpgrp())
        os.write(says, b"stopped")
        os.read(listens, 1)
        os.tcsetpgrp(0, front)
        os.killpg(front, signal.SIGCONT)


@pytest.fixture
def start() -> Iterator[Callable[..., Job]]:
    jobs: list[Job] = []

    def begin(*arguments: object) -> Job:
        jobs.append(Job(*arguments))  # type: ignore[arg-type]
        return jobs[-1]

    yield begin
    for job in jobs:
        job.close()


def stopped(pid: int) -> bool:
    row = family.look_up(pid)
    return row is not None and row.state == "T"


def test_ctrl_z_before_the_program_has_begun_stops_the_job(start) -> None:
    def typed_between_fork_and_exec() -> None:
        send = pipes.send

        def send_and_stop(writer: int, message: pipes.Message) -> bool:
            if "command" in message:
                os.kill(os.getpid(), signal.SIGTSTP)
            return send(writer, message)

        pipes.send = send_and_stop

    job = start(("sh", "-c", "exit 3"), typed_between_fork_and_exec)
    job.grant()
    assert job.said() == "stopped"
    assert job.until("suspended") == {"suspended": True}
    job.go_on()
    assert job.ended() == 3


def test_ctrl_z_right_after_fg_stops_the_job_again(start) -> None:
    def typed_before_the_front_reads_its_signals() -> None:
        suspend, wait, times = Front._suspend, Front._wait, []

        def suspend_and_count(front: Front, whom: int) -> None:
            suspend(front, whom)
            times.append(front)

        def stop_and_wait(front: Front) -> None:
            if len(times) == 1 and front._command is not None:
                times.append(front)
                os.killpg(front._command.pid, signal.SIGTSTP)
                while not stopped(front._command.pid):
                    select.select([], [], [], 0.001)
            wait(front)

        Front._suspend, Front._wait = suspend_and_count, stop_and_wait  # type: ignore[assignment, method-assign]

    job = start(("sh", "-c", "kill -TSTP $$; read word; exit 4"), typed_before_the_front_reads_its_signals)
    job.grant()
    for _ in range(2):
        assert job.said() == "stopped"
        job.go_on()
    job.type("word\n")
    assert job.ended() == 4


def test_ctrl_z_while_the_foreground_is_still_the_fronts_stops_the_command_too(start) -> None:
    job = start(("sh", "-c", "read word; exit 5"))
    job.grant()
    command = job.until("command")["command"]
    os.kill(job.front, signal.SIGTSTP)
    assert job.said() == "stopped"
    assert job.until("suspended") == {"suspended": True}
    while not stopped(command):
        select.select([], [], [], 0.001)
    job.go_on()
    assert job.until("suspended") == {"suspended": False}
    job.type("word\n")
    assert job.ended() == 5


def test_who_is_stopped_while_it_waits_says_so_and_goes_on_waiting(start) -> None:
    job = start(("true",))
    os.kill(job.front, signal.SIGTSTP)
    assert job.said() == "stopped"
    assert job.until("suspended") == {"suspended": True}
    job.grant()
    job.go_on()
    assert job.until("suspended") == {"suspended": False}
    assert job.ended() == 0


def test_a_command_that_stops_itself_by_sigstop_stops_the_job(start) -> None:
    job = start(("sh", "-c", "kill -STOP $$; exit 6"))
    job.grant()
    assert job.said() == "stopped"
    job.go_on()
    assert job.ended() == 6


def test_a_shell_that_has_taken_the_terminal_keeps_it(start) -> None:
    """Ctrl-Z stopped the caller of coordctl, and so gave the shell the foreground before the command was to get it."""

    def taken_by_the_shell() -> None:
        from coordctl.terminal import Terminal

        hand_over = Terminal.hand_over

        def late(terminal: Terminal, giver: int, group: int) -> None:
            terminal.give(os.getsid(0))
            hand_over(terminal, giver, group)

        Terminal.hand_over = late  # type: ignore[assignment, method-assign]

    job = start(("sh", "-c", "exit 7"), taken_by_the_shell)
    job.grant()
    job.until("done")
    assert fcntl.ioctl(job.screen, termios.TIOCGPGRP, bytes(4)) == job.shell.to_bytes(4, "little")
