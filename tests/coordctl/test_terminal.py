"""coordctl lock on a terminal: the command has the foreground, Ctrl-C and Ctrl-Z do what they do without coordctl."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordd.testing.cells import RunningCell
from tests.coordctl.runs import COORDCTL, WAIT_SECONDS, Coordctl, Family, environment

BASH = shutil.which("bash")
pytestmark = pytest.mark.skipif(BASH is None, reason="SKIPPED: needs bash (apt-get install bash)")
CTRL_C, CTRL_D, CTRL_Z = "\x03", "\x04", "\x1a"
LOCK = f"{' '.join(COORDCTL)} lock"


class Shell:
    """An interactive bash on a terminal of its own."""

    def __init__(self, cell: RunningCell) -> None:
        self.seen = ""
        self.pid, self.screen = pty.fork()
        if self.pid == 0:
            assert BASH is not None
            settings = {**environment(cell), "PS1": "$ ", "TERM": "dumb"}
            os.execve(BASH, ["bash", "--norc", "--noprofile", "-i"], settings)
        self.type("bind 'set enable-bracketed-paste off' 2>/dev/null; echo begin-$((40+2))\n")
        self.until("begin-42")

    def type(self, text: str) -> None:
        os.write(self.screen, text.encode())

    def until(self, pattern: str) -> re.Match[str]:
        """Read the screen until it shows `pattern`; what was read up to there is not looked at again."""
        end = time.monotonic() + WAIT_SECONDS
        while (match := re.search(pattern, self.seen)) is None:
            ready, _, _ = select.select([self.screen], [], [], max(0, end - time.monotonic()))
            assert ready, f"no {pattern!r} on the screen:\n{self.seen}"
            self.seen += os.read(self.screen, 65536).decode(errors="replace").replace("\r", "")
        self.seen = self.seen[match.end() :]
        return match

    def close(self) -> None:
        os.close(self.screen)  # the terminal hangs up, and everything on it gets SIGHUP
        os.waitpid(self.pid, 0)


@pytest.fixture
def shell(cell: RunningCell) -> Iterator[Shell]:
    shell = Shell(cell)
    yield shell
    shell.close()


def test_the_command_can_read_the_keyboard(shell: Shell) -> None:
    shell.type(f"{LOCK} /tty -- sh -c 'echo READY-$((1+1)); read word; echo \"<$word>\"'; echo code=$?\n")
    shell.until("READY-2")
    shell.type("typed\n")
    shell.until("<typed>")
    shell.until("code=0")


def test_ctrl_c_ends_the_command_with_130(shell: Shell) -> None:
    shell.type(f"{LOCK} /tty -- sh -c 'echo READY-$((1+1)); exec sleep 60'\n")
    shell.until("READY-2")
    shell.type(CTRL_C)
    shell.type("echo code=$?\n")
    shell.until("code=130")


def test_a_command_that_handles_ctrl_c_goes_on(shell: Shell, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, lambda number, _: print('CAUGHT', flush=True))\n"
        "print('READY', flush=True)\n"
        "sys.stdin.readline()\n"
        "sys.exit(4)\n"
    )
    shell.type(f"{LOCK} /tty -- {COORDCTL[0]} {program}; echo code=$?\n")
    shell.until("READY")
    shell.type(CTRL_C)
    shell.until("CAUGHT")
    shell.type("word\n")
    shell.until("code=4")


def test_ctrl_c_also_ends_the_loop_of_a_script_that_calls_it(shell: Shell) -> None:
    shell.type(f"bash -c 'while :; do {LOCK} /tty -- sh -c \"echo READY-\\$((1+1)); exec sleep 60\"; done'\n")
    shell.until("READY-2")
    shell.type(CTRL_C)
    shell.type("echo code=$?\n")
    shell.until("code=130")


def test_ctrl_z_gives_the_shell_back_and_fg_goes_on_with_the_lock_held(shell: Shell, cell: RunningCell) -> None:
    shell.type(f"{LOCK} /tty -- sh -c 'echo READY-$((1+1)); exec cat'; echo code=$?\n")
    shell.until("READY-2")
    shell.type("one\n")
    shell.until("one\none\n")
    (before,) = Coordctl(cell).json("locks", "/tty")
    shell.type(CTRL_Z)
    shell.until("Stopped")
    shell.type("echo prompt-$((1+1))\n")
    shell.until("prompt-2")
    assert Coordctl(cell).json("locks", "/tty")[0]["token"] == before["token"]
    shell.type("fg\n")
    shell.until("exec cat")
    shell.type("two\n")
    shell.until("two\ntwo\n")
    shell.type(CTRL_D)
    shell.until(r"\$ ")
    assert Coordctl(cell).json("locks", "/tty") == []


def test_a_suspended_command_is_killed_in_time_by_the_keeper(shell: Shell, cell: RunningCell, tmp_path: Path) -> None:
    family, ends = Family(tmp_path), tmp_path / "ends"
    script = tmp_path / "script"
    # The parentheses: some shells start a plain command by vfork(2), and Ctrl-Z between that and exec stops the child
    # alone; its parent waits for it, unstoppable, and no shell sees anything that has stopped (without coordctl, too).
    script.write_text(
        f"trap 'echo done >{ends}; exit' TERM; exec 9>{family.path}; echo READY; while :; do (sleep 0.05); done"
    )
    shell.type(f"{LOCK} /suspended --lease 1.5 --lock-delay 1.5 --kill-after 1 -- sh {script}\n")
    shell.until("READY")
    shell.type(CTRL_Z)
    shell.until("Stopped")
    cell.kill(1, signal.SIGSTOP)
    try:
        assert family.gone_within(3.0), "the deadline is at most lease + lock-delay away"
    finally:
        cell.kill(1, signal.SIGCONT)
        family.close()
    assert ends.read_text() == "done\n", "it was asked before it was killed"
    shell.type("fg; echo code=$?\n")
    shell.until("coordctl: lock lost: /suspended: ")
    shell.until("code=76")


def test_a_job_in_the_background_reads_when_it_is_brought_to_the_foreground(shell: Shell) -> None:
    shell.type(f"{LOCK} /tty -- sh -c 'read word; echo \"<$word>\"' &\n")
    shell.until(r"\[1\]")
    shell.type("fg\n")
    shell.until("lock /tty")
    shell.type("late\n")
    shell.until("<late>")


def test_two_commands_of_one_job_have_the_terminal_one_after_the_other(shell: Shell, tmp_path: Path) -> None:
    script = tmp_path / "script"
    # `head` takes the whole line in one read; the shell's own `read` takes single bytes, which the two could share out.
    reader = "echo READY; word=$(head -n 1 </dev/tty); echo $1-$word"
    script.write_text(
        f"{LOCK} /first -- sh -c '{reader}' - FIRST &\n{LOCK} /second -- sh -c '{reader}' - SECOND &\nwait\n"
    )
    shell.type(f"sh {script}; echo code=$?\n")
    shell.until("READY")
    shell.until("READY")
    shell.type("one\n")
    first = shell.until("(FIRST|SECOND)-one")[1]
    shell.type("two\n")
    shell.until(f"{'SECOND' if first == 'FIRST' else 'FIRST'}-two")
    shell.until("code=0")


def test_the_terminal_is_usable_again_after_a_command_that_was_killed_in_raw_mode(shell: Shell) -> None:
    shell.type(f"{LOCK} /tty -- sh -c 'stty raw -echo; echo READY-$((1+1)); kill -KILL $$'; echo code=$?\n")
    shell.until("READY-2")
    shell.until("code=137")
    shell.type("stty -a | grep -o -- '-*icanon'\n")
    shell.until("\nicanon")


@pytest.mark.parametrize("victim", ["keeper", "front", "lock"])
def test_nothing_of_an_interactive_command_is_alive_when_the_next_holder_starts(
    shell: Shell, cell: RunningCell, tmp_path: Path, victim: str
) -> None:
    """A command on the terminal that ignores TERM, has children in sessions and groups of their own, and reads."""
    family, ctl = Family(tmp_path), Coordctl(cell)
    script = tmp_path / "script"
    script.write_text(
        f"trap '' TERM HUP INT; exec 9>{family.path}; setsid sleep 61 & (setsid sh -c 'sleep 62; true' &)\n"
        "echo READY-$((1+1)); while :; do read word; done"
    )
    path = f"/interactive-{victim}"
    shell.type(f"{LOCK} {path} --lease 1.5 --lock-delay 1.5 --kill-after 1 -- sh {script} & front=$!; fg\n")
    shell.until("READY-2")
    (holder,) = ctl.json("locks", path)[0]["holders"]
    front = int(holder["client"]["name"].rpartition(" ")[2])
    keeper = int(holder["client"]["pid"])
    if victim == "lock":
        assert ctl.run("unlock", path, "--reason", "a test", "--after-lease").returncode == 0
    else:
        os.kill(keeper if victim == "keeper" else front, signal.SIGKILL)
    try:
        successor = ctl.holding(path, "-w", "20")
        assert family.gone_within(0), "a successor has the lock while the command runs"
        assert successor.token > holder["token"]
    finally:
        family.close()
        ctl.close()
    shell.type("\necho prompt-$((1+1))\n")
    shell.until("prompt-2")
