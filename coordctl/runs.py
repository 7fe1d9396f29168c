"""The command of `watch`: one run at a time; what changes meanwhile is what the next run is about.

A run hears of its changes twice: in its environment, a line for each, and on its stdin as JSON lines.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType

from coordctl.errors import Exit, Failure
from coordctl.events import Told
from coordctl.output import jsonable

CHANGES_IN_ENVIRONMENT_MAX = 100  # more would not fit into a variable (128 KiB on Linux) if their paths are long
CHANGES_OF_A_RUN_MAX = 10_000
BYTES_OF_A_RUN_MAX = 16 * 1024 * 1024
REVISION, KIND, PATH = (f"COORD_WATCH_{name}" for name in ("REVISION", "KIND", "PATH"))
MANY, START = "many", "start"
_PASSED_ON = (signal.SIGTERM, signal.SIGHUP)


@dataclass(slots=True)
class Work:
    """What the next run is about: whole revisions, up to `revision`."""

    revision: int = 0
    told: list[Told] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)
    size: int = 0

    def add(self, told: Sequence[Told]) -> None:
        """What changed in one more revision."""
        self.revision = told[-1].revision
        self.told += told
        for item in told:
            line = json.dumps(item.shown, ensure_ascii=False, default=jsonable).encode(errors="replace") + b"\n"
            self.lines.append(line)
            self.size += len(line)

    @property
    def full(self) -> bool:
        """No more is taken before the run."""
        return len(self.told) >= CHANGES_OF_A_RUN_MAX or self.size >= BYTES_OF_A_RUN_MAX

    def environment(self, watched: str) -> Mapping[str, str]:
        """A line for each change, as far as they fit: else `many`, and the path that is watched."""
        if len(self.told) > CHANGES_IN_ENVIRONMENT_MAX:
            pairs = [(MANY, watched)]
        else:
            pairs = [(item.kind, item.path) for item in self.told] or [(START, watched)]
        kinds, paths = zip(*pairs, strict=True)
        return {REVISION: str(self.revision), KIND: "\n".join(kinds), PATH: "\n".join(paths)}


class Runs:
    """Runs the command, one run at a time. A signal that asks coordctl to end is passed on, unless the terminal has
    told the command already, and the end awaited."""

    def __init__(self, command: Sequence[str], watched: str) -> None:
        self.command = command
        self.watched = watched
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = 0
        self._told = False  # the command was told
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)  # so that it wakes who waits for more
        for number in _PASSED_ON:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._pass_on)
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, self._interrupt)

    @property
    def busy(self) -> bool:
        """A run goes on."""
        return self._process is not None

    @property
    def asked_to_end(self) -> int:
        """The signal that did, or 0."""
        return self._asked

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self._asked = number
        if self._process is not None:
            self._told = True
            self._process.send_signal(number)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-C: the command has got it from the terminal, too. Who types it again does not want to wait for it."""
        if self._asked == number:
            self._process = None
            raise KeyboardInterrupt
        self._asked = number
        self._told = self._process is not None

    def start(self, work: Work) -> None:
        """Begin a run; Failure if it cannot be started. The changes come on its stdin, a JSON line each."""
        with tempfile.TemporaryFile() as told:
            told.writelines(work.lines)
            told.seek(0)
            environment = {**os.environ, **work.environment(self.watched)}
            try:
                self._process = subprocess.Popen(list(self.command), stdin=told, env=environment)
            except OSError as error:
                raise Failure(f"{self.command[0]}: cannot be executed ({error})", Exit.NOT_EXECUTABLE) from None
        if self._asked and not self._told:  # the signal came while the command was being started
            self._pass_on(self._asked, None)

    def ended(self) -> int | None:
        """The exit code as a shell has it, once, when the run has ended."""
        code = self._process.poll() if self._process is not None else None
        if code is None:
            return None
        self._process = None
        return code if code >= 0 else Exit.SIGNAL - code

    def wait(self) -> None:
        """For the end of the run that goes on, if one does."""
        if self._process is not None:
            self._process.wait()
