"""PURE. Which ephemeral nodes one session keeps alive, and how often they are open here: the cell knows only whether.

A handle is of one instance: one whose node is gone keeps no other node of the same path alive.

What was made without a handle counts as open for as long as the session lasts; of these `MADE_MAX` are remembered, and
one that was forgotten, for so many came after it, ends with the last handle of its path.
"""

from __future__ import annotations

MADE_MAX = 10_000


class Opens:
    """See the module docstring. `begin` comes before the cell is asked, so that no `end` in between closes the node."""

    def __init__(self) -> None:
        self._opening: dict[str, int] = {}  # handles that are being opened
        self._open: dict[tuple[str, int], int] = {}  # handles of an ephemeral node
        self._alive: dict[str, int] = {}  # the instance that the cell keeps alive for this session, as far as known
        self._made: dict[str, int] = {}

    def begin(self, path: str) -> None:
        """A handle is being opened."""
        self._opening[path] = self._opening.get(path, 0) + 1

    def opened(self, path: str, instance: int | None) -> None:
        """It is, of an ephemeral node, or (None) of one that needs nobody."""
        self._less_opening(path)
        if instance is not None:
            self._open[path, instance] = self._open.get((path, instance), 0) + 1
            self._alive[path] = max(instance, self._alive.get(path, 0))

    def made(self, path: str, instance: int) -> None:
        """An ephemeral node was made without a handle."""
        self._made.pop(path, None)
        self._made[path] = instance
        if len(self._made) > MADE_MAX:
            del self._made[next(iter(self._made))]

    def failed(self, path: str) -> int | None:
        """A handle could not be opened. The instance that the cell is to be told to close, if any."""
        self._less_opening(path)
        return self._unneeded(path)

    def closed(self, path: str, instance: int) -> int | None:
        """A handle of an ephemeral node was closed. The instance that the cell is to be told to close, if any."""
        left = self._open.pop((path, instance)) - 1
        if left:
            self._open[path, instance] = left
        return self._unneeded(path)

    def _less_opening(self, path: str) -> None:
        left = self._opening.pop(path) - 1
        if left:
            self._opening[path] = left

    def _unneeded(self, path: str) -> int | None:
        alive = self._alive.get(path)
        if alive is None or path in self._opening or (path, alive) in self._open:
            return None
        del self._alive[path]
        return None if alive == self._made.get(path) else alive
