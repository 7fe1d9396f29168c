"""coordctl called with stdin, stdout or stderr closed, as daemons and cron jobs do."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from tests.coordctl.runs import COORDCTL, WAIT_SECONDS, environment


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


def test_what_the_encoding_of_stdout_has_not_is_spelled_out(cell):
    run(cell, "put /streams-ü ö")
    for encoding, shown in (("ascii", b"streams-\\xfc"), ("latin-1", b"streams-\xfc"), ("utf-8", "streams-ü".encode())):
        settings = {**environment(cell), "PYTHONIOENCODING": encoding}
        done = [
            subprocess.run(
                [*COORDCTL, "ls", *form], capture_output=True, env=settings, timeout=WAIT_SECONDS, check=True
            )
            for form in ((), ("-o", "json"))
        ]
        assert shown in done[0].stdout.splitlines()
        assert "streams-ü" in [entry["name"] for entry in json.loads(done[1].stdout.decode(encoding))]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="SKIPPED: needs /dev/full")
def test_a_full_disk_below_stdout_is_a_line_and_no_traceback(cell):
    done = run(cell, "history -R / --count 1", ">/dev/full")
    assert (done.returncode, done.stderr) == (1, "coordctl: No space left on device\n")
