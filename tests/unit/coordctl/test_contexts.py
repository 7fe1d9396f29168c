"""Contexts: flag beats environment beats context beats default; files are private; a broken one is said so."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordctl import contexts
from coordctl.errors import Failure
from coordctl.main import cli, invoke
from coordctl.settings import Settings
from tests.unit.coordctl.test_options import run


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("ENDPOINTS", "CELL", "OUTPUT", "TIMEOUT", "QUIET", "VERBOSE", "CONTEXT"):
        monkeypatch.delenv(f"COORD_{name}", raising=False)
    return tmp_path / "coordctl"


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    import click

    found: list[Settings] = []

    def stop(settings: Settings) -> None:
        found.append(settings)
        raise click.Abort

    monkeypatch.setattr(Settings, "open_client", stop)
    return found


def add(name: str, endpoints: str, *more: str) -> None:
    assert invoke(["context", "add", name, "--endpoints", endpoints, "-q", *more]) == 0


def test_the_first_context_is_the_current_one_and_use_chooses_another(seen: list[Settings]) -> None:
    add("one", "a:1,b:2", "--cell", "dev", "--timeout", "3s", "-o", "json")
    add("two", "c:3")
    run("ls")
    assert invoke(["context", "use", "two"]) == 0
    run("ls")
    assert seen[0] == Settings(("a:1", "b:2"), "dev", "json", 3.0, context="one")
    assert seen[1] == Settings(("c:3",), context="two")


def test_flag_beats_environment_beats_context_beats_default(seen: list[Settings]) -> None:
    add("one", "a:1", "--timeout", "3")
    run("ls", "--timeout", "1", COORD_TIMEOUT="2")
    run("ls", COORD_TIMEOUT="2")
    run("ls")
    run("ls", "--context", "one", COORD_TIMEOUT="2")
    assert [settings.timeout for settings in seen] == [1.0, 2.0, 3.0, 3.0]


def test_a_context_of_a_flag_beats_one_of_the_environment_and_that_beats_the_current_one(seen: list[Settings]) -> None:
    for name in ("one", "two", "three"):
        add(name, f"{name}:1")
    run("ls", "--context", "three", COORD_CONTEXT="two")
    run("ls", COORD_CONTEXT="two")
    run("ls", COORD_CONTEXT="two", COORD_ENDPOINTS="x:1")
    assert [settings.endpoints for settings in seen] == [("three:1",), ("two:1",), ("x:1",)]


def test_the_cell_of_a_context_is_not_asked_for_at_other_endpoints(seen: list[Settings]) -> None:
    add("one", "a:1", "--cell", "prod")
    run("ls", COORD_ENDPOINTS="x:1")
    run("ls", "--endpoints", "x:1", "--context", "one")
    run("ls", "--cell", "other")
    assert [(settings.endpoints, settings.cell) for settings in seen] == [
        (("x:1",), None),
        (("x:1",), None),
        (("a:1",), "other"),
    ]


def test_only_flags_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COORD_CELL", "elsewhere")
    add("one", "a:1")
    assert contexts.load("one") == {"endpoints": ["a:1"]}
    monkeypatch.setenv("COORD_ENDPOINTS", "a:1")
    assert invoke(["context", "add", "two"]) == 2


def test_files_are_for_their_owner_alone(home: Path) -> None:
    add("one", "a:1")
    for path in (home / "contexts" / "one.toml", home / "current"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((home / "contexts").stat().st_mode) == 0o700
    assert sorted(path.name for path in (home / "contexts").iterdir()) == ["one.toml"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("endpoints = [", "Invalid value"),
        ("", "there are no endpoints"),
        ('endpoints = "a:1"', "endpoints must be a list of texts"),
        ("endpoints = [1]", "endpoints must be a list of texts"),
        ('endpoints = ["a:1"]\nendpoint = 1', "the key 'endpoint' is not known"),
        ('endpoints = ["a:1"]\ntimeout = "soon"', "timeout must be a number of seconds"),
        ('endpoints = ["a:1"]\ntimeout = -1', "below the least"),
        ('endpoints = ["a:1"]\ntimeout = true', "timeout must be a number of seconds"),
        ('endpoints = ["::"]', "not an endpoint"),
        ('endpoints = ["a:1"]\noutput = "xml"', "'xml' is not one of"),
        ("\x00", "one.toml"),
        ("#" * 70_000, "larger than"),
    ],
)
def test_a_broken_file_is_an_error_that_names_it(
    home: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    add("one", "a:1")
    (home / "contexts" / "one.toml").write_text(text)
    assert invoke(["ls"]) == 2
    printed = capsys.readouterr()
    assert len(printed.err.splitlines()) == 1
    assert printed.err.startswith("coordctl: ")
    assert "one" in printed.err
    assert words in printed.err


def test_a_file_that_is_no_text_is_an_error_too(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add("one", "a:1")
    (home / "contexts" / "one.toml").write_bytes(b"\xff")
    assert invoke(["ls"]) == 2
    assert "no UTF-8 text" in capsys.readouterr().err
    (home / "current").write_text("../../etc/passwd")
    assert invoke(["ls"]) == 2
    assert "names no context" in capsys.readouterr().err


def test_a_context_that_is_missing_is_exit_3_and_says_which_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["ls", "--context", "gone"]) == 3
    assert "coordctl context add" in capsys.readouterr().err
    add("one", "a:1")
    for arguments in (["ls", "--context", "gone"], ["context", "use", "gone"], ["context", "show", "gone"]):
        assert invoke(arguments) == 3
        assert "there are: one" in capsys.readouterr().err
    assert invoke(["context", "rm", "gone"]) == 3


def test_after_rm_of_the_current_context_there_is_none(seen: list[Settings]) -> None:
    add("one", "a:1")
    assert invoke(["context", "rm", "one"]) == 0
    run("ls")
    assert seen == [Settings()]
    assert invoke(["context", "show"]) == 3


def test_the_commands_that_mend_contexts_work_while_one_is_broken(home: Path) -> None:
    add("one", "a:1")
    (home / "contexts" / "one.toml").write_text("[")
    assert invoke(["version"]) == 0
    assert invoke(["explain", "not_found"]) == 0
    add("one", "b:1")
    assert contexts.load("one") == {"endpoints": ["b:1"]}


def test_ls_and_show(capsys: pytest.CaptureFixture[str]) -> None:
    add("one", "a:1,b:2", "--cell", "dev")
    add("two", "c:3")
    assert invoke(["context", "ls"]) == 0
    assert capsys.readouterr().out == "*\tone\ta:1,b:2\tdev\t-\t-\n-\ttwo\tc:3\t-\t-\t-\n"
    assert invoke(["context", "ls", "-o", "name"]) == 0
    assert capsys.readouterr().out == "one\ntwo\n"
    assert invoke(["context", "show"]) == 0
    assert capsys.readouterr().out == "name\tone\nendpoints\ta:1,b:2\ncell\tdev\n"


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "-x", "x" * 65, "ä", "a b"])
def test_a_name_that_could_be_another_file_is_refused(name: str) -> None:
    assert invoke(["context", "add", "--endpoints", "a:1", "--", name]) == 2


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(min_size=1, max_size=40), st.floats(0.001, 1e6))
def test_what_was_saved_is_what_is_loaded(cell: str, timeout: float) -> None:
    values = {"endpoints": ["a:1", "http://[::1]:2"], "cell": cell, "timeout": timeout}
    contexts.save("any", values)
    assert contexts.load("any") == values


@given(st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_in_a_file_are_a_context_or_a_named_failure(home: Path, data: bytes) -> None:
    contexts.save("any", {"endpoints": ["a:1"]})
    (home / "contexts" / "any.toml").write_bytes(data)
    try:
        assert contexts.load("any")["endpoints"]
    except Failure as failure:
        assert "any.toml" in failure.message


def test_what_is_no_text_cannot_be_kept() -> None:
    assert invoke(["context", "add", "any", "--endpoints", "a:1", "--cell", "\udcff"]) == 2


def test_contexts_are_completed() -> None:
    add("prod", "a:1")
    add("test", "b:1")
    shell = {"_COORDCTL_COMPLETE": "bash_complete", "COMP_WORDS": "coordctl\ncontext\nuse\np", "COMP_CWORD": "3"}
    from coordctl.completion import VARIABLE, _Bash

    with pytest.MonkeyPatch.context() as patch:
        for key, value in shell.items():
            patch.setenv(key, value)
        assert _Bash(cli, {}, "coordctl", VARIABLE).complete() == "plain,prod"
    assert CliRunner().invoke(cli, ["context", "ls"]).exit_code == 0
