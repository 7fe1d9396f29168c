"""Changes of nodes as rows and as JSON: what `history` lists and `watch` follows.

In a pipe both have the same fields: revision, time, kind, principal, operation, session, path, size, checksum; and the
contents, where a watch was asked for them.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from coordctl.files import stat_as_json
from coordctl.output import Column, cell_text, heading, moment

if TYPE_CHECKING:
    from coordclient import Change, Event, Resync

RESYNC, PRESENT = "resync", "present"

PATH_COLUMN = 6
_WIDTHS = {"REVISION": 8, "TIME": 24, "KIND": 7, "PRINCIPAL": 9, "OPERATION": 9, "SESSION": 7, "PATH": 16}


def titles(*, several: bool, more: str = "") -> str:
    """Of the common fields. Where all rows are about one node, nobody needs its path on a screen."""
    if several:
        return f"REVISION TIME KIND PRINCIPAL... (OPERATION) (SESSION) PATH... (SIZE) (CHECKSUM) {more}"
    return f"REVISION TIME KIND PRINCIPAL... OPERATION SESSION (PATH...) (SIZE) (CHECKSUM) {more}"


def shown_path(path: str, directory: bool) -> str:
    """Directories end with a slash, as in `ls`."""
    return path + "/" if directory and path != "/" else path


def row_of(change: Change | Event) -> tuple[object, ...]:
    """The common fields of one change."""
    return (
        change.revision,
        moment(change.at_ms),
        change.kind,
        change.principal,
        change.operation,
        change.session or None,
        shown_path(change.path, change.directory),
        change.size,
        change.checksum,
    )


def change_as_json(change: Change | Event) -> dict[str, Any]:
    """The common fields of one change; no session is null."""
    return {
        "revision": change.revision,
        "time": moment(change.at_ms),
        "kind": change.kind,
        "path": change.path,
        "directory": change.directory,
        "instance": change.instance,
        "size": change.size,
        "checksum": change.checksum or None,
        "operation": change.operation,
        "session": change.session or None,
        "principal": change.principal,
    }


class Told(NamedTuple):
    """One line of `watch` in both forms. `resync`: changes may be missing before it."""

    revision: int
    kind: str
    path: str
    row: tuple[object, ...]
    shown: dict[str, Any]
    resync: bool = False


def all_told(batch: Sequence[Event] | Resync, path: str, values: str) -> list[Told]:
    """The lines of what a watch on `path` delivered; with the contents that `values` names: none, new or both."""
    from coordclient import Resync

    if isinstance(batch, Resync):
        return _told_of_resync(batch, path, values)
    return [_told_of_event(event, values) for event in batch]


def _told_of_event(event: Event, values: str) -> Told:
    contents = {"none": {}, "new": {"after": event.after}, "both": {"before": event.before, "after": event.after}}[
        values
    ]
    row = (*row_of(event), *map(_text, contents.values()))
    return Told(event.revision, event.kind, event.path, row, {**change_as_json(event), **contents})


def _told_of_resync(resync: Resync, path: str, values: str) -> list[Told]:
    empty = (None,) * ("none", "new", "both").index(values)
    revision = resync.revision
    row = (revision, None, RESYNC, None, None, None, path, None, None, *empty)
    shown = {"revision": revision, "kind": RESYNC, "path": path, "entries": len(resync.entries)}
    found = [Told(revision, RESYNC, path, row, shown, resync=True)]
    for entry in resync.entries:
        stat = entry.stat
        name = shown_path(entry.path, stat.kind == "directory")
        contents = {} if values == "none" else {"after": entry.contents}
        row = (
            revision,
            moment(stat.modified_ms),
            PRESENT,
            None,
            None,
            None,
            name,
            stat.size,
            stat.checksum,
            *empty[1:],
            *map(_text, contents.values()),
        )
        shown = {"revision": revision, "kind": PRESENT, "path": entry.path, "stat": stat_as_json(stat), **contents}
        found.append(Told(revision, PRESENT, entry.path, row, shown))
    return found


def _text(contents: bytes | None) -> str | None:
    return None if contents is None else contents.decode(errors="replace")


class Stream:
    """Rows that come one after the other, where the widths of the next ones are not known. Those of one `write` go out
    in one piece, at once."""

    def __init__(self, shown: Sequence[Column], form: str | None) -> None:
        screen = sys.stdout.isatty()
        self._form = form
        self._table = form in ("table", "wide") or (form is None and screen)
        self._kept = [at for at, column in enumerate(shown) if form == "wide" or not (self._table and column.wide)]
        self._titles = [shown[at].title for at in self._kept]
        self._columns = shutil.get_terminal_size().columns if screen else sys.maxsize
        self._begun = not self._table

    def write(self, rows: Iterable[Sequence[object]]) -> None:
        """The rows, below a heading the first time."""
        lines = [self._line([cell_text(value) for value in row]) for row in rows]
        if not self._begun:
            lines.insert(0, heading(self._padded(self._titles)))
            self._begun = True
        sys.stdout.write("".join(line + "\n" for line in lines))
        sys.stdout.flush()

    def _line(self, cells: Sequence[str]) -> str:
        if self._form == "name":
            return cells[PATH_COLUMN]
        return self._padded([cells[at] for at in self._kept]) if self._table else "\t".join(cells)

    def _padded(self, cells: Sequence[str]) -> str:
        pairs = zip(cells, self._titles, strict=True)
        line = "  ".join(cell.ljust(_WIDTHS.get(title, 0)) for cell, title in pairs).rstrip()
        return line if len(line) <= self._columns else line[: self._columns - 1] + "…"
