"""Global options: before or after the command, as COORD_<FLAG>; flag beats environment beats default."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from coordctl.main import cli
from coordctl.settings import Seconds, Settings


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Settings]:
    """The settings with which a client was about to be opened."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("NO_COLOR", raising=False)
    found: list[Settings] = []

    def stop(settings: Settings) -> None:
        found.append(settings)
        raise click.Abort

    monkeypatch.setattr(Settings, "open_client", stop)
    return found


def run(*arguments: str, **environment: str) -> None:
    unset = dict.fromkeys(
        f"COORD_{flag}"
        for flag in ("ENDPOINTS", "CELL", "OUTPUT", "TIMEOUT", "QUIET", "VERBOSE", "CONTEXT", "NO_COLOR")
    )
    CliRunner(env={**unset, **environment}).invoke(cli, arguments)


def test_each_option_before_and_after_the_command(seen: list[Settings]) -> None:
    options = ("--endpoints", "a:1, b:2", "--cell", "dev", "-o", "json", "--timeout", "1.5", "-q", "-v")
    expected = Settings(("a:1", "b:2"), "dev", "json", 1.5, True, True)
    run(*options, "ls")
    run("ls", *options)
    assert seen == [expected, expected]


def test_each_flag_is_also_an_environment_variable(seen: list[Settings]) -> None:
    run(
        "ls",
        COORD_ENDPOINTS="a:1",
        COORD_CELL="dev",
        COORD_OUTPUT="json",
        COORD_TIMEOUT="2s",
        COORD_QUIET="1",
        COORD_VERBOSE="1",
    )
    assert seen == [Settings(("a:1",), "dev", "json", 2.0, True, True)]


def test_a_flag_beats_the_environment_wherever_it_stands(seen: list[Settings]) -> None:
    run("--timeout", "3", "ls", COORD_TIMEOUT="2")
    run("ls", "--timeout", "3", COORD_TIMEOUT="2")
    assert [settings.timeout for settings in seen] == [3.0, 3.0]


def test_defaults(seen: list[Settings]) -> None:
    run("ls")
    assert seen == [Settings(None, None, None, 10.0, False, False)]


@pytest.mark.parametrize(
    ("arguments", "seconds"),
    [
        (("--refresh",), 2.0),
        (("--refresh", "/x"), 2.0),
        (("--refresh", "0.5"), 0.5),
        (("--refresh=500ms", "/x"), 0.5),
        (("/x", "--refresh", "3s"), 3.0),
        ((), None),
    ],
)
def test_refresh_may_stand_without_a_number(
    seen: list[Settings], arguments: tuple[str, ...], seconds: float | None
) -> None:
    run("ls", *arguments)
    assert [settings.refresh for settings in seen] == [seconds]


def test_refresh_is_also_an_environment_variable(seen: list[Settings]) -> None:
    run("locks", COORD_REFRESH="5")
    assert [settings.refresh for settings in seen] == [5.0]


@pytest.mark.parametrize(("text", "value"), [("1.5", 1.5), ("1.5s", 1.5), ("500ms", 0.5), ("2m", 120.0), ("0", 0.0)])
def test_durations_may_have_a_unit(text: str, value: float) -> None:
    assert Seconds().convert(text, None, None) == value


@given(st.text(max_size=12))
def test_whatever_is_given_as_a_duration_is_a_number_in_range_or_refused(text: str) -> None:
    try:
        assert 0 <= Seconds(high=60).convert(text, None, None) <= 60
    except click.BadParameter:
        return


@pytest.mark.parametrize(
    "arguments",
    [
        ("cell", "promote", "x"),
        ("cell", "transfer-master", "x"),
        ("lock", "--permits", "x", "/a", "--", "true"),
        ("lock", "-E", "x", "/a", "--", "true"),
        ("history", "-n", "x", "/a"),
        ("session", "show", "x"),
    ],
)
def test_what_is_no_number_is_told_in_the_same_words_everywhere(arguments: tuple[str, ...]) -> None:
    ended = CliRunner().invoke(cli, arguments)
    assert ended.exit_code == 2 and "'x' is not a valid integer." in ended.output
