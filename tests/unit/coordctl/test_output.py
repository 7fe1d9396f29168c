"""Data on stdout: a table on a terminal, tabs into a pipe, JSON; ISO 8601 times; durations; no colour unless wanted."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout

import pytest

from coordctl import output

COLUMNS = output.columns("PATH SIZE (HELD)")
ROWS = [("/a", 1, None), ("/a long/name", 20, True)]


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_screen(monkeypatch: pytest.MonkeyPatch, form: str | None, columns: str = "80", rows=ROWS, of=COLUMNS) -> str:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", columns)
    with redirect_stdout(Screen()) as screen:
        output.print_rows(of, rows, form)
    return screen.getvalue()


def test_a_table_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert on_screen(monkeypatch, None) == "PATH          SIZE\n/a            1\n/a long/name  20\n"


def test_wide_shows_every_column(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        on_screen(monkeypatch, "wide") == "PATH          SIZE  HELD\n/a            1     -\n/a long/name  20    yes\n"
    )


def test_value_and_name_are_bare_also_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert on_screen(monkeypatch, "value") == "/a\t1\t-\n/a long/name\t20\tyes\n"
    assert on_screen(monkeypatch, "name", rows=[*ROWS, ("/a", 2, None)]) == "/a\n/a long/name\n"


def test_long_columns_are_cut_to_the_screen_and_others_never(monkeypatch: pytest.MonkeyPatch) -> None:
    of = output.columns("PATH... TOKEN CLIENT...")
    rows = [("/" + "p" * 60, 123456789, "host.example:1234 (" + "n" * 60 + ")")]
    for line in on_screen(monkeypatch, None, rows=rows, of=of).splitlines():
        assert len(line) <= 80
    assert "123456789" in on_screen(monkeypatch, None, "20", rows, of)
    assert "…" not in on_screen(monkeypatch, "value", rows=rows, of=of)


def test_fields_are_wrapped_and_never_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    fields = {"code": "x", "meaning": "many words " * 10}
    with redirect_stdout(Screen()) as screen:
        output.print_fields(fields)
    lines = screen.getvalue().splitlines()
    assert max(len(line) for line in lines) <= 40
    assert " ".join(" ".join(lines).split()) == "code x meaning " + ("many words " * 10).strip()
    assert lines[2].startswith(" " * 9 + "words")


def test_fields_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_fields({"a": 1, "b": None})
    output.print_fields({"a": 1, "b": None}, "value")
    output.print_fields({"a": 1, "b": None}, "name", name="a")
    assert capsys.readouterr().out == "a\t1\nb\t-\n1\n-\n1\n"


def test_tabs_and_no_heading_into_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_rows(COLUMNS, ROWS)
    assert capsys.readouterr().out == "/a\t1\t-\n/a long/name\t20\tyes\n"


def test_a_table_into_a_pipe_when_one_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_rows(COLUMNS, ROWS, "table")
    assert capsys.readouterr().out.startswith("PATH          SIZE\n")


def test_a_field_never_breaks_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_rows(output.columns("A B"), [("tab\there", "line\nfeed")])
    assert capsys.readouterr().out == "tab here\tline feed\n"


def test_colour_only_on_a_terminal_that_can_and_never_against_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert output.wants_colour(screen)
    assert not output.wants_colour(io.StringIO())
    monkeypatch.setenv("TERM", "dumb")
    assert not output.wants_colour(screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert not output.wants_colour(screen)


def test_times_are_iso_8601_in_utc() -> None:
    assert output.moment(0) == "1970-01-01T00:00:00.000Z"
    assert output.moment(1_763_695_085_250) == "2025-11-21T03:18:05.250Z"


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(0, "0s"), (1_500, "1.5s"), (12_000, "12s"), (61_000, "1m01s"), (3_720_000, "1h02m"), (200_000_000, "2d07h")],
)
def test_durations(milliseconds: int, text: str) -> None:
    assert output.duration(milliseconds) == text


def test_contents_are_text_or_base64_and_never_guessed_from_both(capsys: pytest.CaptureFixture[str]) -> None:
    assert output.contents_as_json("grün".encode()) == {"text": "grün"}
    assert output.contents_as_json(b"\xff\x00") == {"base64": "/wA="}
    output.print_json({"contents": b"abc"})
    assert json.loads(capsys.readouterr().out) == {"contents": {"text": "abc"}}


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ({"host": "web-3", "pid": "8213", "name": "backup.sh"}, "web-3:8213 (backup.sh)"),
        ({"host": "web-3", "pid": "8213", "program": "python"}, "web-3:8213 (python)"),
        ({"name": "x"}, "x"),
        ({}, ""),
        (None, ""),
    ],
)
def test_a_client_is_named_by_what_it_told(labels: dict[str, str] | None, text: str) -> None:
    assert output.client_text(labels) == text
