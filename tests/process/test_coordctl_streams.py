"""coordctl called with stdin, stdout or stderr closed, as daemons and cron jobs do."""

from __future__ import annotations

import subprocess

import pytest

from coordd.testing.cells import start_cell
from tests.process.coordctl_runs import COORDCTL, WAIT_SECONDS, environment


@pytest.fixture(scope="module")
def cell():
    with start_cell(1) as running:
        yield running


def run(cell, command, *closed):
    """`command` of a shell, with these streams closed for it."""
    text = f"{' '.join(COORDCTL)} {command} {' '.join(closed)}"
    return subprocess.run(
        ["sh", "-c", text], capture_output=True, text=True, env=environment(cell), timeout=WAIT_SECONDS, check=False
    )


@pytest.mark.parametrize(
    "closed", [("<&-",), (">&-",), ("2>&-",), (">&-", "2>&-"), ("<&-", ">&-", "2>&-")], ids=" ".join
)
def test_a_command_runs_under_its_lock_whatever_is_closed(cell, tmp_path, closed):
    ran = tmp_path / "ran"
    done = run(cell, f"lock /streams -- sh -c 'echo $COORD_LOCK_TOKEN >{ran}; exit 7'", *closed)
    assert done.returncode == 7, done.stderr
    assert int(ran.read_text()) > 0
    assert done.stderr == ""


def test_what_is_printed_to_a_closed_stream_goes_nowhere(cell):
    assert run(cell, "put /streams-file contents", ">&-").returncode == 0
    assert run(cell, "cat /streams-file", ">&-").returncode == 0
    assert run(cell, "ls", ">&-", "2>&-").returncode == 0
    assert run(cell, "cat /streams-missing", "2>&-").returncode == 3
    assert run(cell, "cat /streams-file").stdout == "contents"


def test_a_closed_stdin_is_not_an_empty_file(cell):
    run(cell, "put /streams-kept contents")
    done = run(cell, "put /streams-kept", "<&-")
    assert done.returncode == 2
    assert done.stderr.startswith("coordctl: there is no stdin")
    assert run(cell, "cat /streams-kept").stdout == "contents"
