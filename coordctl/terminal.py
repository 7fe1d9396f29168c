"""Job control: which process group may read the terminal.

The command runs in a process group of its own, so that all of it can be signalled. For a terminal that would be a
background job, in which an editor cannot read the keyboard; so the front lends the foreground to that group while the
command runs, as a shell does, and takes it back when the command stops or ends.
"""

from __future__ import annotations

import os
import signal
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def _may_write() -> Iterator[None]:
    """A background group that changes the terminal would be stopped by SIGTTOU."""
    before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTTOU, before)


class Terminal:
    """The controlling terminal of this process."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._modes: list[Any] = termios.tcgetattr(descriptor)

    @classmethod
    def of_this_process(cls) -> Terminal | None:
        """None when there is none (cron, systemd, a container without a terminal)."""
        try:
            descriptor = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
        except OSError:
            return None
        try:
            return cls(descriptor)
        except termios.error:
            os.close(descriptor)
            return None

    def foreground(self) -> int:
        """The group that may read; 0 when the terminal is gone (hung up)."""
        try:
            return os.tcgetpgrp(self.descriptor)
        except OSError:
            return 0

    def is_ours(self) -> bool:
        """True when this process's group is the foreground group."""
        return self.foreground() == os.getpgrp()

    def give(self, group: int) -> None:
        """Make `group` the foreground group; nothing happens when the group or the terminal is gone."""
        with _may_write():
            try:
                os.tcsetpgrp(self.descriptor, group)
            except OSError:
                return  # the next look at `foreground` tells

    def hand_over(self, giver: int, group: int) -> None:
        """The foreground goes from `giver` to `group`; nothing happens when a shell has taken it meanwhile."""
        if self.foreground() == giver:
            self.give(group)

    def take_back(self, group: int) -> None:
        """The foreground returns to us if `group` has it."""
        self.hand_over(group, os.getpgrp())

    def restore(self) -> None:
        """The modes (echo, line editing) from before a command that was killed in the middle of something."""
        if self.is_ours():
            with _may_write():
                try:
                    termios.tcsetattr(self.descriptor, termios.TCSADRAIN, self._modes)
                except termios.error:
                    return  # hung up meanwhile
