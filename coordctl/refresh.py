"""`--refresh [SEC]` of listings: the same listing again and again, until Ctrl-C.

On a terminal the screen is drawn anew in place, cut to its height. Into a pipe each listing is followed by an empty
line, and with -o json it is one line. While the cell does not answer the listing says so and goes on.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TypeVar

import click

from coordctl.errors import Exit, Failure, complain, exit_code_of
from coordctl.settings import Seconds, Settings

_Command = TypeVar("_Command", bound=Callable[..., Any])
REFRESH_SECONDS, REFRESH_SECONDS_MIN, REFRESH_SECONDS_MAX = 2.0, 0.1, 3600.0
_HOME, _END_OF_LINE, _END_OF_SCREEN, _CLEAR = "\033[H", "\033[K", "\033[J", "\033[2J"
_FLAG = "--refresh"


class Listing(click.Command):
    """A command with `--refresh [SEC]`: what follows the flag is its number only if it reads like one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """A bare flag gets its number before click looks."""
        own = list(args)
        for at, word in enumerate(own):
            if word == _FLAG and not _is_duration(own[at + 1 : at + 2]):
                own[at] = f"{_FLAG}={REFRESH_SECONDS:g}"
        return super().parse_args(ctx, own)


def _is_duration(words: list[str]) -> bool:
    return bool(words) and words[0][:1].isdigit()


def refreshable(command: _Command) -> _Command:
    """The option, into `Settings.refresh`."""

    def keep(ctx: click.Context, param: click.Parameter, value: float | None) -> None:
        ctx.ensure_object(Settings).refresh = value

    return click.option(
        _FLAG,
        type=Seconds(low=REFRESH_SECONDS_MIN, high=REFRESH_SECONDS_MAX),
        metavar="[SEC]",
        envvar="COORD_REFRESH",
        show_envvar=True,
        expose_value=False,
        callback=keep,
        help=f"Show it again every SEC seconds [{REFRESH_SECONDS:g}s], until Ctrl-C.",
    )(command)


def repeat(settings: Settings, show: Callable[[], int | None]) -> int:
    """Call `show`, which prints a listing, once or for ever; the exit code."""
    if settings.refresh is None:
        return show() or Exit.OK
    screen = sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and not settings.json
    if screen:
        sys.stdout.write(_CLEAR)
    while True:
        if screen:
            _draw(lambda: _try(show))
        else:
            _try(show)
            if not settings.json:
                print()
        sys.stdout.flush()
        time.sleep(settings.refresh)


def _try(show: Callable[[], int | None]) -> None:
    """What passes is said; everything else ends the listing."""
    try:
        show()
    except Failure as failure:
        if failure.exit_code != Exit.UNAVAILABLE:
            raise
        complain(failure.message)
    except Exception as error:
        if exit_code_of(getattr(error, "code", "")) != Exit.UNAVAILABLE:
            raise
        complain(str(error))


class _Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def _draw(show: Callable[[], None]) -> None:
    with _captured() as words:
        show()
    size = shutil.get_terminal_size()
    lines = [_cut(line, size.columns) for line in words.getvalue().splitlines()]
    if len(lines) >= size.lines:
        left = len(lines) - size.lines + 2
        lines = [*lines[: size.lines - 2], f"... and {left} lines more"]
    sys.stdout.write(_HOME + "".join(f"{line}{_END_OF_LINE}\n" for line in lines) + _END_OF_SCREEN)


def _cut(line: str, columns: int) -> str:
    """A line that wraps would push the others off the screen. Those with colour are headings, and fit."""
    return line if "\033" in line or len(line) <= columns else line[: columns - 1] + "…"


@contextmanager
def _captured() -> Iterator[io.StringIO]:
    words = _Screen()
    with redirect_stdout(words), redirect_stderr(words):
        yield words
