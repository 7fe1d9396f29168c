"""The tree: finding, making and removing nodes, and the file operations [Chubby 2.3].

Every operation checks everything first, then raises the revision, then changes: a refusal leaves no trace.
Temporary nodes are those that an acquire on a missing path made. They go (`collect`) when nobody holds or waits there,
nothing is below them and nobody has written there: a `put` on such a file keeps it, and making a node that is not
temporary below such a directory keeps that directory, for good. Ephemeral nodes go likewise when no session has them
open.
"""

from __future__ import annotations

from coordclient.protocol.errors import Refusal
from coordclient.protocol.paths import name_of, parent_of
from coordd.machine.changes import record
from coordd.machine.sequencer import guard
from coordd.machine.state import (
    Arguments,
    Node,
    Session,
    State,
    Woken,
    checksum_of,
    holder_of,
    node_bytes,
    refuse_limit,
)


def stat_of(node: Node) -> dict[str, object]:
    """The `stat` of the table of operations."""
    children = node.children
    return {
        "path": node.path,
        "kind": "file" if children is None else "directory",
        "instance": node.instance,
        "content_generation": node.content_generation,
        "lock_generation": node.lock_generation,
        "acl_generation": node.acl_generation,
        "revision": node.revision,
        "checksum": node.checksum,
        "size": len(node.contents),
        "created_ms": node.created_ms,
        "modified_ms": node.modified_ms,
        "owner": node.owner,
        "ephemeral": node.openers is not None,
        "children": 0 if children is None else len(children),
    }


def find(state: State, path: str) -> Node:
    """The node, or why there is none."""
    node = state.nodes.get(path)
    if node is None:
        raise _missing(state, path)
    return node


def check_instance(state: State, path: str, instance: int) -> None:
    """Refuses what a handle of another node wants: what was there is gone, whatever is there now."""
    node = state.nodes.get(path)
    if node is None or node.instance != instance:
        there = "nothing" if node is None else "another node"
        now = None if node is None else node.instance
        raise Refusal("stale_handle", f"{path}: the node that was opened is gone; there is {there} now", instance=now)


def _missing(state: State, path: str) -> Refusal:
    above = parent_of(path)
    while (node := state.nodes.get(above)) is None:
        above = parent_of(above)
    if node.children is None:
        return Refusal("not_a_directory", f"{above} is a file, so there is nothing below it")
    if above == parent_of(path):
        return Refusal("not_found", f"there is nothing at {path}")
    return Refusal("not_found", f"there is nothing at {path}; the path exists up to {above}")


# ---- making ----


def check_room(state: State, path: str, size: int, parents: bool) -> list[str]:
    """The missing directories above `path`, from the top; refuses what `make` could not do. `path` is missing."""
    missing: list[str] = []
    above = parent_of(path)
    while (top := state.nodes.get(above)) is None:
        missing.append(above)
        above = parent_of(above)
    if top.children is None:
        raise Refusal("not_a_directory", f"{above} is a file, so nothing can be made below it")
    if missing and not parents:
        raise Refusal("not_found", f"there is no directory {missing[0]}; with parents it would be made")
    limits = state.limits
    if len(top.children) >= limits.children_per_directory:
        refuse_limit("children_per_directory", limits.children_per_directory)
    if len(state.nodes) + len(missing) >= limits.nodes:
        refuse_limit("nodes", limits.nodes)
    size += len(path)
    if missing:
        missing.reverse()
        size += sum(map(len, missing))
    if state.bytes + size > limits.total_bytes:
        refuse_limit("total_bytes", limits.total_bytes)
    return missing


def make_temporary(state: State, path: str, owner: str) -> Node:
    """Makes the missing `path` for a lock, with whatever is missing above it, in the next revision."""
    missing = check_room(state, path, 0, True)
    state.revision += 1
    return make(state, path, b"", missing, owner, True)


def check_bytes(state: State, more: int) -> None:
    """Refuses when `more` bytes do not fit."""
    if state.bytes + more > state.limits.total_bytes:
        refuse_limit("total_bytes", state.limits.total_bytes)


def make(
    state: State, path: str, contents: bytes | None, missing: list[str], owner: str, temporary: bool = False
) -> Node:
    """Makes `path`, a directory where `contents` is None, and the `missing` directories above it, in the present
    revision, as `check_room` allowed."""
    if not temporary:
        keep(state.nodes[parent_of(missing[0] if missing else path)])
    for above in missing:
        _make_one(state, above, None, owner, temporary)
    return _make_one(state, path, contents, owner, temporary)


def _make_one(state: State, path: str, contents: bytes | None, owner: str, temporary: bool) -> Node:
    head, _, name = path.rpartition("/")
    parent = state.nodes[head or "/"]
    assert parent.children is not None and name not in parent.children
    node = Node(path, parent, contents is None, state.revision, state.wall_ms, owner, parent.acl)
    node.temporary = temporary
    if contents:
        node.contents = contents
        node.checksum = checksum_of(contents)
    parent.children[name] = state.nodes[path] = node
    state.bytes += node_bytes(node)
    record(state, node, "created", None, contents)
    return node


def keep(node: Node) -> None:
    """Somebody has written at `node`: it and the directories above it stay."""
    above: Node | None = node
    while above is not None and above.temporary:
        above.temporary = False
        above = above.parent


# ---- removing ----


def remove(state: State, node: Node) -> None:
    """Takes a node without children and without lock out of the tree, and the temporary directories left empty."""
    assert not node.children and node.path not in state.locks
    parent = node.parent
    assert parent is not None and parent.children is not None, "the root stays"
    del state.nodes[node.path]
    del parent.children[name_of(node.path)]
    state.bytes -= node_bytes(node)
    record(state, node, "deleted", None if node.children is not None else node.contents, None)
    if node.openers:
        for session in node.openers:  # each loses its own entry, so the order leaves no trace
            del state.sessions[session].ephemerals[node.path]
    if not parent.children:
        collect(state, parent)


def collect(state: State, node: Node) -> None:
    """Removes `node` if it has no reason to be any more: temporary, or ephemeral without openers; empty, not locked."""
    if (node.temporary or node.openers == {}) and not node.children and node.path not in state.locks:
        remove(state, node)


# ---- the operations ----


def put(
    state: State, session: Session | None, call: int, principal: str, arguments: Arguments, woken: list[Woken]
) -> dict[str, object]:
    """Writes a whole file; makes it if it is missing, except with `if_generation`."""
    path, contents = arguments["path"], arguments["contents"]
    guard(state, arguments["if_sequencer"])
    if_generation, if_absent = arguments["if_generation"], arguments["if_absent"]
    if arguments["if_instance"] is not None:
        check_instance(state, path, arguments["if_instance"])
    if if_absent and if_generation is not None:
        raise Refusal("bad_request", "put: if_absent and if_generation exclude each other")
    node = state.nodes.get(path)
    if node is None:
        if if_generation is not None:
            raise _missing(state, path)
        missing = check_room(state, path, len(contents), arguments["parents"])
        state.revision += 1
        node = make(state, path, contents, missing, principal)
    else:
        if node.children is not None:
            raise Refusal("is_a_directory", f"{path} is a directory")
        if if_absent:
            raise Refusal("exists", f"{path} exists already")
        _check_generation(node, if_generation)
        check_bytes(state, len(contents) - len(node.contents))
        state.revision += 1
        keep(node)
        _write(state, node, contents)
    return {"stat": stat_of(node)}


def _check_generation(node: Node, if_generation: int | None) -> None:
    if if_generation is not None and if_generation != node.content_generation:
        raise Refusal(
            "conflict",
            f"{node.path} has content generation {node.content_generation}, not {if_generation}",
            content_generation=node.content_generation,
        )


def _write(state: State, node: Node, contents: bytes) -> None:
    record(state, node, "changed", node.contents, contents)
    state.bytes += len(contents) - len(node.contents)
    node.contents = contents
    node.checksum = checksum_of(contents)
    node.content_generation = node.revision = state.revision
    node.modified_ms = state.wall_ms


def create(
    state: State, session: Session | None, call: int, principal: str, arguments: Arguments, woken: list[Woken]
) -> dict[str, object]:
    """Makes a file; an ephemeral one is opened by the session at once."""
    path, contents, ephemeral = arguments["path"], arguments["contents"], arguments["ephemeral"]
    guard(state, arguments["if_sequencer"])
    _check_new(state, session, "create", path, ephemeral)
    return _make_new(state, session if ephemeral else None, path, contents, arguments["parents"], principal)


def mkdir(
    state: State, session: Session | None, call: int, principal: str, arguments: Arguments, woken: list[Woken]
) -> dict[str, object]:
    """Makes a directory; an ephemeral one is opened by the session at once."""
    guard(state, arguments["if_sequencer"])
    path, ephemeral = arguments["path"], arguments["ephemeral"]
    _check_new(state, session, "mkdir", path, ephemeral)
    return _make_new(state, session if ephemeral else None, path, None, arguments["parents"], principal)


def _check_new(state: State, session: Session | None, operation: str, path: str, ephemeral: bool) -> None:
    if path in state.nodes:
        raise Refusal("exists", f"{path} exists already")
    if ephemeral and session is None:
        raise Refusal("session_required", f"{operation}: an ephemeral node needs a session that keeps it alive")


def _make_new(
    state: State, opener: Session | None, path: str, contents: bytes | None, parents: bool, principal: str
) -> dict[str, object]:
    missing = check_room(state, path, len(contents or b""), parents)
    if opener is not None:
        _check_ephemerals(state, opener)
    state.revision += 1
    node = make(state, path, contents, missing, principal)
    if opener is not None:
        node.openers = {opener.id: None}
        opener.ephemerals[path] = node
    return {"stat": stat_of(node)}


def _check_ephemerals(state: State, session: Session) -> None:
    if len(session.ephemerals) >= state.limits.ephemerals_per_session:
        refuse_limit("ephemerals_per_session", state.limits.ephemerals_per_session)


def open_node(
    state: State, session: Session | None, call: int, principal: str, arguments: Arguments, woken: list[Woken]
) -> dict[str, object]:
    """From now on this session keeps the ephemeral node alive too; on a permanent node nothing changes."""
    assert session is not None
    node = find(state, arguments["path"])
    if node.openers is not None and session.id not in node.openers:
        _check_ephemerals(state, session)
        state.revision += 1
        node.openers[session.id] = None
        session.ephemerals[node.path] = node
    return {"stat": stat_of(node)}


def close_node(
    state: State, session: Session | None, call: int, principal: str, arguments: Arguments, woken: list[Woken]
) -> dict[str, object]:
    """This session keeps that ephemeral node alive no more."""
    assert session is not None
    path, instance = arguments["path"], arguments["instance"]
    node = session.ephemerals.get(path)
    if node is None or node.instance != instance:
        return {"did": "nothing"}
    assert node.openers is not None
    state.revision += 1
    del node.openers[session.id], session.ephemerals[path]
    collect(state, node)
    return {"did": "closed" if path in state.nodes else "removed"}


def delete(
    state: State, session: Session | None, call: int, principal: str, arguments: Arguments, woken: list[Woken]
) -> dict[str, object]:
    """Removes a file or an empty directory that nobody holds or waits for."""
    guard(state, arguments["if_sequencer"])
    if arguments["if_instance"] is not None:
        check_instance(state, arguments["path"], arguments["if_instance"])
    node = find(state, arguments["path"])
    if node.parent is None:
        raise Refusal("bad_request", "delete: the root stays")
    _check_generation(node, arguments["if_generation"])
    if node.children:
        raise Refusal("not_empty", f"{node.path} has {len(node.children)} children")
    lock = state.locks.get(node.path)
    if lock is not None:
        raise Refusal("locked", f"{node.path} is held or waited for", holder=holder_of(lock))
    state.revision += 1
    remove(state, node)
    return {"revision": state.revision}
