"""Starting the command: no shell in between, a process group of its own, and the keeper told before it runs.

The front never waits for the child to become the program: Ctrl-Z may stop the child before that, and only a front that
looks at its children can stop the whole job then, as a shell expects. So the child's failure to become the program is
read from a pipe when it has ended.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from coordctl import pipes
from coordctl.errors import Exit, Failure
from coordctl.terminal import Terminal

ENVIRONMENT_PATH = "COORD_LOCK_PATH"
ENVIRONMENT_TOKEN = "COORD_LOCK_TOKEN"
ENVIRONMENT_SEQUENCER = "COORD_LOCK_SEQUENCER"
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
CAUGHT = (*FORWARDED, signal.SIGTSTP, signal.SIGCONT, signal.SIGCHLD)
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
_MESSAGE_BYTES_MAX = 4096


def check_command(command: Sequence[str]) -> None:
    """A command that does not exist is refused before anybody waits for a lock."""
    program = command[0]
    if shutil.which(program) is not None:
        return
    if os.path.dirname(program) and os.path.exists(program):
        raise Failure(f"{program}: cannot be executed", Exit.NOT_EXECUTABLE)
    raise Failure(f"{program}: command not found", Exit.COMMAND_NOT_FOUND)


@dataclass(frozen=True, slots=True)
class Command:
    """The child; `pid` is also its process group."""

    pid: int
    _failure: int  # a pipe that says why the child did not become the program; empty when it did

    def failure(self) -> Failure | None:
        """Once it has ended: why it could not be started (126 or 127), None if it was."""
        with open(self._failure, "rb") as file:
            text = file.read(_MESSAGE_BYTES_MAX).decode(errors="replace")
        code, _, message = text.partition(" ")
        return Failure(message, int(code)) if text else None


def start_command(
    command: Sequence[str], environment: Mapping[str, str], terminal: Terminal | None, to_keeper: int
) -> Command:
    """The child that becomes the command; `Failure` when there can be no child.

    What happens between fork and exec is done in the child, so that neither order of the two processes matters: when
    the program begins to run, it is in its group, has the terminal, and the keeper knows whom to kill. Signals wait
    meanwhile: what is typed before the program begins is not lost in the copy of this one.
    """
    reader, writer = os.pipe()
    front = os.getpgrp()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, CAUGHT)
    try:
        pid = os.fork()  # this process has one thread, so code between fork and exec is safe
        if pid == 0:
            _become(command, environment, terminal, to_keeper, writer, before, front)
        with suppress(ProcessLookupError, PermissionError):  # it has ended, or is the program already
            os.setpgid(pid, pid)  # here too: a signal that is passed on at once must find the group
    except OSError as error:
        os.close(reader)
        raise Failure(f"{command[0]}: cannot be started ({error})", Exit.NOT_EXECUTABLE) from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(writer)
    return Command(pid, reader)


def _become(
    command: Sequence[str],
    environment: Mapping[str, str],
    terminal: Terminal | None,
    to_keeper: int,
    failure: int,
    mask: set[signal.Signals] | set[int],
    front: int,
) -> NoReturn:
    """In the child. Descriptors that the caller opened for the command (3<file) stay open; ours are closed by exec."""
    try:
        signal.set_wakeup_fd(-1)
        for number in (*CAUGHT, *_IGNORED_BY_PYTHON):
            if number in _IGNORED_BY_PYTHON or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        os.setpgid(0, 0)
        if terminal is not None:
            terminal.hand_over(front, os.getpid())
        pipes.send(to_keeper, {"command": os.getpid()})
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.execvpe(command[0], list(command), dict(environment))
    except FileNotFoundError as error:
        text = f"{Exit.COMMAND_NOT_FOUND:d} {command[0]}: command not found ({error.strerror})"
    except (OSError, ValueError) as error:
        text = f"{Exit.NOT_EXECUTABLE:d} {command[0]}: cannot be executed ({error})"
    except BaseException as error:
        text = f"{Exit.NOT_EXECUTABLE:d} {command[0]}: cannot be started ({type(error).__name__}: {error})"
    try:
        os.write(failure, text.encode(errors="replace")[:_MESSAGE_BYTES_MAX])
    finally:
        os._exit(Exit.COMMAND_NOT_FOUND)
