"""coordctl history, cat --revision, watch and txn against a real cell."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordclient import Client
from coordd.testing.cells import RunningCell, start_cell
from tests.coordctl.runs import WAIT_SECONDS, Coordctl

ROUNDS_MAX = 20
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture(scope="module")
def client(cell: RunningCell) -> Iterator[Client]:
    """For what is no matter of coordctl's: quicker."""
    with Client(cell.endpoints) as client:
        yield client


def fields(line: str | bytes) -> list[str]:
    text = line.decode() if isinstance(line, bytes) else line
    return text.rstrip("\n").split("\t")


# --- history


def test_the_history_of_a_node_outlives_it(ctl: Coordctl, client: Client) -> None:
    first = client.put("/h/file", b"one", parents=True).revision
    second = client.put("/h/file", b"second").revision
    client.delete("/h/file")
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
    assert ctl.run("cat", "--revision", str(first - 1), "/h/file").returncode == 3
    ahead = ctl.run("cat", "--revision", "1000000", "/h/file")
    assert (ahead.returncode, ahead.stdout) == (3, b"")
    assert ahead.stderr.startswith(b"coordctl: ")


def test_a_page_of_history_names_the_next(ctl: Coordctl, client: Client) -> None:
    for number in range(3):
        client.put("/pages", b"%d" % number)
    done = ctl.run("history", "/pages", "-n", "2")
    assert len(done.stdout.splitlines()) == 2
    (upto,) = re.findall(rb"there are older ones: --upto (\d+) shows them", done.stderr)
    older = ctl.run("history", "/pages", "-n", "2", "--upto", upto.decode())
    assert [fields(line)[2] for line in older.stdout.splitlines()] == ["created"]
    assert ctl.run("history", "/never").stderr == b"/never has not changed\n"


# --- txn


def test_a_transaction_does_all_or_the_other(ctl: Coordctl, client: Client, tmp_path: Path) -> None:
    text = "if absent /t/a\nthen put -p /t/a one\n     mkdir /t/d\n     cat /t/a\nelse cat /t/a; ls /t"
    done = ctl.run("txn", stdin=text)
    assert done.returncode == 0, done.stderr
    rows = [fields(line) for line in done.stdout.splitlines()]
    assert [row[:3] for row in rows] == [["2", "put", "/t/a"], ["3", "mkdir", "/t/d"], ["4", "cat", "/t/a"]]
    assert [rows[1][3], rows[2][3]] == ["made", "one"]
    (revision,) = re.findall(rb"3 steps, at revision (\d+)", done.stderr)
    assert {change.revision for change in client.history("/t", subtree=True).changes} == {int(revision)}
    (tmp_path / "text").write_text(text)
    again = ctl.run("txn", "-f", str(tmp_path / "text"))
    assert again.returncode == 4
    assert [fields(line)[2:] for line in again.stdout.splitlines()] == [["/t/a", "one"], ["/t", "a d/"]]
    words = (
        f"coordctl: {tmp_path / 'text'}:1:4: this guard does not hold: absent /t/a; 2 steps after `else` were done\n"
    )
    assert again.stderr.decode() == words


def test_a_step_that_cannot_be_done_is_named_and_nothing_is_done(ctl: Coordctl, client: Client) -> None:
    done = ctl.run("txn", "then put /made y\nrm --if-generation 1 /never\nelse ls /; cat /never")
    assert done.returncode == 3
    assert done.stderr.startswith(b"coordctl: TEXT:2:1: ")
    assert done.stderr.endswith(b"; nothing was done\n")
    assert "/made" not in [f"/{entry.name}" for entry in client.ls("/")]


def test_a_dry_run_changes_nothing_and_exits_as_the_real_one_would(ctl: Coordctl, client: Client) -> None:
    client.put("/dry", b"x")
    planned = ctl.run("txn", "--dry-run", "if exists /dry\ngeneration /dry == 1\nthen put /dry y\nelse put /dry z")
    assert planned.returncode == 4
    assert [fields(line) for line in planned.stdout.splitlines()] == [
        ["1", "exists /dry", "holds"],
        ["2", "generation /dry == 1", "does not hold"],
        ["-", "/dry", "would change"],
    ]
    assert b"TEXT:2:1: this guard does not hold" in planned.stderr
    refused = ctl.run("txn", "--dry-run", "then put /dry y\nmkdir /dry")
    assert refused.returncode == 4
    assert b"TEXT:2:1: " in refused.stderr
    assert client.get("/dry").contents == b"x"


def test_a_guard_may_be_a_lock(ctl: Coordctl, client: Client) -> None:
    with client.lock("/guard") as lock:
        text = f"if held /guard\nsequencer {lock.sequencer}\nthen put /guarded yes"
        assert ctl.run("txn", text).returncode == 0
    done = ctl.run("txn", text)
    assert done.returncode == 4
    assert b"held /guard (and 1 more); nothing was done" in done.stderr


# --- watch


def watching(ctl: Coordctl, *arguments: str) -> subprocess.Popen[str]:
    process = ctl.start("watch", *arguments)
    assert process.stderr is not None
    assert process.stderr.readline().startswith("watching /")
    return process


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_each_change_is_a_line_until_ctrl_c(ctl: Coordctl, client: Client) -> None:
    process = watching(ctl, "-R", "/w")
    client.put("/w/a", b"one", parents=True)
    assert [fields(line_of(process))[2::4] for _ in range(2)] == [["created", "/w/"], ["created", "/w/a"]]
    client.put("/elsewhere", b"x")
    client.delete("/w/a")
    assert fields(line_of(process))[2::4] == ["deleted", "/w/a"]
    process.send_signal(signal.SIGINT)
    assert process.wait(WAIT_SECONDS) == 130
    assert process.communicate() == ("", "")


def test_a_watch_goes_on_from_a_revision(ctl: Coordctl, client: Client) -> None:
    first = client.put("/since", b"one").revision
    client.put("/since", b"two\nlines")
    process = ctl.start("watch", "/since", "--since", str(first), "--values", "both", "-o", "json", "--once")
    found = json.loads(line_of(process))
    assert (found["kind"], found["before"], found["after"]) == ("changed", {"text": "one"}, {"text": "two\nlines"})
    assert process.wait(WAIT_SECONDS) == 0


def test_a_revision_that_is_yet_to_come_is_a_resync_that_is_said(ctl: Coordctl, client: Client) -> None:
    client.put("/resync", b"x")
    process = ctl.start("watch", "/resync", "--since", "1000000", "--once")
    out, words = process.communicate(timeout=WAIT_SECONDS)
    assert [fields(line)[2::4] for line in out.splitlines()] == [["resync", "/resync"], ["present", "/resync"]]
    assert "/resync: revision 1000000 is yet to come" in words


def test_a_reader_that_has_seen_enough_ends_a_watch_on_which_nothing_happens(ctl: Coordctl) -> None:
    process = watching(ctl, "/quiet")
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    assert process.wait(WAIT_SECONDS) == 141
    assert process.stderr is not None
    assert process.stderr.read() == ""


def test_a_command_runs_for_what_changed_and_then_for_all_that_changed_meanwhile(
    ctl: Coordctl, client: Client, tmp_path: Path
) -> None:
    """How much of it the watch has heard of when the command ends is up to the machine: so it may take more runs than
    one, and now and then another round to see several changes in one run."""
    go, fifo, script = tmp_path / "go", tmp_path / "fifo", tmp_path / "script"
    script.write_text(
        'echo "$COORD_WATCH_REVISION $COORD_WATCH_KIND" $COORD_WATCH_PATH; wc -l; '
        f"test -e {go} || read -r _ <{fifo}; exit 3\n"
    )
    subprocess.run(["mkfifo", fifo], check=True)
    client.put("/run", b"0")
    process = watching(ctl, "-R", "/run", "--", "sh", str(script))
    assert process.stderr is not None

    def run() -> list[str]:
        """What one run of the script says; the number of changes comes last."""
        lines = [line_of(process)]
        while lines[-1] and not lines[-1].strip().isdigit():
            lines.append(line_of(process))
        return [line.strip() for line in lines]

    for _ in range(ROUNDS_MAX):
        revision = client.put("/run", b"1").revision
        assert run() == [f"{revision} changed /run", "1"]
        revisions = [client.put("/run", b"%d" % number).revision for number in range(3)]
        go.touch()
        held = os.open(fifo, os.O_RDWR)  # waits for no reader: the script may have seen the other file first
        os.write(held, b"go\n")
        assert process.stderr.readline() == "coordctl: sh ended with 3; the watch goes on\n"
        told = most = 0
        while told < 3:
            *words, count = run()
            most = max(most, int(count))
            told += int(count)
            expected = f"{revisions[told - 1]} " + "\n".join(["changed"] * int(count)) + " /run" * int(count)
            assert words == expected.split("\n")
            assert process.stderr.readline() == "coordctl: sh ended with 3; the watch goes on\n"
        assert told == 3
        os.close(held)
        go.unlink()
        if most > 1:
            break
    else:
        pytest.fail("never several changes in one run")
    process.terminate()
    assert process.wait(WAIT_SECONDS) == 143


def test_term_is_passed_on_to_the_command_and_its_end_awaited(ctl: Coordctl) -> None:
    script = "trap 'echo bye; exit 9' TERM; echo $COORD_WATCH_KIND; while :; do sleep 0.05; done"
    process = ctl.start("watch", "/term", "--at-start", "--", "sh", "-c", script)
    assert line_of(process) == "start\n"
    process.terminate()
    out, words = process.communicate(timeout=WAIT_SECONDS)
    assert (process.returncode, out) == (143, "bye\n")
    assert "goes on" not in words


def test_ctrl_c_waits_for_the_command_that_got_it_too(ctl: Coordctl, tmp_path: Path) -> None:
    done = tmp_path / "done"
    script = f"trap 'sleep 0.3; echo yes >{done}; exit' INT; echo READY; while :; do sleep 0.05; done"
    process = ctl.start("watch", "/int", "--at-start", "--", "sh", "-c", script, preexec=os.setpgrp)
    assert line_of(process) == "READY\n"
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(WAIT_SECONDS) == 130
    assert done.read_text() == "yes\n"


def test_once_ends_with_the_code_of_the_command(ctl: Coordctl, client: Client) -> None:
    process = watching(ctl, "/once", "--once", "--", "sh", "-c", "exit 7")
    client.put("/once", b"x")
    assert process.wait(WAIT_SECONDS) == 7
    assert ctl.run("watch", "/once", "--", "/nowhere/program").returncode == 127


def test_a_watch_survives_the_death_of_the_master() -> None:
    with start_cell(3) as cell:
        ctl = Coordctl(cell)
        process = watching(ctl, "-R", "/")
        with Client(cell.endpoints, request_timeout=WAIT_SECONDS) as client:
            revisions = [client.put("/a", b"1").revision]
            cell.kill(cell.master())
            revisions += [client.put("/a", b"%d" % number).revision for number in range(2)]
        assert [int(fields(line_of(process))[0]) for _ in revisions] == revisions
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT_SECONDS) == 130
        ctl.close()
