"""Starting the command: no shell in between, a process group of its own, and the keeper told before it runs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence

from coordctl import pipes
from coordctl.errors import Exit, Failure
from coordctl.terminal import Terminal

ENVIRONMENT_PATH = "COORD_LOCK_PATH"
ENVIRONMENT_TOKEN = "COORD_LOCK_TOKEN"
ENVIRONMENT_SEQUENCER = "COORD_LOCK_SEQUENCER"


def check_command(command: Sequence[str]) -> None:
    """A command that does not exist is refused before anybody waits for a lock."""
    program = command[0]
    if shutil.which(program) is not None:
        return
    if os.path.dirname(program) and os.path.exists(program):
        raise Failure(f"{program}: cannot be executed", Exit.NOT_EXECUTABLE)
    raise Failure(f"{program}: command not found", Exit.COMMAND_NOT_FOUND)


def start_command(
    command: Sequence[str], environment: Mapping[str, str], terminal: Terminal | None, to_keeper: int
) -> subprocess.Popen[bytes]:
    """The running command; `Failure` with 126 or 127 when it cannot be started.

    What happens between fork and exec is done in the child, so that neither order of the two processes matters: when
    the program begins to run, it is in its group, has the terminal, and the keeper knows whom to kill.
    """

    def before_exec() -> None:
        os.setpgid(0, 0)
        if terminal is not None:
            terminal.give(os.getpid())
        signal.set_wakeup_fd(-1)
        pipes.send(to_keeper, {"command": os.getpid()})

    try:
        # The front has one thread, so code between fork and exec is safe. Descriptors that the caller opened for the
        # command (3<file) stay open; ours are closed by exec.
        return subprocess.Popen(
            list(command),
            env=environment,
            close_fds=False,
            preexec_fn=before_exec,  # noqa: PLW1509
        )
    except FileNotFoundError as error:
        raise Failure(f"{command[0]}: command not found ({error.strerror})", Exit.COMMAND_NOT_FOUND) from None
    except (OSError, ValueError) as error:
        raise Failure(f"{command[0]}: cannot be executed ({error})", Exit.NOT_EXECUTABLE) from None
