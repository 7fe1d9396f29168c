"""Long answers that come in pages, and many reads in one: asked for until all is there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from coordclient.aio.files import entries_of, path_of
from coordclient.aio.keeper import Keeper
from coordclient.errors import CoordError, InternalError, IsADirectory, error_of
from coordclient.protocol.errors import Refusal
from coordclient.values import Entry, File, stat_of

PATHS_MAX = 256  # of one get_many
AskPage = Callable[[dict[str, object]], Awaitable[Mapping[str, Any]]]


async def list_pages(
    ask: AskPage, arguments: Mapping[str, object], contents: bool, after: str = "", count: int = 0
) -> list[Entry]:
    """The children behind `after`: all of them, or one page of `count`."""
    entries: list[Entry] = []
    flags: dict[str, object] = {"contents": True} if contents else {}
    while True:
        page: dict[str, object] = {**arguments, **flags}
        if after:
            page["after"] = after
        if count:
            page["count"] = count - len(entries)
        answer = await ask(page)
        found = entries_of(answer)
        entries += found
        if not answer.get("more") or (count and len(entries) >= count):
            return entries
        if not found:
            raise InternalError("the cell's answer has no entry and says that there are more")
        after = found[-1].name


async def rows_of(
    keeper: Keeper, operation: str, arguments: Mapping[str, object], name: str, key: str
) -> list[Mapping[str, Any]]:
    """The rows `name` of an answer, and of as many more as there are; the next begins after the last one's `key`."""
    rows: list[Mapping[str, Any]] = []
    while True:
        page = {**arguments, "after": rows[-1].get(key)} if rows else arguments
        answer = await keeper.call(operation, page)
        found = answer.get(name)
        if not isinstance(found, list) or (answer.get("more") and not found):
            raise InternalError(f"the cell's answer to {operation} holds no usable {name}")
        rows += found
        if not answer.get("more"):
            return rows


async def read_many(keeper: Keeper, paths: Iterable[str]) -> dict[str, File | CoordError]:
    """Each path, in the order in which they are given, with its file or why there is none."""
    if isinstance(paths, str):
        raise TypeError("get_many takes a list of paths; for one path there is get")
    wanted = list(dict.fromkeys(path_of(path) for path in paths))
    found: dict[str, File | CoordError] = {}
    while len(found) < len(wanted):
        part = wanted[len(found) : len(found) + PATHS_MAX]
        answer = await keeper.call("get_many", {"paths": part})
        entries = answer.get("entries")
        if not isinstance(entries, list) or not 0 < len(entries) <= len(part):
            raise InternalError("the cell's answer to get_many holds no usable entries")
        for path, entry in zip(part, entries, strict=False):
            found[path] = _file_or_error(path, entry)
    return found


def _file_or_error(path: str, entry: Any) -> File | CoordError:
    try:
        if entry.get("error") is not None:
            return error_of(Refusal.from_wire(entry["error"]))
        stat = stat_of(entry["stat"])
    except (KeyError, TypeError, AttributeError) as error:
        raise InternalError(f"the cell's answer holds no usable entry for {path}: {error!r}") from None
    if stat.kind == "directory":
        return IsADirectory(f"{path} is a directory")
    contents = entry.get("contents")
    if not isinstance(contents, bytes):
        raise InternalError(f"the cell's answer holds no contents of {path}")
    return File(contents, stat)
