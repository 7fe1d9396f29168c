"""What is printed: data on stdout (a table on a terminal, tabs into a pipe, or JSON), words on stderr.

Times are ISO 8601 in UTC; durations are `1.5s` in tables and seconds in JSON (`..._seconds`).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from coordclient import LockInfo

Row = Sequence[object]
_BOLD, _PLAIN = "\033[1m", "\033[0m"


def wants_colour(stream: TextIO) -> bool:
    """Colour only on a terminal that can, and never against NO_COLOR (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def note(text: str) -> None:
    """Words for people, on stderr; without the prefix that marks a failure."""
    print(text, file=sys.stderr, flush=True)


def print_json(value: object) -> None:
    """One JSON document on stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=_jsonable))


def _jsonable(value: object) -> object:
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


def print_rows(columns: Sequence[str], rows: Sequence[Row], *, aligned: bool | None = None) -> None:
    """A table with a heading on a terminal (or where `aligned` is set); bare tab-separated lines into a pipe."""
    if aligned is None:
        aligned = sys.stdout.isatty()
    cells = [[cell_text(value) for value in row] for row in rows]
    if not aligned:
        for line in cells:
            print("\t".join(line))
        return
    if not cells:
        return
    widths = [max(len(line[at]) for line in [list(columns), *cells]) for at in range(len(columns))]
    heading = _line(columns, widths)
    print(f"{_BOLD}{heading}{_PLAIN}" if wants_colour(sys.stdout) else heading)
    for line in cells:
        print(_line(line, widths))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def cell_text(value: object) -> str:
    """One field: never a tab or a line feed of its own."""
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case _:
            return " ".join(str(value).split()) if isinstance(value, str) else str(value)


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


def age(wall_ms: int) -> str:
    """How long ago that was, for people: the clocks of two machines are compared."""
    return duration(max(0, int(datetime.now(UTC).timestamp() * 1000) - wall_ms))


def client_text(labels: Mapping[str, str] | None) -> str:
    """`host:pid (name)` of the labels that a client gave itself."""
    labels = labels or {}
    where = ":".join(part for part in (str(labels.get("host", "")), str(labels.get("pid", ""))) if part)
    name = labels.get("name") or labels.get("program") or ""
    return f"{where} ({name})" if where and name else where or str(name)


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
