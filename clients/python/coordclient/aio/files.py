"""Arguments of the file operations, checked before anything is sent, and their answers made into values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coordclient.errors import BadPath, InternalError, TooLarge
from coordclient.protocol.operations import CONTENTS_BYTES_MAX
from coordclient.protocol.paths import PATH_BYTES_MAX
from coordclient.values import Entry, File, Stat, stat_of


def path_of(path: str) -> str:
    """The path, if it can be sent at all; what else may be wrong with it the cell says."""
    if not isinstance(path, str):
        raise TypeError(f"a path is text, not {type(path).__name__}")
    if len(path) > PATH_BYTES_MAX:
        raise BadPath(f"the path has {len(path)} characters; the limit is {PATH_BYTES_MAX} bytes")
    return path


def contents_of(contents: bytes) -> bytes:
    """The contents, if they are bytes within the limit."""
    if not isinstance(contents, bytes | bytearray | memoryview):
        raise TypeError(f"contents are bytes, not {type(contents).__name__}; encode text first")
    contents = bytes(contents)
    if len(contents) > CONTENTS_BYTES_MAX:
        raise TooLarge(f"contents have {len(contents)} bytes; the limit is {CONTENTS_BYTES_MAX}")
    return contents


def guarded(arguments: dict[str, object], if_sequencer: str | None) -> dict[str, object]:
    """The arguments of a change, and that it is only to be made while that sequencer is valid, if one was given."""
    return arguments if if_sequencer is None else {**arguments, "if_sequencer": if_sequencer}


def int_in(answer: Mapping[str, Any], name: str) -> int:
    """A number in an answer."""
    value = answer.get(name)
    if not isinstance(value, int):
        raise InternalError(f"the cell's answer holds no {name}")
    return value


def file_of(answer: Mapping[str, Any]) -> File:
    """The answer to `get`."""
    contents = answer.get("contents")
    if not isinstance(contents, bytes):
        raise InternalError("the cell's answer holds no contents")
    return File(contents, stat_in(answer))


def stat_in(answer: Mapping[str, Any]) -> Stat:
    """The stat in the answer to `put`, `create`, `mkdir` or `stat`."""
    return stat_of(answer.get("stat") or {})


def entries_of(answer: Mapping[str, Any]) -> list[Entry]:
    """The answer to `ls`, or one page of it."""
    try:
        return [Entry(entry["name"], stat_of(entry["stat"]), entry.get("contents")) for entry in answer["entries"]]
    except (KeyError, TypeError) as error:
        raise InternalError(f"the cell's answer holds no entries: {error!r}") from None


# What a cache is filled with: without lock state, which it never holds. The bytes are what Python needs, about.

_STAT_BYTES = 800


def lockless_file_of(answer: Mapping[str, Any]) -> File:
    """The answer to a cached `get`."""
    found = file_of(answer)
    return File(found.contents, _lockless(found.stat))


def lockless_stat_in(answer: Mapping[str, Any]) -> Stat:
    """The answer to a cached `stat`."""
    return _lockless(stat_in(answer))


def lockless_entries_of(answer: Mapping[str, Any]) -> tuple[Entry, ...]:
    """The answer to a cached `ls`."""
    return tuple(Entry(entry.name, _lockless(entry.stat)) for entry in entries_of(answer))


def bytes_of_file(value: File) -> int:
    """The memory of an answer to `get`."""
    return len(value.contents) + _STAT_BYTES


def bytes_of_stat(value: Stat) -> int:
    """The memory of an answer to `stat`."""
    return _STAT_BYTES


def bytes_of_entries(value: tuple[Entry, ...]) -> int:
    """The memory of an answer to `ls`."""
    return sum(len(entry.name) + _STAT_BYTES for entry in value)


def _lockless(stat: Stat) -> Stat:
    return stat._replace(lock_generation=None)
