"""The nodes of a directory by name, and their names in order.

From the first time that somebody asks, the names are kept sorted: else each page of a listing, and each step of a
transaction that lists, would sort a large directory anew (128 steps on 20,000 names: more than a second).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coordd.machine.state import Node


class Children(dict[str, "Node"]):
    """See the module docstring."""

    __slots__ = ("_names",)

    def __init__(self) -> None:
        super().__init__()
        self._names: list[str] | None = None

    def __setitem__(self, name: str, node: Node) -> None:
        if self._names is not None and name not in self:
            insort(self._names, name)
        super().__setitem__(name, node)

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name)
        if self._names is not None:
            del self._names[bisect_left(self._names, name)]

    def names(self) -> Sequence[str]:
        """Sorted; true until the next change."""
        if self._names is None:
            self._names = sorted(self)
        return self._names
