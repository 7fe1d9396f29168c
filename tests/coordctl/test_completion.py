"""The scripts of `coordctl completion` in the real shells: what the Tab key makes of a line that somebody types."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordclient import Client
from coordctl.completion import SHELLS
from coordd.testing.cells import RunningCell, start_cell
from tests.coordctl.runs import COORDCTL, ROOT, WAIT_SECONDS, Coordctl, environment

TAB, CTRL_U, CTRL_X = "\t", "\x15", "\x18"
START = {
    "bash": ("--norc", "--noprofile", "-i"),
    "zsh": ("-f", "-i"),
    "fish": ("--no-config", "--private", "-i"),
}
# What the user has in the start file, and Ctrl-X, which says what stands on the line.
PREPARE = {
    "bash": """eval "$(coordctl completion bash)"; bind -x '"\\C-x": say "<$READLINE_LINE>"'""",
    "zsh": 'eval "$(coordctl completion zsh)"; show() { say "<$BUFFER>" }; zle -N show; bindkey "^X" show',
    "fish": 'coordctl completion fish | source; bind \\cx \'say "<"(commandline)">"\'',
}


class Typist:
    """Somebody at an interactive shell."""

    def __init__(self, shell: str, directory: Path, environment_: dict[str, str]) -> None:
        self.line_file = directory / "line"
        self.screen = ""
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir(directory / "here")
            os.execve(str(shutil.which(shell)), [shell, *START[shell]], environment_)
        self.write(PREPARE[shell] + "\r")
        self.write("printf 'begin-%d\\n' 42\r")
        self.until("begin-42")

    def write(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def until(self, pattern: str) -> None:
        end = time.monotonic() + WAIT_SECONDS
        while re.search(pattern, self.screen) is None:
            self.read(end, pattern)

    def read(self, end: float, what: str) -> None:
        ready, _, _ = select.select([self.terminal], [], [], 0.02)
        if ready:
            self.screen += os.read(self.terminal, 65536).decode(errors="replace")
        assert time.monotonic() < end, f"no {what} on the screen:\n{self.screen!r}"

    def completes(self, typed: str, wanted: str) -> bool:
        """Whether the Tab key makes `wanted` of `typed`, sooner or later: there is no completion without an answer of
        the cell in half a second."""
        end = time.monotonic() + WAIT_SECONDS
        while self.completed(typed).replace("\\,", ",") != wanted:  # bash quotes more than it must
            if time.monotonic() > end:
                return False
        return True

    def completed(self, typed: str) -> str:
        """The line after `typed` and the Tab key."""
        self.screen = ""
        self.write(CTRL_U + typed + TAB + CTRL_X)
        end = time.monotonic() + WAIT_SECONDS
        while not self.line_file.exists():
            self.read(end, "line")
        line = self.line_file.read_text()
        self.line_file.unlink()
        return line[1:-1]

    def close(self) -> None:
        os.close(self.terminal)
        os.waitpid(self.pid, 0)


@pytest.fixture(scope="module")
def cell() -> Iterator[RunningCell]:
    with start_cell(1) as cell:
        with Client(cell.endpoints) as client:
            for path in ("/alone", "/dir/inside", "/many-1", "/many-2", "/with space,comma:colon"):
                client.put(path, b"contents", parents=True)
        yield cell


@pytest.fixture(params=SHELLS)
def typist(request: pytest.FixtureRequest, cell: RunningCell, tmp_path: Path) -> Iterator[Typist]:
    shell = request.param
    if shutil.which(shell) is None:
        pytest.skip(f"SKIPPED: needs {shell} (apt-get install {shell})")
    (tmp_path / "bin").mkdir()
    for name, script in (
        ("coordctl", f'cd {ROOT}; exec {" ".join(COORDCTL)} "$@"'),
        ("say", 'printf %s "$1" >"$LINE.new"; mv "$LINE.new" "$LINE"'),
    ):
        program = tmp_path / "bin" / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    (tmp_path / "here" / "below").mkdir(parents=True)
    (tmp_path / "here" / "below" / "program").touch()
    settings = {
        **environment(cell),
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "LINE": str(tmp_path / "line"),
        "TERM": "dumb" if shell == "bash" else "xterm",
        "PS1": "$ ",
    }
    where = ("--endpoints", ",".join(cell.endpoints))
    assert Coordctl(cell).run("context", "add", "staging", *where, **settings).returncode == 0
    found = Typist(shell, tmp_path, settings)
    yield found
    found.close()


def test_the_tab_key(typist: Typist) -> None:
    for typed, line in (
        ("coordctl who", "coordctl whoami "),
        ("coordctl put --if-gen", "coordctl put --if-generation "),
        ("coordctl --context st", "coordctl --context staging "),
        ("coordctl ls /di", "coordctl ls /dir/"),
        ("coordctl cat /many-", "coordctl cat /many-"),
        ("coordctl cat /with\\ s", "coordctl cat /with\\ space,comma:colon "),
        ("coordctl lock /alone -- below/pro", "coordctl lock /alone -- below/program "),
    ):
        assert typist.completes(typed, line), (typed, typist.screen)
