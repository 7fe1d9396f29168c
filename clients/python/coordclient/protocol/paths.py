"""Names of nodes: `/ls/<cell>/<path>`, `/ls/local/<path>`, or `/<path>` for short [Chubby 2.3].

Inside coordd a path is always the short form: "/" or "/part/part". Which cell was named is checked at the doors.
"""

from __future__ import annotations

import hashlib
import re

from coordclient.protocol.errors import Refusal

CELL_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
PATH_BYTES_MAX = 1024
PARTS_MAX = 32
PART_BYTES_MAX = 255


def cell_id(name: str) -> bytes:
    """The 8 bytes that stand for the cell `name` in every stored or sent format."""
    if not CELL_NAME.fullmatch(name):
        raise ValueError(f"not the name of a cell: {name[:80]!r} (small letters, digits and '-', at most 32)")
    return hashlib.sha256(b"coordd cell\0" + name.encode()).digest()[:8]


def parse_path(text: str, cell: str | None = None) -> str:
    """The short form of `text`.

    Refuses with `bad_path` (malformed) or `wrong_cell` (names another cell than `cell`, where `cell` is given; without
    `cell` a long form of any cell but `local` is left for the caller to refuse and refused here as malformed).
    """
    if not text.startswith("/"):
        raise Refusal("bad_path", f"a path begins with '/': {text[:80]!r}")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise Refusal("bad_path", "a path must be valid UTF-8 text") from None
    if size > PATH_BYTES_MAX:
        raise Refusal("bad_path", f"the path has {size} bytes; the limit is {PATH_BYTES_MAX}")
    if text == "/":
        return text
    parts = text[1:].split("/")
    if parts[0] == "ls":
        parts = _without_cell(parts, text, cell)
        if not parts:
            return "/"
    if len(parts) > PARTS_MAX:
        raise Refusal("bad_path", f"the path has {len(parts)} parts; the limit is {PARTS_MAX}")
    for part in parts:
        _check_part(part, text)
    return "/" + "/".join(parts)


def _without_cell(parts: list[str], text: str, cell: str | None) -> list[str]:
    if len(parts) < 2 or not parts[1]:
        raise Refusal("bad_path", f"/ls is followed by the name of a cell: {text[:80]!r}")
    if parts[1] not in ("local", cell):
        raise Refusal("wrong_cell", f"the path names the cell {parts[1][:80]!r}; this is {cell or 'another one'}")
    rest = parts[2:]
    return [] if rest == [""] else rest


def _check_part(part: str, text: str) -> None:
    if not part:
        raise Refusal("bad_path", f"empty part (two slashes, or one at the end): {text[:80]!r}")
    if part in (".", ".."):
        raise Refusal("bad_path", f"'.' and '..' are not names: {text[:80]!r}")
    if len(part.encode()) > PART_BYTES_MAX:
        raise Refusal("bad_path", f"a part has {len(part.encode())} bytes; the limit is {PART_BYTES_MAX}")
    if not part.isprintable():
        raise Refusal("bad_path", f"a part has characters that cannot be printed: {text[:80]!r}")


def parent_of(path: str) -> str:
    """The directory that holds `path`; the root has none (an error of the caller)."""
    if path == "/":
        raise AssertionError("the root has no parent")
    return path.rpartition("/")[0] or "/"


def name_of(path: str) -> str:
    """The last part of `path`."""
    return path.rpartition("/")[2]


def is_below(path: str, top: str) -> bool:
    """True when `path` is `top` or in its subtree."""
    return top == "/" or path == top or path.startswith(top + "/")
