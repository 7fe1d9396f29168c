"""What can be read of the tree: files, stats, listings, and what has changed [Chubby 2.3].

`get` of an earlier revision goes back from the present through the changes that are kept (`coordd.machine.changes`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import Any

from coordclient.protocol.errors import Refusal
from coordclient.protocol.paths import is_below, name_of
from coordd.machine.namespace import check_instance, find, stat_of
from coordd.machine.pages import page
from coordd.machine.state import Arguments, Change, Node, State, checksum_of, text_bytes

ENTRY_BYTES = 384  # of one stat in an answer, without its texts
ROW_BYTES = 320  # of one change in an answer, without its texts


def _find(state: State, arguments: Arguments) -> Node:
    path, instance = arguments["path"], arguments["if_instance"]
    if instance is not None:
        check_instance(state, path, instance)
    return find(state, path)


def get(state: State, arguments: Arguments, session: int) -> dict[str, object]:
    """A whole file, as it is or as it was at an earlier revision."""
    path, revision = arguments["path"], arguments["revision"]
    if revision:
        found = _get_at(state, path, revision)
        _check_instance_then(found["stat"]["instance"], arguments["if_instance"], path, revision)
        return found
    node = _find(state, arguments)
    if node.children is not None:
        raise Refusal("is_a_directory", f"{path} is a directory")
    return {"contents": node.contents, "stat": stat_of(node)}


def stat(state: State, arguments: Arguments, session: int) -> dict[str, object]:
    """All about a node but its contents."""
    return {"stat": stat_of(_find(state, arguments))}


def ls(state: State, arguments: Arguments, session: int) -> dict[str, object]:
    """A page of the children of a directory, sorted by name."""
    node = _find(state, arguments)
    children = node.children
    if children is None:
        raise Refusal("not_a_directory", f"{node.path} is a file")
    contents, names = arguments["contents"], children.names()
    rows = (children[names[place]] for place in range(bisect_right(names, arguments["after"]), len(names)))
    size_of = _bytes_with_contents if contents else _bytes_of
    chosen, more = page(state, rows, size_of, arguments["count"], f"an entry of {node.path}")
    entries = [{"name": name_of(child.path), **_row(child, contents)} for child in chosen]
    return {"revision": state.revision, "entries": entries, "more": more}


def _row(node: Node, contents: bool) -> dict[str, object]:
    if contents and node.children is None:
        return {"stat": stat_of(node), "contents": node.contents}
    return {"stat": stat_of(node)}


def _bytes_of(node: Node) -> int:
    return ENTRY_BYTES + 2 * text_bytes(node.path) + text_bytes(node.owner)


def _bytes_with_contents(node: Node) -> int:
    return _bytes_of(node) + len(node.contents)


def get_many(state: State, arguments: Arguments, session: int) -> dict[str, object]:
    """Several nodes at once, as many of the first as fit."""
    contents = arguments["contents"]
    size_of = _bytes_with_contents if contents else _bytes_of
    found = (_found(state, path) for path in arguments["paths"])
    chosen, more = page(state, found, lambda one: _many_bytes(one, size_of), 0, "the first of get_many")
    entries = [_many_row(path, one, contents) for path, one in zip(arguments["paths"], chosen, strict=False)]
    return {"revision": state.revision, "entries": entries, "more": more}


def _found(state: State, path: str) -> Node | Refusal:
    try:
        return find(state, path)
    except Refusal as refusal:
        return refusal.with_traceback(None)


def _many_bytes(found: Node | Refusal, size_of: Callable[[Node], int]) -> int:
    return ENTRY_BYTES + 2 * text_bytes(found.message) if isinstance(found, Refusal) else size_of(found)


def _many_row(path: str, found: Node | Refusal, contents: bool) -> dict[str, object]:
    if isinstance(found, Refusal):
        return {"path": path, "error": found.to_wire()}
    return {"path": path, **({"contents": None} if contents else {}), **_row(found, contents)}


# ---- earlier revisions ----


def _check_instance_then(instance: int, wanted: int | None, path: str, revision: int) -> None:
    if wanted not in (None, instance):
        raise Refusal("stale_handle", f"{path} was another node at revision {revision}", instance=instance)


def _get_at(state: State, path: str, revision: int) -> dict[str, Any]:
    if revision > state.revision:
        text = f"revision {revision} is yet to come; the present one is {state.revision}"
        raise Refusal("revision_ahead", text, revision=state.revision)
    if revision < state.changes_after:
        text = f"revision {revision} is not kept any more; the oldest is {state.changes_after}"
        raise Refusal("revision_gone", text, oldest=state.changes_after)
    first, last = _around(state, path, revision)
    if first is None:
        return _unchanged(state, path, revision)
    if first.directory and first.kind == "deleted":
        raise Refusal("is_a_directory", f"{path} was a directory at revision {revision}")
    if first.before is None:
        raise Refusal("not_found", f"there was nothing at {path} at revision {revision}")
    return {"contents": first.before, "stat": _past_stat(first, last)}


def _around(state: State, path: str, revision: int) -> tuple[Change | None, Change | None]:
    """The first change of this path after that revision, and the last one up to it, where these are kept."""
    first: Change | None = None
    for change in reversed(state.changes):
        if change.path == path:
            if change.revision <= revision:
                return first, change
            first = change
    return first, None


def _unchanged(state: State, path: str, revision: int) -> dict[str, Any]:
    node = state.nodes.get(path)
    if node is None:
        raise Refusal("not_found", f"there was nothing at {path} at revision {revision}")
    if node.children is not None:
        raise Refusal("is_a_directory", f"{path} was a directory at revision {revision}")
    return {"contents": node.contents, "stat": stat_of(node) | {"lock_generation": 0}}


def _past_stat(first: Change, last: Change | None) -> dict[str, object]:
    """What is known of a file before its change `first`; `last`: the one that led there. The rest is 0, or ""."""
    contents = first.before or b""
    generation, modified_ms = (0, 0) if last is None else (last.revision, last.at_ms)
    return {
        "path": first.path,
        "kind": "file",
        "instance": first.instance,
        "content_generation": generation,
        "lock_generation": 0,
        "acl_generation": 0,
        "revision": generation,
        "checksum": checksum_of(contents),
        "size": len(contents),
        "created_ms": 0,
        "modified_ms": modified_ms,
        "owner": "",
        "ephemeral": False,
        "children": 0,
    }


# ---- the changes ----


def list_changes(state: State, arguments: Arguments, session: int) -> dict[str, object]:
    """The changes of a node or a subtree, newest first, whole revisions, about as many as were asked for and fit."""
    path, subtree, count = arguments["path"], arguments["subtree"], arguments["count"]
    after, upto = arguments["since"], arguments["upto"] or state.revision
    room = state.limits.answer_bytes
    chosen: list[Change] = []
    more = False
    for change in reversed(state.changes):
        if change.revision <= after:
            break
        if change.revision <= upto and (is_below(change.path, path) if subtree else change.path == path):
            room -= ROW_BYTES + text_bytes(change.path) + text_bytes(change.principal)
            first = not chosen or chosen[0].revision == change.revision
            if room < 0 or (len(chosen) >= count and not first):  # the first is whole: the next piece begins below it
                more = True
                _leave_whole(chosen, change.revision)
                break
            chosen.append(change)
    rows = [describe(change) for change in chosen]
    return {"revision": state.revision, "complete_after": state.changes_after, "changes": rows, "more": more}


def _leave_whole(chosen: list[Change], cut: int) -> None:
    """No part of the revision `cut`, where the answer was full; one that alone is too large for an answer is cut."""
    if chosen and chosen[0].revision != cut:
        while chosen[-1].revision == cut:
            chosen.pop()


def describe(change: Change) -> dict[str, object]:
    """A change as people and watchers see it, without contents: `size` and `checksum` are those after it."""
    after = change.after
    return {
        "revision": change.revision,
        "path": change.path,
        "kind": change.kind,
        "directory": change.directory,
        "instance": change.instance,
        "size": len(after or b""),
        "checksum": None if after is None else checksum_of(after),
        "session": change.session,
        "principal": change.principal,
        "at_ms": change.at_ms,
        "operation": change.operation,
    }
