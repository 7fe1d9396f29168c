"""`coordctl txn`: what is asked of the cell, what is printed of the answer, the exit codes, and the lines in errors."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

from coordclient import Conflict, CoordError, Entry, File, Plan, Stat, TxnResult
from coordctl import transactions
from coordctl.main import invoke
from coordctl.settings import Settings

STAT = Stat("/a", "file", 3, 4, 0, 0, 4, "1" * 16, 7, 0, 0, "alice", False, 0)
TEXT = "if exists /a\n   generation /a == 4\nthen put /a 'new'\n     rm /b\nelse cat /a; ls /"


@dataclass
class Cell:
    """Answers as it is told to, and remembers what it was asked."""

    answer: TxnResult | Plan | CoordError
    guards: list[Any] = field(default_factory=list)
    branches: list[list[Any]] = field(default_factory=lambda: [[]])

    def txn(self) -> Self:
        return self

    def guard(self, wire: Any) -> None:
        self.guards.append(wire)

    def step(self, wire: Any) -> None:
        self.branches[-1].append(wire)

    def otherwise(self) -> None:
        self.branches.append([])

    def commit(self) -> Any:
        assert not isinstance(self.answer, Plan)
        if isinstance(self.answer, CoordError):
            raise self.answer
        return self.answer

    def plan(self) -> Any:
        assert isinstance(self.answer, Plan)
        return self.answer


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """(exit code, stdout, stderr, cell) of one command line."""

    def run(answer: TxnResult | Plan | CoordError, *arguments: str) -> tuple[int, str, str, Cell]:
        cell = Cell(answer)

        @contextmanager
        def opened(settings: Settings) -> Any:
            yield cell

        monkeypatch.setattr(Settings, "open_client", opened)
        code = invoke(["txn", *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err, cell

    return run


DONE = TxnResult(True, 9, (STAT, 9), (True, True))
ELSE = TxnResult(
    False, 9, (File(b"old", STAT), [Entry("a", STAT), Entry("d", STAT._replace(kind="directory"))]), (True, False)
)


def test_what_is_asked_is_what_was_written(ask: Any) -> None:
    _, _, _, cell = ask(DONE, TEXT)
    assert cell.guards == [{"path": "/a", "exists": True}, {"path": "/a", "content_generation": 4, "is": "=="}]
    assert cell.branches == [
        [{"do": "put", "path": "/a", "contents": b"new"}, {"do": "delete", "path": "/b"}],
        [{"do": "get", "path": "/a"}, {"do": "ls", "path": "/"}],
    ]
    _, _, _, cell = ask(TxnResult(True, 9, (File(b"", STAT),), ()), "then cat /a")
    assert cell.branches == [[{"do": "get", "path": "/a"}]]


def test_what_was_done_is_a_row_for_each_step(ask: Any) -> None:
    code, out, err, _ = ask(DONE, TEXT)
    assert (code, err) == (0, "2 steps, at revision 9\n")
    assert out == "3\tput\t/a\t7 bytes, generation 4\n4\trm\t/b\tdeleted\n"
    assert ask(DONE, TEXT, "-q")[2] == ""
    assert ask(DONE, TEXT, "-o", "name")[1] == "/a\n/b\n"


def test_a_guard_that_does_not_hold_is_exit_4_and_named(ask: Any) -> None:
    code, out, err, _ = ask(ELSE, TEXT)
    assert (code, out) == (4, "5\tcat\t/a\told\n5\tls\t/\ta d/\n")
    assert err == "coordctl: TEXT:2:4: this guard does not hold: generation /a == 4; 2 steps after `else` were done\n"
    _, _, err, _ = ask(TxnResult(False, 9, (), (False, False)), "if exists /a; absent /b; then cat /a")
    assert err == "coordctl: TEXT:1:4: this guard does not hold: exists /a (and 1 more); nothing was done\n"


def test_json_has_everything(ask: Any) -> None:
    shown = json.loads(ask(ELSE, TEXT, "-o", "json")[1])
    assert (shown["succeeded"], shown["revision"]) == (False, 9)
    assert shown["guards"] == [
        {"line": 1, "guard": "exists /a", "holds": True},
        {"line": 2, "guard": "generation /a == 4", "holds": False},
    ]
    assert [(result["step"], result["path"]) for result in shown["results"]] == [("cat", "/a"), ("ls", "/")]
    assert shown["results"][0]["contents"] == {"text": "old"}
    assert [entry["name"] for entry in shown["results"][1]["entries"]] == ["a", "d"]
    shown = json.loads(ask(DONE, TEXT, "-o", "json")[1])
    assert shown["results"][0]["stat"]["content_generation"] == 4
    assert shown["results"][1]["revision"] == 9


@pytest.mark.parametrize(
    ("branch", "step", "named", "place"),
    [("then", 1, "delete /b", "4:6"), ("else", 0, "get /a", "5:6"), ("else", 1, "ls /", "5:14")],
)
def test_a_step_that_cannot_be_done_is_named(ask: Any, branch: str, step: int, named: str, place: str) -> None:
    error = Conflict(f"step {step} ({named}): no", details={"branch": branch, "step": step})
    code, out, err, _ = ask(error, TEXT)
    assert (code, out, err) == (4, "", f"coordctl: TEXT:{place}: no; nothing was done\n")


@pytest.mark.parametrize(("branch", "place"), [("then", "1:20"), ("else", "2:6")])
def test_of_two_steps_that_are_the_same_the_one_that_cannot_be_done_is_named(ask: Any, branch: str, place: str) -> None:
    error = Conflict("step 0 (get /a): no", details={"branch": branch, "step": 0})
    wanted = f"coordctl: TEXT:{place}: no; nothing was done\n"
    assert ask(error, "if exists /b; then cat /a\nelse cat /a")[2] == wanted


@pytest.mark.parametrize("details", [{"step": 0}, {"branch": "then", "step": 7}, {"branch": "then", "step": "0"}])
def test_a_step_that_is_not_there_is_told_as_it_came(ask: Any, details: dict[str, Any]) -> None:
    assert ask(Conflict("step 0 (get /a): no", details=details), "then cat /a")[2] == "coordctl: step 0 (get /a): no\n"


def test_a_refusal_of_the_whole_names_no_step(ask: Any) -> None:
    assert ask(Conflict("too much"), TEXT)[2] == "coordctl: too much\n"


def test_a_plan_says_what_holds_and_what_would_change(ask: Any) -> None:
    code, out, err, _ = ask(Plan(8, True, (True, True), ("/a", "/b"), None), "--dry-run", TEXT)
    assert (code, err) == (0, "2 steps would be done; nothing was changed\n")
    assert out == "1\texists /a\tholds\n2\tgeneration /a == 4\tholds\n-\t/a\twould change\n-\t/b\twould change\n"
    code, out, err, _ = ask(Plan(8, False, (True, False), (), None), "--dry-run", TEXT)
    assert (code, out.splitlines()[1]) == (4, "2\tgeneration /a == 4\tdoes not hold")
    assert err == "coordctl: TEXT:2:4: this guard does not hold: generation /a == 4; 2 steps would be done\n"


def test_a_plan_that_would_be_refused_says_where(ask: Any) -> None:
    plan = Plan(8, True, (True, True), (), Conflict("step 1 (delete /b): no", details={"branch": "then", "step": 1}))
    code, _, err, _ = ask(plan, "--dry-run", TEXT)
    assert (code, err) == (4, "coordctl: TEXT:4:6: no; nothing was done\n")
    shown = json.loads(ask(plan, "--dry-run", TEXT, "-o", "json")[1])
    assert (shown["changes"], shown["refused"]) == ([], "TEXT:4:6: no; nothing was done")


def test_contents_come_from_files_and_a_file_that_cannot_be_read_is_pointed_at(ask: Any, tmp_path: Path) -> None:
    (tmp_path / "contents").write_bytes(b"\xff\0")
    text = tmp_path / "text"
    text.write_text(f"then put /a -f {tmp_path / 'contents'}")
    _, _, _, cell = ask(TxnResult(True, 9, (STAT,), ()), "-f", str(text))
    assert cell.branches == [[{"do": "put", "path": "/a", "contents": b"\xff\0"}]]
    text.write_text("then\nput /a -f /dev/zero")
    code, _, err, cell = ask(DONE, "-f", str(text))
    words = "more than 262144 bytes, which is the most that a file can have"
    assert (code, err) == (2, f"coordctl: {text}:2:11: /dev/zero: {words}\n")
    text.write_text(f"then\nput /a -f {tmp_path / 'nothing'}")
    code, _, err, _ = ask(DONE, "-f", str(text))
    assert (code, err) == (2, f"coordctl: {text}:2:11: {tmp_path / 'nothing'}: No such file or directory\n")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"then cp /a /b", "1:6: no step is called cp; there are: put, mkdir, rm, cat, stat, ls"),
        ("if\nexists /ä\xff".encode("latin-1"), '2:9: this is no UTF-8 text; "\\xHH" is a byte'),
        (b"x" * 100, "more than 99 bytes"),
        (b"then\nput /a//b x", "2:1: empty part (two slashes, or one at the end): '/a//b'"),
        (b"if sequencer x; exists /..\nthen ls /", "1:17: '.' and '..' are not names: '/..'"),
    ],
)
def test_what_cannot_be_understood_is_pointed_at(
    ask: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, words: str
) -> None:
    monkeypatch.setattr("coordctl.txn.TEXT_BYTES_MAX", 99)
    text = tmp_path / "text"
    text.write_bytes(data)
    code, out, err, cell = ask(DONE, "-f", str(text))
    assert (code, out, cell.guards) == (2, "", [])
    assert err.replace(f"{text}: ", f"{text}:") == f"coordctl: {text}:{words}\n"


def test_text_and_file_exclude_each_other(ask: Any) -> None:
    assert ask(DONE, "then cat /a", "-f", "/dev/null")[0] == 2


def test_every_step_of_the_text_is_a_command() -> None:
    from coordctl.main import cli

    assert set(transactions.STEPS) <= set(cli.commands)
