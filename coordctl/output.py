"""What is printed: data on stdout in the form that was asked for, words on stderr.

Forms: `table` (the default on a terminal), tabs without a heading (the default into a pipe), `wide` (a table with every
column), `name` (what the rows are called, one per line), `value` (bare values, tabs between them), `json`.
Times are ISO 8601 in UTC; durations are `1.5s` in tables and seconds in JSON (`..._seconds`).
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

if TYPE_CHECKING:
    from coordclient import LockInfo

Row = Sequence[object]
FORMS = ("table", "json", "wide", "name", "value")
_BOLD, _PLAIN = "\033[1m", "\033[0m"
_COLUMN_WIDTH_MIN = 12  # a column that may be cut keeps this much


class Column(NamedTuple):
    """`wide`: shown with -o wide only, and in pipes. `long`: may be cut where the screen is too narrow."""

    title: str
    wide: bool = False
    long: bool = False


def columns(text: str) -> tuple[Column, ...]:
    """From a line of titles: `(TITLE)` is a wide one, `TITLE...` a long one.

    >>> columns("PATH... STATE (SESSION)")[2].wide
    True
    """
    found = []
    for word in text.split():
        title = word.strip("().")
        found.append(Column(title, wide=word.startswith("("), long=word.rstrip(")").endswith("...")))
    return tuple(found)


def wants_colour(stream: TextIO) -> bool:
    """Colour only on a terminal that can, and never against NO_COLOR (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def note(text: str) -> None:
    """Words for people, on stderr; without the prefix that marks a failure."""
    print(text, file=sys.stderr, flush=True)


def print_json(value: object, *, line: bool = False) -> None:
    """One JSON document on stdout; `line`: on one line, for streams."""
    escaped = (sys.stdout.encoding or "").lower() != "utf-8"  # any encoding has the letters that are left then
    print(json.dumps(value, indent=None if line else 2, ensure_ascii=escaped, default=jsonable))


def jsonable(value: object) -> object:
    """What JSON has no form of its own for: contents."""
    if isinstance(value, bytes):
        return contents_as_json(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def contents_as_json(contents: bytes) -> dict[str, str]:
    """{"text": ...} where the contents are UTF-8, else {"base64": ...}."""
    try:
        return {"text": contents.decode()}
    except UnicodeDecodeError:
        import base64

        return {"base64": base64.b64encode(contents).decode()}


def print_rows(shown: Sequence[Column], rows: Iterable[Row], form: str | None = None, *, name: int = 0) -> None:
    """Rows in any form but JSON. `name` is the column that `-o name` prints, each value once."""
    cells = [[cell_text(value) for value in row] for row in rows]
    screen = sys.stdout.isatty()
    if form == "name":
        for text in dict.fromkeys(line[name] for line in cells):
            print(text)
    elif form in ("table", "wide") or (form is None and screen):
        kept = [at for at, column in enumerate(shown) if form == "wide" or not column.wide]
        _print_table([shown[at] for at in kept], [[line[at] for at in kept] for line in cells], screen)
    else:
        for line in cells:
            print("\t".join(line))


def print_fields(fields: Mapping[str, object], form: str | None = None, *, name: str = "") -> None:
    """One thing, a field per line; `-o value` prints the values alone, `-o name` the field `name`. Long values are
    wrapped on a screen, never cut."""
    texts = {key: cell_text(value) for key, value in fields.items()}
    screen = sys.stdout.isatty()
    if form == "name":
        print(texts[name])
    elif form == "value":
        print("\n".join(texts.values()))
    elif form in ("table", "wide") or screen:
        width = max(len(key) for key in texts)
        room = max(_COLUMN_WIDTH_MIN, shutil.get_terminal_size().columns - width - 2) if screen else sys.maxsize
        for key, text in texts.items():
            first, *rest = textwrap.wrap(text, room, break_on_hyphens=False) or [""]
            print(f"{key.ljust(width)}  {first}")
            for line in rest:
                print(" " * (width + 2) + line)
    else:
        for key, text in texts.items():
            print(f"{key}\t{text}")


def _print_table(shown: Sequence[Column], cells: Sequence[Sequence[str]], screen: bool) -> None:
    if not cells:
        return
    titles = [column.title for column in shown]
    widths = [max(len(line[at]) for line in [titles, *cells]) for at in range(len(shown))]
    if screen:
        _narrow(widths, [at for at, column in enumerate(shown) if column.long], shutil.get_terminal_size().columns)
    print(heading(_line(titles, widths)))
    for line in cells:
        print(_line(line, widths))


def heading(line: str) -> str:
    """The titles as they are printed."""
    return f"{_BOLD}{line}{_PLAIN}" if wants_colour(sys.stdout) else line


def _narrow(widths: list[int], long: Sequence[int], room: int) -> None:
    """Take from the widest of the columns that may be cut, until the line fits the screen or nothing can be taken."""
    over = sum(widths) + 2 * (len(widths) - 1) - room
    while over > 0:
        widest = max(long, key=lambda at: widths[at], default=None)
        if widest is None or widths[widest] <= _COLUMN_WIDTH_MIN:
            return
        widths[widest] -= 1
        over -= 1


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    cut = [cell if len(cell) <= width else cell[: width - 1] + "…" for cell, width in zip(cells, widths, strict=True)]
    return "  ".join(cell.ljust(width) for cell, width in zip(cut, widths, strict=True)).rstrip()


def cell_text(value: object) -> str:
    """One field: never a tab or a line feed of its own."""
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case _:
            return printable(value) if isinstance(value, str) else str(value)


def printable(text: str) -> str:
    """On one line, and without what a terminal would obey: texts of strangers are shown to people."""
    words = " ".join(text.split())
    return words if words.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in words)


def moment(wall_ms: int) -> str:
    """2026-11-21T03:18:05.250Z"""
    text = datetime.fromtimestamp(wall_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"


def duration(milliseconds: int) -> str:
    """0.25s, 12s, 4m05s, 3h07m, 2d04h: as exact as one cares to know."""
    total = milliseconds / 1000
    if total < 60:
        return f"{total:.2f}".rstrip("0").rstrip(".") + "s"
    minutes, seconds = divmod(int(total), 60)
    if minutes < 60:
        return f"{minutes}m{seconds:02}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours < 48 else f"{hours // 24}d{hours % 24:02}h"


def duration_or_none(milliseconds: int | None) -> str | None:
    """As `duration`; what is not known stays so."""
    return None if milliseconds is None else duration(max(0, milliseconds))


def seconds_or_none(milliseconds: int | None) -> float | None:
    """For JSON."""
    return None if milliseconds is None else milliseconds / 1000


def in_seconds(answer: Any) -> Any:
    """An answer of the cell for JSON: its durations in seconds, in fields that end so.

    >>> in_seconds({"heard_ms_ago": 20, "members": [{"uptime_ms": None}]})
    {'heard_seconds_ago': 0.02, 'members': [{'uptime_seconds': None}]}
    """
    if isinstance(answer, list):
        return [in_seconds(one) for one in answer]
    if not isinstance(answer, dict):
        return answer
    return {
        key.replace("_ms", "_seconds"): seconds_or_none(value)
        if key.endswith(("_ms", "_ms_ago"))
        else in_seconds(value)
        for key, value in answer.items()
    }


def age(wall_ms: int) -> str:
    """How long ago that was, for people: the clocks of two machines are compared."""
    return duration(max(0, int(datetime.now(UTC).timestamp() * 1000) - wall_ms))


def client_text(labels: Mapping[str, str] | None) -> str:
    """`host:pid (name)` of the labels that a client gave itself."""
    labels = labels or {}
    where = ":".join(part for part in (str(labels.get("host", "")), str(labels.get("pid", ""))) if part)
    name = labels.get("name") or labels.get("program") or ""
    return printable(f"{where} ({name})" if where and name else where or str(name))


def describe_holders(info: LockInfo | None) -> str:
    """'held by web-3:8213 (backup.sh) for 12s'; empty if nobody holds it."""
    if info is None or not info.holders:
        return ""
    holder, others = info.holders[0], len(info.holders) - 1
    who = client_text(holder.client) or f"session {holder.session}"
    more = f" and {others} more" if others else ""
    if holder.delayed:
        return f"whose last holder, {who}{more}, was lost; its lock-delay is running"
    return f"held by {who}{more} for {age(holder.since_ms)}"
