"""coordctl ls cat put rm mkdir stat locks session cell against a real cell: data, words, exit codes."""

from __future__ import annotations

import json
import re

import pytest

from coordd.testing.cells import start_cell
from tests.coordctl.runs import Coordctl


def test_what_was_put_is_what_cat_prints_byte_for_byte(ctl: Coordctl) -> None:
    every = bytes(range(256))
    assert ctl.run("put", "/bytes", stdin=every).returncode == 0
    assert ctl.run("cat", "/bytes").stdout == every
    assert ctl.run("put", "/text", "as given").returncode == 0
    assert ctl.run("cat", "/text").stdout == b"as given"
    assert ctl.json("cat", "/text")["contents"] == {"text": "as given"}


def test_put_from_a_file_and_with_conditions(ctl: Coordctl, tmp_path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"from a file\n")
    assert ctl.run("put", "/deep/down/file", "-f", str(source)).returncode == 3
    stat = ctl.json("put", "/deep/down/file", "-f", str(source), "--parents")
    assert stat["path"] == "/deep/down/file"
    endless = ctl.run("put", "/deep/down/file", "-f", "/dev/zero")  # was read until the memory was full
    assert endless.returncode == 1 and b"more than 262144 bytes" in endless.stderr
    generation = str(stat["content_generation"])
    assert ctl.run("put", "/deep/down/file", "other", "--if-absent").returncode == 4
    assert ctl.run("put", "/deep/down/file", "other", "--if-generation", generation).returncode == 0
    stale = ctl.run("put", "/deep/down/file", "third", "--if-generation", generation)
    assert (stale.returncode, stale.stdout) == (4, b"")
    assert stale.stderr.startswith(b"coordctl: ")
    assert ctl.run("cat", "/deep/down/file").stdout == b"other"


def test_directories(ctl: Coordctl) -> None:
    assert ctl.run("mkdir", "/d/e").returncode == 3
    assert ctl.run("mkdir", "-p", "/d/e").returncode == 0
    assert ctl.run("mkdir", "-p", "/d/e").returncode == 0
    assert ctl.run("mkdir", "/d/e").returncode == 4
    ctl.run("put", "/d/file", "12345")
    assert ctl.run("ls", "/d").stdout == b"e/\nfile\n"
    assert ctl.run("ls", "-R", "/d").stdout == b"e/\nfile\n"
    ctl.run("put", "/d/e/deep", "1")
    assert ctl.run("ls", "-R", "/d").stdout == b"e/\ne/deep\nfile\n"
    assert ctl.run("ls", "/d/file").stdout == b"/d/file\n"
    fields = ctl.run("ls", "-l", "/d").stdout.decode().splitlines()[1].split("\t")
    assert (fields[0], fields[1], fields[5]) == ("file", "5", "file")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", fields[4])
    assert [entry["name"] for entry in ctl.json("ls", "/d")] == ["e", "file"]
    assert ctl.run("rm", "/d").returncode == 4
    assert ctl.run("rm", "/d/e/deep", "/d/e", "/d/file", "/d").returncode == 0
    assert ctl.run("ls", "/d").returncode == 3


def test_a_missing_file_is_exit_3_and_one_line(ctl: Coordctl) -> None:
    for command in (("cat", "/nothing"), ("stat", "/nothing"), ("rm", "/nothing"), ("ls", "/nothing")):
        done = ctl.run(*command)
        assert (done.returncode, done.stdout) == (3, b""), command
        assert re.fullmatch(rb"coordctl: [^\n]*/nothing[^\n]*\n", done.stderr), done.stderr


@pytest.mark.parametrize("path", ["relative", "/a//b", "/a/../b", "/ls/elsewhere/x"])
def test_a_malformed_path_is_exit_2(ctl: Coordctl, path: str) -> None:
    done = ctl.run("cat", path)
    assert done.returncode == 2
    assert done.stderr.startswith(b"coordctl: ")


def test_stat_names_everything(ctl: Coordctl) -> None:
    ctl.run("put", "/s", "abc")
    rows = dict(line.split("\t") for line in ctl.run("stat", "/s").stdout.decode().splitlines())
    assert (rows["path"], rows["kind"], rows["size"]) == ("/s", "file", "3")
    assert ctl.json("stat", "/s")["checksum"] == rows["checksum"]


def test_locks_shows_holders_and_waiters(ctl: Coordctl) -> None:
    held = ctl.holding("/l/a")
    waiter = ctl.start("lock", "/l/a", "-v", "--", "true")
    assert waiter.stderr is not None
    assert waiter.stderr.readline().startswith("waiting for /l/a, held by ")
    lines = [line.split("\t") for line in ctl.run("locks", "/l").stdout.decode().splitlines()]
    assert [line[:4] for line in lines] == [
        ["/l/a", "held", "exclusive", str(held.token)],
        ["/l/a", "waits #1", "exclusive", "-"],
    ]
    assert len(ctl.run("locks", "/l", "--held").stdout.splitlines()) == 1
    assert len(ctl.run("locks", "/l", "--waiting").stdout.splitlines()) == 1
    assert ctl.run("locks", "/elsewhere").stdout == b""
    (row,) = ctl.json("locks", "/l")
    assert (row["path"], len(row["holders"]), len(row["waiters"])) == ("/l/a", 1, 1)
    refused = ctl.run("rm", "/l/a")
    assert refused.returncode == 4
    names = [line.split("\t")[1] for line in ctl.run("session", "ls").stdout.decode().splitlines()]
    assert any("(sh, run by pid " in name for name in names)
    held.process.communicate("", timeout=30)
    assert waiter.wait(30) == 0


def test_session_ls_as_json(ctl: Coordctl) -> None:
    held = ctl.holding("/l/b", "--lease", "7")
    rows = [row for row in ctl.json("session", "ls") if row["holds"] == 1]
    assert [row["lease_seconds"] for row in rows] == [7.0]
    assert 0 < rows[0]["left_seconds"] <= 7.7
    held.process.communicate("", timeout=30)


def test_cell_status_of_a_cell_that_loses_its_replicas() -> None:
    with start_cell(3) as cell:
        ctl = Coordctl(cell)
        master = cell.master()
        done = ctl.run("cell", "status")
        assert done.returncode == 0
        rows = [line.split("\t") for line in done.stdout.decode().splitlines()]
        assert [row[0] for row in rows] == ["1", "2", "3"]
        assert rows[master - 1][1] == "master"
        words = f"cell test: replica {master} is the master; 3 of 3 replicas answer, can lose 1 more\n"
        assert done.stderr.decode() == words
        followers = [replica for replica in (1, 2, 3) if replica != master]
        cell.kill(followers[0])
        done = ctl.run("--timeout", "2", "cell", "status")
        assert done.returncode == 0
        assert b"2 of 3 replicas answer, can lose none" in done.stderr
        members = ctl.json("cell", "members")["members"]
        assert [set(member) for member in members] == 3 * [
            {"replica", "voter", "address", "chosen_upto", "heard_seconds_ago"}
        ]
        cell.kill(master)
        done = ctl.run("--timeout", "2", "cell", "status", "-o", "json")
        assert done.returncode == 6
        assert b"too few: 2 are needed" in done.stderr
        assert json.loads(done.stdout)["master"] is None
        assert b"_ms" not in done.stdout  # durations are in seconds, and their fields say so
        cell.kill(followers[1])
        done = ctl.run("--timeout", "2", "cell", "status")
        assert (done.returncode, done.stdout) == (6, b"")
        assert done.stderr.startswith(b"coordctl: no replica answers: ")
        done = ctl.run("--timeout", "0.5", "cat", "/x")
        assert done.returncode == 6
        assert all(address.encode() in done.stderr for address in cell.endpoints)
        done = ctl.run("--timeout", "0.5", "lock", "/x", "--", "true")
        assert done.returncode == 6


def test_the_wrong_cell_is_refused(ctl: Coordctl) -> None:
    assert ctl.run("--cell", "another", "ls").returncode == 2
    assert ctl.run("--cell", "another", "cell", "status").returncode == 2
    assert ctl.run("--cell", "another", "lock", "/x", "--", "true").returncode == 2
    assert ctl.run("--cell", "test", "ls").returncode == 0


def test_a_reader_that_has_seen_enough_is_no_failure(ctl: Coordctl) -> None:
    process = ctl.start("ls", "-l", "/")
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    assert process.wait(30) in (0, 141)
    assert process.stderr is not None
    assert process.stderr.read() == ""
