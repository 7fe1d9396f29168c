"""Ctrl-C while coordctl is still being loaded: it ends as any program does, and says nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

WAIT_SECONDS = 30.0


@pytest.mark.parametrize(("before", "code"), [("", -signal.SIGINT), ("trap '' INT; ", 0)])
def test_ctrl_c_while_the_program_is_loaded_is_no_traceback(tmp_path: Path, before: str, code: int) -> None:
    (tmp_path / "click").mkdir()
    (tmp_path / "click" / "__init__.py").write_text(  # found before the real one, in whose place it waits
        "import sys\nprint('loading', flush=True)\nsys.stdin.read()\nsys.exit(0)\n"
    )
    shell = subprocess.Popen(
        ["sh", "-c", f'{before}exec "$0" -m coordctl version', sys.executable],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), *sys.path))},
    )
    assert shell.stdout is not None
    assert shell.stdout.readline() == "loading\n"
    shell.send_signal(signal.SIGINT)
    assert shell.communicate(timeout=WAIT_SECONDS) == ("", "")
    assert shell.returncode == code
