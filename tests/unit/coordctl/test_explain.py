"""`explain`: every code that anybody can meet, with what may be done; completion of commands, codes and paths."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from importlib import import_module

import pytest

from coordclient import errors
from coordclient.protocol.errors import ERRORS
from coordctl import completion
from coordctl.errors import exit_code_of
from coordctl.explain import explain, known
from coordctl.main import cli, invoke


def test_every_code_of_the_table_and_of_the_library_is_explained() -> None:
    classes = [made for made in vars(errors).values() if isinstance(made, type) and issubclass(made, errors.CoordError)]
    assert {made.code for made in classes} <= set(known())
    for code in known():
        fields = explain(code)
        assert all(fields[key] for key in ("code", "meaning", "action", "advice")), code
        assert fields["exit_code"] == int(exit_code_of(code))
        assert fields["http_status"] == (ERRORS[code].status if code in ERRORS else None)


def test_explain_prints_the_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["explain", "not_held", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["exit_code"] == 76
    assert invoke(["explain", "-o", "name"]) == 0
    assert capsys.readouterr().out.splitlines() == known()


def test_an_unknown_code_is_exit_3_and_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["explain", "nonsense"]) == 3
    printed = capsys.readouterr()
    assert printed.out == ""
    assert all(code in printed.err for code in known())
    assert len(printed.err.splitlines()) == 1


def complete(*words: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("COMP_WORDS", "\n".join(words))
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    return completion._Bash(cli, {}, "coordctl", completion.VARIABLE).complete().split("\n")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("coordctl", "sess"), ["plain,session"]),
        (("coordctl", "explain", "not_h"), ["plain,not_held"]),
        (("coordctl", "lock", "--lock"), ["plain,--lock-delay"]),
        (("coordctl", "completion", "z"), ["plain,zsh"]),
        (("coordctl", "lock", "/x", "--", "rep"), ["file,rep"]),
        (("coordctl", "lock", "/x", "--", "run", "rep"), ["file,rep"]),
        (("coordctl", "cat", "relative"), [""]),
    ],
)
def test_words_are_completed(words: tuple[str, ...], found: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert complete(*words, monkeypatch=monkeypatch) == found


def test_paths_are_completed_from_the_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion, "_listed", lambda settings, directory: {"/a": ["b/", "bc", "d"]}[directory])
    assert complete("coordctl", "ls", "/a/b", monkeypatch=monkeypatch) == ["plain,/a/b/", "plain,/a/bc"]
    monkeypatch.setattr(completion, "_listed", lambda settings, directory: {"/": ["x"]}[directory])
    assert complete("coordctl", "lock", "/y", "", monkeypatch=monkeypatch) == ["plain,/x"]


@pytest.mark.parametrize("endpoint", ["127.0.0.1:1", "::", "never answers"])
def test_where_nobody_answers_it_is_silent_and_soon_over(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import_module("coordclient.sync")  # is no part of the half second
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setenv("COORD_ENDPOINTS", f"127.0.0.1:{port}" if " " in endpoint else endpoint)
        begun = time.monotonic()
        assert complete("coordctl", "ls", "/", monkeypatch=monkeypatch) == [""]
        assert time.monotonic() - begun < completion.ANSWER_SECONDS + 4, "and not the patience of a command"


def test_the_program_answers_a_shell_and_says_nothing_else() -> None:
    shell = {"_COORDCTL_COMPLETE": "bash_complete", "COMP_WORDS": "coordctl\nwho", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "coordctl"], env={**_environment(), **shell}, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("plain,whoami\n", "")


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join((".", "clients/python"))}


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_each_shell_has_a_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert f"{shell}_complete" in text
    assert completion.VARIABLE in text
    assert "%(" not in text
