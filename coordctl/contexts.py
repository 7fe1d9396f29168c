"""Contexts: named sets of global options, one file each, in the XDG configuration directory.

    $XDG_CONFIG_HOME/coordctl/contexts/NAME.toml     endpoints = ["host-1:7420", ...], and cell, timeout, output
    $XDG_CONFIG_HOME/coordctl/current                the name of the context that `context use` chose

Files are for their owner alone (0600) and are replaced as a whole. A file that cannot be understood is an error that
names it, never an empty context.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path

from coordctl.errors import Exit, Failure

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
KINDS: Mapping[str, type] = {"endpoints": list, "cell": str, "timeout": float, "output": str}
_FILE_BYTES_MAX = 64 * 1024
Values = dict[str, object]


def directory() -> Path:
    """Where they are kept."""
    home = os.environ.get("XDG_CONFIG_HOME", "")
    base = Path(home) if os.path.isabs(home) else Path(os.path.expanduser("~")) / ".config"
    return base / "coordctl"


def check_name(name: str) -> str:
    """The name, or a failure: it is also the name of a file."""
    if not NAME.fullmatch(name):
        raise Failure(
            f"{name[:80]!r} cannot name a context: letters, digits, '.', '_' and '-', at most 64, beginning with a"
            " letter or digit",
            Exit.USAGE,
        )
    return name


def _file(name: str) -> Path:
    return directory() / "contexts" / f"{check_name(name)}.toml"


def names() -> list[str]:
    """All contexts, sorted."""
    try:
        found = os.listdir(directory() / "contexts")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise Failure(f"{directory() / 'contexts'}: {error.strerror}") from None
    stems = (name.removesuffix(".toml") for name in found if name.endswith(".toml"))
    return sorted(stem for stem in stems if NAME.fullmatch(stem))


def current() -> str | None:
    """The name that `context use` chose; it may have been removed since by hand."""
    text = _read(directory() / "current")
    if text is None:
        return None
    name = text.strip()
    if not NAME.fullmatch(name):
        raise Failure(
            f"{directory() / 'current'} names no context; choose one with `coordctl context use NAME`", Exit.USAGE
        )
    return name


def load(name: str) -> Values:
    """The values of a context."""
    path = _file(name)
    text = _read(path)
    if text is None:
        known = ", ".join(names()) or "none; make one with `coordctl context add NAME --endpoints A,B,...`"
        raise Failure(f"there is no context {name!r} (there are: {known})", Exit.NOT_FOUND)
    try:
        values: Values = dict(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise Failure(
            f"{path}: {error}; mend the file, or write it anew with `coordctl context add`", Exit.USAGE
        ) from None
    for key, value in values.items():
        _check(path, key, value)
    if not values.get("endpoints"):
        raise Failure(f"{path}: there are no endpoints", Exit.USAGE)
    return values


def _check(path: Path, key: str, value: object) -> None:
    kind = KINDS.get(key)
    if kind is None:
        raise Failure(f"{path}: the key {key!r} is not known (there are: {', '.join(KINDS)})", Exit.USAGE)
    fits = isinstance(value, kind) or (kind is float and type(value) is int)
    if not fits or (isinstance(value, list) and not all(isinstance(item, str) for item in value)):
        wanted = {list: "a list of texts", str: "a text", float: "a number of seconds"}[kind]
        raise Failure(f"{path}: {key} must be {wanted}", Exit.USAGE)


def save(name: str, values: Mapping[str, object]) -> None:
    """Write a context, over the one of that name if there is one."""
    # JSON's texts, numbers and lists of texts are TOML's, as long as other characters are left as they are.
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items()]
    text = "".join(lines).replace("\x7f", "\\u007f")
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise Failure("a context cannot keep what is no UTF-8 text", Exit.USAGE)
    _write(_file(name), text)


def choose(name: str) -> None:
    """Make it the current one."""
    load(name)
    _write(directory() / "current", name + "\n")


def remove(name: str) -> None:
    """Forget it; if it was the current one, there is none afterwards."""
    try:
        _file(name).unlink()
    except FileNotFoundError:
        raise Failure(f"there is no context {name!r}", Exit.NOT_FOUND) from None
    if current() == name:
        (directory() / "current").unlink(missing_ok=True)


def _read(path: Path) -> str | None:
    """None when there is no such file."""
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_BYTES_MAX + 1)
        if len(data) > _FILE_BYTES_MAX:
            raise Failure(f"{path}: the file is larger than {_FILE_BYTES_MAX} bytes", Exit.USAGE)
        return data.decode()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError:
        raise Failure(f"{path}: the file is no UTF-8 text", Exit.USAGE) from None
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}", Exit.USAGE) from None


def _write(path: Path, text: str) -> None:
    """Whole or not at all; mkstemp makes files of 0600."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent)
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(temporary, path)
        except OSError:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from None
