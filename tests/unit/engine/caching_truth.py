"""What was there at each revision of a cell, and whether a cache may show it still."""

from __future__ import annotations

from typing import Any

from coordd.machine.machine import Machine


class Stale(AssertionError):
    """A cache would show what was over before."""


class Truth:
    """What was there at every revision, by what is told of the changes. `floor`: the newest that anybody has seen."""

    def __init__(self) -> None:
        self.revision = 0
        self.nodes = {"/": (0, True)}  # path -> (revision, whether it is a directory)
        self.log = [(0, dict(self.nodes))]
        self.floor = 0

    def follow(self, machine: Machine) -> None:
        if machine.revision <= self.revision:
            return
        for change in machine.changes_since(self.revision):
            if change.kind == "deleted":
                del self.nodes[change.path]
            else:
                self.nodes[change.path] = (change.revision, change.directory)
            if self.log[-1][0] == change.revision:
                self.log.pop()
            self.log.append((change.revision, dict(self.nodes)))
        self.revision = machine.revision
        assert self.nodes.keys() == machine.state.nodes.keys()

    def seen(self, answer: dict[str, Any]) -> None:
        """Somebody was told this, so everything older is over."""
        self.floor = max(self.floor, answer.get("revision") or answer.get("stat", {}).get("revision", 0))

    def allows(self, table: str, path: str, value: object) -> bool:
        """Whether it was so at a revision that nobody had seen replaced."""
        for revision, nodes in reversed(self.log):
            if _there(nodes, table, path) == value:
                return True
            if revision <= self.floor:
                break
        return False


def _there(nodes: dict[str, tuple[int, bool]], table: str, path: str) -> object:
    """What a read shows of that path, as `shown` puts it; None: there is nothing."""
    if path not in nodes:
        return None
    if table == "get":
        return nodes[path][0]
    if table != "ls":
        return nodes[path][0], len(_children(nodes, path))
    return {child: (nodes[child][0], len(_children(nodes, child))) for child in _children(nodes, path)}


def _children(nodes: dict[str, tuple[int, bool]], path: str) -> list[str]:
    top = path.rstrip("/") + "/"
    return [other for other in nodes if other != "/" and other.startswith(top) and "/" not in other[len(top) :]]


def shown(table: str, path: str, answer: dict[str, Any]) -> object:
    """What this answer shows: the revision of a file, with the number of children for a stat, that of all in a list."""
    if table == "get":
        return answer["stat"]["revision"]
    if table == "stat":
        return answer["stat"]["revision"], answer["stat"]["children"]
    top = path.rstrip("/") + "/"
    return {top + entry["name"]: (entry["stat"]["revision"], entry["stat"]["children"]) for entry in answer["entries"]}
