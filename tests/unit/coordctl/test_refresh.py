"""`--refresh`: the same again until Ctrl-C; on a screen in place, in a pipe block by block, as JSON line by line."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable

import pytest

from coordctl import refresh
from coordctl.errors import Failure
from coordctl.output import print_json
from coordctl.settings import Settings


class UnavailableError(Exception):
    code = "unavailable"


def say(text: str, code: int = 0) -> int:
    sys.stdout.write(text + "\n")
    return code


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses; the third one is Ctrl-C."""
    seen: list[float] = []

    def pause(seconds: float) -> None:
        seen.append(seconds)
        if len(seen) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", pause)
    return seen


def until_ctrl_c(settings: Settings, show: Callable[[], int | None]) -> None:
    with pytest.raises(KeyboardInterrupt):
        refresh.repeat(settings, show)


def test_without_refresh_it_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert refresh.repeat(Settings(), lambda: say("x", 6)) == 6
    assert capsys.readouterr().out == "x\n"


def test_into_a_pipe_each_listing_ends_with_an_empty_line(
    times: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    until_ctrl_c(Settings(refresh=0.5), lambda: say("a\tb"))
    assert capsys.readouterr().out == "a\tb\n\n" * 3
    assert times == [0.5, 0.5, 0.5]


def test_as_json_each_listing_is_one_line(times: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    until_ctrl_c(Settings(refresh=1, output="json"), lambda: print_json([{"a": 1}], line=True))
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [[{"a": 1}]] * 3


def test_while_the_cell_does_not_answer_it_says_so_and_goes_on(
    times: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    failures: list[Exception] = [UnavailableError("nobody"), Failure("no master", 6)]

    def show() -> None:
        if failures:
            raise failures.pop(0)
        say("back")

    until_ctrl_c(Settings(refresh=1), show)
    printed = capsys.readouterr()
    assert printed.err == "coordctl: nobody\ncoordctl: no master\n"
    assert printed.out.endswith("back\n\n")


@pytest.mark.parametrize("error", [Failure("not there", 3), ValueError("a bug")])
def test_what_does_not_pass_ends_it(times: list[float], error: Exception) -> None:
    def show() -> None:
        raise error

    with pytest.raises(type(error)):
        refresh.repeat(Settings(refresh=1), show)


def test_on_a_screen_it_is_drawn_in_place_and_cut_to_the_screen(
    times: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("LINES", "5")
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setattr(sys, "stdout", screen := Screen())
    until_ctrl_c(Settings(refresh=1), lambda: say("\n".join("x" * 30 for _ in range(9))))
    frames = screen.getvalue().split("\033[H")
    assert len(frames) == 4
    assert frames[0] == "\033[2J"
    lines = frames[1].replace("\033[K", "").removesuffix("\033[J").splitlines()
    assert lines == ["x" * 19 + "…"] * 3 + ["... and 6 lines more"]


def test_a_terminal_that_cannot_be_drawn_on_gets_block_after_block(
    times: list[float], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    until_ctrl_c(Settings(refresh=1), lambda: say("a"))
    assert capsys.readouterr().out == "a\n\n" * 3
