"""coordctl history and cat --revision against a real cell."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from coordd.testing.cells import RunningCell, start_cell
from tests.process.coordctl_runs import Coordctl

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture(scope="module")
def cell() -> Iterator[RunningCell]:
    with start_cell(1) as cell:
        yield cell


@pytest.fixture
def ctl(cell: RunningCell) -> Iterator[Coordctl]:
    ctl = Coordctl(cell)
    yield ctl
    ctl.close()


def fields(line: str | bytes) -> list[str]:
    text = line.decode() if isinstance(line, bytes) else line
    return text.rstrip("\n").split("\t")


# --- history


def test_the_history_of_a_node_outlives_it(ctl: Coordctl) -> None:
    first = ctl.json("put", "-p", "/h/file", "one")["revision"]
    second = ctl.json("put", "/h/file", "second")["revision"]
    assert ctl.run("rm", "/h/file").returncode == 0
    done = ctl.run("history", "/h/file")
    rows = [fields(line) for line in done.stdout.splitlines()]
    assert [(row[0], row[2], row[4], row[6], row[7]) for row in rows[1:]] == [
        (str(second), "changed", "put", "/h/file", "6"),
        (str(first), "created", "put", "/h/file", "3"),
    ]
    assert (rows[0][2], rows[0][4]) == ("deleted", "delete")
    assert all(re.fullmatch(TIME, row[1]) for row in rows)
    assert [change["kind"] for change in ctl.json("history", "-R", "/h", "--since", str(first))["changes"]] == [
        "deleted",
        "changed",
    ]
    assert ctl.run("cat", "--revision", str(first), "/h/file").stdout == b"one"
    assert ctl.json("cat", "--revision", str(second), "/h/file")["contents"] == {"text": "second"}
    assert ctl.run("cat", "/h/file").returncode == 3
    assert ctl.run("cat", "--revision", str(first - 1), "/h/file").returncode == 3
    ahead = ctl.run("cat", "--revision", "1000000", "/h/file")
    assert (ahead.returncode, ahead.stdout) == (3, b"")
    assert ahead.stderr.startswith(b"coordctl: ")


def test_a_page_of_history_names_the_next(ctl: Coordctl) -> None:
    for number in range(3):
        ctl.run("put", "/pages", str(number))
    done = ctl.run("history", "/pages", "-n", "2")
    assert len(done.stdout.splitlines()) == 2
    (upto,) = re.findall(rb"there are older ones: --upto (\d+) shows them", done.stderr)
    older = ctl.run("history", "/pages", "-n", "2", "--upto", upto.decode())
    assert [fields(line)[2] for line in older.stdout.splitlines()] == ["created"]
    assert ctl.run("history", "/never").stderr == b"/never has not changed\n"
