"""A shadow of the tree: what commands would do to it, tried on copies, while the state stays as it is.

A shadow is a `State` of its own for the handlers of the tree (`namespace`) and its readers. Its nodes are copied from
the state one by one, as somebody looks at them, with those above them; mappings lie over those of the state and hold
what differs. So it costs what is looked at, however large the tree is. Locks are those of the state, and only read.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from types import SimpleNamespace
from typing import cast

from coordclient.protocol.paths import name_of
from coordd.machine.children import Children
from coordd.machine.state import Node, Session, State


class Overlay(MutableMapping[str, Node]):
    """A mapping over another one, which stays as it is."""

    __slots__ = ("_base", "_new", "_size")

    def __init__(self, base: Mapping[str, Node]) -> None:
        self._base = base
        self._new: dict[str, Node | None] = {}  # None: deleted
        self._size = len(base)

    def __contains__(self, key: object) -> bool:
        return self._new[key] is not None if key in self._new else key in self._base

    def __getitem__(self, key: str) -> Node:
        node = self._new[key] if key in self._new else self._base[key]
        if node is None:
            raise KeyError(key)
        return node

    def __setitem__(self, key: str, node: Node) -> None:
        self._size += key not in self
        self._new[key] = node

    def __delitem__(self, key: str) -> None:
        assert key in self, "only what is there is taken out"
        self._size -= 1
        self._new[key] = None

    def __iter__(self) -> Iterator[str]:
        yield from (key for key in self._base if key not in self._new)
        yield from (key for key, node in self._new.items() if node is not None)

    def __len__(self) -> int:
        return self._size


class _Children(Overlay):
    """The children of a node of a shadow."""

    __slots__ = ()
    _base: Children

    def names(self) -> Sequence[str]:
        """As those of `Children`."""
        base = self._base
        names = base.names()
        changed = [name for name, node in self._new.items() if (node is None) is (name in base)]
        if changed:
            names = list(names)
            for name in changed:
                if name in base:
                    del names[bisect_left(names, name)]
                else:
                    insort(names, name)
        return names


class _Nodes(Overlay):
    """The nodes of a shadow: those of the state are copied when they are asked for."""

    __slots__ = ()

    def __getitem__(self, key: str) -> Node:
        if key not in self._new:
            self._new[key] = self._copy(self._base[key])
        return super().__getitem__(key)

    def _copy(self, node: Node) -> Node:
        copy = Node.__new__(Node)
        for name in Node.__slots__:
            setattr(copy, name, getattr(node, name))
        if node.children is not None:
            copy.children = cast("Children", _Children(node.children))
        if node.parent is not None:
            copy.parent = self[node.parent.path]
            assert copy.parent.children is not None
            copy.parent.children[name_of(node.path)] = copy
        return copy


class _Sessions(dict[int, Session]):
    """The sessions of a shadow, of which the tree knows but their ephemerals."""

    def __init__(self, state: State) -> None:
        self._state = state

    def __missing__(self, number: int) -> Session:
        ephemerals = Overlay(self._state.sessions[number].ephemerals)
        shadow = self[number] = cast("Session", SimpleNamespace(id=number, ephemerals=ephemerals))
        return shadow


def shadow_of(state: State) -> State:
    """What the handlers of the tree take for the state; `changes` has what they did to it."""
    shadow = State.__new__(State)
    shadow.limits, shadow.locks = state.limits, state.locks
    shadow.cell, shadow.key, shadow.key_before = state.cell, state.key, state.key_before  # for sequencers
    shadow.revision, shadow.bytes = state.revision, state.bytes
    shadow.wall_ms, shadow.by = state.wall_ms, state.by
    shadow.nodes = cast("OrderedDict[str, Node]", _Nodes(state.nodes))
    shadow.sessions = cast("OrderedDict[int, Session]", _Sessions(state))
    shadow.changes = deque()
    shadow.changes_bytes = 0
    return shadow
